"""The page about a benchmark: the table, time and memory as bars, scores over the threshold."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkit.report.blocks import Block, Chart, Code, Grid, Number, Page, Section, Table, Text
from segkit.report.charts import COLOURS, chart, finish_voi, point, series
from segkit.report.page import write_page
from segkit.report.scores import LOWEST, NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HATCHES = ("", "///", "...", "\\\\\\", "xxx", "++")
Rows = Sequence[Mapping[str, Any]]


def write_benchmark_report(report: Mapping[str, Any], out: str | Path) -> Path:
    """Write the page about what :func:`segkit.benchmark.benchmark` returns."""
    done = [row for row in report["rows"] if "error" not in row]
    sections = [Section("table", "Table", _table(report, done))]
    if done:
        sections.append(Section("cost", "Time and memory", [_cost(done)]))
    curves = [row for row in done if row.get("thresholds") and "cremi_score" in row["thresholds"][0]]
    if curves:
        sections.append(Section("scores", "Scores over the threshold", [_curves(curves)]))
    elif any(name in row for row in done for name in LOWEST):
        sections.append(Section("scores", "Scores", _scores(done)))
    elif report["verb"] != "evaluate":
        sections.append(Section("scores", "Scores", missing="without --truth there are none"))
    sections.append(Section("made", "Where it was measured", [_machine(report)]))
    shape = " x ".join(map(str, report["shape"]))
    calls = "one timed call" if report["repeat"] == 1 else f"{report['repeat']} timed calls"
    subtitle = f"{shape} voxels, {calls} of each component, in a process of its own"
    page = Page(f"Benchmark of segkit {report['verb']}", subtitle, [Text(_in_words(done))] if done else [], sections)
    write_page(page, Path(out))
    return Path(out)


def _in_words(done: Rows) -> str:
    fastest = min(done, key=lambda row: row["seconds"])
    text = f"The fastest is {fastest['backend']}, with {fastest['seconds']:.3g} s"
    best = [row for row in done if row.get("best")]
    if best:
        row = min(best, key=lambda row: row["best"]["cremi_score"])
        text += f"; the best CREMI score is {row['best']['cremi_score']:.3f}, by {row['backend']} at threshold "
        text += f"{row['best']['threshold']:g}"
    return text + "."


def _table(report: Mapping[str, Any], done: Rows) -> list[Block]:
    rows = [_cells(row, done[0]) for row in done]
    blocks: list[Block] = (
        [Table.of(rows, _how(done), lowest=("seconds", "peak MB", "best CREMI score"))] if rows else []
    )
    failed = [row for row in report["rows"] if "error" in row]
    return blocks + [Text(f"{row['backend']} failed: {row['error']}", "bad") for row in failed]


def _how(done: Rows) -> str:
    text = (
        "Seconds are the wall time of the call in the middle, cpu those of all threads; compile is what the first call "
    )
    text += "took longer. Ratio and identical are to the first row."
    return text if any(row["peak_bytes"] for row in done) else text + " This system does not tell the memory."


def _cells(row: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, object]:
    cells: dict[str, object] = {"backend": row["backend"], "seconds": row["seconds"]}
    cells |= {
        "ratio": Number(row["seconds"] / first["seconds"], 2),
        "cpu": row["cpu_seconds"],
        "compile": row["compile_seconds"],
    }
    cells["peak MB"] = round(row["peak_bytes"] / 1e6) if row["peak_bytes"] is not None else "?"
    cells |= {name: row[name] for name in ("merges", "fragments") if name in row}
    if row is not first and "identical_to" in row:
        (same,) = row["identical_to"].values()
        cells["identical"] = {True: "yes", False: "no"}.get(same, "nothing in common")
    if best := row.get("best"):
        cells |= {"best CREMI score": best["cremi_score"], "at": f"{best['threshold']:g}"}
    return cells


def _cost(done: Rows) -> Grid:
    charts = [_bars(done, {row["backend"]: row["seconds"] for row in done}, "Time", "seconds")]
    memory = {row["backend"]: row["peak_bytes"] / 1e6 for row in done if row["peak_bytes"] is not None}
    if memory:
        charts.append(_bars(done, memory, "Memory", "MB at most, beyond the inputs"))
    return Grid(charts, 2)


def _bars(done: Rows, values: Mapping[str, float], title: str, unit: str) -> Chart:
    """A bar for each backend, in its colour and with its hatch."""
    places = {row["backend"]: number for number, row in enumerate(done)}

    def draw(axes: "Axes") -> None:
        for name, value in values.items():
            k = places[name]
            look = {"color": COLOURS[k % len(COLOURS)], "hatch": HATCHES[k % len(HATCHES)], "edgecolor": "white"}
            axes.barh(name, value, height=0.6, **look)
            axes.annotate(f"{value:.3g}", (value, name), (4, 0), textcoords="offset points", va="center", fontsize=8)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.15)
        axes.locator_params(axis="x", nbins=5)
        axes.set_title(title)
        axes.set_xlabel(unit)

    told = ", ".join(f"{name} {value:.3g}" for name, value in values.items())
    return chart(draw, f"{title} in {unit}: {told}", size=(4.5, 0.9 + 0.42 * max(2, len(values))))


def _scores(done: Rows) -> list[Block]:
    """A table, and VOI split against VOI merge, a point a backend."""
    rows = [
        {"backend": row["backend"]} | {NAMES[name]: row[name] for name in LOWEST if name in row}
        for row in done
        if any(name in row for name in LOWEST)
    ]
    table = Table.of(rows, "The lower the better.", lowest=[NAMES[name] for name in LOWEST])
    points = [row for row in done if "voi_merge" in row and "fragments" in row]
    return [table, _plane_of(points)] if points else [table]


def _plane_of(points: Rows) -> Grid:
    def draw(axes: "Axes") -> None:
        for number, row in enumerate(points):
            axes.scatter(row["voi_merge"], row["voi_split"], s=50, label=row["backend"], **point(number))
        axes.margins(0.12)
        finish_voi(axes, "VOI split against VOI merge")

    told = ", ".join(f"{row['backend']} {row['voi_merge']:.2f}, {row['voi_split']:.2f}" for row in points)
    return Grid(
        [chart(draw, f"VOI merge and split of the fragments: {told}", "The lower left is good.", (4.5, 3.4))], 2
    )


def _curves(rows: Rows) -> Grid:
    def over_threshold(axes: "Axes") -> None:
        for number, row in enumerate(rows):
            found = [(each["threshold"], each["cremi_score"]) for each in row["thresholds"]]
            axes.plot(*zip(*found, strict=True), label=row["backend"], **series(number))
            axes.plot(row["best"]["threshold"], row["best"]["cremi_score"], "*", color="black", markersize=10, zorder=5)
        axes.plot([], [], "*", color="black", label="best of all thresholds")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("threshold")
        axes.set_ylabel("CREMI score")
        axes.set_title("CREMI score over the threshold")
        axes.legend()

    def plane(axes: "Axes") -> None:
        for number, row in enumerate(rows):
            found = [(each["voi_merge"], each["voi_split"]) for each in row["thresholds"]]
            axes.plot(*zip(*found, strict=True), label=row["backend"], **series(number))
        finish_voi(axes, "VOI split against VOI merge")

    names = ", ".join(row["backend"] for row in rows)
    charts = [
        chart(over_threshold, f"CREMI score over the threshold: {names}", "Lower is better.", (4.5, 3.4)),
        chart(plane, f"VOI split against VOI merge: {names}", "The lower left is good.", (4.5, 3.4)),
    ]
    return Grid(charts, 2)


def _machine(report: Mapping[str, Any]) -> Table:
    found = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    rows: list[tuple[str, object]] = [(role, Code(text)) for role, text in report["inputs"].items()]
    rows += [(name, str(found[name])) for name in ("processor", "cores", "system", "python", "date")]
    rows += [("threads", str(report["threads"] or "all cores")), ("versions", versions)]
    return Table(["", "what"], rows)
