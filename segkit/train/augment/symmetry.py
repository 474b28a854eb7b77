"""Mirrored and exchanged axes: exact, for nothing is interpolated."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from segkit.data import Grid
from segkit.train.patch import Patch

Symmetry = tuple[tuple[int, ...], tuple[int, ...]]
"""New order of the axes, then the axes to mirror."""
IDENTITY: Symmetry = ((0, 1, 2), ())


def mirrorable(patch: Patch) -> tuple[bool, ...]:
    """Of z, y, x, whether the output lies in the middle of the input, so that it does so when both are mirrored."""
    return tuple((i - o) % 2 == 0 for i, o in zip(patch.input, patch.output, strict=True))


def exchangeable(patch: Patch, grid: Grid) -> tuple[int, ...]:
    """The axes that may change places: y and x of squares, all of cubes, where both patches and voxels are such."""
    sizes = list(zip(patch.input, patch.output, strict=True))
    if sizes[1] != sizes[2] or not grid.alike(1, 2):
        return ()
    return (0, 1, 2) if sizes[0] == sizes[1] and grid.isotropic else (1, 2)


def draw_symmetry(rng: np.random.Generator, flips: Sequence[float] | np.ndarray, axes: Sequence[int]) -> Symmetry:
    """A random one: `axes` permuted, and z, y, x mirrored with the probabilities `flips`."""
    order = np.arange(3)
    order[list(axes)] = rng.permutation(np.array(axes, int))
    mirrored = np.flatnonzero(rng.random(3) < flips)
    return tuple(map(int, order)), tuple(map(int, mirrored))


def apply_symmetry(array: Tensor, symmetry: Symmetry) -> Tensor:
    """`array` (Z, Y, X) with its axes in the new order, then mirrored."""
    order, mirrored = symmetry
    return array.permute(order).flip(mirrored)
