"""Sort affinities into bins. Other names are those of `segkit.kernels`, for modules that still look here."""

import numpy as np
from numba import njit

from segkit.kernels.growable import doubled as doubled
from segkit.kernels.pair_table import EMPTY as EMPTY
from segkit.kernels.pair_table import MULTIPLIER as MULTIPLIER
from segkit.kernels.pair_table import find_slot as find_slot
from segkit.kernels.union_find import find_in_records as find  # noqa: F401

UNIT = 2**30
FIRST_OUTSIDE = np.uint64(2**64 - 2)


@njit(cache=True, nogil=True)
def dense_histograms(starts, numbers, bins):
    """Histograms, int32 (E, bins), from the bins of each edge's affinities."""
    histograms = np.zeros((len(starts) - 1, bins), np.int32)
    for e in range(len(starts) - 1):
        for number in numbers[starts[e] : starts[e + 1]]:
            histograms[e, number] += 1
    return histograms


@njit(cache=True, nogil=True)
def bin_of(value, bins):
    """The bin of an affinity among `bins` equal ones of 0..1."""
    return min(np.int64(np.float32(value) * np.float32(bins)), bins - 1)


@njit(cache=True, nogil=True)
def bins_of(values, bins):
    """`bin_of` for each value, uint16."""
    numbers = np.empty(len(values), np.uint16)
    for i in range(len(values)):
        numbers[i] = bin_of(values[i], bins)
    return numbers
