"""The table in README.md from the measurements: python benchmarks/report.py [RESULT.json ...] [--readme README.md].

Without files, all of benchmarks/results/. The table stands between two markers; all else stays as it is.
"""

import argparse
import json
from pathlib import Path

from segkit.errors import InvalidInput, sentence
from segkit.io.atomic import replacing

HERE = Path(__file__).parent
BEGIN, END = "<!-- benchmark:begin -->", "<!-- benchmark:end -->"
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


def insert(text: str, content: str) -> str:
    """`text` with `content` between the markers. Raises InvalidInput unless each stands there once, in order."""
    before, begin, rest = text.partition(BEGIN)
    inside, end, after = rest.partition(END)
    if not begin or not end or any(marker in part for marker in (BEGIN, END) for part in (before, inside, after)):
        raise InvalidInput(sentence("the README", f"must hold {BEGIN} and then {END}, once each"))
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


def main() -> None:
    """Rewrite the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="*")
    parser.add_argument("--readme", type=Path, default=HERE.parent / "README.md")
    arguments = parser.parse_args()
    files = arguments.results or sorted((HERE / "results").glob("*.json"))
    reports = sorted((json.loads(file.read_text()) for file in files), key=_voxels)
    if not reports:
        raise SystemExit(f"there are no measurements in {HERE / 'results'}; make them with benchmarks/peers.py")
    text = insert(arguments.readme.read_text(), section(reports) + growth(reports))
    with replacing(arguments.readme) as temporary:
        temporary.write_text(text)


if __name__ == "__main__":
    main()
