"""Union and find, compiled: what kernels of several packages share."""

from numba import njit


@njit(cache=True, nogil=True)
def find_root(parents, node):
    """The root of the tree that `node` is in; halves the path, so `parents` changes."""
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node
