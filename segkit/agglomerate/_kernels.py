"""Loops over voxels and affinities: the region adjacency graph."""

import numpy as np
from numba import njit

UNIT = 2**30
FIRST_OUTSIDE = np.uint64(2**64 - 2)
EMPTY = np.int64(0)  # a key is never 0: nodes are numbered from 1
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
INITIAL_EDGES = 1024


@njit(cache=True, nogil=True)
def range_of_ids(fragments):
    """Lowest and highest id of a flat array, 0 and "outside" left out; lowest > highest if there is none."""
    low, high = FIRST_OUTSIDE, np.uint64(0)
    for fragment in fragments:
        if np.uint64(0) < fragment < FIRST_OUTSIDE:
            low = min(low, fragment)
            high = max(high, fragment)
    return low, high


@njit(cache=True, nogil=True)
def number_by_table(fragments, low, high):
    """Sorted ids, and for every voxel its position in them + 1, or 0."""
    table = np.zeros(np.int64(high - low) + 1, np.int32)
    for fragment in fragments:
        if np.uint64(0) < fragment < FIRST_OUTSIDE:
            table[np.int64(fragment - low)] = 1
    ids = np.empty(np.count_nonzero(table), np.uint64)
    found = 0
    for k in range(len(table)):
        if table[k]:
            ids[found] = low + np.uint64(k)
            found += 1
            table[k] = found
    nodes = np.zeros(len(fragments), np.int32)
    for i in range(len(fragments)):
        fragment = fragments[i]
        if np.uint64(0) < fragment < FIRST_OUTSIDE:
            nodes[i] = table[np.int64(fragment - low)]
    return ids, nodes


@njit(cache=True, nogil=True)
def collect_edges(nodes, affinities, neighborhood):
    """All edges, in the order in which they are met.

    Gives keys (u << 32 | v, 1-based, u < v), totals (count, sum), extremes (min, max), the hash table (slot keys, slot
    edges), and the flat position of the first affinity that is not in 0..1, or -1.

    Why not collect all contacts and sort them, the textbook way? They are many more than edges, and would need several
    times the memory of the volume. Statistics lie in the order of discovery, not in the slots: voxels that are near
    each other then meet statistics that are near each other, in the cache.
    """
    keys = np.empty(INITIAL_EDGES, np.int64)
    totals = np.zeros((INITIAL_EDGES, 2), np.int64)
    extremes = np.empty((INITIAL_EDGES, 2), np.float32)
    slots = np.zeros(2 * INITIAL_EDGES, np.int64)
    slot_edges = np.zeros(2 * INITIAL_EDGES, np.int32)
    edges = 0
    depth, height, width = nodes.shape
    for z in range(depth):
        for y in range(height):
            for c in range(len(neighborhood)):
                dz, dy, dx = neighborhood[c]
                if not (0 <= z + dz < depth and 0 <= y + dy < height):
                    continue
                row, other_row, values = nodes[z, y], nodes[z + dz, y + dy], affinities[c, z, y]
                for x in range(max(0, -dx), min(width, width - dx)):
                    a, b = np.int64(row[x]), np.int64(other_row[x + dx])
                    if a == b or a == 0 or b == 0:
                        continue
                    value = values[x]
                    if not (np.float32(0) <= value <= np.float32(1)):
                        bad = ((c * depth + z) * height + y) * width + x
                        return keys[:edges], totals[:edges], extremes[:edges], (slots, slot_edges), bad
                    key = (min(a, b) << 32) | max(a, b)
                    slot = find_slot(slots, key)
                    if slots[slot] == EMPTY:
                        if edges == len(keys):
                            keys, totals, extremes = doubled(keys), doubled(totals), doubled(extremes)
                            slots, slot_edges = hashed(keys[:edges], 2 * len(slots))
                            slot = find_slot(slots, key)
                        slots[slot], slot_edges[slot] = key, edges
                        keys[edges] = key
                        totals[edges] = 0
                        extremes[edges] = value
                        edges += 1
                    e = slot_edges[slot]
                    totals[e, 0] += 1
                    totals[e, 1] += np.int64(np.rint(np.float64(value) * UNIT))
                    extremes[e, 0] = min(extremes[e, 0], value)
                    extremes[e, 1] = max(extremes[e, 1], value)
    return keys[:edges], totals[:edges], extremes[:edges], (slots, slot_edges), -1


@njit(cache=True, nogil=True)
def fill_bins(nodes, affinities, neighborhood, slots, slot_edges, places, total, bins):
    """The bins, uint16 (total,), of all affinities; those of edge e of the hash table begin at places[e] (changed)."""
    numbers = np.empty(total, np.uint16)
    depth, height, width = nodes.shape
    for z in range(depth):
        for y in range(height):
            for c in range(len(neighborhood)):
                dz, dy, dx = neighborhood[c]
                if not (0 <= z + dz < depth and 0 <= y + dy < height):
                    continue
                row, other_row, values = nodes[z, y], nodes[z + dz, y + dy], affinities[c, z, y]
                for x in range(max(0, -dx), min(width, width - dx)):
                    a, b = np.int64(row[x]), np.int64(other_row[x + dx])
                    if a == b or a == 0 or b == 0:
                        continue
                    e = slot_edges[find_slot(slots, (min(a, b) << 32) | max(a, b))]
                    numbers[places[e]] = bin_of(values[x], bins)
                    places[e] += 1
    return numbers


@njit(cache=True, nogil=True)
def sort_parts(starts, numbers):
    """Sort numbers[starts[e] : starts[e + 1]] for each e."""
    for e in range(len(starts) - 1):
        if starts[e + 1] - starts[e] > 1:
            numbers[starts[e] : starts[e + 1]].sort()


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
def hashed(keys, size):
    """A hash table of `size` slots: the key in each, and its position in `keys`."""
    slots = np.zeros(size, np.int64)
    positions = np.zeros(size, np.int32)
    for i in range(len(keys)):
        slot = find_slot(slots, keys[i])
        slots[slot], positions[slot] = keys[i], i
    return slots, positions


@njit(cache=True, nogil=True)
def doubled(array):
    """A copy with room for twice as many rows."""
    return np.concatenate((array, np.empty_like(array)))
