"""Affinities of a network that sees resampled voxels, brought back to the voxels of the data."""

from collections.abc import Iterable, Iterator

import numpy as np

from segkit.data import Grid
from segkit.data.grid import Placed
from segkit.data.restore import Restoration
from segkit.infer.slabs import Part
from segkit.timing import phase


class Restoring:
    """The affinities that come part by part on the grid of `source`, on the grid of `target`.

    Both have a shape and a grid; if they are the same, parts pass as they are. Otherwise rows are given away as soon
    as all is there that they depend on, and memory holds the rest; see
    :func:`segkit.data.restore.restore_affinities`.
    """

    def __init__(self, source: Placed, target: Placed, neighborhood: np.ndarray) -> None:
        self.shape: tuple[int, int, int] = target.shape
        """Of the result, (Z, Y, X)."""
        self.grid: Grid = target.grid
        """Of the result."""
        self.neighborhood = neighborhood
        """Offsets of the result, in its voxels, int64 (C, 3)."""
        self._plan = None
        if source is not target:
            self._plan = Restoration(neighborhood, source, target.grid, target.shape)
            self.neighborhood = self._plan.neighborhood

    def restored(self, parts: Iterable[Part]) -> Iterator[Part]:
        """The parts of the result. Those given must be slabs in order, all across the same axis."""
        if self._plan is None:
            yield from parts
            return
        buffer, first, done = None, 0, 0
        for where, values in parts:
            axis = _axis(where[-3:], self._plan.size)
            buffer = values if buffer is None else np.concatenate([buffer, values], 1 + axis)
            known, last = first + buffer.shape[1 + axis], self.shape[axis]
            high = next((row for row in range(last, done, -1) if self._plan.needed(axis, done, row)[1] <= known), done)
            if high == done:
                continue
            with phase("restoring"):
                rows = self._plan.rows(buffer, axis, first, done, high)
            yield self._place(axis, done, high), rows
            done = high
            kept = self._plan.needed(axis, min(done, last - 1), last)[0]
            buffer = np.take(buffer, range(kept - first, buffer.shape[1 + axis]), 1 + axis)
            first = kept

    def _place(self, axis: int, low: int, high: int) -> tuple[slice, ...]:
        sizes = (len(self.neighborhood), *self.shape)
        return tuple(slice(low, high) if each == 1 + axis else slice(0, size) for each, size in enumerate(sizes))


def _axis(where: tuple[slice, ...], shape: tuple[int, ...]) -> int:
    """The axis that a slab lies across; any, if it is the whole."""
    part = [axis for axis, along in enumerate(where) if along.stop - along.start != shape[axis]]
    return part[0] if part else 0
