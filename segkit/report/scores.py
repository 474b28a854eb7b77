"""The sections on scores: the merge tree at all thresholds, and a table of all segmentations."""

from collections.abc import Mapping
from math import isclose
from typing import TYPE_CHECKING

import numpy as np

from segkit.report.blocks import Block, Chart, Grid, Section, Table, Text
from segkit.report.charts import COLOURS, DASHES, chart, finish_voi, point
from segkit.report.facts import Facts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BITS = ("voi_split", "voi_merge")
LOWEST = (*BITS, "adapted_rand_error", "cremi_score")
NAMES = {"voi_split": "VOI split", "voi_merge": "VOI merge", "cremi_score": "CREMI score"}
NAMES |= {"adapted_rand_error": "adapted Rand error", "rand_index": "Rand index"}


def thresholds(facts: Facts) -> Section:
    """VOI split against VOI merge over all thresholds, and the scores over the threshold."""
    key, title = "thresholds", "All thresholds of the merge tree"
    if missing := lacking(facts, "fragments", "truth", tree=True):
        return Section(key, title, missing=missing)
    if facts.sources.per_section:
        return Section(key, title, missing="the recipe scores section by section, and a sweep is of the whole volume")
    points = _points(facts)
    blocks: list[Block] = [Text(_in_words(facts, points))]
    blocks.append(Grid([_curve(facts, points), _over_thresholds(facts, points)], 2))
    rows = [{"point": name, "threshold": _short(row)} | _named(row) for name, row in points.items()]
    return Section(key, title, [*blocks, Table.of(rows, "Where the tree was cut, and what could be had.")])


def table(facts: Facts) -> Section:
    """All segmentations, those beside included."""
    key, title = "scores", "Scores of all segmentations"
    if missing := lacking(facts, "truth"):
        return Section(key, title, missing=missing)
    if not facts.scores:
        return Section(key, title, missing="no segmentation was found; --segmentation names one")
    rows = [{name: row[name] for name in ("segmentation", "segments")} | _named(row) for row in facts.scores]
    how = "Bits of VOI, each the lower the better; bold is the best of a column. " + counted(facts)
    return Section(key, title, [Table.of(rows, how, lowest=[NAMES[name] for name in LOWEST])])


def counted(facts: Facts) -> str:
    """Which voxels are scored, in a sentence or two."""
    size = " x ".join(map(str, facts.scene.shape))
    where = ", ".join(f"{axis} {part.start}..{part.stop}" for axis, part in zip("zyx", facts.scene.box, strict=True))
    text = f"Scored are {'the middle ' if facts.scene.cropped else 'all '}{size} voxels"
    text += f" ({where} of {' x '.join(map(str, facts.scene.whole))})" if facts.scene.cropped else ""
    text += f" against {facts.sources.truth}"
    text += f", without those within {facts.border:g} nm of a true boundary" if facts.border else ""
    return text + (", section by section." if facts.sources.per_section else ".")


def lacking(facts: Facts, *names: str, tree: bool = False) -> str:
    """Why a section cannot be: a sentence for the first thing that it lacks."""
    options = {"truth": "no ground truth was found; --truth names it", "fragments": "no fragments were found"}
    for name in names:
        if not facts.scene.has(name):
            return facts.scene.problems.get(name, options[name])
    return "no merge tree was found; --merge-tree names one" if tree and facts.sources.merge_tree is None else ""


def _points(facts: Facts) -> dict[str, Mapping[str, float]]:
    """Points of the plane that have a name: those of the tree first, then the segmentations beside."""
    found: dict[str, Mapping[str, float]] = {"fragments": facts.sweep.fragments}
    if facts.sources.threshold is not None:
        found["chosen"] = facts.sweep.at([facts.sources.threshold])[0]
    found |= {"best threshold": facts.sweep.best(), "oracle": facts.sweep.oracle}
    beside = [row for row in facts.scores if row["segmentation"] not in ("fragments", _drawn_already(facts, found))]
    return found | {str(row["segmentation"]): {name: float(row[name]) for name in LOWEST} for row in beside}


def _drawn_already(facts: Facts, found: Mapping[str, Mapping[str, float]]) -> str | None:
    """The segmentation that is shown, if the tree cut at the chosen threshold has its scores."""
    main = next((row for row in facts.scores if row["segmentation"] == facts.main), None)
    same = main and "chosen" in found and all(isclose(main[name], found["chosen"][name], abs_tol=1e-6) for name in BITS)
    return facts.main if same else None


def _in_words(facts: Facts, points: Mapping[str, Mapping[str, float]]) -> str:
    best, oracle = points["best threshold"], points["oracle"]
    text = f"Of all thresholds {best['threshold']:g} is best, with a CREMI score of {best['cremi_score']:.3f}"
    if "chosen" in points:
        chosen = points["chosen"]
        text += f"; the tree was cut at {chosen['threshold']:g}, with {chosen['cremi_score']:.3f}"
    text += f". No agglomeration of these fragments could do better than the oracle, {oracle['cremi_score']:.3f}, "
    return text + "which merges every fragment into the object that it overlaps most."


def _curve(facts: Facts, points: Mapping[str, Mapping[str, float]]) -> Chart:
    def draw(axes: "Axes") -> None:
        found = facts.sweep
        axes.plot(found.voi_merge, found.voi_split, color="#444", linewidth=1.4, zorder=2)
        for number, (name, row) in enumerate(points.items()):
            look = point(number)
            size = 110 if name == "chosen" else 48  # so that another of equal scores does not hide it
            axes.scatter(row["voi_merge"], row["voi_split"], s=size, zorder=4, edgecolor="white", linewidth=0.7, **look)
            axes.scatter([], [], s=40, label=name, **look)
        finish_voi(axes, "All thresholds")

    told = ", ".join(f"{name} {row['voi_merge']:.2f}, {row['voi_split']:.2f}" for name, row in points.items())
    caption = "Along the line the threshold rises, from fragments (upper left) to one segment. The lower left is good."
    return chart(
        draw, f"VOI split against VOI merge over all thresholds. Merge and split of {told}", caption, (4.5, 3.6)
    )


def _over_thresholds(facts: Facts, points: Mapping[str, Mapping[str, float]]) -> Chart:
    found = facts.sweep

    def draw(axes: "Axes") -> None:
        steps = np.append(0.0, found.thresholds)
        names = ("cremi_score", "voi_split", "voi_merge")
        for number, name in enumerate(names):
            values = getattr(found, name)
            style = {"color": COLOURS[(2, 0, 1)[number]], "linestyle": DASHES[number]}
            axes.step(steps, np.append(values[0], values), where="pre", label=NAMES[name], **style)  # up to each
        for name, dashes in (("chosen", "--"), ("best threshold", "-")):
            if name in points:
                axes.axvline(points[name]["threshold"], color="#777", linewidth=1.1, linestyle=dashes)
                side = "left" if name == "chosen" and points[name]["threshold"] < 0.94 else "right"
                place, where = (points[name]["threshold"], 0.97), axes.get_xaxis_transform()
                axes.text(*place, f" {name} ", transform=where, rotation=90, va="top", ha=side, fontsize=8)
        axes.set_xlim(0, 1)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("threshold")
        axes.set_title("Scores over the threshold")
        axes.legend()

    return chart(draw, "CREMI score, VOI split and VOI merge over the threshold", "Lower is better.", (4.5, 3.6))


def _named(row: Mapping[str, object]) -> dict[str, object]:
    """The scores of a row under the names that people use."""
    return {NAMES[name]: row[name] for name in (*BITS, "adapted_rand_error", "cremi_score")}


def _short(row: Mapping[str, float]) -> str:
    return f"{row['threshold']:g}" if "threshold" in row else ""
