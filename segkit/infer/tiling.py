"""Networks on volumes of any size."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Unpack

import numpy as np
from numpy.typing import ArrayLike
from torch import nn

from segkit.data import Affinities, Volume, edge_mask
from segkit.data.affinities import as_neighborhood
from segkit.data.boxes import counted_from, reached
from segkit.data.source import Held, Source
from segkit.errors import InvalidInput, sentence
from segkit.infer.network import answers, check_precision, evaluating
from segkit.infer.overlap import ahead
from segkit.infer.plan import Batch, Plan, check_memory, make_plan, warn_of_memory
from segkit.infer.settings import Options, Settings
from segkit.infer.slabs import Part, Slabs
from segkit.infer.symmetry import Slices
from segkit.models.device import resolve_device
from segkit.models.inputs import check_intensity, in_range
from segkit.timing import mention, phase

OnProgress = Callable[[int, int], None]


def predict(
    module: nn.Module,
    raw: Volume,
    neighborhood: ArrayLike,
    *,
    progress: OnProgress | None = None,
    **options: Unpack[Options],
) -> Affinities:
    """Predict the affinities that a network (:class:`segkit.protocols.Model`) gives to the edges of `neighborhood`.

    The volume is covered by output tiles that step by multiples of the model's stride; the raw data under them are
    reflected at the borders of the volume. Valid models write each voxel once, and all tile shapes give the same
    affinities (unless the model normalises by the statistics of a tile). Tiles of padding models overlap and are
    blended. 2-D models see a stack section by section; where they take several sections, the first and the last
    sections are reflected. Affinities of edges that leave the volume are 0. By default on the CPU, in float32.

    Parameters
    ----------
    module
        Left as it was: device, training mode and weights.
    raw
        uint8, uint16, or floats in 0..1.
    neighborhood
        Offset of each output channel, (C, 3) ints, z, y, x; three entries also for 2-D models.
    tile_shape
        Output tile, one size for each of the model's 2 or 3 axes; by default the largest that fits into `memory`.
    memory
        Bytes for the batches under way, beside network and affinities; see :mod:`segkit.infer.memory`.
    margin
        Context of a padding model's tiles in voxels, z, y, x; see :func:`segkit.infer.tiles.margins_of`.
    batch_size
        Tiles (sections, for 2-D models) computed at once.
    precision
        "bf16" (errors of about 0.01; fast where the hardware has it), "fp16" (0.001, but beyond 65504 they overflow).
    augment
        Also predict the volume mirrored ("flips") and with axes exchanged ("all"), and take the mean of the affinities
        (not of the logits) of each edge; see :func:`segkit.infer.symmetry.symmetries`. Each costs one prediction.
    intensity_range
        The values of `raw` that are black and white; None: as :func:`segkit.models.inputs.scale_intensity` has it.
    skip_empty
        Leave out tiles under which `raw` is 0 everywhere, context included: they give 0, other tiles what they give.
    compiled
        Let torch.compile make code for this network and tile, which takes up to minutes and needs a compiler.
    progress
        Called with (tiles done, tiles in all) after each batch.

    Raises
    ------
    InvalidShape
        Where `tile_shape` is no output of the model (the nearest are named), or the volume is smaller than the context.
    InvalidInput
        Where memory is missing, `raw` has other values, the network has another number of channels or gives NaN, or an
        augmentation makes edges that the neighborhood has not.
    """
    if not options.get("intensity_range"):
        check_intensity(raw.array)
    parts = predict_parts(module, Held(raw), neighborhood, thickness=max(raw.shape), progress=progress, **options)
    with closing(parts):
        ((_, array),) = parts
    return Affinities(array, as_neighborhood(neighborhood), raw.grid)


def predict_parts(
    module: nn.Module,
    raw: Source,
    neighborhood: ArrayLike,
    *,
    thickness: int = 64,
    part: Slices | None = None,
    mask: Source | None = None,
    progress: OnProgress | None = None,
    **options: Unpack[Options],
) -> Generator[Part, None, None]:
    """Predict the same values as :func:`predict`, with its options, but part by part: slices, and float32 (C, Z, Y, X).

    Parts are slabs of `thickness` voxels across the longest axis, in order. Memory holds those that tiles under way
    touch, not the volume. Reading is ahead of the network by two batches, and the network of who takes the parts. Close
    the iterator if not all of it is taken: until then the module belongs to it.

    Of a `part`, a box of the volume, only its affinities are given, with slices that count from where it begins: what
    the whole volume has there, also where an edge leaves the part. What is needed beyond the part is read; along axes
    where the model pads, tiles are those of the whole volume.

    Tiles without a voxel of the `mask`, a volume of the same shape, are not computed, and edges with an end outside it
    are 0; all others are what they are without it.
    """
    neighborhood = as_neighborhood(neighborhood)
    use = Settings(**options)
    use = replace(use, device=resolve_device(use.device))
    check_precision(use.precision, use.device)
    for name, value in (("batch_size", use.batch_size), ("thickness", thickness), ("memory", use.memory)):
        if value < 1:
            raise InvalidInput(sentence(name, "must be at least 1", value))
    if use.margin is not None and (len(use.margin) != 3 or any(each < 0 or each != int(each) for each in use.margin)):
        rule = "must be three whole numbers of voxels, z, y, x, from 0 on"
        raise InvalidInput(sentence("margin", rule, tuple(use.margin)))
    plan = make_plan(module, raw.shape, raw.grid, neighborhood, use, part)
    slabs = Slabs(raw.shape, neighborhood, plan.axis, thickness, 1 / len(plan.variants), part)
    mention(f"{plan.tiles} tiles of {','.join(map(str, plan.tile))} voxels, {plan.surplus:.0%} of them context")
    if part is None:
        warn_of_memory(plan, use)
        check_memory(plan, use, slabs.most(max(plan.tile)))
    inputs = _inputs(plan, raw, mask, use, module.ndim)
    parts = _parts(module, inputs, plan, slabs, use, progress)
    return parts if mask is None else _inside(parts, mask, neighborhood, slabs.origin)


def _parts(
    module: nn.Module,
    batches: Iterator[tuple[Batch, np.ndarray]],
    plan: Plan,
    slabs: Slabs,
    use: Settings,
    progress: OnProgress | None,
) -> Generator[Part, None, None]:
    inputs = ahead(batches)
    with (
        evaluating(module, use.device, use.precision),
        closing(ahead(answers(module, inputs, use.device, use.precision, compiled=use.compiled))) as outputs,
    ):
        for batch, fetch in outputs:
            with phase("blending"):
                _write(slabs, batch, fetch())
            yield from slabs.complete(batch.complete)
            if progress is not None:
                progress(batch.done, plan.tiles)
    yield from slabs.complete(plan.end)  # what comes after the last tile that was computed


def _inputs(
    plan: Plan, raw: Source, mask: Source | None, use: Settings, ndim: int
) -> Iterator[tuple[Batch, np.ndarray]]:
    """Each batch with its raw data (B, S, [Z,] Y, X); without the tiles, and the batches, that need not be computed."""
    for batch in plan.batches:
        with phase("reading"):
            found = [
                (item, batch.variant.cut(raw.read, item))
                for item in batch.tiles
                if _needed(batch.variant.writes(item), mask)
            ]
            found = [(item, cut) for item, cut in found if cut.any() or not use.skip_empty]
            if not found:
                continue
            cuts = np.stack([cut for _, cut in found])
            cuts = in_range(cuts, *use.intensity_range) if use.intensity_range else cuts
        yield replace(batch, tiles=[item for item, _ in found]), cuts[:, None] if ndim == 3 else cuts


def _needed(box: Slices | None, mask: Source | None) -> bool:
    """Whether a box of affinities has a voxel of the mask."""
    return box is not None and (mask is None or bool(mask.read(box).any()))


def _inside(
    parts: Generator[Part, None, None], mask: Source, neighborhood: np.ndarray, origin: Sequence[int]
) -> Generator[Part, None, None]:
    """The parts, which count from `origin`, with 0 for all edges that have an end outside the mask."""
    with closing(parts):
        for where, values in parts:
            z, y, x = (slice(a.start + low, a.stop + low) for a, low in zip(where[1:], origin, strict=True))
            around = reached((z, y, x), mask.shape, neighborhood)
            inside = mask.read(around) != 0
            values *= edge_mask(inside.shape, neighborhood, inside)[(slice(None), *counted_from(around, (z, y, x)))]
            yield where, values


def _write(slabs: Slabs, batch: Batch, outputs: np.ndarray) -> None:
    channels = len(slabs.edges)
    if outputs.shape[1] != channels:
        rule = f"must have one offset for each of the network's {outputs.shape[1]} channels"
        raise InvalidInput(sentence("neighborhood", rule, f"{channels} offsets"))
    if np.isnan(outputs.min()):
        next_step = "compute in float32, take an earlier checkpoint, or train with a smaller learning rate"
        raise InvalidInput(sentence("the output of the network", "must not be NaN", next_step=next_step))
    for item, output in zip(batch.tiles, outputs, strict=True):
        batch.variant.write(slabs, item, output.reshape(channels, -1, *output.shape[-2:]))
