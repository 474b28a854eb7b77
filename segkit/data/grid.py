"""Where voxels lie in the world."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from segkit.errors import InvalidInput, InvalidShape, sentence

Triple = tuple[float, float, float]

ALIKE = 1.1
"""Ratio of the longest to the shortest edge of a voxel from which axes are no longer exchanged."""


@dataclass(frozen=True)
class Grid:
    """Size and position of voxels, always z, y, x.

    >>> grid = Grid(voxel_size=(40, 4, 4), offset=(0, 400, 400))
    >>> grid.crop((1, 10, 0)).offset
    (40.0, 440.0, 400.0)
    """

    voxel_size: Triple = (1.0, 1.0, 1.0)
    """Edge lengths of a voxel, in `unit`; positive."""
    offset: Triple = (0.0, 0.0, 0.0)
    """World position of the corner of voxel (0, 0, 0), in `unit`."""
    unit: str = "nm"
    """Unit of both."""

    def __post_init__(self) -> None:
        for name in ("voxel_size", "offset"):
            object.__setattr__(self, name, _triple(name, getattr(self, name)))
        if min(self.voxel_size) <= 0:
            raise InvalidInput(sentence("voxel_size", "must be positive along z, y and x", self.voxel_size))
        if not isinstance(self.unit, str) or not self.unit:
            raise InvalidInput(sentence("unit", "must be the name of a unit of length", repr(self.unit)))

    def crop(self, start: Sequence[int]) -> "Grid":
        """The grid of a crop that begins at voxel `start` (z, y, x) of this one."""
        z, y, x = (o + s * v for o, s, v in zip(self.offset, start, self.voxel_size, strict=True))
        return replace(self, offset=(z, y, x))

    def centre(self, voxel: Sequence[int]) -> Triple:
        """The place of the centre of voxel z, y, x in the world, in the unit of the grid."""
        z, y, x = (o + (index + 0.5) * v for o, index, v in zip(self.offset, voxel, self.voxel_size, strict=True))
        return z, y, x

    def same_voxel_size(self, other: "Grid") -> bool:
        """Whether voxels of both have the same size in the same unit, up to rounding."""
        pairs = zip(self.voxel_size, other.voxel_size, strict=True)
        return self.unit == other.unit and all(math.isclose(a, b, rel_tol=1e-5) for a, b in pairs)

    def alike(self, *axes: int) -> bool:
        """Whether voxels are as long along these axes, near enough to exchange them.

        >>> Grid((40, 4, 4)).alike(0, 1, 2), Grid((40, 4, 4)).alike(1, 2)
        (False, True)
        """
        edges = [self.voxel_size[axis] for axis in axes]
        return max(edges) < ALIKE * min(edges)

    @property
    def isotropic(self) -> bool:
        """Whether voxels are cubes, near enough."""
        return self.alike(0, 1, 2)

    def voxel_position(self, other: "Grid") -> tuple[int, int, int]:
        """The voxel of this grid at which voxel (0, 0, 0) of `other` lies; may be negative.

        Raises InvalidInput if voxel sizes differ or the grids are shifted by part of a voxel.
        """
        if not self.same_voxel_size(other):
            raise InvalidInput(
                sentence(
                    "voxel sizes",
                    "must agree",
                    f"{_show(self)} and {_show(other)}",
                    "correct the attribute `resolution` of the file that is wrong, or resample one of them",
                )
            )
        exact = [(b - a) / v for a, b, v in zip(self.offset, other.offset, self.voxel_size, strict=True)]
        z, y, x = (round(e) for e in exact)
        if any(abs(e - w) > 1e-2 for e, w in zip(exact, (z, y, x), strict=True)):
            raise InvalidInput(
                sentence("offsets", "must differ by whole voxels", f"{exact} voxels", "correct the attribute `offset`")
            )
        return z, y, x


class Placed(Protocol):
    """Voxels that lie somewhere: a container, or what is read piece by piece from a file."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size in voxels, (Z, Y, X)."""

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""


def check_aligned(**named: Placed | None) -> None:
    """Raise unless all containers (given by name) have the same shape, voxel size and position.

    >>> import numpy as np
    >>> from segkit import Grid, Volume
    >>> check_aligned(raw=Volume(np.zeros((1, 2, 3)), Grid()), mask=Volume(np.ones((1, 2, 3), bool), Grid()))
    """
    (first_name, first), *others = [(name, item) for name, item in named.items() if item is not None]
    for name, other in others:
        pair = f"{first_name} and {name}"
        if first.shape != other.shape:
            raise InvalidShape(
                sentence(pair, "must have the same shape (z, y, x)", f"{first.shape} and {other.shape}", "crop one")
            )
        if not first.grid.same_voxel_size(other.grid):
            values = f"{_show(first.grid)} and {_show(other.grid)}"
            raise InvalidInput(sentence(pair, "must have the same voxel size", values, "correct `resolution`"))
        if any(first.grid.voxel_position(other.grid)):
            values = f"{first.grid.offset} and {other.grid.offset} {first.grid.unit}"
            raise InvalidInput(sentence(pair, "must lie at the same place", values, "crop them alike"))


def _triple(name: str, values: Sequence[float]) -> Triple:
    try:
        triple = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        triple = ()
    if len(triple) != 3 or not all(map(math.isfinite, triple)):
        raise InvalidInput(sentence(name, "must be three finite numbers, z, y, x", values))
    return triple


def _show(grid: Grid) -> str:
    return f"{grid.voxel_size} {grid.unit}"
