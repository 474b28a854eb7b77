"""Does the rest keep up with the network? Inference from file to file beside the bare forward."""

import math
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from segkit import io
from segkit.benchmark.machine import machine
from segkit.timing import listening

TITLES = {
    "network": "network, forward",
    "memory": "+ tiling and blending, in memory",
    "file": "+ reading and writing files",
}


def benchmark_inference(
    address: str, module, neighborhood, *, suffix: str = ".h5", repeat: int = 3, **options
) -> dict[str, object]:
    """Time the bare network on the tiles of a volume, the prediction in memory, and that from file to file.

    `options` are those of :func:`segkit.infer.predict`; files are written to a temporary folder, in the format of
    `suffix`. Rows hold `seconds` (the run in the middle), `over_network` (the ratio to the first row) and
    `megavoxels_per_second`; `phases` are those of the last run from file to file, in threads of their own, so that they
    overlap.
    """
    from segkit.infer import predict, predict_parts
    from segkit.infer.trial import measure_inference

    raw, phases = io.read_volume(address), {}
    with io.open_volume(address) as source, TemporaryDirectory(prefix="segkit-benchmark-") as folder:

        def from_file_to_file() -> None:
            with listening() as found, closing(predict_parts(module, source, neighborhood, **options)) as parts:
                io.write_affinities(Path(folder) / f"a{suffix}", parts, source.shape, neighborhood, source.grid)
            phases.update(found)

        runs = {"memory": lambda: predict(module, raw, neighborhood, **options), "file": from_file_to_file}
        costs = measure_inference(module, source, neighborhood, runs, repeat=repeat, **options)
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
    report |= {"precision": options.get("precision", "32"), "format": suffix, "input_tile": list(costs.tile)}
    report |= {"tiles": costs.tiles, "rows": rows, "added": costs.added("file"), "phases": phases}
    return report | {"machine": machine()}
