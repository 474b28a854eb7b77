"""The section on the health of the affinities: the verdict in words first, then the figures that it rests on."""

from typing import TYPE_CHECKING

import numpy as np

from segkit.data import Affinities, Labels, edge_slices
from segkit.health import HealthFigures
from segkit.health.channels import channel_name
from segkit.health.findings import CONTRADICTION, GRID_SHARE, GUESSING
from segkit.report.blocks import Block, Chart, Grid, Section, Table, Text
from segkit.report.charts import COLOURS, chart
from segkit.report.facts import Facts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KEY, TITLE = "health", "Health of the affinities"
SHOWN = 3
"""Channels whose distribution is drawn."""


def sentences(facts: Facts) -> list[Text]:
    """What is wrong with the affinities, or that nothing is."""
    _, findings = facts.health
    if not findings:
        return [Text("Healthy: the affinities show none of the known faults.", "good")]
    return [Text(f"{finding.kind}: {finding.sentence}".removesuffix("?") + ".", "bad") for finding in findings]


def section(facts: Facts) -> Section:
    """The verdict, plots and a table."""
    if not facts.scene.has("affinities"):
        why = facts.scene.problems.get("affinities", "no affinities were found; --affinities names them")
        return Section(KEY, TITLE, missing=why)
    report, _ = facts.health
    affinities, part = facts.scene.affinities()
    shape = " x ".join(map(str, affinities.shape))
    blocks: list[Block] = [*sentences(facts)]
    whole = affinities.shape == facts.scene.whole
    blocks.append(Text(f"Figures of {'all' if whole else 'the middle'} {shape} voxels.", "small"))
    truth = facts.scene.labels("truth") if facts.scene.has("truth") else None
    inside = Labels(truth.array[part], affinities.grid) if truth else None
    blocks.append(Grid(_distributions(affinities, inside), min(SHOWN, len(affinities.neighborhood))))
    charts = [_aucs(report), _contradictions(report), _peaks(report)]
    blocks.append(Grid([each for each in charts if each is not None], 3))
    blocks.append(_channels(report))
    return Section(KEY, TITLE, blocks)


def _distributions(affinities: Affinities, truth: Labels | None) -> list[Chart]:
    """Histograms of the first channels, of true joins and true splits apart where the truth is known."""
    charts = []
    for values, offset in list(zip(affinities.array, affinities.neighborhood, strict=True))[:SHOWN]:
        source, target = edge_slices(affinities.shape, offset)
        name, values = channel_name(offset), values[source]
        if not values.size:
            continue
        groups = {"all edges": values}
        if truth is not None:
            here, there = truth.array[source], truth.array[target]
            known = truth.inside[source] & truth.inside[target]
            joins = known & (here == there) & (here != 0)
            groups = {"true joins": values[joins], "true splits": values[known & ~joins]}
        charts.append(_distribution(name, groups))
    return charts


def _distribution(name: str, groups: dict[str, np.ndarray]) -> Chart:
    def draw(axes: "Axes") -> None:
        for number, (label, values) in enumerate(groups.items()):
            counts, edges = np.histogram(values, bins=40, range=(0, 1))
            shares = counts / max(values.size, 1)
            axes.stairs(shares, edges, fill=True, alpha=0.25, color=COLOURS[number])
            axes.stairs(shares, edges, color=COLOURS[number], linestyle=("-", "--")[number], label=label, linewidth=1.5)
        axes.set_title(f"Channel {name}")
        axes.set_xlabel("affinity")
        axes.set_ylabel("share of edges")
        axes.set_xlim(0, 1)
        axes.legend()

    alt = f"Histogram of the affinities of channel {name}: {' and '.join(groups)}"
    return chart(draw, alt, size=(3.1, 2.5))


def _aucs(report: HealthFigures) -> Chart | None:
    known = [(channel.name, channel.auc) for channel in report.channels if channel.auc is not None]
    if not known:
        return None

    def draw(axes: "Axes") -> None:
        names, values = zip(*known, strict=True)
        axes.scatter(values, names, s=45, color=COLOURS[0], zorder=3)
        axes.axvline(0.5, color="#777", linestyle=":", linewidth=1)
        axes.axvline(GUESSING, color=COLOURS[1], linestyle="--", linewidth=1.2, label=f"guessing below {GUESSING}")
        _names(axes, len(names))
        axes.set_xlim(min(0.45, *values, *values) - 0.02, 1.01)
        axes.set_title("Joins told from splits")
        axes.set_xlabel("area under the ROC curve")
        axes.legend(loc="upper left")

    alt = "Area under the ROC curve: " + ", ".join(f"{name} {value:.3f}" for name, value in known)
    return chart(draw, alt, "1 is perfect, 0.5 is chance.", size=(3.1, 2.3))


def _contradictions(report: HealthFigures) -> Chart | None:
    pairs = [pair for pair in report.agreements if pair.chance is not None][: 2 * SHOWN]
    if not pairs:
        return None
    names = [f"{pair.first}-{pair.second}" for pair in pairs]

    def draw(axes: "Axes") -> None:
        limits = [CONTRADICTION * (pair.chance or 0) for pair in pairs]
        axes.scatter([pair.contradictions for pair in pairs], names, s=45, color=COLOURS[0], label="here", zorder=3)
        axes.scatter(limits, names, s=90, marker="|", color=COLOURS[1], label="too many", zorder=3)
        axes.scatter([pair.chance for pair in pairs], names, s=40, marker="x", color="#777", label="unrelated channels")
        _names(axes, len(names), room=2.4)
        axes.set_xlim(left=0)
        axes.set_title("Contradictions of two channels")
        axes.set_xlabel("share of squares with a cut edge")
        axes.legend(loc="upper right")

    told = ", ".join(f"{name} {pair.contradictions:.2f}" for name, pair in zip(names, pairs, strict=True))
    return chart(draw, f"Contradictions of pairs of channels: {told}", "Fewer are better.", size=(3.1, 2.3))


def _peaks(report: HealthFigures) -> Chart | None:
    peaks = [*report.at_stride, *report.peaks][: 3 * SHOWN]
    if not peaks:
        return None
    names = [f"{peak.channel} along {peak.axis}, {peak.period:.3g} voxels" for peak in peaks]

    def draw(axes: "Axes") -> None:
        axes.barh(names, [100 * peak.share for peak in peaks], color=COLOURS[0], height=0.6)
        axes.axvline(100 * GRID_SHARE, color=COLOURS[1], linestyle="--", linewidth=1.2, label="seen as a grid")
        axes.invert_yaxis()
        axes.tick_params(axis="y", labelsize=7)
        axes.set_title("Strongest periods")
        axes.set_xlabel("% of the variance")
        axes.legend(loc="lower right")

    caption = "A grid must also stand out from its neighbors in the spectrum (prominence)."
    return chart(
        draw, "Share of the variance that the strongest period of each channel holds", caption, size=(3.1, 2.3)
    )


def _names(axes: "Axes", number: int, room: float = 1.1) -> None:
    """Put the first of a few names above, with room for a legend above that."""
    axes.set_ylim(number - 0.5, -room)


def _channels(report: HealthFigures) -> Table:
    rows: list[dict[str, object]] = []
    for each in report.channels:
        row: dict[str, object] = {"channel": each.name, "mean": each.mean, "deviation": each.variance**0.5}
        row |= {"lowest": each.lowest, "highest": each.highest, "saturated at 0": each.at_zero}
        row |= {"saturated at 1": each.at_one} | ({"AUC": each.auc} if each.auc is not None else {})
        rows.append(row)
    caption = "Spread of each channel; saturated is the share of values within 1/255 of 0 or 1."
    if report.objects is not None:
        found, shape = report.objects, " x ".join(map(str, report.objects.shape))
        caption += f" A watershed of the middle {shape} voxels makes {found.fragments} fragments, "
        caption += f"the largest of which fills {100 * found.largest:.1f} % of them."
    return Table.of(rows, caption)
