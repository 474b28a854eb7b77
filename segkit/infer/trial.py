"""What inference costs: the bare network on tiles of a volume, and all that surrounds it."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from segkit.data.affinities import as_neighborhood
from segkit.data.source import Source
from segkit.infer.network import autocasting, evaluating, to_device
from segkit.infer.plan import Batch, make_plan
from segkit.models.device import resolve_device


@dataclass
class InferenceCosts:
    """Seconds for the whole volume."""

    tile: tuple[int, ...]
    """Input of the network, one tile with its context."""
    tiles: int
    """So many are computed."""
    device: str
    parts: dict[str, list[float]] = field(default_factory=dict)
    """"network" is the bare forward on inputs that lie on the device, times the number of batches; the others are what
    was asked for by name."""

    def seconds(self, part: str) -> float:
        """The run in the middle."""
        return statistics.median(self.parts[part])

    def added(self, part: str) -> float:
        """What a part takes beyond the network, as a share of it."""
        return self.seconds(part) / self.seconds("network") - 1


def measure_inference(
    module: nn.Module,
    raw: Source,
    neighborhood,
    runs: dict[str, Callable[[], object]],
    *,
    tile_shape: Sequence[int] | None = None,
    device: str | torch.device = "cpu",
    batch_size: int = 1,
    precision: str = "32",
    augment: str = "none",
    compiled: bool = False,
    repeat: int = 3,
) -> InferenceCosts:
    """Time the bare network and `runs`, in turn, `repeat` times each, after one call of each to warm up.

    The options are those of :func:`segkit.infer.predict`; `runs` are to use the same.
    """
    device = resolve_device(device)
    offsets = as_neighborhood(neighborhood)
    plan = make_plan(module, raw.shape, raw.grid, offsets, tile=tile_shape, batch_size=batch_size, augment=augment)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    costs = InferenceCosts(tuple(plan.batches[0].variant.lengths), plan.tiles, name)
    bare: Callable[[], object] = Bare(module, raw, plan.batches, device, precision, compiled)
    for number in range(repeat + 1):
        for part, run in {"network": bare, **runs}.items():
            begin = time.perf_counter()
            run()
            if number:
                costs.parts.setdefault(part, []).append(time.perf_counter() - begin)
    return costs


class Bare:
    """The forwards of all batches, on inputs that lie on the device: one for each shape, for memory's sake."""

    def __init__(
        self, module: nn.Module, raw: Source, batches: list[Batch], device: torch.device, precision: str, compiled: bool
    ) -> None:
        self.module, self.device, self.precision = module, device, precision
        self.call = torch.compile(module, dynamic=False) if compiled else module
        self.shapes = [(len(batch.tiles), *batch.variant.lengths) for batch in batches]
        self.inputs: dict[tuple[int, ...], torch.Tensor] = {}
        for shape, batch in zip(self.shapes, batches, strict=True):
            if shape not in self.inputs:
                cuts = np.stack([batch.variant.cut(raw.read, tile) for tile in batch.tiles])
                self.inputs[shape] = to_device(cuts[:, None] if module.ndim == 3 else cuts, device)

    def __call__(self) -> None:
        autocast = autocasting(self.device, self.precision)
        with evaluating(self.module, self.device, self.precision), torch.inference_mode(), autocast:
            for shape in self.shapes:
                self.call(self.inputs[shape])
        if self.device.type != "cpu":
            getattr(torch, self.device.type).synchronize()
