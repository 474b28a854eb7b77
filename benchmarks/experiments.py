"""The 2020 report's experiments on a volume: python benchmarks/experiments.py DATA [--minutes 5] [--only NAME ...].

Runs recipes experiments/NAME, writes benchmarks/results/experiments.json after each, and rewrites the table in
docs/results/experiments.md. Stopped and called again with the same options, it goes on where it was. Rows of
experiments that are not run now stay as they were.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

from recipes import command, keep, publish, read, run_recipe
from report import PAGES

from segkit import io
from segkit.benchmark.measure import machine
from segkit.infer.oracle import oracle_affinities

HERE = Path(__file__).parent
SCORES = ("rand_index", "voi_merge", "voi_split", "cremi_score")
PERIOD = 8
"""Voxels between the lines of the grid that is drawn into affinities."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    title: str
    stage: str = "evaluate"
    tuned_by: str | None = "tune"
    scored: str = "sections"
    report: tuple[float, ...] | None = None
    """The report's values of SCORES, on CREMI's test set."""
    differs: str = ""
    """What differs from the report; nothing where the report is not known to have a number."""


@dataclass(frozen=True)
class Experiment:
    """A recipe, and what of it is shown."""

    rows: tuple[Row, ...]
    trains: bool = True
    full: tuple[str, ...] = field(default=())
    """Settings of the network in its full size."""


SMALL_2D = "small: 12 features instead of 64 and minutes of training; smaller patches; not CREMI's volumes"
SMALL_3D = "isotropic pooling and padding instead of (1, 3, 3) and valid convolutions; small: fewer features, minutes"
WIDE = ("budget.features=64", "budget.batch_size=4", "budget.learning_rate=1e-4")
MALA = ("budget.features=12", "budget.growth=5", "budget.learning_rate=1e-4")
VOLUME = {"scored": "volume"}

EXPERIMENTS = {
    "fcn": Experiment((Row("fully convolutional network"),)),
    "unet2d": Experiment((Row("U-Net MALA, 2-D", report=(0.80, 0.50, 0.57, 0.46), differs=SMALL_2D),), full=WIDE),
    "unet2d-padded": Experiment((Row("padded U-Net", report=(0.82, 0.43, 0.51, 0.40), differs=SMALL_2D),), full=WIDE),
    "unet2d-3sections": Experiment(
        (Row("padded U-Net, 3 sections", report=(0.80, 0.45, 0.56, 0.44), differs=SMALL_2D),), full=WIDE
    ),
    "unet3d": Experiment(
        (
            Row("U-Net, 3-D", report=(0.75, 0.53, 0.77, 0.56), differs=SMALL_3D, **VOLUME),
            Row("the same", stage="evaluate-sections"),
        ),
        full=MALA,
    ),
    "unet3d-resampled": Experiment((Row("U-Net, 3-D, resampled voxels", **VOLUME),), full=MALA),
    "loss-mse": Experiment((Row("U-Net, 3-D, MSE alone", **VOLUME),), full=MALA),
    "loss-malis": Experiment((Row("U-Net, 3-D, MALIS alone", **VOLUME),), full=MALA),
    "loss-constrained-malis": Experiment((Row("U-Net, 3-D, constrained MALIS alone", **VOLUME),), full=MALA),
    "backends": Experiment(
        tuple(
            Row(f"U-Net, 3-D, agglomerated by {name}", f"evaluate-{name}", f"tune-{name}", **VOLUME)
            for name in ("python", "waterz")
        ),
        trains=False,
    ),
    "decoupled": Experiment(
        tuple(
            Row(f"true sections linked along z, {what}", f"evaluate-{name}", None, **VOLUME)
            for name, what in (("plain", "affinities without a grid"), ("grid", f"with a grid of {PERIOD} voxels"))
        ),
        trains=False,
    ),
}


def settings(name: str, options: argparse.Namespace) -> list[str]:
    """What is set in the recipe of an experiment."""
    data, experiment = options.data, EXPERIMENTS[name]
    crops = ("train", "tune", "test") if experiment.trains else ("tune", "test") if name == "backends" else ("test",)
    chosen = [f"data.file={data}", *(f"data.{crop}={data}{getattr(options, crop)}" for crop in crops)]
    if experiment.trains:
        chosen += [f"budget.minutes={options.minutes:g}", *(experiment.full if options.size == "full" else ())]
        return chosen + options.assignments
    if name == "backends":
        return [*chosen, f"data.run={options.out / 'unet3d' / 'run'}"]
    return [*chosen, *(f"data.{kind}={options.out / f'oracle_{kind}.h5'}" for kind in ("plain", "grid"))]


def make_oracles(options: argparse.Namespace) -> None:
    """Affinities of the truth of the test volume, with noise, and the same with a grid; not again of the same truth."""
    options.out.mkdir(parents=True, exist_ok=True)
    source = f"{options.data}{options.test}"
    truth = io.read_labels(source)
    for kind, period in (("plain", None), ("grid", PERIOD)):
        path = options.out / f"oracle_{kind}.h5"
        if not path.exists() or io.read_notes(path, "affinities") != {"truth": source}:
            io.write(path, oracle_affinities(truth, grid=period), "affinities", notes={"truth": source})


def outcome(name: str, options: argparse.Namespace) -> list[dict]:
    """Run an experiment; its rows."""
    chosen, experiment = settings(name, options), EXPERIMENTS[name]
    shown = command(f"experiments/{name}", [word.replace(str(options.data), "DATA") for word in chosen])
    base = {"experiment": name, "size": options.size, "command": shown, "data": Path(options.data).name}
    try:
        if name == "decoupled":
            make_oracles(options)
        results = run_recipe(f"experiments/{name}", options.out / name, chosen)
    except RuntimeError as error:
        return [base | {"title": row.title, "error": str(error)} for row in experiment.rows]
    train = results.get("train", {})
    cost = {"steps": train["steps"], "minutes": train["seconds"] / 60} if train else {}
    rows = []
    for row in experiment.rows:
        scores = {key: results[row.stage][key] for key in SCORES}
        tuned = {"threshold": results[row.tuned_by]["threshold"]} if row.tuned_by else {"threshold": 0.5}
        known = {"report": row.report, "differs": row.differs} if row.report else {}
        rows.append(base | {"title": row.title, "scored": row.scored} | scores | tuned | cost | known)
    return rows


def table(results: dict) -> str:
    """The Markdown of all rows."""
    lines = [
        "Made by `make experiments DATA=FILE MINUTES=M`: small networks on a CPU unless a size is stated. The",
        "threshold of each row was chosen on the training side (0.5 where nothing is trained); `sections`: every",
        "section scored on its own. The report's numbers are those of CREMI's test set, with full networks on GPUs.",
        "",
        "| | scored | Rand index | VOI merge | VOI split | CREMI score | the report's | steps | minutes |",
        "|---|---|--:|--:|--:|--:|---|--:|--:|",
    ]
    lines += [_line(row) for row in results["rows"]]
    lines += ["", '<details markdown="1">', "<summary>Commands, and what differs from the report</summary>", ""]
    seen = {row["experiment"]: row for row in reversed(results["rows"])}
    for row in reversed(seen.values()):
        differs = f" ({row['differs']})" if row.get("differs") else ""
        lines.append(f"- `{row['command']}`{differs}")
    where = results["machine"]
    data = ", ".join(dict.fromkeys(row["data"] for row in results["rows"]))
    lines += ["", "</details>"]
    return "\n".join([*lines, "", f"{data}; {where['processor']}, {where['cores']} cores, {where['date'][:10]}."])


def _line(row: dict) -> str:
    title = row["title"] + ("" if row["size"] == "small" else f" ({row['size']})")
    if "error" in row:
        return f"| {title} | failed: {row['error']} | | | | | | | |"
    scores = " | ".join(f"{row[key]:.3f}" for key in SCORES)
    report = " / ".join(f"{value:.2f}" for value in row.get("report", ()))
    cost = f"{row['steps']:,} | {row['minutes']:.1f}" if "steps" in row else "| "
    return f"| {title} | {row['scored']} | {scores} | {report} | {cost} |"


def merged(old: list[dict], new: list[dict], name: str) -> list[dict]:
    """The rows with those of experiment `name` replaced, in the order of EXPERIMENTS."""
    rows = [row for row in old if row["experiment"] != name] + new
    return sorted(rows, key=lambda row: list(EXPERIMENTS).index(row["experiment"]))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="A file with volumes/raw and volumes/labels/neuron_ids.")
    parser.add_argument("--minutes", type=float, default=30.0, help="Training of each network.")
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS), metavar="NAME")
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--train", default="[0:110]", help="Crop to train on, voxels.")
    parser.add_argument("--tune", default="[70:110]", help="Crop on which thresholds are chosen.")
    parser.add_argument("--test", default="[110:150]", help="Crop that is scored.")
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="TABLE.NAME=VALUE")
    parser.add_argument("--out", type=Path, default=Path("runs/experiments"))
    parser.add_argument("--results", type=Path, default=HERE / "results" / "experiments.json")
    parser.add_argument("--page", type=Path, default=PAGES / "experiments.md")
    return parser.parse_args()


def main() -> None:
    """Run what is asked for, and rewrite the table after each experiment."""
    options = parse()
    for name in [name for name in EXPERIMENTS if name in options.only]:
        rows = outcome(name, options)
        results = read(options.results)
        results = {"verb": "experiments", "machine": machine(), "rows": merged(results.get("rows", []), rows, name)}
        keep(options.results, results)
        publish(options.page, table(results), "experiments")


if __name__ == "__main__":
    main()
