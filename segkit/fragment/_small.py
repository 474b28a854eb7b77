"""Small regions joined to a neighbour, as watersheds do it to their basins."""

import numpy as np

from segkit.fragment._kernels_basins import contacts, descending, merge_small
from segkit.fragment._shared import Edges
from segkit.threads import share


def joined(
    edges: Edges, labels: np.ndarray, sizes: np.ndarray, size_threshold: int, least: np.float32, high: np.float32
) -> np.ndarray:
    """The region each label belongs to, named by its lowest label; `sizes` becomes those of the regions.

    `labels` holds -1 - label, int32 or int64 (Z, Y, X). Across edges of affinity >= `least`, highest first (those above
    `high` count as `high`; ties in the order of voxels), two regions are joined while either has fewer than
    `size_threshold` voxels.
    """
    if size_threshold <= 1:
        return np.arange(len(sizes))
    small = min(size_threshold, labels.size + 1)  # any int, for the kernels
    parts = share(contacts, len(labels), edges.arguments(), least, high, labels, sizes, small)
    saddles, pairs = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    del parts
    indices = np.arange(len(saddles), dtype=np.int32 if len(saddles) < 2**31 else np.int64)
    return merge_small(descending(saddles, indices), pairs, sizes, small)
