"""A volume at smaller and smaller scales, for viewers: each level is made from the one before, box by box.

Of intensities a voxel is the mean of what it covers, rounded to the nearest integer (of two, the even one) where they
are integers; of labels the id that fills most of it, the lowest of equal ones; of masks what fills most of it, outside
where both are equal. Each level halves the axes along which voxels are shortest, until voxels are about as long along
all, and then all axes.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from segkit.data import Grid, Labels
from segkit.data.boxes import counted_from
from segkit.data.resample import resample_labels
from segkit.io.address import Box, Slices

LAST = 128
"""Longest side of the last level, in voxels."""
PART = 128
"""Side of what is computed at once, in voxels of the level."""

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Level:
    """One scale of a volume; numbers along z, y, x."""

    shape: Triple
    """Size in voxels."""
    factor: Triple = (1, 1, 1)
    """How many voxels of the first level make up one."""
    step: Triple = (1, 1, 1)
    """The same of the level before: 1 or 2."""
    start: Triple = (0, 0, 0)
    """Where its first voxel lies on the lattice on which voxels are joined, in voxels of this level."""


def levels(
    shape: Sequence[int], voxel_size: Sequence[float], start: Sequence[int] = (0, 0, 0), count: int | None = None
) -> list[Level]:
    """All levels of a volume of `shape` voxels, the first of them itself; `count` of them, if there can be so many.

    `start` is where its first voxel lies on the lattice: at 1, that voxel is joined with none.

    >>> [(each.shape, each.factor) for each in levels((100, 1000, 600), (40, 4, 4))][1:]
    [((100, 500, 300), (1, 2, 2)), ((100, 250, 150), (1, 4, 4)), ((100, 125, 75), (1, 8, 8))]
    """
    found = [Level(_triple(shape), start=_triple(start))]
    while max(found[-1].shape) > (LAST if count is None else 1) and len(found) != count:
        last = found[-1]
        sides = [length * factor for length, factor in zip(voxel_size, last.factor, strict=True)]
        shortest = min(side for side, size in zip(sides, last.shape, strict=True) if size > 1)
        step = _triple(
            1 + (size > 1 and side < shortest * math.sqrt(2)) for side, size in zip(sides, last.shape, strict=True)
        )
        first = _triple(at // by for at, by in zip(last.start, step, strict=True))
        ends = [-(-(at + size) // by) for at, size, by in zip(last.start, last.shape, step, strict=True)]
        factor = _triple(a * b for a, b in zip(last.factor, step, strict=True))
        found.append(Level(_triple(b - a for a, b in zip(first, ends, strict=True)), factor, step, first))
    return found


def reduced(
    before: Level,
    level: Level,
    read: Callable[[Box], np.ndarray],
    labels: bool,
    block: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[Box, np.ndarray]]:
    """The boxes of `level` and their values, made from those that `read` gives of the level before.

    Boxes are blocks of the sides `block`; what is held at once is one of them, and what a part of it is made of.
    `progress` is called with how many are done and how many there are.
    """
    count = math.prod(-(-size // side) for size, side in zip(level.shape, block, strict=True))
    for done, box in enumerate(boxes(level.shape, block), 1):
        parts = [range(along.start, along.stop, PART) for along in box]
        result: np.ndarray | None = None
        for corner in product(*parts):
            part = tuple(slice(a, min(a + PART, along.stop)) for a, along in zip(corner, box, strict=True))
            values = _halved(_covered(before, level, read, part), level.step, labels)
            if result is None:
                result = np.empty([along.stop - along.start for along in box], values.dtype)
            result[counted_from(box, part)] = values
        assert result is not None
        yield box, result
        if progress:
            progress(done, count)


def boxes(shape: Sequence[int], block: Sequence[int]) -> Iterator[Slices]:
    """Boxes of the sides `block` that cover a volume of `shape` voxels, in order; the last ones are smaller."""
    z, y, x = (
        [slice(a, min(a + side, size)) for a in range(0, size, side)] for size, side in zip(shape, block, strict=True)
    )
    yield from product(z, y, x)


def _covered(before: Level, level: Level, read: Callable[[Box], np.ndarray], part: Box) -> np.ndarray:
    """What the voxels of a box are made of; where one sticks out of the volume, its voxels inside count twice."""
    box, beyond = [], []
    along = zip(part, level.step, level.start, before.start, before.shape, strict=True)
    for each, step, start, first, size in along:
        low, high = ((at + start) * step - first for at in (each.start, each.stop))
        box.append(slice(max(low, 0), min(high, size)))
        beyond.append((max(-low, 0), max(high - size, 0)))
    values = read(tuple(box))
    return np.pad(values, beyond, mode="edge") if any(map(any, beyond)) else values


def _halved(values: np.ndarray, step: Triple, labels: bool) -> np.ndarray:
    """One value in place of each box of the sides `step`, of which `values` consist."""
    if labels:
        grid = Grid(_floats(step))
        shape = [size // by for size, by in zip(values.shape, step, strict=True)]
        return resample_labels(Labels(values.astype(np.uint64), Grid()), grid, shape).array.astype(values.dtype)
    if values.dtype.kind == "b":
        return _halved(values.view(np.uint8), step, False).view(bool)
    count = math.prod(step)
    if values.dtype.kind == "f":
        return (_summed(values, step, np.dtype(np.float64)) / count).astype(values.dtype)
    if values.dtype.itemsize < 8:
        wide = np.dtype(np.int32 if values.dtype.itemsize < 4 else np.int64)
        return np.rint(_summed(values, step, wide) / count).astype(values.dtype)
    whole, rest = np.divmod(_summed(values >> 32, step, values.dtype), values.dtype.type(count))  # none overflows
    low = rest.astype(np.float64) * 2**32 + _summed(values & values.dtype.type(2**32 - 1), step, np.dtype(np.float64))
    return (whole << 32) + np.rint(low / count).astype(values.dtype)


def _summed(values: np.ndarray, step: Triple, dtype: np.dtype) -> np.ndarray:
    """The sums of boxes of the sides `step`, in that dtype."""
    result = values.astype(dtype)
    for axis, by in enumerate(step):
        if by > 1:
            ahead = (slice(None),) * axis
            result = result[(*ahead, slice(0, None, 2))] + result[(*ahead, slice(1, None, 2))]
    return result


def _triple(numbers: object) -> Triple:
    z, y, x = map(int, numbers)  # type: ignore[call-overload]
    return z, y, x


def _floats(step: Triple) -> tuple[float, float, float]:
    return float(step[0]), float(step[1]), float(step[2])
