"""Affinities that were predicted on resampled voxels, brought back to the voxels that the data came with."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from segkit.data.affinities import Affinities, edge_slices
from segkit.data.grid import Grid, Placed
from segkit.data.resample import cells
from segkit.errors import InvalidInput, sentence

Shape = tuple[int, int, int]


def restore_affinities(affinities: Affinities, grid: Grid, shape: Sequence[int]) -> Affinities:
    """`affinities` as those of the edges between `shape` voxels of `grid`.

    An affinity says whether two points belong together, here the centres of two voxels; each lies in some voxel of
    `affinities`. For neighbours along an axis, follow the edges from the one to the other: the two belong together as
    far as the weakest of them says so (the minimum, not the product: what splits one of several short edges splits
    the long one, while none of them is evidence against it again). Where both centres lie in the same voxel there is
    no edge to ask, and the strongest edge of that voxel says whether it belongs to an object at all, or is background.
    An edge of any other offset keeps its length in the world, rounded to whole voxels, and takes the value of the edge
    that begins where it begins. An offset that rounds to none, or to one that is there already, is left out.
    """
    plan = Restoration(affinities.neighborhood, affinities, grid, shape)
    return Affinities(plan.rows(affinities.array, 0, 0, 0, plan.shape[0]), plan.neighborhood, grid)


class Restoration:
    """What :func:`restore_affinities` does, for affinities that come in rows: sections, or planes of another axis.

    `old` is what has the shape and the grid of the affinities; `neighborhood` is theirs.
    """

    def __init__(self, neighborhood: NDArray[np.int64], old: Placed, grid: Grid, shape: Sequence[int]) -> None:
        self.before = np.asarray(neighborhood)
        self.shape: Shape = tuple(int(size) for size in shape)  # type: ignore[assignment]
        self.offsets = restored_offsets(self.before, old.grid, grid)
        self.neighborhood = np.array(list(self.offsets.values()), np.int64)
        self.cells = cells(old.grid, old.shape, grid, self.shape)
        self.size = tuple(int(size) for size in old.shape)

    def needed(self, axis: int, low: int, high: int) -> tuple[int, int]:
        """First and one past the last of the old rows that the rows `low` to `high` of the result depend on."""
        margin = int(np.abs(self.before[:, axis]).max()) + 1
        cell, last = self.cells[axis], self.shape[axis] - 1
        begin, end = cell[max(low - 1, 0)] - margin, cell[min(high, last)] + margin + 1
        return max(int(begin), 0), min(int(end), self.size[axis])

    def rows(self, old: np.ndarray, axis: int, first: int, low: int, high: int) -> np.ndarray:
        """The rows `low` to `high` along `axis`, float32 (C, Z, Y, X), from old ones, the `first` and more."""
        begin, end = max(low - 1, 0), min(high + 1, self.shape[axis])
        where = list(self.cells)
        where[axis] = np.clip(where[axis][begin:end] - first, 0, old.shape[1 + axis] - 1)
        inner = [slice(None)] * 3
        inner[axis] = slice(low - begin, high - begin)
        strongest = _strongest(old, self.before)
        shape = [high - low if each == axis else size for each, size in enumerate(self.shape)]
        result = np.empty((len(self.offsets), *shape), np.float32)
        for values, (channel, offset) in zip(result, self.offsets.items(), strict=True):
            step, array = self.before[channel], old[channel]
            found = _path(array, strongest, where, step) if is_nearest(step) else _begin(array, where, step)
            values[...] = found[tuple(inner)]
            self._clear(values, offset, axis, low)
        return result

    def _clear(self, values: np.ndarray, offset: Sequence[int], axis: int, low: int) -> None:
        """Write 0 where edges leave the volume."""
        for along, step in enumerate(offset):
            start = low if along == axis else 0
            place = np.arange(start, start + values.shape[along]) + step
            gone = (place < 0) | (place >= self.shape[along])
            values[(slice(None),) * along + (gone,)] = 0


def restored_offsets(neighborhood: np.ndarray, old_grid: Grid, grid: Grid) -> dict[int, tuple[int, ...]]:
    """Channel -> its offset in voxels of `grid`, for those of `neighborhood`, of `old_grid`, that have one."""
    ratio = np.divide(old_grid.voxel_size, grid.voxel_size)
    found: dict[int, tuple[int, ...]] = {}
    nearest = [channel for channel, offset in enumerate(neighborhood) if is_nearest(offset)]
    for channel in sorted(range(len(neighborhood)), key=lambda channel: channel not in nearest):
        old = neighborhood[channel]
        new = old if channel in nearest else np.rint(old * ratio).astype(int)
        offset = tuple(int(step) for step in new)
        opposite = tuple(-step for step in offset)
        if any(offset) and offset not in found.values() and opposite not in found.values():
            found[channel] = offset
    if not found:
        rule = "has no offset as long as a voxel of the data"
        raise InvalidInput(sentence("the neighborhood", rule, np.asarray(neighborhood).tolist(), "keep the grid"))
    return dict(sorted(found.items()))


def is_nearest(offset: Iterable[int]) -> bool:
    """Whether an offset leads to a neighbour along one axis.

    >>> is_nearest((0, 0, -1)), is_nearest((0, -1, -1)), is_nearest((0, 0, 3))
    (True, False, False)
    """
    return sum(abs(int(step)) for step in offset) == 1


def _strongest(array: np.ndarray, neighborhood: np.ndarray) -> np.ndarray:
    """The strongest edge to a neighbour that each voxel has."""
    strongest = np.zeros(array.shape[1:], np.float32)
    for values, offset in zip(array, neighborhood, strict=True):
        if is_nearest(offset):
            here, there = edge_slices(array.shape[1:], offset)
            strongest[here] = np.maximum(strongest[here], values[here])
            strongest[there] = np.maximum(strongest[there], values[here])
    return strongest


def _path(values: np.ndarray, strongest: np.ndarray, where: Sequence[np.ndarray], offset: np.ndarray) -> np.ndarray:
    """For voxels and their neighbours along one axis, the weakest of the edges between the cells of their centres."""
    axis = int(np.flatnonzero(offset)[0])
    here, step = where[axis], int(offset[axis])
    there = np.roll(here, -step)
    there[-1 if step > 0 else 0] = here[-1 if step > 0 else 0]  # its neighbour is not among these
    first = np.minimum(here, there) + (step < 0)
    length = np.abs(here - there)
    others = [each for each in range(3) if each != axis]
    lines, own = (_taken(array, where, others) for array in (values, strongest))
    result = np.ones([len(each) for each in where], np.float32)
    column = [-1 if each == axis else 1 for each in range(3)]
    for along in range(int(length.max())):
        edge = np.take(lines, np.minimum(first + along, lines.shape[axis] - 1), axis)
        np.minimum(result, edge, out=result, where=(length > along).reshape(column))
    return np.where((length == 0).reshape(column), np.take(own, here, axis), result)


def _begin(values: np.ndarray, where: Sequence[np.ndarray], offset: np.ndarray) -> np.ndarray:
    """The edges that begin in the cells of the voxels' centres, or as near to them as such edges stay inside."""
    source, _ = edge_slices(values.shape, offset)
    if any(part.start >= part.stop for part in source):
        return np.zeros([len(each) for each in where], np.float32)
    inside = [np.clip(each, part.start, part.stop - 1) for each, part in zip(where, source, strict=True)]
    return _taken(values, inside, range(3))


def _taken(array: np.ndarray, where: Sequence[np.ndarray], axes: Sequence[int]) -> np.ndarray:
    for axis in axes:
        array = np.take(array, where[axis], axis)
    return array
