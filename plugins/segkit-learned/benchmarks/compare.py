"""What `learned` gains over `python` on volumes that neither has seen: all is chosen on the volumes to learn from.

    python plugins/segkit-learned/benchmarks/compare.py --learn A.h5 TRUTH.h5[55:110] --test B.h5 TRUTH.h5[110:150]

Each --learn and --test names affinities and truth. Fragments are those of the recipe fib25-small. The thresholds of
`python` are those of the lowest variation of information, on average over the volumes to learn from.
"""

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import segkit
from segkit import io
from segkit.evaluate.sweep import sweep
from segkit.protocols import Sample

from segkit_learned.agglomerator import Learned

FRAGMENTS = {"threshold": 0.75, "statistic": "min", "seed_distance": 8, "size_threshold": 300}
OTHERS = ({"score": "quantile", "quantile": 0.8}, {"score": "quantile", "quantile": 0.7}, {"score": "mean"})
THRESHOLDS = np.arange(1, 500) / 500


def read(affinities: str, truth: str) -> Sample:
    """A volume, cut into fragments."""
    found = io.read_affinities(affinities)
    fragments = segkit.load("fragmenters", "watershed", **FRAGMENTS).fragment(found)
    return Sample(found, fragments, io.read_labels(truth))


def scores(agglomerator, sample: Sample, thresholds) -> list[dict[str, float]]:
    """Scores at thresholds, and those at the best for this volume last."""
    tree = agglomerator.agglomerate(sample.affinities, sample.fragments)
    found = sweep(tree, sample.fragments, sample.truth)
    best = int(np.argmin(found.voi_split + found.voi_merge))
    return found.at([*thresholds, found.thresholds[best]])


def row(name: str, number: int, found: list[dict[str, float]]) -> dict[str, object]:
    """A line of the table: at the threshold chosen elsewhere, and at the best one of this volume."""
    chosen, best = found
    return {
        "backend": name,
        "volume": number,
        "threshold": chosen["threshold"],
        "voi": chosen["voi_split"] + chosen["voi_merge"],
        "voi_split": chosen["voi_split"],
        "voi_merge": chosen["voi_merge"],
        "cremi_score": chosen["cremi_score"],
        "best_voi": best["voi_split"] + best["voi_merge"],
        "best_threshold": best["threshold"],
    }


def main() -> None:
    """Print a line of JSON for each backend and each volume of --test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learn", nargs=2, action="append", required=True, metavar=("AFFINITIES", "TRUTH"))
    parser.add_argument("--test", nargs=2, action="append", required=True, metavar=("AFFINITIES", "TRUTH"))
    parser.add_argument("--set", type=json.loads, default={}, help="Parameters of `learned`, as JSON.")
    options = parser.parse_args()
    learn, test = ([read(*each) for each in given] for given in (options.learn, options.test))
    rows = []
    for parameters in OTHERS:
        backend = segkit.load("agglomerators", "python", **parameters)
        known = [scores(backend, each, THRESHOLDS)[:-1] for each in learn]
        sums = np.mean([[at["voi_split"] + at["voi_merge"] for at in each] for each in known], axis=0)
        threshold = THRESHOLDS[int(np.argmin(sums))]
        name = " ".join(map(str, ("python", *parameters.values())))
        rows += [row(name, number, scores(backend, each, [threshold])) for number, each in enumerate(test)]
    began = time.perf_counter()
    fitted = Learned(**options.set).fit(learn)
    seconds = time.perf_counter() - began
    with TemporaryDirectory() as folder:
        model = Path(folder, "model.json")
        model.write_text(fitted.model, encoding="utf-8")
        backend = Learned(model=model)
        found = [scores(backend, each, [fitted.figures["threshold"]]) for each in test]
    rows += [row("learned", number, each) for number, each in enumerate(found)]
    for each in rows:
        print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in each.items()}))
    print(json.dumps({"fit_seconds": round(seconds, 1), **{k: round(v, 3) for k, v in fitted.figures.items()}}))


if __name__ == "__main__":
    main()
