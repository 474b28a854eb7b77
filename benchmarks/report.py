"""The tables of docs/results/benchmarks.md from the measurements: python benchmarks/report.py [RESULT.json ...].

Without files, those of benchmarks/results/. What peers.py measured and what `segkit benchmark loss --out` did are
tables of their own, each between two markers; all else stays as it is.
"""

import argparse
import json
from pathlib import Path

from segkit.errors import InvalidInput, sentence
from segkit.io.atomic import replacing

HERE = Path(__file__).parent
PAGES = HERE.parent / "docs" / "results"
"""The folder of the pages that show measurements."""
BEGIN, END = "<!-- benchmark:begin -->", "<!-- benchmark:end -->"
LOSSES_BEGIN, LOSSES_END = "<!-- losses:begin -->", "<!-- losses:end -->"
KINDS = {
    "ws": "waterz' own watershed",
    "xy": "distance transform, section by section",
    "3d": "distance transform, 3-D",
}


def table(report: dict) -> str:
    """The Markdown of one file of measurements."""
    inputs = report["inputs"]
    counts = [f"`{kind}` = {KINDS[kind]}, {count:,}" for kind, count in inputs["fragments"].items()]
    shape = " x ".join(map(str, inputs["shape"]))
    lines = [
        f"**{shape} voxels** (`{inputs['name']}`; fragments: {'; '.join(counts)})",
        "",
        "| | segkit (s) | (MB) | beside | (s) | (MB) | its seconds / segkit's |",
        "|---|--:|--:|---|--:|--:|--:|",
    ]
    for contest in report["contests"]:
        ours, *others = contest["rows"]
        for row in others:
            lines.append(_line(f"{contest['what']}: {contest['title']}", ours, row))
    return "\n".join(lines)


def _line(title: str, ours: dict, row: dict) -> str:
    ratio = f"**{row['ratio']:.1f}**" if "ratio" in row else ""
    return f"| {title} | {_cost(ours)} | {row['name']} | {_cost(row)} | {ratio} |"


def _cost(row: dict) -> str:
    if "error" in row:
        return "failed | "
    memory = "?" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:,.0f}"
    return f"{row['seconds']:.3g} | {memory}"


def machine_line(report: dict) -> str:
    """Where and when, in one sentence."""
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    threads = report["threads"] or machine["cores"]
    load = "" if machine["load"] is None else f", load before it {machine['load']:.1f}"
    return (
        f"{machine['processor']}, {machine['cores']} cores, {threads} threads, Python {machine['python']}, "
        f"{machine['date'][:10]}{load}; {versions}."
    )


def section(reports: list[dict]) -> str:
    """All tables, and how they came about."""
    tables = "\n\n".join(f"{table(report)}\n\n{machine_line(report)}" for report in reports)
    return (
        "Made by `make benchmark`. Each row was timed in fresh processes, after a warm-up; the middle of the timed\n"
        "calls counts. Agglomeration includes a segmentation at each of 0.1, 0.2, ... 0.9. MB is the highest resident\n"
        "memory beyond that of the inputs. segkit uses the threads that are stated, the others one.\n\n" + tables
    )


def growth(reports: list[dict]) -> str:
    """How much more the largest input costs than the smallest, for each agglomeration in both; "" if there is none."""
    if len(reports) < 2:
        return ""
    small, large = reports[0], reports[-1]
    voxels = [_voxels(report) for report in (small, large)]
    lines = []
    for key, seconds in _seconds(large).items():
        before = _seconds(small).get(key)
        if before and key[0].startswith("agglomerate"):
            lines.append(f"| {key[0]} | {key[1]} | {seconds / before:.1f} |")
    head = f"From {voxels[0]:,} to {voxels[1]:,} voxels ({voxels[1] / voxels[0]:.1f} times) the seconds grow:"
    return "\n".join([f"\n\n{head}", "", "| | by | times |", "|---|---|--:|", *lines]) if lines else ""


def _voxels(report: dict) -> int:
    z, y, x = report["inputs"]["shape"]
    return z * y * x


def _seconds(report: dict) -> dict[tuple[str, str], float]:
    return {
        (f"{contest['what']}: {contest['title']}", row["name"]): row["seconds"]
        for contest in report["contests"]
        for row in contest["rows"]
        if "seconds" in row
    }


def losses_section(reports: list[dict]) -> str:
    """The table of the losses: backends beside the first one, and several threads beside one."""
    lines = [
        "Made by `make benchmark-losses`: forward and backward of a loss on cubes of a volume, to the logits, each in",
        "a fresh process, after a warm-up; the middle of the timed calls counts. MB is the highest resident memory",
        "beyond that of the inputs.",
        "",
        "| cube, batch, threads | by | (s) | (MB) | beside | (s) | (MB) | its seconds / the first's |",
        "|---|---|--:|--:|---|--:|--:|--:|",
    ]
    for report in reports:
        for size in report["sizes"]:
            ours, *others = [_named(row) for row in report["rows"] if row["size"] == size]
            where = f"{size}^3, {report['batch']}, {report['threads'] or 'all'}"
            lines += [_loss_line(where, ours, row) for row in others + _on_one_thread(report, reports, ours)]
    yardsticks = {row["size"]: row for report in reports for row in report["yardsticks"]}
    sorting = ", ".join(f"{size}^3 {row['argsort_seconds']:.3g} s" for size, row in yardsticks.items())
    return "\n".join([*lines, "", f"np.argsort of the edges in float32: {sorting}. {machine_line(reports[-1])}"])


def _named(row: dict) -> dict:
    return row | {"name": f"{row['loss']} by {row['backend']}" if row["backend"] else row["loss"]}


def _on_one_thread(report: dict, reports: list[dict], ours: dict) -> list[dict]:
    """The rows of the same, measured on one thread, beside one on several."""
    keys = ("name", "component", "parameters", "size")
    several = report["threads"] != 1
    alike = [other for other in reports if several and other["threads"] == 1 and other["batch"] == report["batch"]]
    rows = [row for other in alike for row in map(_named, other["rows"])]
    return [row | {"name": "one thread"} for row in rows if all(row[key] == ours[key] for key in keys)]


def _loss_line(where: str, ours: dict, row: dict) -> str:
    both = "seconds" in ours and "seconds" in row
    ratio = f"**{row['seconds'] / ours['seconds']:.1f}**" if both else ""
    return f"| {where} | {ours['name']} | {_cost(ours)} | {row['name']} | {_cost(row)} | {ratio} |"


def insert(text: str, content: str, begin: str = BEGIN, end: str = END) -> str:
    """`text` with `content` between the markers. Raises InvalidInput unless each stands there once, in order."""
    before, first, rest = text.partition(begin)
    inside, last, after = rest.partition(end)
    if not first or not last or any(marker in part for marker in (begin, end) for part in (before, inside, after)):
        raise InvalidInput(sentence("the page", f"must hold {begin} and then {end}, once each"))
    return f"{before}{begin}\n{content}\n{end}{after}"


def main() -> None:
    """Rewrite the sections of which there are measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="*")
    parser.add_argument("--page", type=Path, default=PAGES / "benchmarks.md")
    arguments = parser.parse_args()
    files = arguments.results or sorted((HERE / "results").glob("*.json"))
    measured = [json.loads(file.read_text()) for file in files]
    losses = [report for report in measured if report.get("verb") == "loss"]
    reports = sorted((report for report in measured if "contests" in report), key=_voxels)
    if not losses + reports:
        raise SystemExit(f"there are no measurements in {HERE / 'results'}; make them with benchmarks/peers.py")
    text = arguments.page.read_text()
    if reports:
        text = insert(text, section(reports) + growth(reports))
    if losses:
        losses.sort(key=lambda report: (report["batch"], report["threads"] or 0))
        text = insert(text, losses_section(losses), LOSSES_BEGIN, LOSSES_END)
    with replacing(arguments.page) as temporary:
        temporary.write_text(text)


if __name__ == "__main__":
    main()
