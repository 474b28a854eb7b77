"""A network on a CPU, this version beside another: python benchmarks/network.py DATA --run RUN --before FOLDER.

FOLDER is a checkout of the other version (`git worktree add`); it runs with the packages of this one. In turn, each
in a process of its own, `segkit infer` predicts --test of DATA by RUN (all of the process counts), or with `--part
train`, `segkit benchmark train` times steps with the settings of RUN on --train. Prints, and with `--out` writes, the
seconds of all runs and their medians, the CPU seconds in the system, the most memory, and the ratio of before to now;
of this version also what inference adds to the bare forward (`segkit benchmark infer`), and how the affinities of
both precisions differ.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from recipes import MAIN, checkout, environment, keep

from segkit import io
from segkit.benchmark.measure import machine

HERE = Path(__file__).parents[1]


def run(folder: Path, *words: object) -> dict[str, object]:
    """Call the command line of a checkout: seconds, seconds in the system, the most memory, and what it printed."""
    command = [sys.executable, "-c", MAIN, *map(str, words)]
    started = time.perf_counter()
    with subprocess.Popen(command, env=environment(folder), stdout=subprocess.PIPE, text=True) as process:
        printed = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{folder}: segkit {words[0]} ended with {process.returncode}")
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "system": used.ru_stime, "peak_bytes": 1024 * used.ru_maxrss, "printed": printed}


def compared(calls: dict[str, tuple], repeat: int) -> dict[str, object]:
    """Call each in turn; medians by name, and the ratio of the first to each."""
    runs: dict[str, list[dict]] = {name: [] for name in calls}
    for _ in range(repeat):
        for name, words in calls.items():
            runs[name].append(run(*words))
    rows = {
        name: {key: statistics.median(each[key] for each in found) for key in ("seconds", "system", "peak_bytes")}
        | {"all_seconds": [each["seconds"] for each in found]}
        for name, found in runs.items()
    }
    first = next(iter(rows.values()))["seconds"]
    return {name: row | {"times_faster": first / row["seconds"]} for name, row in rows.items()}


def inference(options: argparse.Namespace) -> dict[str, object]:
    """The whole process of `segkit infer`, before and now, by default and in float32; what surrounds the forward."""
    raw = f"{options.data}[{options.test}]"
    with TemporaryDirectory(prefix="segkit-benchmark-") as out:
        words = ("infer", raw, "--run", options.run, "--out", Path(out) / "a.h5")
        exact = (*words[:-1], Path(out) / "b.h5", "--precision", "32")
        calls = {"before": (options.before, *words), "now, --precision 32": (HERE, *exact), "now": (HERE, *words)}
        rows = compared(calls, options.repeat)
        first, second = (io.read_affinities(Path(out) / name).array for name in ("a.h5", "b.h5"))
        differs = np.abs(first - second)
    report = json.loads(run(HERE, "benchmark", "infer", raw, "--run", options.run, "--json")["printed"])
    return {
        "rows": rows,
        "differs_from_float32": {"mean": float(differs.mean()), "most": float(differs.max())},
        "around": {key: report[key] for key in ("precision", "input_tile", "added", "rows", "phases")},
    }


def training(options: argparse.Namespace) -> dict[str, object]:
    """The parts of a step, before and now."""
    words = ("benchmark", "train", f"{options.data}[{options.train}]", options.run, "--repeat", 4, "--json")
    found: dict[str, list[dict]] = {}
    for _ in range(options.repeat):
        for name, folder in (("before", options.before), ("now", HERE)):
            found.setdefault(name, []).append(json.loads(run(folder, *words)["printed"]))
    rows = {
        name: {
            part: statistics.median(row["seconds"] for each in reports for row in each["rows"] if row["part"] == part)
            for part in ("network", "optimiser", "loop", "whole")
        }
        for name, reports in found.items()
    }
    return {"rows": rows, "times_faster": {part: rows["before"][part] / rows["now"][part] for part in rows["now"]}}


def main(words: list[str] | None = None) -> None:
    """Measure, and print or keep."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--before", type=checkout, required=True)
    parser.add_argument("--part", choices=("infer", "train"), default="infer")
    parser.add_argument("--train", default="0:110")
    parser.add_argument("--test", default="110:150")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file, whose entry of this part is replaced")
    options = parser.parse_args(words)
    found = (inference if options.part == "infer" else training)(options) | {"machine": machine()}
    print(json.dumps(found, indent=2))
    if options.out is not None:
        keep(options.out, (json.loads(options.out.read_text()) if options.out.exists() else {}) | {options.part: found})


if __name__ == "__main__":
    main()
