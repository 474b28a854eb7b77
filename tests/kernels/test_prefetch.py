"""Asking for memory changes nothing, inside an array or far outside."""

import numpy as np
from numba import njit

from segkit.kernels.prefetch import prefetch


@njit
def fetch(array, index):
    prefetch(array, np.int64(index))
    return array.sum()


def test_memory_is_asked_for_and_left_alone():
    array = np.arange(1000)
    for index in (0, 999, 10**9, -(10**9)):
        assert fetch(array, index) == 499500
    assert "llvm.prefetch" in fetch.inspect_llvm(fetch.signatures[0])
