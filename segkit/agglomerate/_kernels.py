"""Small loops that several modules need: bins, slots of a hash table, the cluster of a node."""

import numpy as np
from numba import njit

UNIT = 2**30
FIRST_OUTSIDE = np.uint64(2**64 - 2)
EMPTY = np.int64(0)  # a key is never 0: nodes are numbered from 1
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


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


@njit(cache=True, nogil=True, inline="always")
def find_slot(slots, key):
    """The slot that holds `key`, or the empty one where it belongs. The number of slots is a power of two."""
    mask = len(slots) - 1
    slot = np.int64((np.uint64(key) * MULTIPLIER) >> np.uint64(32)) & mask
    while slots[slot] != EMPTY and slots[slot] != key:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, nogil=True)
def doubled(array):
    """A copy with room for twice as many rows."""
    return np.concatenate((array, np.empty_like(array)))


@njit(cache=True, nogil=True)
def find(nodes, node):
    """The cluster that a node is in; halves the path."""
    while nodes[node].parent != node:
        above = nodes[node].parent
        nodes[node].parent = nodes[above].parent
        node = nodes[node].parent
    return np.int64(node)
