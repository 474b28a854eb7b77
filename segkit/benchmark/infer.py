"""What inference costs, part by part: the bare network on the tiles of a volume, and all that surrounds it."""

import math
import statistics
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from segkit import io
from segkit.benchmark.measure import machine, time_in_turn
from segkit.data.affinities import as_neighborhood
from segkit.data.source import Source
from segkit.infer import predict, predict_parts
from segkit.infer.network import autocasting, evaluating, to_device
from segkit.infer.plan import make_plan
from segkit.infer.settings import Settings
from segkit.models.device import resolve_device
from segkit.timing import listening

TITLES = {
    "network": "network, forward",
    "memory": "+ tiling and blending, in memory",
    "file": "+ reading and writing files",
}

AS_USUAL = Settings()


def benchmark_inference(
    address: str,
    module: nn.Module,
    neighborhood: ArrayLike,
    options: Settings = AS_USUAL,
    *,
    suffix: str = ".h5",
    repeat: int = 3,
) -> dict[str, object]:
    """Time the bare network on the tiles of a volume, the prediction in memory, and that from file to file.

    Files are written to a temporary folder, in the format of `suffix`. Rows hold `seconds` (the run in the middle),
    `over_network` (the ratio to the first row) and `megavoxels_per_second`; `phases` are those of the last run from
    file to file, in threads of their own, so that they overlap.
    """
    phases: dict[str, float] = {}
    raw, asked = io.read_volume(address), vars(options)
    with io.open_volume(address) as source, TemporaryDirectory(prefix="segkit-benchmark-") as folder:

        def from_file_to_file() -> None:
            with listening() as found, closing(predict_parts(module, source, neighborhood, **asked)) as parts:
                place = (source.shape, as_neighborhood(neighborhood), source.grid)
                io.write_affinities(Path(folder) / f"a{suffix}", parts, *place)
            phases.update(found)

        runs = {"memory": lambda: predict(module, raw, neighborhood, **asked), "file": from_file_to_file}
        costs = measure_inference(module, source, neighborhood, runs, options, repeat=repeat)
    voxels = math.prod(raw.shape)
    rows = [
        {
            "part": part,
            "title": title,
            "seconds": costs.seconds(part),
            "over_network": 1 + costs.added(part),
            "megavoxels_per_second": voxels / 1e6 / costs.seconds(part),
        }
        for part, title in TITLES.items()
    ]
    report = {"verb": "infer", "input": address, "shape": list(raw.shape), "repeat": repeat, "device": costs.device}
    report |= {"precision": options.precision, "format": suffix, "input_tile": list(costs.tile)}
    report |= {"tiles": costs.tiles, "rows": rows, "added": costs.added("file"), "phases": phases}
    return report | {"machine": machine()}


@dataclass(frozen=True)
class InferenceCosts:
    """Seconds for the whole volume."""

    tile: tuple[int, ...]
    """Input of the network, one tile with its context."""
    tiles: int
    """So many are computed."""
    device: str
    parts: dict[str, list[float]]
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
    neighborhood: ArrayLike,
    runs: Mapping[str, Callable[[], object]],
    options: Settings = AS_USUAL,
    *,
    repeat: int = 3,
) -> InferenceCosts:
    """Time the bare network and `runs`, in turn, `repeat` times each, after one call of each to warm up.

    `runs` are to use the same options.
    """
    device = resolve_device(options.device)
    bare = BareNetwork(module, raw, neighborhood, options)
    seconds = time_in_turn({"network": bare, **runs}, repeat)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return InferenceCosts(bare.tile, bare.tiles, name, seconds)


class BareNetwork:
    """The forwards of all tiles, on inputs that lie on the device: one for each shape, for memory's sake."""

    def __init__(self, module: nn.Module, raw: Source, neighborhood: ArrayLike, options: Settings = AS_USUAL) -> None:
        self.module, self.device, self.precision = module, resolve_device(options.device), options.precision
        self.call = torch.compile(module, dynamic=False) if options.compiled else module
        plan = make_plan(module, raw.shape, raw.grid, as_neighborhood(neighborhood), options)
        self.tile, self.tiles = tuple(plan.batches[0].variant.lengths), plan.tiles
        self.shapes = [(len(batch.tiles), *batch.variant.lengths) for batch in plan.batches]
        self.inputs: dict[tuple[int, ...], torch.Tensor] = {}
        for shape, batch in zip(self.shapes, plan.batches, strict=True):
            if shape not in self.inputs:
                cuts = np.stack([batch.variant.cut(raw.read, tile) for tile in batch.tiles])
                self.inputs[shape] = to_device(cuts[:, None] if module.ndim == 3 else cuts, self.device)

    def __call__(self) -> None:
        autocast = autocasting(self.device, self.precision)
        with evaluating(self.module, self.device, self.precision), torch.inference_mode(), autocast:
            for shape in self.shapes:
                self.call(self.inputs[shape])
        if self.device.type != "cpu":
            getattr(torch, self.device.type).synchronize()
