"""Networks on volumes of any size."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice, product
from typing import Literal

import numpy as np
import torch
from torch import nn

from segkit.data import Affinities, Volume, edge_mask
from segkit.data.affinities import as_neighborhood
from segkit.errors import InvalidInput, InvalidShape, sentence
from segkit.infer.tiles import Span, check_tile, default_tile, reflected, smallest_volume, spans
from segkit.models.device import resolve_device
from segkit.models.inputs import check_intensity, scale_intensity

Tile = tuple[int, ...]


def predict(
    module: nn.Module,
    raw: Volume,
    neighborhood,
    *,
    tile_shape: Sequence[int] | None = None,
    device: str | torch.device = "cpu",
    batch_size: int = 1,
    precision: Literal["32", "bf16"] = "32",
    progress: Callable[[int, int], None] | None = None,
) -> Affinities:
    """The affinities that a network (:class:`segkit.protocols.Model`) gives to the edges of `neighborhood`.

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
        Output tile, one size for each of the model's 2 or 3 axes; by default the largest that keeps input voxels
        times features of the first layer below 134 million (2^27).
    batch_size
        Tiles (sections, for 2-D models) computed at once.
    precision
        "bf16" computes in bfloat16 (twice as fast where the hardware has it, errors of about 0.01).
    progress
        Called with (tiles done, tiles in all) after each batch.

    Raises
    ------
    InvalidShape
        Where `tile_shape` is no output of the model (the nearest are named), or the volume is smaller than the context.
    InvalidInput
        Where `raw` has other values, or the network another number of channels, or gives NaN.
    """
    neighborhood = as_neighborhood(neighborhood)
    device = resolve_device(device)
    _check_options(batch_size, precision)
    check_intensity(raw.array)
    spatial = raw.shape[-module.ndim :]
    _check_volume(module, spatial)
    tile = default_tile(module, spatial, _features(module)) if tile_shape is None else tile_shape
    tile = check_tile(module, tile, spatial)
    grid = _tile_grid(module, raw.shape, tile)
    window = module.input_shape(tile)
    result = np.zeros((len(neighborhood), *raw.shape), np.float32)
    done, total = 0, math.prod(map(len, grid))
    tiles = product(*grid)
    with _evaluating(module, device, precision), torch.inference_mode(), _autocast(device, precision):
        while batch := list(islice(tiles, batch_size)):
            inputs = np.stack([_cut(module, raw.array, item, window) for item in batch])
            outputs = _run(module, inputs, device)
            _check_outputs(outputs, len(neighborhood))
            for item, output in zip(batch, outputs, strict=True):
                _write(result, item, output.reshape(len(neighborhood), -1, *output.shape[-2:]))
            done += len(batch)
            if progress is not None:
                progress(done, total)
    return Affinities(_finished(result, neighborhood), neighborhood, raw.grid)


def _check_options(batch_size: int, precision: str) -> None:
    if batch_size < 1:
        raise InvalidInput(sentence("batch_size", "must be at least 1", batch_size))
    if precision not in ("32", "bf16"):
        raise InvalidInput(sentence("precision", "must be '32' or 'bf16'", repr(precision)))


def _check_volume(module: nn.Module, spatial: Sequence[int]) -> None:
    smallest = smallest_volume(module)
    if any(size < least for size, least in zip(spatial, smallest, strict=True)):
        rule = f"must not be a volume smaller than the context of the model, at least {smallest}"
        next_step = "take a larger crop, or a model with less context"
        raise InvalidShape(sentence("raw", rule, f"{tuple(spatial)}", next_step))


def _features(module: nn.Module) -> int:
    first = next((p for p in module.parameters() if p.ndim > 1), None)
    return 1 if first is None else first.shape[0]


def _tile_grid(module: nn.Module, shape: Sequence[int], tile: Tile) -> list[list[Span]]:
    steps = zip(shape[-module.ndim :], tile, module.stride, module.context, strict=True)
    along = [spans(size, out, stride, blended=not context) for size, out, stride, context in steps]
    sections = [Span(z, z, z + 1) for z in range(shape[0])]
    return along if module.ndim == 3 else [sections, *along]


def _cut(module: nn.Module, array: np.ndarray, item: Sequence[Span], window: Sequence[int]) -> np.ndarray:
    """The input of one tile, float32 (S, [Z,] Y, X)."""
    lengths = list(window) if module.ndim == 3 else [module.sections, *window]
    before = [context // 2 for context in module.context]
    before = before if module.ndim == 3 else [module.sections // 2, *before]
    axes = zip(item, before, lengths, array.shape, strict=True)
    indices = [reflected(span.start - lead, length, size) for span, lead, length, size in axes]
    cut = scale_intensity(array[np.ix_(*indices)])
    return cut[None] if module.ndim == 3 else cut


def _run(module: nn.Module, inputs: np.ndarray, device: torch.device) -> np.ndarray:
    return module(torch.from_numpy(inputs).to(device)).float().sigmoid().cpu().numpy()


def _check_outputs(outputs: np.ndarray, channels: int) -> None:
    if outputs.shape[1] != channels:
        rule = f"must have one offset for each of the network's {outputs.shape[1]} channels"
        raise InvalidInput(sentence("neighborhood", rule, f"{channels} offsets"))
    if np.isnan(outputs.min()):
        next_step = "take an earlier checkpoint, or train with a smaller learning rate"
        raise InvalidInput(sentence("the output of the network", "must not be NaN", next_step=next_step))


def _write(result: np.ndarray, item: Sequence[Span], output: np.ndarray) -> None:
    """Add a tile's output (C, Z, Y, X), weighted where tiles overlap."""
    target = tuple(slice(span.low, span.high) for span in item)
    output = output[(slice(None), *(slice(span.low - span.start, span.high - span.start) for span in item))]
    for axis, span in enumerate(item):
        if span.weights is not None:
            output = output * span.weights.reshape([-1 if axis == a else 1 for a in range(3)])
    result[(slice(None), *target)] += output


def _finished(result: np.ndarray, neighborhood: np.ndarray) -> np.ndarray:
    """In place: 0 where edges leave; weights that sum to 1 may exceed it by rounding."""
    np.minimum(result, 1, out=result)
    for channel, offset in zip(result, neighborhood, strict=True):
        channel *= edge_mask(channel.shape, [offset])[0]
    return result


@contextmanager
def _evaluating(module: nn.Module, device: torch.device, precision: str) -> Iterator[None]:
    """The module on `device` in evaluation mode, for a while; then every part gets its own tensors and mode back."""
    modes = {part: part.training for part in module.modules()}
    parameters = [(parameter, parameter.data) for parameter in module.parameters()]
    buffers = [(part, name, buffer) for part in modes for name, buffer in part.named_buffers(recurse=False)]
    try:
        module.eval().to(device)
        if device.type == "cpu" and precision == "bf16":  # a third faster; in float32 it makes no difference
            module.to(memory_format=torch.channels_last_3d if module.ndim == 3 else torch.channels_last)
        yield
    finally:
        for parameter, data in parameters:
            parameter.data = data
        for part, name, buffer in buffers:
            setattr(part, name, buffer)
        for part, training in modes.items():
            part.training = training


def _autocast(device: torch.device, precision: str):
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
