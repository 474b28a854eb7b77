"""A label for every voxel: fragments, segments, ground truth."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segkit.data.grid import Grid
from segkit.data.volume import hold
from segkit.errors import InvalidInput, sentence

FIRST_OUTSIDE = np.uint64(2**64 - 2)
"""CREMI writes 2^64 - 1 and 2^64 - 2 where nobody annotated."""


@dataclass(frozen=True, eq=False)
class Labels:
    """One uint64 a voxel; 0 is background (membrane), 2^64 - 1 and 2^64 - 2 are outside the annotation.

    >>> labels = Labels(np.array([[[3, 0, 2**64 - 1]]], np.uint64), Grid())
    >>> labels.inside.tolist(), labels.ids().tolist()
    ([[[True, True, False]]], [3])
    """

    array: NDArray[np.uint64]
    """Ids, uint64, shape (Z, Y, X), as a read-only view."""
    grid: Grid
    """Where the voxels lie."""

    def __post_init__(self) -> None:
        hold(self, "labels", 3, "z, y, x")
        if self.array.dtype != np.uint64:
            raise InvalidInput(sentence("labels", "must be uint64", self.array.dtype, "use Labels.convert"))

    @classmethod
    def convert(cls, array: ArrayLike, grid: Grid) -> "Labels":
        """Labels from an array of any integer dtype; floats and negative ids are refused, nothing is rounded."""
        return cls(as_ids(np.asarray(array)), grid)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size in voxels, (Z, Y, X)."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        """uint64."""
        return self.array.dtype

    def read(self, box: tuple[slice, ...], /) -> NDArray[np.uint64]:
        """The ids in a box, (Z, Y, X), as a view that cannot be changed."""
        return self.array[box]

    @property
    def inside(self) -> NDArray[np.bool_]:
        """bool (Z, Y, X): True where somebody annotated. O(n)."""
        return self.array < FIRST_OUTSIDE

    def ids(self) -> NDArray[np.uint64]:
        """The ids of the objects, sorted; neither background nor outside is among them. O(n)."""
        flat = self.array.reshape(-1)
        first_of_run = np.append(True, flat[1:] != flat[:-1])  # few: what is left to sort is a fraction of the voxels
        ids = np.unique(flat[first_of_run])
        return ids[(ids > 0) & (ids < FIRST_OUTSIDE)]

    def check(self) -> None:
        """Any uint64 is a label: there is nothing to refuse."""


def as_ids(array: np.ndarray) -> NDArray[np.uint64]:
    """Ids of any integer dtype as uint64; floats and negative ids are refused, nothing is rounded."""
    if array.dtype.kind == "b":
        array = array.astype(np.uint8)
    if array.dtype.kind not in "ui":
        raise InvalidInput(
            sentence("labels", "must be integers", array.dtype, "cast them yourself if no id can be lost by it")
        )
    if array.dtype.kind == "i" and array.size and array.min() < 0:
        next_step = "cast them to an unsigned dtype if -1 stands for outside"
        raise InvalidInput(sentence("labels", "must not be negative", array.min(), next_step))
    return array.astype(np.uint64, copy=False)
