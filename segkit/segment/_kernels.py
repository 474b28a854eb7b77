"""Loops over the nodes of a tree, over voxels and over runs of voxels: from fragment ids to segment ids."""

import numpy as np
from numba import njit

from segkit.kernels.pair_table import find_key
from segkit.kernels.runs import ends_of_runs
from segkit.segment._kernels_store import LANES, publish, stamp, stream

BLOCK = 2048
"""Voxels that are put together in the cache before they are written."""
FIXED = 3
"""Ids that are no fragments stand before the leaves: 0 and the two that are outside the annotation."""


@njit(cache=True, nogil=True)
def find_runs(fragments, begin, stop, numbers, outside, ends, leaves):
    """Find the runs of one id in fragments[begin:stop]: where each ends, from `begin`, and the number of its leaf.

    `numbers` are `table` and `keys`, which `number_leaves` filled, and the lowest id. Gives the position of an id that
    has none, or -1. Why ask for the number first, and then what it is? Runs of background come and go, and a branch
    that cannot be foreseen costs more than the table.
    """
    table, keys, low = numbers
    ends_of_runs(fragments[begin:stop], ends)
    top = np.uint64(len(table) - 1)
    for run in range(len(ends)):
        position = begin + np.int64(ends[run]) - 1
        fragment = fragments[position]
        place = find_key(keys, fragment) if len(keys) else np.int64(min(fragment - low, top))  # below `low` it wraps
        number = np.int64(table[place])
        if number == 0 and fragment != 0:
            if fragment < outside:
                return position
            number = np.int64(1) + np.int64(fragment - outside)
        leaves[run] = number
    return -1


@njit(cache=True, nogil=True)
def number_leaves(leaf_ids, table, keys):
    """Write the numbers of the leaves, from FIXED on, into `table`, of zeros.

    Ids in a narrow range, however high, have their number at id - lowest id, and the last entry stays free; others are
    found by hashing, and `keys`, empty otherwise, has a slot for each entry.
    """
    for k in range(len(leaf_ids)):
        place = np.int64(leaf_ids[k] - leaf_ids[0])
        if len(keys):
            place = find_key(keys, leaf_ids[k])
            keys[place] = leaf_ids[k]
        table[place] = FIXED + k


@njit(cache=True, nogil=True)
def fill(result, begin, ends, leaves, segments):
    """Write segments[leaves[run]] to the voxels of each run, from result[begin] on, where a cache line begins.

    Why not straight to the result? Short runs would be written voxel by voxel, and every line fetched before. Here
    each run is stamped eight voxels at a time into a block in the cache, what goes too far being overwritten by the
    next run, and the block leaves in whole lines.
    """
    block = np.empty(BLOCK + LANES, np.uint64)
    run, done, stop = 0, 0, ends[-1]
    while done < stop:
        length = min(BLOCK, stop - done)
        k = 0
        while k < length:
            segment, end = segments[leaves[run]], min(ends[run] - done, length)
            while k < end:
                stamp(block, k, segment)
                k += LANES
            k = end
            run += ends[run] - done <= length
        whole = length - length % LANES
        for k in range(0, whole, LANES):
            stream(result, begin + done + k, block, k)
        for k in range(whole, length):
            result[begin + done + k] = block[k]
        done += length
    publish()


@njit(cache=True, nogil=True)
def cut(leaf_ids, parents, nodes):
    """The segment of each leaf if only the first `nodes` nodes of the tree are there: the smallest id in it.

    Parents have higher numbers than their children, so one pass upwards and one downwards do. Empty if they do not.
    """
    leaves = len(leaf_ids)
    first = np.full(nodes, leaves, np.int32)
    for node in range(nodes):
        if parents[node] < node:
            return np.empty(0, np.uint64)
        if node < leaves:
            first[node] = node
        if parents[node] < nodes:
            first[parents[node]] = min(first[parents[node]], first[node])
    for node in range(nodes - 1, -1, -1):
        if parents[node] < nodes:
            first[node] = first[parents[node]]
    segments = np.empty(leaves, np.uint64)
    for leaf in range(leaves):
        segments[leaf] = leaf_ids[first[leaf]]
    return segments
