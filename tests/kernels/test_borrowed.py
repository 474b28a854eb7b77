"""A borrowed array is the array, and leaves its count of owners alone."""

import sys

import numpy as np
from numba import njit

from segkit.kernels.borrowed import borrowed


@njit
def _add(array, amount):
    for i in range(len(array)):
        if array[i] > 0:
            array[i] += amount


@njit
def _use(array, times):
    array = borrowed(array)
    for k in range(times):
        _add(array, k)
    return array.sum(), array.shape, array.strides


def test_a_borrowed_array_is_the_same_memory_and_keeps_its_owner():
    array = np.array([1, 0, 5, 0, 7, 0])[::2]
    owners = sys.getrefcount(array)
    total, shape, strides = _use(array, 4)
    assert array.tolist() == [7, 11, 13] and total == 31
    assert (shape, strides) == (array.shape, array.strides) and sys.getrefcount(array) == owners
