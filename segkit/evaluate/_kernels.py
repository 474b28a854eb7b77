"""Counting pairs of labels in one pass."""

import numpy as np
from numba import njit

FIRST_CAPACITY = 1 << 12


@njit(cache=True, nogil=True)
def count_pairs(segmentation, truth, ignored, lowest, outside):
    """How often each pair of labels occurs: (segments, objects, counts), in no particular order.

    `segmentation` and `truth` are flat uint64, `ignored` flat bool of the same length, or of length 0 for none.
    Truth below `lowest` or from `outside` on does not count; segments from `outside` on are read as 0.
    """
    segments, objects = np.zeros(FIRST_CAPACITY, np.uint64), np.zeros(FIRST_CAPACITY, np.uint64)
    counts = np.zeros(FIRST_CAPACITY, np.int64)  # 0 marks an empty slot
    used = 0
    start = 0
    # Why not look every voxel up? Neighbours along x mostly carry the same pair, so whole runs are added at once.
    while start < len(truth):
        segment, label = segmentation[start], truth[start]
        end = start + 1
        while end < len(truth) and truth[end] == label and segmentation[end] == segment:
            end += 1
        voxels = end - start
        if len(ignored):
            voxels -= np.count_nonzero(ignored[start:end])
        start = end
        if voxels == 0 or label < lowest or label >= outside:
            continue
        if segment >= outside:
            segment = np.uint64(0)
        if 2 * used == len(counts):
            segments, objects, counts = double(segments, objects, counts)
        slot = find(segments, objects, counts, segment, label)
        if counts[slot] == 0:
            segments[slot], objects[slot] = segment, label
            used += 1
        counts[slot] += voxels
    filled = counts > 0
    return segments[filled], objects[filled], counts[filled]


@njit(cache=True, nogil=True)
def find(segments, objects, counts, segment, label):
    """The slot that holds the pair, or the empty one where it belongs; the capacity is a power of two."""
    last = np.uint64(len(counts) - 1)
    slot = mix(segment, label) & last
    while counts[slot] and (segments[slot] != segment or objects[slot] != label):
        slot = (slot + np.uint64(1)) & last
    return np.int64(slot)


@njit(cache=True, nogil=True)
def mix(segment, label):
    """A hash of two uint64. Ids are often small and dense, so the low bits must depend on all bits of both."""
    key = segment * np.uint64(0x9E3779B97F4A7C15) + label
    key = (key ^ (key >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    key = (key ^ (key >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return key ^ (key >> np.uint64(32))


@njit(cache=True, nogil=True)
def double(segments, objects, counts):
    """The same pairs in a table of twice the capacity."""
    capacity = 2 * len(counts)
    more_segments, more_objects = np.zeros(capacity, np.uint64), np.zeros(capacity, np.uint64)
    more_counts = np.zeros(capacity, np.int64)
    for old in range(len(counts)):
        if counts[old]:
            new = find(more_segments, more_objects, more_counts, segments[old], objects[old])
            more_segments[new], more_objects[new], more_counts[new] = segments[old], objects[old], counts[old]
    return more_segments, more_objects, more_counts
