"""Voxels that are read box by box, from wherever they are."""

from typing import Protocol

import numpy as np

from segkit.data.grid import Grid, Placed
from segkit.data.labels import Labels
from segkit.data.volume import Volume


class Source(Placed, Protocol):
    """A volume that is read box by box, in memory or in a file (:class:`segkit.io.RegionSource`)."""

    def read(self, box: tuple[slice, ...], /) -> np.ndarray:
        """The values in a box, (Z, Y, X)."""


class TypedSource(Source, Protocol):
    """A source that says what it holds: a container in memory, or :class:`segkit.io.CachedSource`."""

    @property
    def dtype(self) -> np.dtype:
        """Of the values."""


class Held:
    """A volume in memory as a source."""

    def __init__(self, volume: Volume | Labels) -> None:
        self._array = volume.array
        self.shape: tuple[int, int, int] = volume.shape
        """Size in voxels, (Z, Y, X)."""
        self.grid: Grid = volume.grid
        """Where the voxels lie."""
        self.identity = ""
        """Nothing: what is made of it is never left unfinished."""

    def read(self, box: tuple[slice, ...], /) -> np.ndarray:
        """The values in a box, (Z, Y, X), which cannot be changed."""
        return self._array[box]
