import numpy as np
import pytest
from numba import njit

from segkit.agglomerate._kernels_masks import differing, first_bits


@njit
def masks(array, one, other, count):
    mask = differing(array, one, other)
    return mask, first_bits(mask, count)


@pytest.mark.parametrize("length", [70, 200])
def test_a_bit_for_each_voxel_that_differs(length):
    array = np.random.default_rng(length).integers(0, 2, length).astype(np.uint64) + np.uint64(2**63)
    for one, other, count in [(1, 0, 64), (0, 5, 63), (length - 64, 3, 64), (length - 9, 2, 5), (0, length, 0)]:
        differ = [array[one + k] != array[other + k] for k in range(min(64, length - max(one, other)))]
        bits = sum(1 << k for k, bit in enumerate(differ) if bit)
        assert masks(array, one, other, count) == (bits, bits % (1 << count))
