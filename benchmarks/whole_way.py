"""From raw data to scores by one command and by four: python benchmarks/whole_way.py DATA --run RUN [--crop 110:150].

DATA has raw data and truth, RUN is a training run: of the network of fib25-small, trained for some minutes, say. The
stages are those of that recipe, without test-time augmentation. Timed, in turn, each in fresh processes, after a round
on the first sections that compiles the kernels:

- separate: `segkit infer`, `fragment`, `agglomerate` and `evaluate`, one after the other;
- run: `segkit run --no-report` with the same stages, which leaves the same files;
- files, with `--files`: the same, with nothing handed on in memory (`--in-memory 1B`).

`--before FOLDER`, another checkout of segkit, adds "separate before", the four commands by its code. The files of
"separate" and "run" are compared: they must be equal to the byte. Writes benchmarks/results/whole-way.json, and
rewrites the table in docs/results/benchmarks.md.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from recipes import MAIN, checkout, environment, keep, publish
from report import PAGES

from segkit.benchmark.measure import machine
from segkit.cli.run import steps_of
from segkit.parameters import parse_assignments
from segkit.run import load_recipe

HERE = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "whole-way.json"
RECIPE = """
title = "The whole way"
[data]
file = ""
run = ""
[infer]
raw = "{data.file}"
run = "{data.run}"
out = "{out}/affinities.h5"
[fragment]
affinities = "{out}/affinities.h5"
set = { threshold = 0.75, statistic = "min", seed_distance = 8, size_threshold = 300 }
out = "{out}/fragments.h5"
[agglomerate]
affinities = "{out}/affinities.h5"
fragments = "{out}/fragments.h5"
score = "quantile"
set = { quantile = 0.8 }
threshold = 0.5
out = "{out}/segmentation.h5"
[evaluate]
segmentation = "{out}/segmentation.h5"
truth = "{data.file}"
"""
WARM = 8
"""Sections of the round that is not timed."""
FILES = ("affinities.h5", "fragments.h5", "segmentation.h5")
TITLES = {
    "separate before": "four commands, before",
    "separate": "four commands",
    "files": "`segkit run`, by files",
    "run": "`segkit run`",
}


def call(words: list[str], code: Path | None = None) -> float:
    """The seconds of a command in a process of its own, of the segkit in `code`, or of this one."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", MAIN, *words], check=True, capture_output=True, env=environment(code or HERE))
    return time.perf_counter() - begin


def separate(recipe: Path, code: Path | None, settings: list[str], out: Path) -> dict[str, float]:
    """The seconds of each stage as a command of its own."""
    nested: dict[str, dict] = {"data": {}}
    for name, value in parse_assignments(tuple(settings)).items():
        nested["data"][name.partition(".")[2]] = value
    out.mkdir()
    return {step.name: call(step.words()[1:], code) for step in steps_of(load_recipe(str(recipe), out, nested))}


def together(recipe: Path, more: list[str], settings: list[str], out: Path) -> dict[str, float]:
    """The seconds of the recipe."""
    words = [word for each in settings for word in ("--set", each)]
    return {"run": call(["run", str(recipe), "--out", str(out), "--no-report", *more, *words])}


def timed(options: argparse.Namespace, folder: Path) -> dict[str, list[dict[str, float]]]:
    """The seconds of each way, by stage where they are commands, of each round but the one that compiles."""
    recipe = folder / "way.toml"
    recipe.write_text(RECIPE)
    ways: dict[str, Callable[[list[str], Path], dict[str, float]]] = {}
    if options.before:
        ways["separate before"] = partial(separate, recipe, options.before)
    ways["separate"] = partial(separate, recipe, None)
    if options.files:
        ways["files"] = partial(together, recipe, ["--in-memory", "1B"])
    ways["run"] = partial(together, recipe, [])
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    first = int(options.crop.partition(":")[0])
    for number in range(options.repeat + 1):
        crop = options.crop if number else f"{first}:{first + WARM}"
        settings = [f"data.file={options.data.resolve()}[{crop}]", f"data.run={options.run.resolve()}"]
        for name, way in ways.items():
            seconds = way(settings, folder / f"{name.replace(' ', '-')}-{number}")
            if number:
                found[name].append(seconds)
        made = [[(folder / f"{name}-{number}" / file).read_bytes() for file in FILES] for name in ("separate", "run")]
        if made[0] != made[1]:
            raise SystemExit("segkit run has made other files than the four commands")
    return found


def middle(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The medians of the seconds of each stage, and of all of them together.

    >>> middle([{"infer": 3.0, "fragment": 1.0}, {"infer": 4.0, "fragment": 1.5}, {"infer": 9.0, "fragment": 2.0}])
    {'infer': 4.0, 'fragment': 1.5, 'all': 5.5}
    """
    stages = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    return stages | {"all": statistics.median(sum(each.values()) for each in rounds)}


def table(results: dict) -> str:
    """The Markdown of what was measured."""
    found = {name: middle(rounds) for name, rounds in results["seconds"].items()}
    first = next(iter(found))
    stages = [name for name in found["separate"] if name != "all"]
    words = "--run RUN --before FOLDER" if "separate before" in found else "--run RUN"
    lines = [
        f"Made by `python benchmarks/whole_way.py {results['data']} {words}`; voxels z {results['crop']}. "
        f"Seconds, medians of {len(results['seconds']['run'])}, each way in fresh processes and in turn with the "
        "others. All leave the same files.",
        "",
        f"| | {' | '.join(stages)} | from raw data to scores | {TITLES[first]} / this |",
        "|---|" + "--:|" * (len(stages) + 2),
    ]
    for name, row in found.items():
        parts = " | ".join(f"{row[stage]:.2f}" if stage in row else "" for stage in stages)
        lines.append(f"| {TITLES[name]} | {parts} | {row['all']:.2f} | {found[first]['all'] / row['all']:.2f} |")
    about = results["machine"]
    return "\n".join([*lines, "", f"{about['processor']}, {about['cores']} cores, {about['date']}."])


def main(words: list[str] | None = None) -> None:
    """Measure, keep and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--crop", default="110:150")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--files", action="store_true")
    parser.add_argument("--before", type=checkout)
    options = parser.parse_args(words)
    results = {"data": options.data.name, "crop": options.crop, "machine": machine()}
    with tempfile.TemporaryDirectory() as folder:
        results["seconds"] = timed(options, Path(folder))
    keep(RESULTS, results)
    print(table(results))
    publish(PAGES / "benchmarks.md", table(results), "way")


if __name__ == "__main__":
    main()
