"""Counting pairs of labels in one pass, and putting them in order."""

from itertools import pairwise

import numpy as np
from numba import njit

from segkit.threads import thread_count

FIRST_CAPACITY = 1 << 12
LEAST_VOXELS = 1 << 16
DIGIT = 11


def slabs(voxels: int) -> list[tuple[int, int]]:
    """Where the share of each thread begins and ends; small volumes are not worth more than one."""
    count = min(thread_count(), 1 + voxels // LEAST_VOXELS)
    bounds = [voxels * k // count for k in range(count + 1)]
    return list(pairwise(bounds))


@njit(cache=True, nogil=True)
def count_pairs(segmentation, truth, ignored, lowest, outside, begin, stop):
    """How often each pair of labels occurs: (segments, objects, counts), in no particular order.

    `segmentation` and `truth` are flat uint64, `ignored` flat bool of the same length, or of length 0 for none.
    Truth below `lowest` or from `outside` on does not count; segments from `outside` on are read as 0. Only voxels
    `begin` to `stop` are looked at.
    """
    table = np.zeros((FIRST_CAPACITY, 3), np.uint64)  # segment, object, voxels side by side: one cache miss, not three
    used = 0
    start = begin
    # Why not look every voxel up? Neighbours along x mostly carry the same pair, so whole runs are added at once.
    while start < stop:
        segment, label = segmentation[start], truth[start]
        end = start + 1
        while end < stop and truth[end] == label and segmentation[end] == segment:
            end += 1
        voxels = end - start
        if len(ignored):
            voxels -= np.count_nonzero(ignored[start:end])
        start = end
        if voxels == 0 or label < lowest or label >= outside:
            continue
        if segment >= outside:
            segment = np.uint64(0)
        if 2 * used >= len(table):
            table = larger(table)
        slot = find(table, segment, label)
        if table[slot, 2] == 0:
            table[slot, 0], table[slot, 1] = segment, label
            used += 1
        table[slot, 2] += np.uint64(voxels)
    found = table[table[:, 2] > 0]
    return found[:, 0].copy(), found[:, 1].copy(), found[:, 2].astype(np.int64)


@njit(cache=True, nogil=True)
def find(table, segment, label):
    """The slot that holds the pair, or the empty one (0 voxels) where it belongs; the capacity is a power of two."""
    last = len(table) - 1
    slot = np.int64(mix(segment, label) & np.uint64(last))
    while table[slot, 2] and (table[slot, 0] != segment or table[slot, 1] != label):
        slot = (slot + 1) & last
    return slot


@njit(cache=True, nogil=True)
def mix(segment, label):
    """A hash of two uint64. Ids are often small and dense, so the low bits must depend on all bits of both."""
    key = segment * np.uint64(0x9E3779B97F4A7C15) + label
    key = (key ^ (key >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    key = (key ^ (key >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return key ^ (key >> np.uint64(32))


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
