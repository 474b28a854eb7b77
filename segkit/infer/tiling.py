"""Networks on volumes of any size."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Unpack

import numpy as np
from numpy.typing import ArrayLike
from torch import nn

from segkit.data import Affinities, Volume
from segkit.data.affinities import as_neighborhood
from segkit.data.source import Held, Source
from segkit.errors import InvalidInput, sentence
from segkit.infer.network import answers, check_precision, evaluating
from segkit.infer.overlap import ahead
from segkit.infer.plan import Batch, Plan, Read, check_memory, make_plan, warn_of_memory
from segkit.infer.settings import Options, Settings
from segkit.infer.slabs import Part, Slabs
from segkit.infer.symmetry import Slices
from segkit.models.device import resolve_device
from segkit.models.inputs import Range, check_intensity, in_range
from segkit.timing import phase

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

    Unless told otherwise on the CPU, one tile at once, in float32, without augmentation, not compiled.

    The volume is covered by output tiles that step by multiples of the model's stride; the raw data under them are
    reflected at the borders of the volume. Valid models write each voxel once, and all tile shapes give the same
    affinities (unless the model normalises by the statistics of a tile). Tiles of padding models overlap and are
    blended. 2-D models see a stack section by section; where they take several sections, the first and the last
    sections are reflected. Affinities of edges that leave the volume are 0.

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
    batch_size
        Tiles (sections, for 2-D models) computed at once.
    precision
        "bf16" computes in bfloat16 (twice as fast where the hardware has it, errors of about 0.01), "fp16" in float16
        (on accelerators; errors of about 0.001, but numbers beyond 65504 overflow).
    augment
        Also predict the volume mirrored ("flips") and with axes exchanged ("all"), and take the mean of the affinities
        (not of the logits) of each edge; see :func:`segkit.infer.symmetry.symmetries`. Each variant costs as much as
        one prediction. Edges that a mirroring turns round go back to the voxel that they belong to.
    intensity_range
        The values of `raw` that are black and white; None: as :func:`segkit.models.inputs.scale_intensity` has it.
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
    progress: OnProgress | None = None,
    **options: Unpack[Options],
) -> Generator[Part, None, None]:
    """Predict the same values as :func:`predict`, with its options, but part by part: slices, and float32 (C, Z, Y, X).

    Parts are slabs of `thickness` voxels across the longest axis, in order. Memory holds those that tiles under way
    touch, not the volume. Reading is ahead of the network by two batches, and the network of who takes the parts. Close
    the iterator if not all of it is taken: until then the module belongs to it.

    Of a `part`, a box of the volume, only its affinities are given, with slices that count from where it begins. A
    valid model reads what it needs beyond the part, and gives what it gives there to the whole volume; a model that
    pads computes the whole volume along the axes where it does.
    """
    neighborhood = as_neighborhood(neighborhood)
    use = Settings(**options)
    use = replace(use, device=resolve_device(use.device))
    check_precision(use.precision, use.device)
    for name, value in (("batch_size", use.batch_size), ("thickness", thickness), ("memory", use.memory)):
        if value < 1:
            raise InvalidInput(sentence(name, "must be at least 1", value))
    plan = make_plan(module, raw.shape, raw.grid, neighborhood, use, part)
    slabs = Slabs(raw.shape, neighborhood, plan.axis, thickness, 1 / plan.variants, part)
    if part is None:
        warn_of_memory(plan, use)
        check_memory(plan, use, slabs.most(max(plan.tile)))
    return _parts(module, _reading(raw, use.intensity_range), plan, slabs, use, progress)


def _reading(raw: Source, taken: Range | None) -> Read:
    """What reads intensities, of which `taken` are black and white, if that is given."""
    return (lambda box: in_range(raw.read(box), *taken)) if taken else raw.read


def _parts(
    module: nn.Module,
    read: Read,
    plan: Plan,
    slabs: Slabs,
    use: Settings,
    progress: OnProgress | None,
) -> Generator[Part, None, None]:
    done = 0
    inputs = ahead(_inputs(plan, read, module.ndim))
    with (
        evaluating(module, use.device, use.precision),
        closing(ahead(answers(module, inputs, use.device, use.precision, compiled=use.compiled))) as outputs,
    ):
        for batch, fetch in outputs:
            with phase("blending"):
                _write(slabs, batch, fetch())
            yield from slabs.complete(batch.complete)
            done += len(batch.tiles)
            if progress is not None:
                progress(done, plan.tiles)


def _inputs(plan: Plan, read: Read, ndim: int) -> Iterator[tuple[Batch, np.ndarray]]:
    """Each batch with its raw data (B, S, [Z,] Y, X)."""
    for batch in plan.batches:
        with phase("reading"):
            cuts = np.stack([batch.variant.cut(read, item) for item in batch.tiles])
        yield batch, cuts[:, None] if ndim == 3 else cuts


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
