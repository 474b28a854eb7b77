"""Which tiles of which variants of the volume are computed together, in which order, and what each reads and writes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, product

import numpy as np

from segkit.data import Grid
from segkit.errors import InvalidShape, sentence
from segkit.infer.slabs import Slabs
from segkit.infer.symmetry import Slices, Symmetry, symmetries
from segkit.infer.tiles import Span, check_tile, default_tile, reflected, smallest_volume, spans
from segkit.protocols import Model

Spans = tuple[Span, ...]
Read = Callable[[Slices], np.ndarray]
"""The raw data of a box of the volume."""


class Variant:
    """The tiles of a volume that was mirrored or transposed. Positions are those of the changed volume."""

    def __init__(
        self,
        model: Model,
        shape: Sequence[int],
        symmetry: Symmetry,
        neighborhood: np.ndarray,
        tile: Sequence[int] | None,
    ) -> None:
        self.symmetry, self.destinations = symmetry, symmetry.destinations(neighborhood)
        self.shape, changed = tuple(shape), symmetry.shape(shape)
        spatial = changed[-model.ndim :]
        _check_volume(model, spatial)
        tile = default_tile(model, spatial, _features(model)) if tile is None else tile
        tile = check_tile(model, tile, spatial)
        steps = zip(spatial, tile, model.stride, model.context, strict=True)
        along = [spans(size, out, stride, blended=not context) for size, out, stride, context in steps]
        sections = [Span(z, z, z + 1) for z in range(changed[0])]
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
) -> Plan:
    """Why the longest axis? What is unfinished at any time is a cross-section of it, and that is the smallest."""
    chosen = symmetries(augment, model, neighborhood, grid)
    variants = [Variant(model, shape, symmetry, neighborhood, tile) for symmetry in chosen]
    axis = int(np.argmax(shape))
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


def _features(model) -> int:
    first = next((p for p in model.parameters() if p.ndim > 1), None)
    return 1 if first is None else first.shape[0]
