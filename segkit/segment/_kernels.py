"""Loops over the nodes of a tree and over voxels: from fragment ids to segment ids."""

import numpy as np
from numba import njit

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@njit(cache=True, nogil=True)
def look_up(start, stop, fragments, result, table, low, outside):
    """Write table[id - low] for the ids at start to stop; 0 and ids from `outside` on stay as they are.

    Gives the position of the first id that has no entry (0 in the table), or -1. Why compare with the voxel before?
    Neighbours along x mostly carry the same id, and the table does not fit the cache.
    """
    last, segment = np.uint64(0), np.uint64(0)
    for i in range(start, stop):
        fragment = fragments[i]
        if fragment != last:
            last = fragment
            segment = fragment
            if np.uint64(0) < fragment < outside:
                place = fragment - low  # wraps around below `low`, and so is too high there as well
                segment = table[np.int64(place)] if place < np.uint64(len(table)) else np.uint64(0)
                if segment == 0:
                    return i
        result[i] = segment
    return -1


@njit(cache=True, nogil=True)
def look_up_hashed(start, stop, fragments, result, keys, values, outside):
    """As `look_up`, with a hash table from `hashed`."""
    last, segment = np.uint64(0), np.uint64(0)
    for i in range(start, stop):
        fragment = fragments[i]
        if fragment != last:
            last = fragment
            segment = fragment
            if np.uint64(0) < fragment < outside:
                slot = _slot(keys, fragment)
                if keys[slot] == 0:
                    return i
                segment = values[slot]
        result[i] = segment
    return -1


@njit(cache=True, nogil=True)
def hashed(leaf_ids, segments):
    """Keys and values of a hash table from leaf to segment; key 0 marks an empty slot."""
    size = 16
    while size < 2 * len(leaf_ids):
        size *= 2
    keys, values = np.zeros(size, np.uint64), np.zeros(size, np.uint64)
    for k in range(len(leaf_ids)):
        slot = _slot(keys, leaf_ids[k])
        keys[slot], values[slot] = leaf_ids[k], segments[k]
    return keys, values


@njit(cache=True, nogil=True)
def _slot(keys, key):
    """The slot that holds `key`, or the empty one where it belongs. The number of slots is a power of two."""
    mixed = key * MULTIPLIER
    slot = (mixed ^ (mixed >> np.uint64(32))) & np.uint64(len(keys) - 1)
    while keys[np.int64(slot)] != 0 and keys[np.int64(slot)] != key:
        slot = (slot + np.uint64(1)) & np.uint64(len(keys) - 1)
    return np.int64(slot)


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
