"""Which tiles of which variants of the volume are computed together, in which order, and what each reads and writes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, islice, product
from math import prod
from warnings import warn

import numpy as np
import torch

from segkit.data import Grid
from segkit.errors import InvalidInput, InvalidShape, SegkitWarning, sentence
from segkit.infer.memory import TileMemory
from segkit.infer.settings import Settings
from segkit.infer.slabs import Slabs
from segkit.infer.symmetry import Slices, Symmetry, symmetries
from segkit.infer.tiles import Span, check_tile, default_tile, reflected, smallest_volume, spans
from segkit.memory import available, decimal_bytes
from segkit.protocols import Model

Spans = tuple[Span, ...]
Read = Callable[[Slices], np.ndarray]
"""The raw data of a box of the volume."""


class Variant:
    """The tiles of a volume that was mirrored or transposed. Positions are those of the changed volume.

    Of a `part` of it only those that write into it, on the same lattice.
    """

    def __init__(
        self,
        taken: TileMemory,
        shape: Sequence[int],
        symmetry: Symmetry,
        neighborhood: np.ndarray,
        use: Settings,
        part: Slices | None = None,
    ) -> None:
        model = taken.module
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
        margins = symmetry.shape(use.margin)[-model.ndim :] if use.margin is not None else None
        tile = use.tile_shape or default_tile(model, sizes, taken, use.memory, margins)
        self.tile = tile = check_tile(model, tile, sizes, margins)
        steps = zip(ranges, tile, model.stride, model.context, margins or [None] * model.ndim, strict=True)
        along = [
            [span.moved(start) for span in spans(stop - start, out, stride, blended=not context, given=margin)]
            for (start, stop), out, stride, context, margin in steps
        ]
        sections = [Span(z, z, z + 1) for z in range(needed[0].start, needed[0].stop)]
        self.wanted = part or tuple(slice(0, size) for size in self.shape)
        tiles = [tuple(item) for item in product(*(along if model.ndim == 3 else [sections, *along]))]
        self.tiles = [item for item in tiles if self.writes(item)]
        window, context = list(model.input_shape(tile)), list(model.context)
        self.lengths = window if model.ndim == 3 else [model.sections, *window]
        self.computed = window
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

    def writes(self, item: Spans) -> Slices | None:
        """The box of the original that the tile may write, as far as it is wanted; None if there is none."""
        shifts = list(zip(*(shift for _, shift in self.destinations), strict=True))
        box = tuple(
            slice(max(own.start + min(0, *moves), along.start), min(own.stop + max(0, *moves), along.stop))
            for own, moves, along in zip(self._box(item), shifts, self.wanted, strict=True)
        )
        return None if any(along.start >= along.stop for along in box) else box

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
    done: int
    """Tiles of this batch and of those before it."""


@dataclass(frozen=True)
class Plan:
    """All batches in order, from the low end of the volume's longest axis to the high one."""

    axis: int
    end: int
    """One past the last voxel along the axis."""
    variants: list[Variant]
    batches: list[Batch]
    taken: TileMemory

    @property
    def tiles(self) -> int:
        """How many there are in all."""
        return sum(len(batch.tiles) for batch in self.batches)

    @property
    def surplus(self) -> float:
        """The share of the voxels computed that nobody asked for: context, or what several tiles compute."""
        computed = sum(len(variant.tiles) * prod(variant.computed) for variant in self.variants)
        wanted = sum(prod(along.stop - along.start for along in variant.wanted) for variant in self.variants)
        return 1 - wanted / computed if computed else 0.0

    @property
    def tile(self) -> tuple[int, ...]:
        """The output tile that takes the most memory; those of variants may differ."""
        return max({variant.tile for variant in self.variants}, key=self.taken)


def make_plan(
    model: Model,
    shape: Sequence[int],
    grid: Grid,
    neighborhood: np.ndarray,
    use: Settings,
    part: Slices | None = None,
) -> Plan:
    """Of the whole volume, or of the affinities of a part of it.

    Why the longest axis? What is unfinished at any time is a cross-section of it, and that is the smallest."""
    chosen = symmetries(use.augment, model, neighborhood, grid)
    taken = TileMemory(model, use.batch_size)
    variants = [Variant(taken, shape, symmetry, neighborhood, use, part) for symmetry in chosen]
    axis = int(np.argmax([along.stop - along.start for along in part] if part else shape))
    pieces = [
        (variant.low(item, axis), number, item) for number, variant in enumerate(variants) for item in variant.tiles
    ]
    pieces.sort(key=lambda piece: piece[:2])
    groups = [
        (number, group)
        for number, along in groupby(pieces, key=lambda piece: piece[1])
        for group in _chunks(along, use.batch_size)
    ]
    end = shape[axis]
    lows = [group[0][0] for _, group in groups[1:]] + [end]
    counts = accumulate(len(group) for _, group in groups)
    batches = [
        Batch(variants[number], [item for _, _, item in group], low, done)
        for (number, group), low, done in zip(groups, lows, counts, strict=True)
    ]
    return Plan(axis, end, variants, batches, taken)


def warn_of_memory(plan: Plan, use: Settings) -> None:
    """Warn if the tiles of a plan, those asked for or the smallest there are, take more memory than they may."""
    needed = plan.taken(plan.tile)
    if needed > use.memory:
        rule = f"must be at least {decimal_bytes(needed)} for {_tiles(plan, use)}"
        next_step = "more is taken; give more, or smaller tiles or batches"
        warn(SegkitWarning(sentence("memory", rule, decimal_bytes(use.memory), next_step)), stacklevel=3)


def check_memory(plan: Plan, use: Settings, held: int) -> None:
    """Raise InvalidInput if the tiles of a plan and `held` bytes of affinities are not free."""
    free, on_host = available(), torch.device(use.device).type == "cpu"
    needed = on_host * plan.taken(plan.tile)
    if free is not None and held + needed > free:
        rule = f"takes {decimal_bytes(needed)} for {_tiles(plan, use)} and {decimal_bytes(held)} for affinities, "
        next_step = "give less memory or a smaller tile, name a part of the volume, or go by blocks (--blockwise)"
        raise InvalidInput(sentence("inference", f"{rule}and {decimal_bytes(free)} are free", next_step=next_step))


def _tiles(plan: Plan, use: Settings) -> str:
    return f"tiles of {plan.tile} voxels" + (f", {use.batch_size} at once" if use.batch_size > 1 else "")


def _chunks(items: Iterator, size: int) -> Iterator[list]:
    while chunk := list(islice(items, size)):
        yield chunk


def _check_volume(model: Model, spatial: Sequence[int]) -> None:
    smallest = smallest_volume(model)
    if any(size < least for size, least in zip(spatial, smallest, strict=True)):
        rule = f"must not be a volume smaller than the context of the model, at least {smallest}"
        next_step = "take a larger crop, or a model with less context"
        raise InvalidShape(sentence("raw", rule, f"{tuple(spatial)}", next_step))
