"""Where tiles lie: on the model's lattice, so that tilings agree."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

import numpy as np

from segkit.errors import InvalidShape, sentence
from segkit.protocols import Model

FAR_ABOVE = 1.5
"""Tiles that are above the bound by this factor, to judge by their voxels, are not counted."""
BLENDED = 8
"""Padded models: at most an eighth of a tile is margin at each side."""
INSIDE, BORDER = (2, 16), (1, 8)
"""Their margins beside other tiles and beyond the ends of the volume: at most so many strides, or so many voxels if
that is more. `benchmarks/margins.py` shows what less and more costs and gains."""
Margins = Sequence[int] | None
"""Voxels along each axis of a model, both beside other tiles and beyond the volume; None: as above."""


@dataclass(frozen=True)
class Span:
    """One tile along one axis. Positions are those of the volume; they may lie outside it."""

    start: int
    """First voxel of the tile's output."""
    low: int
    """First voxel that the tile writes."""
    high: int
    """One past the last voxel that it writes."""
    weights: np.ndarray | None = None
    """float32 (high - low,): its share of each voxel; None where no other tile writes any of them."""

    def moved(self, by: int) -> "Span":
        """The same tile elsewhere."""
        return replace(self, start=self.start + by, low=self.low + by, high=self.high + by)


def default_tile(
    model: Model,
    shape: Sequence[int],
    taken: Callable[[tuple[int, ...]], int],
    memory: int,
    margins: Margins = None,
) -> tuple[int, ...]:
    """An output tile that takes at most `memory` bytes and divides the volume as evenly as the lattice allows.

    `taken` counts the bytes of a tile. One tile for all would be the fastest, because the context around each is
    computed anew. Where that is too large, the axis is divided further whose division adds the fewest voxels to
    compute; in the end it is the smallest tile, though that may be too large as well.
    """
    per_voxel, lattice = 0.0, _Lattice(model, margins)
    tile = tuple(lattice.reachable(axis, size, 1) for axis, size in enumerate(shape))
    while True:
        voxels = prod(model.input_shape(tile))
        if voxels * per_voxel <= FAR_ABOVE * memory:
            if taken(tile) <= memory:
                break
            per_voxel = taken(tile) / voxels
        divided = [lattice.divided(axis, tile, shape) for axis in range(model.ndim)]
        smaller = [candidate for candidate in divided if candidate != tile]
        if not smaller:
            break
        tile = min(smaller, key=lambda candidate: lattice.cost(candidate, shape))
    return tile


def check_tile(model: Model, tile: Sequence[int], shape: Sequence[int], margins: Margins = None) -> tuple[int, ...]:
    """`tile` as a tuple; raises InvalidShape, naming the nearest, unless it is an output of the model that can step.

    For a 2-D model a leading 1, one section, may be given.
    """
    tile = tuple(int(size) for size in tile)
    if model.ndim == 2 and len(tile) == 3 and tile[0] == 1:
        tile = tile[1:]
    if len(tile) != model.ndim or min(tile) < 1:
        rule = "must be positive sizes z, y, x" if model.ndim == 3 else "of a 2-D model must be 1, y, x, positive sizes"
        raise InvalidShape(sentence("tile_shape", rule, tile))
    above = _output(model, tile)
    if above != tile:
        below = tuple(a if a == t else a - s for a, t, s in zip(above, tile, model.stride, strict=True))
        valid = min(below) > 0 and _output(model, below) == below
        next_step = f"the nearest are {below} and {above}" if valid else f"the nearest is {above}"
        raise InvalidShape(sentence("tile_shape", "must be an output shape of the model", tile, next_step))
    lattice = _Lattice(model, margins)
    useful = tuple(
        size if size >= min(step, whole) else lattice.reachable(axis, min(step, whole), 1)
        for axis, (size, step, whole) in enumerate(zip(tile, model.stride, shape, strict=True))
    )
    if useful != tile:
        rule = f"must be at least the model's stride {model.stride}, by which tiles step"
        raise InvalidShape(sentence("tile_shape", rule, tile, f"the nearest is {useful}"))
    least = tuple(lattice.least(axis) for axis in range(model.ndim))
    if margins is not None and any(size < small for size, small in zip(tile, least, strict=True)):
        rule = f"must be at least {least} for margins of {tuple(margins)}"
        raise InvalidShape(sentence("tile_shape", rule, tile, "take larger tiles or smaller margins"))
    return tile


def spans(size: int, tile: int, stride: int, blended: bool, given: int | None = None) -> list[Span]:
    """The tiles along one axis of `size` voxels, from the low end.

    A valid model's tiles step by the largest multiple of the stride in a tile, and each voxel is written once. A
    padding model's overlap by twice a margin, with smooth weights that sum to 1, and reach beyond the ends of the
    volume; see :func:`margins_of`, for the margin that is `given` as well.
    """
    inside, border = margins_of(tile, stride, given) if blended else (0, 0)
    starts = _starts(size, tile, stride, (inside, border))
    if inside and len(starts) > 1:
        return _blend(starts, tile, size, inside)
    bounds = [0, *(start + inside for start in starts[1:]), size]
    return [Span(start, low, high) for start, (low, high) in zip(starts, pairwise(bounds), strict=True)]


def margins_of(tile: int, stride: int, given: int | None = None) -> tuple[int, int]:
    """Return the voxels of a padding model's tile that serve as context, beside other tiles and beyond the volume.

    Near its rim such a model sees zeros instead of the volume. Margins are multiples of the stride: the one that is
    `given`, rounded up, else at most an eighth of the tile and what :data:`INSIDE` and :data:`BORDER` say, and 0 for
    tiles of fewer than four strides.

    >>> margins_of(288, 8), margins_of(56, 8), margins_of(24, 8), margins_of(288, 8, given=20)
    ((16, 8), (8, 8), (0, 0), (24, 24))
    """
    if given is not None:
        margin = -(-given // stride) * stride
        return margin, margin
    if tile < 4 * stride:
        return 0, 0
    inside, border = (
        max(min(tile // BLENDED, max(strides * stride, voxels)) // stride, 1) * stride
        for strides, voxels in (INSIDE, BORDER)
    )
    return inside, border


def smallest_volume(model: Model) -> tuple[int, ...]:
    """The smallest volume that reflection can extend by half the context on each side."""
    return tuple(context // 2 + 1 for context in model.context)


def reflected(start: int, length: int, size: int) -> np.ndarray:
    """Indices into an axis of `size` voxels for positions start, start + 1, ...: reflected at both ends, endlessly.

    The voxel at the border is not repeated. An index depends on the position alone, whichever tile asks.

    >>> reflected(-2, 8, 4).tolist()
    [2, 1, 0, 1, 2, 3, 2, 1]
    """
    period = max(2 * size - 2, 1)
    positions = np.arange(start, start + length) % period
    return np.minimum(positions, period - positions) if size > 1 else np.zeros(length, np.int64)


def _starts(size: int, tile: int, stride: int, margins: tuple[int, int]) -> list[int]:
    inside, border = margins
    step = (tile - 2 * inside) // stride * stride
    starts = [-border]
    while starts[-1] + tile - border < size:
        starts.append(starts[-1] + step)
    return starts


def _blend(starts: list[int], tile: int, size: int, margin: int) -> list[Span]:
    ramp = np.sin((np.arange(2 * margin) + 0.5) * np.pi / (4 * margin)) ** 2
    window = np.ones(tile)
    window[: 2 * margin] *= ramp
    window[-2 * margin :] *= ramp[::-1]
    bounds = [(max(start, 0), min(start + tile, size)) for start in starts]
    shares = [window[low - start : high - start] for start, (low, high) in zip(starts, bounds, strict=True)]
    total = np.zeros(size)
    for (low, high), share in zip(bounds, shares, strict=True):
        total[low:high] += share
    return [
        Span(start, low, high, (share / total[low:high]).astype(np.float32))
        for start, (low, high), share in zip(starts, bounds, shares, strict=True)
    ]


def _output(model: Model, wanted: Sequence[int]) -> tuple[int, ...]:
    return tuple(model.output_shape(model.input_shape(wanted)))


def _along(model: Model, axis: int, size: int) -> int:
    wanted = [1] * model.ndim
    wanted[axis] = size
    return _output(model, wanted)[axis]


@dataclass(frozen=True)
class _Lattice:
    """Which tiles of a model cover a volume."""

    model: Model
    margins: Margins

    def least(self, axis: int) -> int:
        """The smallest tile that steps."""
        stride, given = self.model.stride[axis], self.given(axis)
        margin = 0 if given is None or self.model.context[axis] else margins_of(0, stride, given)[0]
        return _along(self.model, axis, 2 * margin + stride) if margin else 1

    def given(self, axis: int) -> int | None:
        """The margin that is asked for."""
        return None if self.margins is None else int(self.margins[axis])

    def divided(self, axis: int, tile: tuple[int, ...], shape: Sequence[int]) -> tuple[int, ...]:
        """`tile` made smaller along `axis`, so that one more is needed at least; itself if there is no smaller."""
        size, stride = shape[axis], self.model.stride[axis]
        count = self.count(axis, tile[axis], size)
        while size > stride and count * stride < size + stride:
            count += 1
            smaller = self.reachable(axis, size, count)
            if smaller < tile[axis]:
                return (*tile[:axis], smaller, *tile[axis + 1 :])
        return tile

    def cost(self, tile: Sequence[int], shape: Sequence[int]) -> int:
        """Input voxels to compute in all."""
        counts = [self.count(axis, tile[axis], size) for axis, size in enumerate(shape)]
        return prod(counts) * prod(self.model.input_shape(tile))

    def count(self, axis: int, tile: int, size: int) -> int:
        """How many of such tiles cover `size` voxels."""
        stride = self.model.stride[axis]
        margins = (0, 0) if self.model.context[axis] else margins_of(tile, stride, self.given(axis))
        return len(_starts(size, tile, stride, margins))

    def reachable(self, axis: int, size: int, count: int) -> int:
        """The smallest tile of which `count` cover `size` voxels."""
        stride = self.model.stride[axis]
        share = -(-size // count)
        if count > 1:
            share = -(-share // stride) * stride
        tile = _along(self.model, axis, max(share, self.least(axis)))
        while not self.model.context[axis] and self.count(axis, tile, size) > count:
            tile = _along(self.model, axis, tile + 1)
        return tile
