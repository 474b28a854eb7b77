import numpy as np
import pytest
from numba import njit

from segkit.kernels.runs import count_bits, count_runs, differing, ends_of_runs, first_bits, lowest_bit


@njit
def masks(array, one, other, count):
    mask = differing(array, one, other)
    return mask, first_bits(mask, count)


@njit
def bits_of(mask):
    return lowest_bit(mask), count_bits(mask)


@pytest.mark.parametrize("length", [70, 200])
def test_a_bit_for_each_voxel_that_differs(length):
    array = np.random.default_rng(length).integers(0, 2, length).astype(np.uint64) + np.uint64(2**63)
    for one, other, count in [(1, 0, 64), (0, 5, 63), (length - 64, 3, 64), (length - 9, 2, 5), (0, length, 0)]:
        differ = [array[one + k] != array[other + k] for k in range(min(64, length - max(one, other)))]
        bits = sum(1 << k for k, bit in enumerate(differ) if bit)
        assert masks(array, one, other, count) == (bits, bits % (1 << count))


@pytest.mark.parametrize("length", [1, 64, 65, 300])
@pytest.mark.parametrize("kinds", [1, 2, 1000])
def test_runs_end_where_labels_change(length, kinds):
    labels = np.random.default_rng(length).integers(0, kinds, length).astype(np.uint64) << np.uint64(40)
    expected = [*(np.flatnonzero(labels[1:] != labels[:-1]) + 1).tolist(), length]
    ends = np.zeros(count_runs(labels), np.int64)
    ends_of_runs(labels, ends)
    assert ends.tolist() == expected


def test_bits_are_found_and_counted():
    for mask in (1, 2**63, 0b1011000, 2**64 - 1):
        assert bits_of(np.uint64(mask)) == ((mask & -mask).bit_length() - 1, mask.bit_count())
