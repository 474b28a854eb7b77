"""The merges of a tree that join what is of interest."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def joins(children, leaf_groups):
    """The merges of which both sides hold a group: merge, group of the one, group of the other, int64 (K, 3), in order.

    `children` (M, 2) are the nodes that each merge joins, `leaf_groups` (L,) the group of each leaf or -1. What is
    joined goes by the group that comes first in the row.
    """
    leaves = len(leaf_groups)
    groups = np.full(leaves + len(children), -1)
    groups[:leaves] = leaf_groups
    found, used = np.empty((len(children), 3), np.int64), 0
    for k in range(len(children)):
        one, other = groups[children[k, 0]], groups[children[k, 1]]
        groups[leaves + k] = max(one, other) if min(one, other) < 0 else one
        if min(one, other) >= 0:
            found[used, 0], found[used, 1], found[used, 2] = k, one, other
            used += 1
    return found[:used]
