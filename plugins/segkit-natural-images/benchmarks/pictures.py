"""Natural images, a network beside simple methods: make pictures TRAIN='FILE[0:18]' TEST='FILE[18:24]'.

TRAIN and TEST are pictures in the layout of BSDS500 (see segkit_natural_images/bsds.py). Runs the recipe bsds-unet2d,
scores what scikit-image does with parameters that are best on the training pictures, and rewrites the table in
docs/results/natural-images.md. What it shares with other tables is in the folder benchmarks of segkit's repository.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
from recipes import command, keep, publish, run_recipe
from report import PAGES
from segkit import Labels, io
from segkit.benchmark.measure import machine
from segkit.evaluate import evaluate_many
from segkit.registry import load
from skimage.color import rgb2gray
from skimage.filters import gaussian, sobel
from skimage.segmentation import felzenszwalb, watershed

from segkit_natural_images import convert_pictures

HERE = Path(__file__).parent
METRICS = ("voi", "probabilistic-rand", "segmentation-covering")
SCORES = ("probabilistic_rand", "segmentation_covering", "voi_split", "voi_merge")
CHOSEN_BY = "segmentation_covering"


def one_segment(picture: np.ndarray) -> np.ndarray:
    """Everything is one segment."""
    return np.ones(picture.shape[:2], int)


def squares(picture: np.ndarray, *, across: int) -> np.ndarray:
    """A grid of `across` times `across` segments."""
    y, x = (np.arange(size) * across // size for size in picture.shape[:2])
    return 1 + y[:, None] * across + x[None, :]


def gradient_watershed(picture: np.ndarray, *, sigma: float, markers: int) -> np.ndarray:
    """A watershed of the gradient of the smoothed grey levels, from markers on a grid."""
    return watershed(sobel(gaussian(rgb2gray(picture), sigma)), markers=markers)


def graph(picture: np.ndarray, *, scale: float, smallest: int) -> np.ndarray:
    """Graph-based segmentation (Felzenszwalb and Huttenlocher 2004, doi:10.1023/B:VISI.0000022288.19776.77)."""
    return 1 + felzenszwalb(picture, scale=scale, sigma=0.8, min_size=smallest)


BASELINES: dict[str, tuple[Callable, dict[str, tuple]]] = {
    "one segment": (one_segment, {}),
    "a grid of squares": (squares, {"across": (2, 3, 4, 6, 8)}),
    "watershed of the gradient": (gradient_watershed, {"sigma": (1, 2, 4), "markers": (4, 8, 16, 32, 64)}),
    "Felzenszwalb's graph": (graph, {"scale": (100, 300, 1000, 3000), "smallest": (50, 300, 1000)}),
}
"""What each is called -> the function, and the values of its parameters that are tried."""


class Pictures:
    """A converted file: its pictures and its truths."""

    def __init__(self, path: Path) -> None:
        raw = io.read_volume(path)
        self.grid, self.shape = raw.grid, raw.shape
        self.colours = [raw.array[z : z + 3].transpose(1, 2, 0) for z in range(0, raw.shape[0], 3)]
        self.truths = [io.read_labels(place) for place in io.matching(f"{path}:volumes/labels/annotator_*", "truth")]

    def scores(self, method: Callable, parameters: dict) -> dict[str, float]:
        """Those of a method, means over annotators and pictures."""
        ids = np.zeros(self.shape, np.uint64)
        for number, picture in enumerate(self.colours):
            ids[3 * number + 1] = method(picture, **parameters)
        return self.of(Labels(ids, self.grid))

    def of(self, segmentation: Labels) -> dict[str, float]:
        """Those of a segmentation."""
        return evaluate_many(segmentation, self.truths, {name: load("metrics", name) for name in METRICS}, True)


def choices(parameters: dict[str, tuple]) -> Iterator[dict]:
    """All combinations."""
    return (dict(zip(parameters, values, strict=True)) for values in product(*parameters.values()))


def baselines(train: Pictures, test: Pictures) -> list[dict]:
    """A row a method, with the parameters that cover the training pictures best."""
    rows = []
    for name, (method, parameters) in BASELINES.items():
        tried = list(choices(parameters))
        best = max(tried, key=lambda given: train.scores(method, given)[CHOSEN_BY]) if len(tried) > 1 else tried[0]
        rows.append({"title": name, "parameters": best} | test.scores(method, best))
    return rows


def table(results: dict) -> str:
    """The Markdown of all rows."""
    lines = [
        f"Made by `make pictures TRAIN='{results['train']}' TEST='{results['test']}'`:",
        f"{results['pictures']} pictures to train and to choose parameters on, others to score. Means over all",
        "annotators of a picture, then over pictures; probabilistic Rand index and covering are best at 1, VOI (bits)",
        "at 0.",
        "",
        "| | probabilistic Rand | covering | VOI split | VOI merge | VOI | chosen on the training pictures |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for row in results["rows"]:
        scores = " | ".join(f"{row[key]:.3f}" for key in SCORES)
        chosen = ", ".join(f"{name} {value:.3g}" for name, value in row["parameters"].items())
        total = row["voi_split"] + row["voi_merge"]
        lines.append(f"| {row['title']} | {scores} | {total:.3f} | {chosen} |")
    where = results["machine"]
    cost = f"{results['steps']:,} steps, {results['minutes']:.1f} minutes"
    place = f"{where['processor']}, {where['cores']} cores, {where['date'][:10]}"
    return "\n".join([*lines, "", f"The network is that of `{results['command']}`: {cost}; {place}."])


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="TABLE.NAME=VALUE")
    parser.add_argument("--out", type=Path, default=Path("runs/bsds-unet2d"))
    parser.add_argument("--results", type=Path, default=HERE / "pictures.json")
    parser.add_argument("--page", type=Path, default=PAGES / "natural-images.md")
    return parser.parse_args()


def converted(source: str, file: Path) -> Path:
    """`file` with the pictures at `source`; made anew if it holds others."""
    made_of = file.with_suffix(".source")
    if not file.exists() or not made_of.exists() or made_of.read_text() != source:
        convert_pictures(source, file, overwrite=True)
        made_of.write_text(source)
    return file


def main() -> None:
    """Convert, train, score, and rewrite the table."""
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    files = {part: converted(getattr(options, part), options.out / f"{part}.h5") for part in ("train", "test")}
    chosen = [*(f"data.{part}={file}" for part, file in files.items()), *options.assignments]
    found = run_recipe("bsds-unet2d", options.out, chosen)
    train, test = (Pictures(file) for file in files.values())
    network = {"title": "`bsds-unet2d`", "parameters": {"threshold": found["tune"]["threshold"]}}
    rows = [*baselines(train, test), network | {key: found["evaluate"][key] for key in SCORES}]
    results = {
        "verb": "pictures",
        "train": Path(options.train).name,
        "test": Path(options.test).name,
        "pictures": len(train.colours),
        "command": command("bsds-unet2d", chosen),
        "steps": found["train"]["steps"],
        "minutes": found["train"]["seconds"] / 60,
        "machine": machine(),
        "rows": rows,
    }
    keep(options.results, results)
    publish(options.page, table(results), "pictures")


if __name__ == "__main__":
    main()
