"""Volumes and labels on a grid of other voxels; positions in the world stay what they are.

Voxel i of a grid covers i to i + 1 times the voxel size from the grid's offset on, so that its centre lies at i + 0.5.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from segkit.data.grid import Grid
from segkit.data.labels import Labels
from segkit.data.source import Source
from segkit.data.volume import Volume
from segkit.errors import InvalidInput, sentence

Shape = tuple[int, int, int]

SNAP = 1e-6
"""Positions nearer to a border of a voxel than this part of it are on the border: the rest is rounding."""
WITHIN = 1 - 2**-46
"""Factor of the weights of values that are floats, so that rounding never lifts 1 above 1, where intensities end."""
BLOCK = 2**24
"""Voxels that are computed at once."""


def resampled_grid(
    grid: Grid, shape: Sequence[int], voxel_size: Sequence[float], anchor: Grid | None = None
) -> tuple[Grid, Shape]:
    """The grid of voxels of `voxel_size` that covers `shape` voxels of `grid`, and its shape: (Grid, (Z, Y, X)).

    It consists of the voxels whose centres lie inside the volume, at least one an axis. The first begins where the
    volume begins; with `anchor`, the new voxels are shifted by whole voxels from the offset of `anchor` instead, so
    that two volumes share a lattice.

    >>> fine, shape = resampled_grid(Grid((40, 4, 4), (0, 80, 80)), (5, 100, 101), (20, 8, 8))
    >>> fine.voxel_size, fine.offset, shape
    ((20.0, 8.0, 8.0), (0.0, 80.0, 80.0), (10, 50, 50))
    """
    new = Grid(tuple(voxel_size), unit=grid.unit)  # type: ignore[arg-type]  # Grid refuses other than three numbers
    origin = (anchor or grid).offset
    starts, sizes = [], []
    for start, size, old, edge, zero in zip(grid.offset, shape, grid.voxel_size, new.voxel_size, origin, strict=True):
        first = math.ceil((start - zero) / edge - 0.5 - SNAP)
        sizes.append(max(math.ceil((start + size * old - zero) / edge - 0.5 - SNAP) - first, 1))
        starts.append(first)
    z, y, x = (zero + first * edge for zero, first, edge in zip(origin, starts, new.voxel_size, strict=True))
    return replace(new, offset=(z, y, x)), (sizes[0], sizes[1], sizes[2])


def resample_volume(volume: Volume, grid: Grid, shape: Sequence[int]) -> Volume:
    """The intensities of `volume` on `shape` voxels of `grid`, of the same dtype (integers are rounded).

    Along an axis whose voxels get longer, a new voxel is the mean of what it covers, each old voxel counted by its
    share; so nothing finer than the new voxels is left to alias. Along one whose voxels get shorter it is
    interpolated linearly between the centres of the two nearest. Beyond the volume its last voxels continue. A mask is
    True where all that a new voxel covers is.

    >>> row = Volume(np.array([[[10, 20, 50, 60]]], np.uint8), Grid((1, 1, 1)))
    >>> resample_volume(row, *resampled_grid(row.grid, row.shape, (1, 1, 2))).array.tolist()
    [[[15, 55]]]
    """
    mask = volume.array.dtype.kind == "b"
    axes = [
        overlapping(*along) if along[2] >= 1 or mask else _between(*along)
        for along in _axes(volume.grid, volume.shape, grid, shape)
    ]
    result = np.empty(shape, volume.array.dtype)
    planes = max(BLOCK // (int(shape[1]) * int(shape[2])), 1)
    for low in range(0, int(shape[0]), planes):
        block = slice(low, min(low + planes, int(shape[0])))
        result[block] = _box(volume.array.__getitem__, axes, (block, slice(int(shape[1])), slice(int(shape[2]))))
    return Volume(result, grid)


class ResampledSource:
    """Intensities that are read box by box, on voxels of `voxel_size`: what :func:`resample_volume` gives of the whole.

    `dtype` bool says that it is a mask, and `anchor` is that of :func:`resampled_grid`. It is itself a source.
    """

    def __init__(
        self, source: Source, voxel_size: Sequence[float], anchor: Grid | None = None, dtype: DTypeLike = np.uint8
    ) -> None:
        self.grid, self.shape = resampled_grid(source.grid, source.shape, voxel_size, anchor)
        self.dtype = np.dtype(dtype)
        mask, along = self.dtype.kind == "b", _axes(source.grid, source.shape, self.grid, self.shape)
        self._axes = [overlapping(*each) if each[2] >= 1 or mask else _between(*each) for each in along]
        self._read = source.read

    def read(self, box: Sequence[slice]) -> np.ndarray:
        """The values in a box, of the dtype of the source."""
        return _box(self._read, self._axes, box)


class ResampledLabels:
    """Labels that are read box by box, on voxels of `voxel_size`: what :func:`resample_labels` gives of the whole."""

    dtype = np.dtype(np.uint64)

    def __init__(self, source: Source, voxel_size: Sequence[float], anchor: Grid | None = None) -> None:
        self.grid, self.shape = resampled_grid(source.grid, source.shape, voxel_size, anchor)
        self._axes = [overlapping(*along) for along in _axes(source.grid, source.shape, self.grid, self.shape)]
        self._read = source.read

    def read(self, box: Sequence[slice]) -> NDArray[np.uint64]:
        """The ids in a box."""
        reach = [taps.reach(part) for taps, part in zip(self._axes, box, strict=True)]
        array = self._read(tuple(slice(*along) for along in reach))
        taken = zip(self._axes, box, reach, strict=True)
        tables = [(taps.first[part] - start, taps.weights[part]) for taps, part, (start, _) in taken]
        return _most_frequent(array, tables)


def resample_labels(labels: Labels, grid: Grid, shape: Sequence[int]) -> Labels:
    """The labels on `shape` voxels of `grid`: each new voxel has the id that fills most of it, the lower of two equal.

    Ids are those that were there, exactly; "outside the annotation" and background count like any other.
    """
    axes = [overlapping(*along) for along in _axes(labels.grid, labels.shape, grid, shape)]
    return Labels(_most_frequent(labels.array, [(taps.first, taps.weights) for taps in axes]), grid)


def _most_frequent(
    array: NDArray[np.uint64], tables: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]]
) -> NDArray[np.uint64]:
    """The id that fills most of each new voxel, made up along each axis by (first, weights) of :class:`Taps`."""
    from segkit.data._kernels_resample import fill_most_frequent
    from segkit.threads import share

    result = np.empty([len(first) for first, _ in tables], np.uint64)
    share(fill_most_frequent, len(result), array, *tables, result)
    return result


@dataclass(frozen=True, eq=False)
class Taps:
    """Along one axis, which old voxels make up each new one."""

    first: NDArray[np.int64]
    """The first of them, int64 (new,)."""
    weights: NDArray[np.float64]
    """The share of this one and of those that follow, float64 (new, K); rows sum to 1; 0 where there is no voxel."""
    size: int
    """How many old voxels there are."""

    def reach(self, part: slice) -> tuple[int, int]:
        """First and one past the last of the old voxels that some new ones are made of."""
        used = (self.weights[part] > 0).cumsum(1).argmax(1)  # the last tap with a weight
        return int(self.first[part].min()), int((self.first[part] + used).max()) + 1

    def indices(self, tap: int) -> NDArray[np.int64]:
        """The old voxel of one column of weights; where the weight is 0, any."""
        return np.clip(self.first + tap, 0, self.size - 1)


def overlapping(low: NDArray[np.float64], size: int, ratio: float) -> Taps:
    """Each old voxel by the part of the new one that it covers.

    `low` holds where the new voxels begin, in old voxels, `ratio` how many old ones long they are.
    """
    low, high = _snapped(low), _snapped(low + ratio)
    low = np.clip(low, 0, size - 1)  # what lies outside altogether continues the last voxel
    high = np.clip(high, low + SNAP, size)
    first = np.floor(low).astype(np.int64)
    begin = first[:, None] + np.arange(int((np.ceil(high) - first).max()))
    covered = np.minimum(begin + 1, high[:, None]) - np.maximum(begin, low[:, None])
    weights = np.maximum(covered, 0)
    return Taps(first, weights / weights.sum(1, keepdims=True), size)


def cells(grid: Grid, shape: Sequence[int], other: Grid, other_shape: Sequence[int]) -> list[NDArray[np.int64]]:
    """For each axis, the voxel of `grid` in which the centre of every voxel of `other` lies, int64.

    A centre on a border belongs to the later voxel, one outside the volume to the nearest.
    """
    found = []
    for low, size, ratio in _axes(grid, shape, other, other_shape):
        found.append(np.clip(np.floor(_snapped(low + ratio / 2)), 0, size - 1).astype(np.int64))
    return found


def _axes(
    old: Grid, old_shape: Sequence[int], new: Grid, new_shape: Sequence[int]
) -> Iterator[tuple[NDArray[np.float64], int, float]]:
    """(where new voxels begin in old ones, number of old ones, length of a new one in old ones) for z, y, x."""
    if old.unit != new.unit:
        raise InvalidInput(sentence("the units of two grids", "must agree", f"{old.unit} and {new.unit}"))
    for axis in range(3):
        edge, ratio = old.voxel_size[axis], new.voxel_size[axis] / old.voxel_size[axis]
        begin = (new.offset[axis] - old.offset[axis]) / edge
        yield begin + ratio * np.arange(int(new_shape[axis]), dtype=np.float64), int(old_shape[axis]), ratio


def _snapped(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    whole = np.round(positions)
    return np.where(np.abs(positions - whole) < SNAP, whole, positions)


def _between(low: NDArray[np.float64], size: int, ratio: float) -> Taps:
    """The two old voxels whose centres lie around that of each new one."""
    centre = np.clip(_snapped(low + ratio / 2 - 0.5), 0, size - 1)
    first = np.minimum(np.floor(centre), max(size - 2, 0)).astype(np.int64)
    far = centre - first
    return Taps(first, np.stack([1 - far, far], 1), size)


def _box(read: Callable[[tuple[slice, ...]], np.ndarray], axes: Sequence[Taps], box: Sequence[slice]) -> np.ndarray:
    """A box of the result, computed in float32 for integers that it holds, all else in float64."""
    starts, ends = zip(*(taps.reach(part) for taps, part in zip(axes, box, strict=True)), strict=True)
    array = read(tuple(slice(start, end) for start, end in zip(starts, ends, strict=True)))
    floats = array.dtype.kind == "f"
    values = array.astype(np.float64 if floats or array.dtype.itemsize > 2 else np.float32)
    for axis, (taps, part, start) in enumerate(zip(axes, box, starts, strict=True)):
        summed: Any = 0  # the first summand gives it its shape
        for tap in range(taps.weights.shape[1]):
            taken = np.take(values, np.clip(taps.indices(tap)[part] - start, 0, values.shape[axis] - 1), axis)
            weights = (taps.weights[part, tap] * (WITHIN if floats else 1)).astype(taken.dtype)
            summed = summed + taken * weights.reshape([-1 if each == axis else 1 for each in range(3)])
        values = summed
    return _rounded(values, array.dtype)


def _rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "b":
        return values > 1 - 1e-4
    return np.rint(values).astype(dtype) if dtype.kind in "ui" else values.astype(dtype)
