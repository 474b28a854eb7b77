"""What margins of networks that pad cost and gain: python benchmarks/margins.py DATA --run RUN [--test 110:150].

DATA has raw data and truth; RUN was trained on other sections than --test. First the border: the test sections whole
and their four quarters, each as a volume of its own with one tile, with less and more reflected beyond their ends.
Then the inside: the test sections in tiles of 136 x 136, whose margins beside other tiles differ, against one tile
for all. The score is the best CREMI score over all thresholds, of fragments and trees as the recipe fib25-small makes
them (but for --inside, the affinity above which a voxel is inside); `differs` is the mean difference of the
affinities to those with the largest margin.

Writes benchmarks/results/margins.json, and rewrites the table in docs/results/benchmarks.md.
"""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from levels import FRAGMENTS, settings
from recipes import keep, publish
from report import PAGES

from segkit import io
from segkit.benchmark.measure import machine
from segkit.cli.main import main as verbs
from segkit.infer import predict
from segkit.infer.settings import Settings
from segkit.memory import keep_freed
from segkit.models.checkpoint import load_model
from segkit.models.device import resolve_device, resolve_precision
from segkit.timing import listening

RESULTS = Path(__file__).parent / "results" / "margins.json"
BORDERS = ((0, 0, 0), (8, 8, 8), (8, 16, 16), (16, 16, 16), (8, 24, 24), (8, 40, 40))
INSIDE = (0, 8, 16, 24, 32)
TILE = 136
QUARTERS = ("0:125,0:125", "0:125,125:250", "125:250,0:125", "125:250,125:250")


def score(affinities: Path, truth: str, inside: float, folder: Path) -> float:
    """The best CREMI score of affinities, over all thresholds."""
    made = {name: str(folder / f"{name}.h5") for name in ("fragments", "tree")}

    def call(*words: object) -> dict:
        return verbs([str(word) for word in words], standalone_mode=False)

    call("fragment", affinities, *settings(f"threshold={inside}", *FRAGMENTS), "--out", made["fragments"])
    words = ["--fragments", made["fragments"], "--score", "quantile", *settings("quantile=0.8"), "--threshold", 0.5]
    call("agglomerate", affinities, *words, "--out", made["tree"])
    return call("evaluate", made["tree"], truth, "--sweep")["cremi_score"]


class Prediction:
    """Affinities of an address with a margin, with what they took."""

    def __init__(self, trained, address: str, margin: Sequence[int], tile: tuple[int, ...] | None = None) -> None:
        raw, precision = io.read_volume(address), resolve_precision("auto", resolve_device("cpu"))
        use = vars(Settings(margin=margin, tile_shape=tile, memory=10**11, precision=precision))
        with listening() as phases:
            self.affinities = predict(trained.module, raw, trained.neighborhood, **use)
        self.surplus = phases.remarks[0]

    def score(self, truth: str, inside: float, folder: Path) -> float:
        """The best CREMI score."""
        file = folder / "affinities.h5"
        io.write(file, self.affinities, "affinities")
        return score(file, truth, inside, folder)

    def differs(self, other: "Prediction") -> float:
        """The mean difference of the affinities."""
        return float(np.abs(self.affinities.array - other.affinities.array).mean())


def borders(trained, options: argparse.Namespace, folder: Path) -> list[dict]:
    """The rows of margins beyond the ends of the volume."""
    whole = f"{options.data}[{options.test}]"
    quarters = [f"{options.data}[{options.test},{each}]" for each in QUARTERS]
    rows, reference = [], Prediction(trained, whole, BORDERS[-1])
    for margin in BORDERS:
        found = Prediction(trained, whole, margin)
        row = {"margin": list(margin), "about": found.surplus}
        row |= {"differs": found.differs(reference), "score": found.score(whole, options.inside, folder)}
        parts = [Prediction(trained, each, margin).score(each, options.inside, folder) for each in quarters]
        rows.append(row | {"quarters": statistics.mean(parts), "parts": parts})
        print(rows[-1], flush=True)
    return rows


def insides(trained, options: argparse.Namespace, folder: Path) -> list[dict]:
    """The rows of margins beside other tiles."""
    whole = f"{options.data}[{options.test}]"
    rows, reference = [], Prediction(trained, whole, BORDERS[-1])
    depth = io.read_volume(whole).shape[0]
    for margin in INSIDE:
        along = trained.module.input_shape((depth + 16, TILE, TILE))
        found = Prediction(trained, whole, (8, margin, margin), along)
        row = {"margin": [8, margin, margin], "about": found.surplus}
        rows.append(row | {"differs": found.differs(reference), "score": found.score(whole, options.inside, folder)})
        print(rows[-1], flush=True)
    return rows


def table(results: dict) -> str:
    """The Markdown of both."""
    lines = [
        f"Made by `python benchmarks/margins.py {results['data']} --run RUN --inside {results['inside']}`; sections "
        f"{results['test']}, of a network that was trained for minutes.",
        "",
        "| margin | where | tiles | differs | cremi_score | of quarters |",
        "|---|---|---|--:|--:|--:|",
    ]
    for name in ("border", "inside"):
        for row in results[f"{name}_rows"]:
            margin, parts = " x ".join(map(str, row["margin"])), row.get("quarters")
            cells = [margin, name, row["about"], f"{row['differs']:.4f}"]
            cells += [f"{row['score']:.3f}", "" if parts is None else f"{parts:.3f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, keep and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--test", default="110:150")
    parser.add_argument("--inside", type=float, default=0.75)
    options = parser.parse_args()
    keep_freed()
    trained = load_model(options.run / "model.safetensors")
    results = {"data": options.data.name, "test": options.test, "inside": options.inside}
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in (("border", borders), ("inside", insides)):
            results[f"{name}_rows"] = rows(trained, options, Path(folder))
    keep(RESULTS, results | {"machine": machine()})
    publish(PAGES / "benchmarks.md", table(results), "margins")


if __name__ == "__main__":
    main()
