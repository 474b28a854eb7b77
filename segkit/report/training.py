"""The section on training: losses, learning rate, validation and health over the steps."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkit.io.json_file import read_json_if_whole
from segkit.report.blocks import Block, Chart, Grid, Section, Text
from segkit.report.charts import chart, series, sparse

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KEY, TITLE = "training", "Training"
Lines = Sequence[Mapping[str, Any]]


def section(runs: Sequence[Path]) -> Section:
    """The curves of the first of these runs."""
    lines = read_lines(runs[0]) if runs else []
    if not lines:
        where = f"{runs[0]} holds no metrics.jsonl" if runs else "no folder of a training run was found"
        return Section(KEY, TITLE, missing=where)
    best = read_json_if_whole(runs[0] / "best.json")
    charts = [_losses(lines), _validation(lines, best), _learning_rate(lines), _health(lines)]
    blocks: list[Block] = [Text(_summary(runs[0], lines, best))]
    blocks += [Text(_recovery(line), "bad") for line in lines if "health/recovery" in line]
    blocks.append(Grid([each for each in charts if each is not None], 2))
    return Section(KEY, TITLE, blocks)


def read_lines(run: Path) -> Lines:
    """The lines of metrics.jsonl; none where there is no such file, and without a last line that is cut off."""
    try:
        text = (run / "metrics.jsonl").read_text()
    except FileNotFoundError:
        return []
    lines = []
    for line in text.splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return [line for line in lines if isinstance(line, dict) and "step" in line]


def _summary(run: Path, lines: Lines, best: Mapping[str, Any]) -> str:
    losses = [line for line in lines if "loss" in line]
    text = f"The run in {run}: {lines[-1]['step']} steps"
    if losses:
        text += f", loss {losses[0]['loss']:.4g} at first and {losses[-1]['loss']:.4g} at last"
    if best:
        score, threshold = best.get("cremi_score", float("nan")), best.get("threshold", float("nan"))
        text += f". The best network, after step {best['step']}, has a CREMI score of {score:.3f} "
        text += f"on the validation volumes, at threshold {threshold:g}"
    return text + "."


def _recovery(line: Mapping[str, Any]) -> str:
    seen = line.get("health/seen", "the network had collapsed")
    at = line.get("health/collapsed_at", "?")
    return f"Training collapsed at step {at} ({seen}) and went on from step {line['step']}."


def _points(lines: Lines, name: str) -> tuple[list[float], list[float]]:
    rows = [(line["step"], line[name]) for line in lines if isinstance(line.get(name), int | float)]
    return [step for step, _ in rows], [value for _, value in rows]


def _draw(axes: "Axes", lines: Lines, names: Iterable[tuple[str, str]]) -> None:
    """A curve for each (name in the log, label)."""
    for number, (name, label) in enumerate(names):
        steps, values = _points(lines, name)
        axes.plot(steps, values, label=label, markevery=sparse(len(steps)), **series(number))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("step")


def _losses(lines: Lines) -> Chart | None:
    first = next((line for line in lines if "loss" in line), None)
    if first is None:
        return None
    known = {"step", "loss", "learning_rate", "steps_per_second"}
    parts = [name for name in first if name not in known and "/" not in name]
    names = [("loss", "loss"), *((name, name) for name in parts if len(parts) > 1)]
    if any("validation_loss" in line for line in lines):
        names.append(("validation_loss", "validation loss"))

    def draw(axes: "Axes") -> None:
        _draw(axes, lines, names)
        axes.set_title("Loss")
        values = [value for name, _ in names for value in _points(lines, name)[1]]
        axes.set_yscale("log" if values and min(values) > 0 and max(values) > 20 * min(values) else "linear")
        axes.legend()

    alt = f"Loss over steps: {', '.join(label for _, label in names)}"
    return chart(draw, alt, "Means between two lines of the log.")


def _validation(lines: Lines, best: Mapping[str, Any]) -> Chart | None:
    names = ("cremi_score", "voi_split", "voi_merge", "oracle_cremi_score")
    labels = ("CREMI score", "VOI split (bits)", "VOI merge (bits)", "CREMI score, oracle")
    known = [(f"validation/{name}", label) for name, label in zip(names, labels, strict=True)]
    known = [each for each in known if _points(lines, each[0])[0]]
    if not known:
        return None

    def draw(axes: "Axes") -> None:
        _draw(axes, lines, known)
        if "cremi_score" in best:
            axes.plot(best["step"], best["cremi_score"], "*", color="black", markersize=12, label="best network")
        axes.set_title("Scores on the validation volumes")
        axes.set_ylim(bottom=0)
        axes.legend()

    caption = "At the best threshold of each network; lower is better. Oracle: what agglomeration could reach at best."
    return chart(draw, "Validation scores over steps, the best network marked by a star", caption)


def _learning_rate(lines: Lines) -> Chart | None:
    if not _points(lines, "learning_rate")[0]:
        return None

    def draw(axes: "Axes") -> None:
        _draw(axes, lines, [("learning_rate", "learning rate")])
        axes.set_title("Learning rate")
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))

    return chart(draw, "Learning rate over steps")


def _health(lines: Lines) -> Chart | None:
    found = dict.fromkeys(
        name for line in lines for name in line if name.startswith("health/") and name.endswith("/auc")
    )
    names = [(name, f"channel {name.split('/')[1]}") for name in found]
    if not names:
        return None

    def draw(axes: "Axes") -> None:
        _draw(axes, lines, names)
        axes.axhline(0.5, color="#777", linewidth=1, linestyle=":")
        axes.text(0.5, 0.505, "guessing", transform=axes.get_yaxis_transform(), ha="center", fontsize=8, color="#555")
        axes.set_ylim(0.4, 1.02)
        axes.set_title("Joins told from splits (AUC)")
        axes.legend(loc="lower right")

    caption = "On a crop that is watched in training: how often a true join has a higher affinity than a true split."
    return chart(draw, "Area under the ROC curve of each channel over steps; 0.5 is guessing, 1 is perfect", caption)
