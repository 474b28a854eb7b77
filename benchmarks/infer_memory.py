"""Peak memory and time of inference by the size of the volume: python benchmarks/infer_memory.py [--size 64 ...].

A small 3-D U-Net (8 features, two poolings by 2, without padding) predicts random volumes from file to file on one
thread, each in a process of its own, with each budget (`--memory`; if none is given, that of `segkit infer`).
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from segkit import Grid, Volume, io
from segkit.benchmark.process import Limits, in_fresh_process
from segkit.memory import forget_peak, peak, resident

SIZES = (64, 128, 192, 256)
NETWORK = {"features": 8, "growth": 2, "pooling": ((2, 2, 2), (2, 2, 2))}
HEAD = "| voxels | memory | tile | tiles | seconds | before, GB | peak, GB |\n|---|---|---|---|---|---|---|"


def measure(folder: str, size: int, memory: int | None, padding: str) -> dict[str, object]:
    """Infer a volume of `size` voxels a side once; what it took, with what the process took before."""
    import torch

    from segkit.data import NEAREST
    from segkit.infer.settings import Settings
    from segkit.infer.stage import infer_files
    from segkit.models import load_model, save_model
    from segkit.models.unet3d import UNet3D

    torch.manual_seed(0)
    raw, model, out = (Path(folder) / name for name in ("raw.h5", "net.safetensors", "out.h5"))
    array = np.random.default_rng(0).integers(0, 256, (size,) * 3, np.uint8)
    io.write(raw, Volume(array, Grid((10, 10, 10))))
    parameters = NETWORK | {"padding": padding}
    save_model(model, UNet3D(**parameters), name="unet3d", parameters=parameters, neighborhood=NEAREST)
    del array
    trained, settings = load_model(model), Settings(**({"memory": memory} if memory else {}))
    before, _ = resident(), forget_peak()
    start = time.perf_counter()
    infer_files(raw, trained, out, settings)
    seconds, highest = time.perf_counter() - start, peak()
    return {"seconds": seconds, "before": before, "peak": highest} | _tiles(trained, raw, settings)


def _tiles(trained, raw: Path, settings) -> dict[str, object]:
    from segkit.benchmark.infer import BareNetwork

    with io.open_volume(raw) as source:
        network = BareNetwork(trained.module, source, trained.neighborhood, settings)
    return {"tile": network.tile, "tiles": network.tiles}


def row(size: int, memory: int | None, found: dict) -> str:
    """A line of the table."""
    budget = f"{memory / 1e9:g} GB" if memory else "default"
    if "error" in found:
        return f"| {size}^3 | {budget} | {found['error']} | | | | |"
    tile = " x ".join(map(str, found["tile"]))
    before, highest = (f"{found[name] / 1e9:.2f}" for name in ("before", "peak"))
    return f"| {size}^3 | {budget} | {tile} | {found['tiles']} | {found['seconds']:.1f} | {before} | {highest} |"


def main(words: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, action="append", help="voxels a side; repeatable")
    parser.add_argument("--memory", type=float, action="append", help="budget in GB; repeatable")
    parser.add_argument("--padding", choices=("valid", "same"), default="valid")
    given = parser.parse_args(words)
    print(HEAD)
    for size in given.size or SIZES:
        for budget in given.memory or [None]:
            memory = int(budget * 1e9) if budget else None
            with TemporaryDirectory(prefix="segkit-benchmark-") as folder:
                asked = {"folder": folder, "size": size, "memory": memory, "padding": given.padding}
                print(row(size, memory, in_fresh_process("infer_memory:measure", asked, Limits(threads=1))), flush=True)


if __name__ == "__main__":
    main()
