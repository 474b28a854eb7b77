"""When long-range affinities should repel: python benchmarks/repulsion.py [--seeds 4].

Volumes of neurites whose membranes have holes, so many a thousand voxels of boundary. In a hole the affinities of
direct neighbours are those of the inside of a neurite; a longer edge whose middle lies in one is `fooled` by it: not at
all (0), half, or as much as a short one (1). All else is `segkit.infer.oracle_affinities` with its noise. Fragments are
those of `affinity-watershed`; they are merged by what knows the short edges alone, and by what knows all.

The scores are those at the threshold that is best for the other volumes, means over the volumes and their standard
deviation. Methods of segkit-bioimage are left out where it is not installed.

Writes benchmarks/results/repulsion.json, and rewrites the table in docs/results/benchmarks.md.
"""

import argparse
import statistics
from pathlib import Path

import numpy as np
from recipes import Runs, publish
from report import PAGES
from scipy.ndimage import distance_transform_edt

from segkit import Affinities, Labels, load
from segkit.benchmark.measure import machine
from segkit.data import NEAREST, MergeTree, edge_slices
from segkit.errors import UnknownComponent
from segkit.evaluate import Sweep, mean_sweep, sweep
from segkit.infer.oracle import HIGH, oracle_affinities
from segkit.testing.phantoms import neurites

RESULTS = Path(__file__).parent / "results" / "repulsion.json"
SHAPE, COUNT, NOISE = (48, 96, 96), 24, 0.1
LENGTHS = (1, 3, 9)
RADIUS = 4.0
"""Of a hole, in voxels."""
SETTINGS = ((0, 0), (2, 0), (2, 0.5), (2, 1), (4, 0), (4, 0.5), (4, 1))
"""Holes a thousand voxels of boundary, and how much they fool long edges."""
STEPS = tuple(k / 20 for k in range(4, 18))
METHODS = {
    "mean, short edges alone": (3, "python", {}),
    "multicut, short edges alone": (3, "multicut", {"thresholds": STEPS}),
    "mean, `long_range=alike`": (9, "python", {}),
    "mean, `long_range=both`": (9, "python", {"long_range": "both"}),
    "mean, `long_range=against`": (9, "python", {"long_range": "against"}),
    "multicut, all edges": (9, "multicut", {"thresholds": STEPS}),
    "mutex watershed of fragments": (9, "mutex-watershed", {}),
}
"""Channels that are known, agglomerator, parameters."""
SCORES = ("cremi_score", "voi_split", "voi_merge")


def offsets() -> np.ndarray:
    """The neighborhood, int64 (9, 3): edges of 1, 3 and 9 voxels along each axis."""
    return np.array([[-length * (axis == each) for each in range(3)] for length in LENGTHS for axis in range(3)])


def holes(truth: Labels, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Balls on the boundaries between objects, bool (Z, Y, X): `rate` a thousand voxels of boundary, on average."""
    boundary = np.zeros(truth.shape, bool)
    for offset in NEAREST:
        source, target = edge_slices(truth.shape, offset)
        boundary[source] |= truth.array[source] != truth.array[target]
    places = np.argwhere(boundary)
    far = np.ones(truth.shape, bool)
    far[tuple(places[rng.random(len(places)) < rate / 1000].T)] = False
    return distance_transform_edt(far) <= RADIUS if not far.all() else ~far


def perforated(affinities: Affinities, inside: np.ndarray, fooled: float) -> Affinities:
    """Affinities as a network gives them that sees no membrane in the voxels `inside`, bool (Z, Y, X).

    Those of short edges with an end in it become as high as within an object; those of longer ones whose middle lies in
    it come so much nearer to that, in 0..1.
    """
    array = affinities.array.copy()
    for channel, offset in zip(array, affinities.neighborhood, strict=True):
        source, target = edge_slices(inside.shape, offset)
        short = np.abs(offset).sum() == 1
        seen = inside[source] | inside[target]
        if not short:
            half = np.zeros(inside.shape, bool)
            begin, middle = edge_slices(inside.shape, offset // 2)
            half[begin] = inside[middle]
            seen = half[source]
        lift = np.maximum(HIGH - channel[source], 0) * (1 if short else fooled)
        channel[source] += np.where(seen, lift, 0).astype(np.float32)
    return Affinities(array, affinities.neighborhood, affinities.grid)


def volume(seed: int, rate: float, fooled: float) -> tuple[Labels, Affinities]:
    """Truth and affinities."""
    truth = neurites(SHAPE, count=COUNT, seed=seed).truth
    clean = oracle_affinities(truth, offsets(), noise=NOISE, seed=seed)
    return truth, perforated(clean, holes(truth, rate, np.random.default_rng(seed)), fooled)


def merged(affinities: Affinities, fragments: Labels, method: str) -> MergeTree | None:
    """The tree of a method; None where its plugin is missing."""
    channels, backend, parameters = METHODS[method]
    known = Affinities(affinities.array[:channels], affinities.neighborhood[:channels], affinities.grid)
    try:
        return load("agglomerators", backend, **parameters).agglomerate(known, fragments)
    except UnknownComponent:
        return None


def scores(rate: float, fooled: float, seeds: int) -> dict:
    """Of each method the scores of each volume, and the fragments and what merging them could come to at best."""
    found: dict[str, list[Sweep]] = {}
    fragments = []
    for seed in range(seeds):
        truth, affinities = volume(seed, rate, fooled)
        cut = load("fragmenters", "affinity-watershed").fragment(affinities)
        fragments.append(int(cut.array.max()))
        for method in METHODS:
            tree = merged(affinities, cut, method)
            if tree is not None:
                found.setdefault(method, []).append(sweep(tree, cut, truth))
    some = next(iter(found.values()))
    rows = {method: held_out(sweeps) for method, sweeps in found.items()}
    return {"fragments": fragments, "oracle": [each.oracle["cremi_score"] for each in some], "methods": rows}


def held_out(sweeps: list[Sweep]) -> list[dict[str, float]]:
    """The scores of each volume at the threshold of the best CREMI score of all the others."""
    rows = []
    for k, own in enumerate(sweeps):
        threshold = mean_sweep(sweeps[:k] + sweeps[k + 1 :]).best()["threshold"]
        rows.append({name: own.at([threshold])[0][name] for name in ("threshold", *SCORES)})
    return rows


def table(results: dict) -> str:
    """The Markdown: a column for each setting."""
    runs = results["runs"]
    heads = [f"{run['holes']} holes" + (f", fooled {run['fooled']:g}" if run["holes"] else "") for run in runs]
    lines = [
        f"Made by `python benchmarks/repulsion.py --seeds {results['seeds']}`: CREMI score, below it VOI split / merge "
        "(bits), at the threshold that is best for the other volumes; means over volumes, ± the standard deviation.",
        "",
        f"| merged by | {' | '.join(heads)} |",
        "|---|" + "--:|" * len(runs),
    ]
    for method in METHODS:
        if all(method in run["methods"] for run in runs):
            lines.append(f"| {method} | {' | '.join(_cell(run['methods'][method]) for run in runs)} |")
    best = " | ".join(f"{statistics.mean(run['oracle']):.3f}" for run in runs)
    count = " | ".join(f"{statistics.mean(run['fragments']):.0f}" for run in runs)
    return "\n".join([*lines, f"| the best that merging can do | {best} |", f"| fragments | {count} |"])


def _cell(rows: list[dict[str, float]]) -> str:
    columns = {name: [row[name] for row in rows] for name in SCORES}
    score, split, merge = (statistics.mean(columns[name]) for name in SCORES)
    spread = statistics.stdev(columns["cremi_score"])
    return f"{score:.3f} ± {spread:.3f}<br>{split:.2f} / {merge:.2f}"


def main() -> None:
    """Measure, keep and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4, help="volumes of each setting, at least 2")
    options = parser.parse_args()
    about = {"shape": SHAPE, "count": COUNT, "noise": NOISE, "radius": RADIUS, "lengths": LENGTHS}
    runs = Runs(RESULTS, about | {"seeds": options.seeds, "machine": machine()})
    for rate, fooled in SETTINGS:
        run = runs.once(lambda rate=rate, fooled=fooled: scores(rate, fooled, options.seeds), holes=rate, fooled=fooled)
        print(rate, fooled, {method: _cell(rows) for method, rows in run["methods"].items()}, flush=True)
    publish(PAGES / "benchmarks.md", table(runs.results), "repulsion")


if __name__ == "__main__":
    main()
