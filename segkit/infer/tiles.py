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
MAX_MARGIN = 64
BLENDED = 8
"""Padded models: an eighth of a tile is blended at each side."""


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
    model: Model, shape: Sequence[int], taken: Callable[[tuple[int, ...]], int], memory: int
) -> tuple[int, ...]:
    """An output tile that takes at most `memory` bytes and divides the volume as evenly as the lattice allows.

    `taken` counts the bytes of a tile. One tile for all would be the fastest, because the context around each is
    computed anew. Where that is too large, the axis is divided further whose division adds the fewest voxels to
    compute; in the end it is the smallest tile, though that may be too large as well.
    """
    per_voxel = 0.0
    tile = tuple(_reachable(model, axis, size, 1) for axis, size in enumerate(shape))
    while True:
        voxels = prod(model.input_shape(tile))
        if voxels * per_voxel <= FAR_ABOVE * memory:
            if taken(tile) <= memory:
                break
            per_voxel = taken(tile) / voxels
        divided = [_divided(model, axis, tile, shape) for axis in range(model.ndim)]
        smaller = [candidate for candidate in divided if candidate != tile]
        if not smaller:
            break
        tile = min(smaller, key=lambda candidate: _cost(model, candidate, shape))
    return tile


def check_tile(model: Model, tile: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
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
    useful = tuple(
        size if size >= min(step, whole) else _reachable(model, axis, min(step, whole), 1)
        for axis, (size, step, whole) in enumerate(zip(tile, model.stride, shape, strict=True))
    )
    if useful != tile:
        rule = f"must be at least the model's stride {model.stride}, by which tiles step"
        raise InvalidShape(sentence("tile_shape", rule, tile, f"the nearest is {useful}"))
    return tile


def spans(size: int, tile: int, stride: int, blended: bool) -> list[Span]:
    """The tiles along one axis of `size` voxels, from the low end.

    A valid model's tiles step by the largest multiple of the stride in a tile, and each voxel is written once. A
    padding model's overlap by a quarter of a tile (at most 128 voxels), with smooth weights that sum to 1.
    """
    margin = _margin(tile, stride) if blended else 0
    step = (tile - 2 * margin) // stride * stride
    starts = [-margin]
    while starts[-1] + tile - margin < size:
        starts.append(starts[-1] + step)
    if margin:
        return _blend(starts, tile, size, margin)
    return [Span(start, start, end) for start, end in pairwise([*starts, size])]


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


def _margin(tile: int, stride: int) -> int:
    if tile < 4 * stride:
        return 0
    return max(min(tile // BLENDED, MAX_MARGIN) // stride, 1) * stride


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


def _divided(model: Model, axis: int, tile: tuple[int, ...], shape: Sequence[int]) -> tuple[int, ...]:
    """`tile` made smaller along `axis`, so that at least one more is needed there; itself if there is no smaller."""
    size, stride = shape[axis], model.stride[axis]
    count = _count(model, axis, tile[axis], size)
    while size > stride and count * stride < size + stride:
        count += 1
        smaller = _reachable(model, axis, size, count)
        if smaller < tile[axis]:
            return (*tile[:axis], smaller, *tile[axis + 1 :])
    return tile


def _cost(model: Model, tile: Sequence[int], shape: Sequence[int]) -> int:
    """Input voxels to compute in all."""
    counts = [_count(model, axis, tile[axis], size) for axis, size in enumerate(shape)]
    return prod(counts) * prod(model.input_shape(tile))


def _count(model: Model, axis: int, tile: int, size: int) -> int:
    return len(spans(size, tile, model.stride[axis], blended=not model.context[axis]))


def _reachable(model: Model, axis: int, size: int, count: int) -> int:
    """The smallest tile of which `count` cover `size` voxels."""
    stride = model.stride[axis]
    share = -(-size // count)
    if count > 1:
        share = -(-share // stride) * stride
    tile = _along(model, axis, share)
    padded = not model.context[axis]
    while padded and tile - 2 * _margin(tile, stride) < share:
        tile = _along(model, axis, tile + 1)
    return tile
