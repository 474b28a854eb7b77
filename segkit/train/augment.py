"""Random changes under which the objects of a patch stay the same. Targets are made afterwards, so they follow."""

from collections.abc import Sequence

import numpy as np

from segkit.data import Grid, edge_slices
from segkit.train.patch import Patch

AXES = {"z": 0, "y": 1, "x": 2}
ANISOTROPIC = 1.1
"""Ratio of the longest to the shortest edge of a voxel from which axes are no longer exchanged."""

Symmetry = tuple[tuple[int, ...], tuple[int, ...]]
"""New order of the axes, then the axes to mirror."""


def isotropic(grid: Grid) -> bool:
    """Whether voxels are cubes, near enough.

    >>> isotropic(Grid((10, 10, 10))), isotropic(Grid((40, 4, 4)))
    (True, False)
    """
    return max(grid.voxel_size) < ANISOTROPIC * min(grid.voxel_size)


def exchangeable(patch: Patch, grid: Grid) -> tuple[int, ...]:
    """The axes that may change places: y and x of square patches, all of cubic patches of isotropic voxels."""
    sizes = list(zip(patch.input, patch.output, strict=True))
    if sizes[1] != sizes[2]:
        return ()
    return (0, 1, 2) if sizes[0] == sizes[1] and isotropic(grid) else (1, 2)


def draw_symmetry(rng: np.random.Generator, flips: Sequence[str], axes: Sequence[int]) -> Symmetry:
    """A random one: `axes` permuted, and each axis in `flips` mirrored with probability 1/2."""
    order = np.arange(3)
    order[list(axes)] = rng.permutation(np.array(axes, int))
    mirrored = np.flatnonzero(rng.integers(2, size=3))
    allowed = {AXES[name] for name in flips}
    return tuple(map(int, order)), tuple(int(axis) for axis in mirrored if axis in allowed)


def apply_symmetry(array: np.ndarray, symmetry: Symmetry) -> np.ndarray:
    """A view of `array` (Z, Y, X) with its axes in the new order, then mirrored."""
    order, mirrored = symmetry
    return np.flip(array.transpose(order), mirrored)


def change_intensity(raw: np.ndarray, rng: np.random.Generator, scale: float, shift: float) -> np.ndarray:
    """`raw` times 1 plus or minus up to `scale`, plus or minus up to `shift`."""
    factor, summand = rng.uniform(-1, 1, size=2) * (scale, shift)
    return raw * np.float32(1 + factor) + np.float32(summand)


def grow_boundary(labels: np.ndarray, mask: np.ndarray, steps: int, axes: Sequence[int]) -> np.ndarray:
    """`labels` with a rim of `steps` voxels of every object made background (0).

    The rim is where a face neighbour along `axes` carries something else; neighbours outside the array or the mask
    are unknown, and take nothing off.

    >>> row = np.array([[[3, 3, 3, 5, 5, 0, 0]]])
    >>> grow_boundary(row, row >= 0, 1, axes=[2]).ravel().tolist()
    [3, 3, 0, 0, 0, 0, 0]
    """
    for _ in range(steps):
        rim = np.zeros(labels.shape, bool)
        for axis in axes:
            first, second = edge_slices(labels.shape, np.eye(3, dtype=int)[axis])
            differ = (labels[first] != labels[second]) & mask[first] & mask[second]
            rim[first] |= differ
            rim[second] |= differ
        labels = np.where(rim, labels.dtype.type(0), labels)
    return labels
