"""Each stage by the size of the volume: python benchmarks/growth.py SMALL.zarr MIDDLE.zarr LARGE.zarr.

The inputs come from make_inputs.py. Every stage runs on each of them in a fresh process, from memory to memory, by all
cores; and on the middle one by one thread too, which tells what share of it is serial. What is measured, and how, is
said in segkit.benchmark, but for the warm-up: it is on the smallest inputs, and what takes long is timed once. Stages
whose memory would not suffice are left out. Writes benchmarks/results/growth.json after each, of which report.py makes
tables in docs/results/benchmarks.md. Stopped, it goes on by the same command; what was measured is not measured again
unless --again says so.
"""

import argparse
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from peers import describe, measure_rates, threads_of_entrants
from recipes import Runs

from segkit.benchmark.measure import machine
from segkit.benchmark.process import Limits, in_fresh_process
from segkit.memory import available

RESULTS = Path(__file__).parent / "results" / "growth.json"
REPEAT = 3
"""Timed calls, of stages that do not take long."""


@dataclass(frozen=True)
class Stage:
    """A stage, as a function of entrants.py does it."""

    title: str
    function: str
    options: dict = field(default_factory=dict)


STAGES = (
    Stage("read affinities", "segkit_read"),
    Stage("write affinities", "segkit_write"),
    Stage("infer, small U-Net", "segkit_infer"),
    Stage("watershed, 3-D", "segkit_fragment", {"method": "watershed"}),
    Stage("watershed, section by section", "segkit_fragment", {"method": "watershed", "per_section": True}),
    Stage("affinity-watershed", "segkit_fragment", {"method": "affinity-watershed"}),
    Stage("agglomerate: mean, ws", "segkit_tree", {"fragments": "ws", "score": "mean"}),
    Stage("agglomerate: quantile 50, ws", "segkit_tree", {"fragments": "ws", "score": "quantile"}),
    Stage("agglomerate: mean, 3d", "segkit_tree", {"fragments": "3d", "score": "mean"}),
    Stage("segment", "segkit_segment"),
    Stage("evaluate: VOI and adapted Rand", "segkit_scores"),
    Stage("constrained MALIS", "segkit_malis"),
    Stage("for comparison: 4 bytes a voxel, looked up at random", "random_look_ups"),
)


def measure(stage: Stage, file: Path, smallest: Path, threads: int) -> dict:
    """What a stage takes on inputs."""
    asked = {"function": stage.function, "options": stage.options, "file": str(file), "repeat": REPEAT}
    row = in_fresh_process("entrants:measured_large", {**asked, "smallest": str(smallest)}, Limits(threads=threads))
    print(
        f"{stage.title}, {file.stem}, {threads} threads: {row.get('error') or format(row['seconds'], '.3f') + ' s'}",
        flush=True,
    )
    return row


def run(stage: Stage, files: list[Path], runs: Runs) -> None:
    """Measure a stage on all inputs, the small ones first, by all cores, and on the middle ones by one thread too."""
    every, before = runs.results["threads"], None
    for number, file in enumerate(files):
        voxels = runs.results["inputs"][number]["voxels"]
        if before and (missing := _missing(before, voxels)):
            print(f"{stage.title}, {file.stem}: left out, it would take {missing / 1e9:.0f} GB of memory")
            return
        for threads in sorted({every, 1} if file == files[len(files) // 2] else {every}):
            named = {"stage": stage.title, "voxels": voxels, "threads": threads}
            named |= {"function": stage.function, "options": stage.options}
            call = partial(measure, stage, file, files[0], threads)
            before = runs.once(call, **named)


def _missing(before: dict, voxels: int) -> float:
    """The bytes that so many voxels will take, where they are not there: as many a voxel as `before`, and no less."""
    needed = (before.get("process_bytes") or 0) / before["voxels"] * voxels
    return needed if needed > (available() or needed) else 0.0


def main() -> None:
    """Measure the stages one after the other; what is finished is kept at once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+", metavar="INPUTS.zarr")
    parser.add_argument("--stage", action="append", help="only stages whose title contains this; repeatable")
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON")
    parser.add_argument("--again", action="store_true", help="measure what is measured already, too")
    options = parser.parse_args()
    inputs = [found | {"voxels": _voxels(found)} for found in map(describe, options.files)]
    order = sorted(range(len(inputs)), key=lambda k: inputs[k]["voxels"])
    about = {"inputs": [inputs[k] for k in order], "machine": machine(), "threads": threads_of_entrants()}
    runs = Runs(options.out, about, again=options.again)
    measure_rates(runs, 1, about["threads"])
    for stage in STAGES:
        if not options.stage or any(part in stage.title for part in options.stage):
            run(stage, [options.files[k] for k in order], runs)


def _voxels(inputs: dict) -> int:
    z, y, x = inputs["shape"]
    return z * y * x


if __name__ == "__main__":
    main()
