"""Loops over the nodes of a merge tree."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def lowest_common(parents, first, second):
    """The node in which two nodes are first joined, int64 (K,), for each pair; -1 where they never are.

    Why is the lower number the one to climb? Parents have higher numbers than their children.
    """
    found = np.empty(len(first), np.int64)
    for pair in range(len(first)):
        a, b = first[pair], second[pair]
        while a != b:
            if a > b:
                a, b = b, a
            above = parents[a]
            if above == a:
                a = b = -1
            else:
                a = above
        found[pair] = a
    return found


@njit(cache=True, nogil=True)
def fold_upwards(parents, sizes, names):
    """Add the size of every node to its parent's, and hand the smallest name on; both are changed in place."""
    for node in range(len(parents)):
        above = parents[node]
        if above != node:
            sizes[above] += sizes[node]
            names[above] = min(names[above], names[node])
