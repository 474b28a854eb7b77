"""Voxels near the boundaries of the truth, which CREMI leaves out of the count."""

import numpy as np

from segkit.data import Labels


def near_boundary(truth: Labels, distance: float) -> np.ndarray:
    """bool (Z, Y, X): True within `distance` (unit of the grid, nm) of a boundary in the same section.

    A boundary voxel is one that has a neighbour of another label along y or x; 0 and outside are labels here. The
    distance to its centre is Euclidean, in the section plane, with the voxel size of the grid; "within" includes
    equality. This is the border mask of the CREMI challenge (https://cremi.org/metrics), which uses 25 nm.

    >>> from segkit import Grid
    >>> truth = Labels.convert([[[1, 1, 1, 2, 2, 2]]], Grid((40, 4, 4)))
    >>> near_boundary(truth, 4).astype(int).tolist()
    [[[0, 1, 1, 1, 1, 0]]]
    """
    from edt import edtsq

    plane = truth.grid.voxel_size[1:]
    square = distance * distance * (1 + 1e-6)  # edtsq rounds to float32
    limit = np.float32(min(square, float(np.finfo(np.float32).max)))  # sections without a boundary are at infinity
    near = np.empty(truth.shape, bool)
    for section, result in zip(truth.array, near, strict=True):
        inner = np.ascontiguousarray(~_boundary(section))
        np.less_equal(edtsq(inner, anisotropy=plane, black_border=False, parallel=1), limit, out=result)
    return near


def _boundary(section: np.ndarray) -> np.ndarray:
    boundary = np.zeros(section.shape, bool)
    along_y, along_x = section[1:] != section[:-1], section[:, 1:] != section[:, :-1]
    boundary[1:] |= along_y
    boundary[:-1] |= along_y
    boundary[:, 1:] |= along_x
    boundary[:, :-1] |= along_x
    return boundary
