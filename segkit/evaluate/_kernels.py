"""Counting pairs of labels in one pass, and putting them in order."""

import numpy as np
from numba import njit

from segkit.kernels.pair_table import hash_pair
from segkit.kernels.runs import ONE, WIDTH, changes, lowest_bit

FIRST_CAPACITY = 1 << 12
DIGIT = 11


@njit(cache=True, nogil=True)
def count_pairs(volumes, counted, start, stop, table, used):
    """Count how often each pair of labels occurs, from voxel `start` to `stop` or until `table` is half full.

    `volumes` are segmentation and truth, flat uint64, and what is ignored, flat bool of the same length, or of length 0
    for none. `counted` are `lowest` and `outside`: truth below the one or from the other on does not count, segments
    from `outside` on are read as 0. A row of `table` is segment, object, voxels: side by side, so that a pair is one
    cache miss, not three; `used` rows are taken. Returns where it stopped, and how many rows are taken.
    """
    segmentation, truth, ignored = volumes
    lowest, outside = counted
    # Why not look every voxel up? Neighbours along x mostly carry the same pair, so whole runs are added at once.
    first, i = start, start + 1
    mask, base = np.uint64(0), start
    while first < stop:
        while mask == 0 and i + WIDTH <= stop:
            mask, base = changes(segmentation, i) | changes(truth, i), i
            i += WIDTH
        if mask:
            end = base + lowest_bit(mask)
            mask &= mask - ONE
        else:
            while i < stop and segmentation[i] == segmentation[i - 1] and truth[i] == truth[i - 1]:
                i += 1
            end = min(i, stop)
            i += 1
        segment, label = segmentation[first], truth[first]
        if lowest <= label < outside:
            voxels = end - first
            if len(ignored):
                voxels -= np.count_nonzero(ignored[first:end])
            if voxels:
                used += add(table, segment if segment < outside else np.uint64(0), label, voxels)
        first = end
        if 2 * used >= len(table):
            break
    return first, used


@njit(cache=True, nogil=True)
def add(table, segment, label, voxels):
    """Add voxels of a pair; returns whether it is new."""
    slot = find(table, segment, label)
    new = table[slot, 2] == 0
    if new:
        table[slot, 0], table[slot, 1] = segment, label
    table[slot, 2] += np.uint64(voxels)
    return new


@njit(cache=True, nogil=True)
def find(table, segment, label):
    """The slot that holds the pair, or the empty one (0 voxels) where it belongs; the capacity is a power of two."""
    last = len(table) - 1
    slot = hash_pair(segment, label) & last
    while table[slot, 2] and (table[slot, 0] != segment or table[slot, 1] != label):
        slot = (slot + 1) & last
    return slot


@njit(cache=True, nogil=True)
def larger(table):
    """The same pairs in a table of four times the capacity."""
    result = np.zeros((4 * len(table), 3), np.uint64)
    for old in range(len(table)):
        if table[old, 2]:
            new = find(result, table[old, 0], table[old, 1])
            for column in range(3):
                result[new, column] = table[old, column]
    return result


@njit(cache=True, nogil=True)
def tabulate(segments, objects, counts):
    """Entries in lexicographic order, equal ones summed: (segments, objects, rows, cols, counts)."""
    order = sort_stably(np.arange(len(counts)), objects)
    object_ids, cols = number(order, objects)
    order = sort_stably(order, segments)
    segment_ids, rows = number(order, segments)
    sorted_rows, sorted_cols = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
    sums = np.empty(len(order), np.int64)
    last = -1
    for entry in order:
        if last >= 0 and sorted_rows[last] == rows[entry] and sorted_cols[last] == cols[entry]:
            sums[last] += counts[entry]
            continue
        last += 1
        sorted_rows[last], sorted_cols[last], sums[last] = rows[entry], cols[entry], counts[entry]
    return (
        segment_ids,
        object_ids,
        sorted_rows[: last + 1].copy(),
        sorted_cols[: last + 1].copy(),
        sums[: last + 1].copy(),
    )


@njit(cache=True, nogil=True)
def sort_stably(order, keys):
    """`order`, rearranged so that keys[order] increases, equal keys as they were. By digits, in linear time."""
    differing = np.uint64(0)
    for key in keys:
        differing |= key ^ keys[0]
    for low in range(0, 64, DIGIT):
        shift, mask = np.uint64(low), np.uint64((1 << DIGIT) - 1)
        if (differing >> shift) & mask == 0:  # ids that lie close together cost as many rounds as they have digits
            continue
        ends = np.zeros((1 << DIGIT) + 1, np.int64)
        for key in keys:
            ends[np.int64((key >> shift) & mask) + 1] += 1
        ends = np.cumsum(ends)
        result = np.empty_like(order)
        for entry in order:
            digit = np.int64((keys[entry] >> shift) & mask)
            result[ends[digit]] = entry
            ends[digit] += 1
        order = result
    return order


@njit(cache=True, nogil=True)
def number(order, keys):
    """The different keys, increasing, and for each entry the position of its own; `order` sorts the keys."""
    ids, positions = np.empty(len(order), np.uint64), np.empty(len(order), np.int64)
    last = -1
    for entry in order:
        if last < 0 or ids[last] != keys[entry]:
            last += 1
            ids[last] = keys[entry]
        positions[entry] = last
    return ids[: last + 1].copy(), positions
