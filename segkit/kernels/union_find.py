"""Find the root of a node in a union-find forest, whichever way the forest is stored.

Why halve the path instead of compressing it, as the textbook does? Halving goes up once and needs no second pass, and
trees stay as low. Why is there no function that unites? Who becomes the root differs: the lowest, the larger, the
cluster that goes on; it is an assignment, and what is summed up at the root belongs to the caller.
"""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def find_root(parents, node):
    """Find the root of `node` and halve the path to it, so `parents` changes. A root is its own parent.

    In the forest 0 <- 1 <- 2 <- 3 the root of 3 is 0; afterwards 3 hangs from 1, as does 2, which was skipped.
    """
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


@njit(cache=True, nogil=True)
def find_root_unchanged(parents, node):
    """Find the root of `node` and leave `parents` as they are: for forests whose links mean something.

    Why not halve? Where a node keeps the score at which it was linked, a shorter path would skip scores.
    """
    while parents[node] != node:
        node = parents[node]
    return np.int64(node)


@njit(cache=True, nogil=True, inline="always")
def find_sized_root(parents, node):
    """Find the root of `node` and halve the path to it, where a root holds minus its size instead of itself.

    Why one array and not two? Root and size are found in one cache line. Inlined, since each look-up takes few steps.
    """
    above = parents[node]
    while above >= 0:
        top = parents[above]
        if top < 0:
            return above
        parents[node] = top
        node = top
        above = parents[node]
    return node


@njit(cache=True, nogil=True)
def find_in_records(nodes, node):
    """Find the root of `node` and halve the path to it, where parents are the field `parent` of records.

    Why records? What a merge needs to know of a root next lies beside its parent, in the same cache line.
    """
    while nodes[node].parent != node:
        above = nodes[node].parent
        nodes[node].parent = nodes[above].parent
        node = nodes[node].parent
    return np.int64(node)
