"""What 8 bits of affinities cost in score: python benchmarks/levels.py DATA --run RUN [--train 0:110] [--test 110:150].

DATA has raw data and truth; RUN was trained on its sections --train. Of --train and of --test are made affinities as
float32 and as uint8 (`segkit infer --dtype`), and of these fragments and trees as the recipe fib25-small makes them
(but for --inside, the affinity above which a voxel is inside). The threshold is the best one of --train, for each
dtype; scores are those of --test.

Writes benchmarks/results/levels.json, and rewrites the table in docs/results/benchmarks.md.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from recipes import keep, publish, segkit
from report import PAGES

from segkit import io

RESULTS = Path(__file__).parent / "results" / "levels.json"
FRAGMENTS = ("statistic=min", "seed_distance=8", "size_threshold=300")
SCORES = ("voi_split", "voi_merge", "adapted_rand_error", "cremi_score")


def settings(*assignments: str) -> list[str]:
    """The words that say them."""
    return [word for each in assignments for word in ("--set", each)]


def trees(raw: str, options: argparse.Namespace, dtype: str, folder: Path) -> tuple[Path, int]:
    """The tree of raw data, and the bytes of the affinities that it was made of."""
    made = {name: folder / f"{name}.zarr" for name in ("affinities", "fragments", "tree")}
    segkit("infer", raw, "--run", options.run, "--dtype", dtype, "--out", made["affinities"])
    chosen = settings(f"threshold={options.inside}", *FRAGMENTS)
    segkit("fragment", made["affinities"], *chosen, "--out", made["fragments"])
    words = ["--fragments", made["fragments"], "--score", "quantile", *settings("quantile=0.8"), "--threshold", 0.5]
    segkit("agglomerate", made["affinities"], *words, "--out", made["tree"])
    stored = sum(file.stat().st_size for file in made["affinities"].rglob("*") if file.is_file())
    return made["tree"], stored


def sweep(tree: Path, truth: str, *thresholds: float) -> dict:
    """The scores of a tree at all its thresholds: the best, and those of some."""
    words = [word for each in thresholds for word in ("--threshold", each)]
    return json.loads(segkit("evaluate", tree, truth, "--sweep", "--json", *words))


def scores(options: argparse.Namespace, dtype: str, folder: Path, *others: float) -> dict:
    """What the affinities of the test sections take, and the scores: at the best threshold of the training sections, at
    `others`, and at the best one of the test sections themselves.
    """
    train, test = (f"{options.data}[{part}]" for part in (options.train, options.test))
    known, _ = trees(train, options, dtype, folder / "train")
    threshold = sweep(known, train)["best"]["threshold"]
    tree, stored = trees(test, options, dtype, folder / "test")
    found = sweep(tree, test, threshold, *others)
    fragments = len(np.unique(io.read_labels(folder / "test" / "fragments.zarr", "fragments").array))
    return {
        "threshold": threshold,
        "bytes": stored,
        "fragments": fragments,
        "rows": [*found["thresholds"], found["best"]],
    }


def table(results: dict) -> str:
    """The Markdown of both."""
    lines = [
        f"Made by `python benchmarks/levels.py {results['data']} --run RUN --inside {results['inside']}`; sections "
        f"{results['test']}, of a network that was trained for minutes.",
        "",
        f"| affinities | megabytes | threshold | {' | '.join(SCORES)} |",
        "|---|--:|--:|" + "--:|" * len(SCORES),
    ]
    for dtype, found in results["scores"].items():
        for row in found["rows"]:
            numbers = " | ".join(f"{row[name]:.4f}" for name in SCORES)
            own, best = row["threshold"] == found["threshold"], row is found["rows"][-1]
            how = "the best here" if best else "the best in training" if own else "that of float32"
            lines.append(f"| {dtype} | {found['bytes'] / 1e6:.1f} | {row['threshold']:g}, {how} | {numbers} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, keep and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--train", default="0:110")
    parser.add_argument("--test", default="110:150")
    parser.add_argument("--inside", type=float, default=0.75)
    options = parser.parse_args()
    results = {"data": options.data.name, "test": options.test, "inside": options.inside, "scores": {}}
    others: list[float] = []
    for dtype in ("float32", "uint8"):
        with tempfile.TemporaryDirectory() as folder:
            for part in ("train", "test"):
                (Path(folder) / part).mkdir()
            results["scores"][dtype] = scores(options, dtype, Path(folder), *others)
        others.append(results["scores"][dtype]["threshold"])
        keep(RESULTS, results)
    publish(PAGES / "benchmarks.md", table(results), "levels")


if __name__ == "__main__":
    main()
