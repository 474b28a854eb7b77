"""Which tiles of which variants of the volume are computed together, in which order, and what each reads and writes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, product
from typing import TYPE_CHECKING

import numpy as np

from segkit.data import Grid
from segkit.errors import InvalidShape, sentence
from segkit.infer.slabs import Slabs
from segkit.infer.symmetry import Slices, Symmetry, symmetries
from segkit.infer.tiles import Span, check_tile, default_tile, reflected, smallest_volume, spans
from segkit.protocols import Model

if TYPE_CHECKING:
    from torch import nn

Spans = tuple[Span, ...]
Read = Callable[[Slices], np.ndarray]
"""The raw data of a box of the volume."""


class Variant:
    """The tiles of a volume that was mirrored or transposed. Positions are those of the changed volume.

    Of a `part` of it only those that are needed, on the same lattice; along axes where the model pads, all of them.
    """

    def __init__(
        self,
        model: Model,
        shape: Sequence[int],
        symmetry: Symmetry,
        neighborhood: np.ndarray,
        tile: Sequence[int] | None,
        part: Slices | None = None,
    ) -> None:
        self.symmetry, self.destinations = symmetry, symmetry.destinations(neighborhood)
        self.shape, changed = tuple(shape), symmetry.shape(shape)
        spatial = changed[-model.ndim :]
        _check_volume(model, spatial)
        needed = symmetry.changed(self._needed(part), shape) if part else tuple(slice(0, size) for size in changed)
        ranges = [
            (each.start // stride * stride, each.stop) if context else (0, size)
            for each, size, stride, context in zip(
                needed[-model.ndim :], spatial, model.stride, model.context, strict=True
            )
        ]
        sizes = [stop - start for start, stop in ranges]
        tile = default_tile(model, sizes, _features(model)) if tile is None else tile
        tile = check_tile(model, tile, sizes)
        steps = zip(ranges, tile, model.stride, model.context, strict=True)
        along = [
            [span.moved(start) for span in spans(stop - start, out, stride, blended=not context)]
            for (start, stop), out, stride, context in steps
        ]
        sections = [Span(z, z, z + 1) for z in range(needed[0].start, needed[0].stop)]
        self.tiles = [tuple(item) for item in product(*(along if model.ndim == 3 else [sections, *along]))]
        window, context = list(model.input_shape(tile)), list(model.context)
        self.lengths = window if model.ndim == 3 else [model.sections, *window]
        self.before = (
            [c // 2 for c in context] if model.ndim == 3 else [model.sections // 2, *(c // 2 for c in context)]
        )

    def cut(self, read: Read, item: Spans) -> np.ndarray:
        """The raw data (Z, Y, X) under a tile and its context, reflected at the borders of the volume."""
        changed = self.symmetry.shape(self.shape)
        axes = zip(item, self.before, self.lengths, changed, strict=True)
        indices = [reflected(span.start - lead, length, size) for span, lead, length, size in axes]
        lowest = [int(index.min()) for index in indices]
        part = tuple(slice(low, int(index.max()) + 1) for low, index in zip(lowest, indices, strict=True))
        array = self.symmetry.apply(read(self.symmetry.box(part, self.shape)))
        for axis, (index, low) in enumerate(zip(indices, lowest, strict=True)):
            if len(index) != array.shape[axis] or (np.diff(index) != 1).any():
                array = np.take(array, index - low, axis)
        return array

    def low(self, item: Spans, axis: int) -> int:
        """The first voxel of the original along `axis` that the tile may write."""
        start = self._box(item)[axis].start
        return max(start + min(0, *(shift[axis] for _, shift in self.destinations)), 0)

    def write(self, slabs: Slabs, item: Spans, output: np.ndarray) -> None:
        """Add a tile's output (C, Z, Y, X), weighted where tiles overlap, at the voxels that its edges belong to."""
        output = output[(slice(None), *(slice(span.low - span.start, span.high - span.start) for span in item))]
        for axis, span in enumerate(item):
            if span.weights is not None:
                output = output * span.weights.reshape([-1 if axis == a else 1 for a in range(3)])
        start = [along.start for along in self._box(item)]
        for values, (channel, shift) in zip(self.symmetry.undo(output), self.destinations, strict=True):
            slabs.add(channel, [a + step for a, step in zip(start, shift, strict=True)], values)

    def _needed(self, part: Slices) -> Slices:
        """What has to be computed for a part: edges that were turned round come from their other ends."""
        shifts = list(zip(*(shift for _, shift in self.destinations), strict=True))
        return tuple(
            slice(max(along.start - max(0, *moves), 0), min(along.stop - min(0, *moves), size))
            for along, moves, size in zip(part, shifts, self.shape, strict=True)
        )

    def _box(self, item: Spans) -> Slices:
        return self.symmetry.box(tuple(slice(span.low, span.high) for span in item), self.shape)


@dataclass(frozen=True)
class Batch:
    """Tiles that are computed at once."""

    variant: Variant
    tiles: list[Spans]
    complete: int
    """Along the plan's axis, voxels before this get nothing from later batches."""


@dataclass(frozen=True)
class Plan:
    """All batches in order, from the low end of the volume's longest axis to the high one."""

    axis: int
    variants: int
    batches: list[Batch]

    @property
    def tiles(self) -> int:
        """How many there are in all."""
        return sum(len(batch.tiles) for batch in self.batches)


def make_plan(
    model: Model,
    shape: Sequence[int],
    grid: Grid,
    neighborhood: np.ndarray,
    *,
    tile: Sequence[int] | None,
    batch_size: int,
    augment: str,
    part: Slices | None = None,
) -> Plan:
    """Of the whole volume, or of the affinities of a part of it.

    Why the longest axis? What is unfinished at any time is a cross-section of it, and that is the smallest."""
    chosen = symmetries(augment, model, neighborhood, grid)
    variants = [Variant(model, shape, symmetry, neighborhood, tile, part) for symmetry in chosen]
    axis = int(np.argmax([along.stop - along.start for along in part] if part else shape))
    pieces = [
        (variant.low(item, axis), number, item) for number, variant in enumerate(variants) for item in variant.tiles
    ]
    pieces.sort(key=lambda piece: piece[:2])
    groups = [
        (number, group)
        for number, along in groupby(pieces, key=lambda piece: piece[1])
        for group in _chunks(along, batch_size)
    ]
    lows = [group[0][0] for _, group in groups[1:]] + [shape[axis]]
    batches = [
        Batch(variants[number], [item for _, _, item in group], low)
        for (number, group), low in zip(groups, lows, strict=True)
    ]
    return Plan(axis, len(variants), batches)


def _chunks(items: Iterator, size: int) -> Iterator[list]:
    while chunk := list(islice(items, size)):
        yield chunk


def _check_volume(model: Model, spatial: Sequence[int]) -> None:
    smallest = smallest_volume(model)
    if any(size < least for size, least in zip(spatial, smallest, strict=True)):
        rule = f"must not be a volume smaller than the context of the model, at least {smallest}"
        next_step = "take a larger crop, or a model with less context"
        raise InvalidShape(sentence("raw", rule, f"{tuple(spatial)}", next_step))


def _features(model: "nn.Module") -> int:
    first = next((p for p in model.parameters() if p.ndim > 1), None)
    return 1 if first is None else first.shape[0]
