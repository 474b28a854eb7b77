"""A volume of intensities, or a mask."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from segkit.data.grid import Grid
from segkit.errors import InvalidInput, InvalidShape, sentence


@dataclass(frozen=True, eq=False)
class Volume:
    """Intensities (any real dtype) or a mask (bool; True = inside the annotation), one value a voxel."""

    array: np.ndarray
    """Values, shape (Z, Y, X). Held as a read-only view: what reads it cannot change it."""
    grid: Grid
    """Where the voxels lie."""

    def __post_init__(self) -> None:
        hold(self, "volume", 3, "z, y, x")
        if self.array.dtype.kind not in "buif":
            raise InvalidInput(sentence("volume", "must hold real numbers or booleans", self.array.dtype))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size in voxels, (Z, Y, X)."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        """Of the values."""
        return self.array.dtype

    def read(self, box: tuple[slice, ...], /) -> np.ndarray:
        """The values in a box, (Z, Y, X), as a view that cannot be changed."""
        return self.array[box]

    def check(self) -> None:
        """Raise InvalidInput if any value is not finite. O(n)."""
        check_finite(self.array)


def check_finite(array: np.ndarray) -> None:
    """Raise InvalidInput if any value is NaN or infinite. O(n)."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise InvalidInput(sentence("volume", "must be finite", f"{array[where]} at voxel {where}"))


class _Container(Protocol):
    @property
    def array(self) -> np.ndarray: ...

    @property
    def grid(self) -> Grid: ...


def hold(container: _Container, name: str, ndim: int, axes: str) -> None:
    """Keep a read-only view of `container.array`, in native byte order; refuse other dimensions and empty arrays."""
    array = native(container.array).view()
    if array.ndim != ndim:
        raise InvalidShape(
            sentence(
                name,
                f"must have {ndim} dimensions ({axes})",
                f"{array.ndim}, of shape {array.shape}",
                "a single section is a volume with Z = 1",
            )
        )
    if array.size == 0:
        raise InvalidShape(sentence(name, "must not be empty", f"of shape {array.shape}"))
    if not isinstance(container.grid, Grid):
        raise InvalidInput(sentence("grid", "must be a segkit Grid", repr(container.grid)))
    array.flags.writeable = False
    object.__setattr__(container, "array", array)


def native(array: ArrayLike) -> np.ndarray:
    """`array` itself, or a copy in the byte order of this machine, which compiled code and torch take alone."""
    given = np.asarray(array)
    return given.astype(given.dtype.newbyteorder("="), copy=False)
