"""Neighborhoods that have names."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segkit.data.affinities import as_neighborhood

LENGTHS = (1, 3, 9, 27)
"""Lengths of the edges of :func:`long_range`, in voxels of the shortest edge."""


def long_range(voxel_size: Sequence[float], ndim: int = 3) -> NDArray[np.int64]:
    """Nearest neighbours and edges of 3, 9 and 27 voxels along each axis, z, y, x: int64 (12, 3), 2-D ones (8, 3).

    Those are voxels of the shortest edge. Along longer ones an edge has as many voxels as come nearest to the same
    length, at least one more than the edge before it: 1, 2, 3, 4 for sections of 40 nm beside pixels of 4 nm (after
    Lee et al. 2017, arXiv:1706.00120). 2-D networks have none along z.

    >>> long_range((40, 4, 4))[:, 0].tolist(), long_range((40, 4, 4))[:, 1].tolist()
    ([-1, 0, 0, -2, 0, 0, -3, 0, 0, -4, 0, 0], [0, -1, 0, 0, -3, 0, 0, -9, 0, 0, -27, 0])
    """
    offsets, before = [], [0, 0, 0]
    for length in LENGTHS:
        for axis in range(3 - ndim, 3):
            shortest = min(voxel_size[3 - ndim :])
            before[axis] = max(round(length * shortest / voxel_size[axis]), before[axis] + 1)
            offsets.append([-before[axis] if each == axis else 0 for each in range(3)])
    return as_neighborhood(offsets)
