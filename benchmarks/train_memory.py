"""Peak memory and time of training by the size of the cache: python benchmarks/train_memory.py [--cache 0.5 ...].

A tiny network trains for some steps on a synthetic volume in Zarr, 1024 voxels a side unless `--size` says otherwise:
raw data uint8 (1.1 GB), labels uint64 (8.6 GB, of which little is on disk), in chunks of 64. Each cache (in GB; 0 for
no limit: all of it in memory) has a process of its own. Prints JSON, or writes it to `--out`: `before` are the bytes
that the process held before it opened the volume, `peak` the most that it ever held.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from segkit import io
from segkit.benchmark.measure import machine
from segkit.benchmark.process import Limits, in_fresh_process
from segkit.memory import forget_peak, peak, resident

CACHES = (0.5, 2.0)
OBJECT = 96
"""Voxels a side of an object; they touch along z, and have background between them along y and x."""
SLAB = 64
SETTINGS = {
    "model_parameters": {"features": 4, "growth": 2, "pooling": [[2, 2, 2]], "padding": "same"},
    "loss": "bce",
    "patch": [56, 56, 56],
    "device": "cpu",
    "threads": 1,
    "log_every": 5,
}


def labels_of(low: int, high: int, size: int) -> np.ndarray:
    """The ids of some sections of the volume."""
    along = [np.arange(start, stop) for start, stop in ((low, high), (0, size), (0, size))]
    z, y, x = (np.where(each % OBJECT < 3, -1, each // OBJECT) if axis else each // OBJECT
               for axis, each in enumerate(along))  # fmt: skip
    across = np.where((y[:, None] < 0) | (x < 0), 0, 1 + (y[:, None] * 64 + x)).astype(np.uint64)
    return np.where(across > 0, across + (z * 64 * 64).astype(np.uint64)[:, None, None], across)


def make(folder: Path, size: int) -> None:
    """Write the volume, as volume.zarr, slab by slab."""

    def slabs(role: str) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
        rng = np.random.default_rng(0)
        for low in range(0, size, SLAB):
            high = min(low + SLAB, size)
            labels = labels_of(low, high, size)
            part = (slice(low, high), slice(0, size), slice(0, size))
            noise = rng.integers(0, 16, labels.shape, np.uint8)
            yield part, labels if role == "truth" else np.where(labels > 0, 160, 40).astype(np.uint8) + noise

    for role, kind, dtype in (("raw", "volume", np.uint8), ("truth", "labels", np.uint64)):
        about = {"kind": kind, "format_version": 1, "resolution": [8.0] * 3, "offset": [0.0] * 3, "unit": "nm"}
        io.write_blocks(folder / "volume.zarr", role, io.Blocks((size,) * 3, np.dtype(dtype), slabs(role)), about)


def measure(folder: str, cache: float, steps: int) -> dict[str, object]:
    """Train once; what it took, with what the process took before."""
    from segkit.cli.runs import training_volumes
    from segkit.timing import listening
    from segkit.train import TrainConfig, train
    from segkit.train.loop import FEED

    config = TrainConfig(**SETTINGS, steps=steps, cache=int(cache * 1e9) or 10**15)
    before, _ = resident(), forget_peak()
    stamps = [time.perf_counter()]
    volumes, _ = training_volumes([f"{folder}/volume.zarr"], (), (None, None), config)
    opened = time.perf_counter()
    with TemporaryDirectory(prefix="segkit-benchmark-") as out, listening() as phases:
        train(config, volumes, Path(out) / "run", on_step=lambda *_: stamps.append(time.perf_counter()))
    found = {"before": before, "peak": peak(), "open_seconds": opened - stamps[0]}
    found |= {"seconds": stamps[-1] - stamps[0], "seconds_to_first_step": stamps[1] - stamps[0]}
    found["step_seconds"] = (stamps[-1] - stamps[1]) / max(steps - 1, 1)
    return found | {"waiting_seconds": phases.get(FEED, 0.0) / steps, "in_memory": volumes[0].in_memory}


def main(words: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=1024, help="voxels a side")
    parser.add_argument("--cache", type=float, action="append", help="GB; 0 for all in memory; repeatable")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, help="JSON file, instead of printing")
    given = parser.parse_args(words)
    with TemporaryDirectory(prefix="segkit-benchmark-") as folder:
        make(Path(folder), given.size)
        stored = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        rows = []
        for cache in given.cache or CACHES:
            asked = {"folder": folder, "cache": cache, "steps": given.steps}
            rows.append({"cache_gb": cache} | in_fresh_process("train_memory:measure", asked, Limits(threads=1)))
    report = {"size": given.size, "steps": given.steps, "stored": stored, "rows": rows, "machine": machine()}
    text = json.dumps(report, indent=2)
    print(text) if given.out is None else given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
