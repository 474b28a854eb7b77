"""The tables of docs/results/benchmarks.md from the measurements: python benchmarks/report.py [RESULT.json ...].

Without files, those of benchmarks/results/. What peers.py and growth.py measured, and what `segkit benchmark loss
--out` did, are tables of their own, each between two markers; all else stays as it is.
"""

import argparse
import json
from collections.abc import Mapping
from math import prod
from pathlib import Path

import floors

from segkit.benchmark.measure import middle
from segkit.errors import InvalidInput, sentence
from segkit.io.atomic import replacing

HERE = Path(__file__).parent
PAGES = HERE.parent / "docs" / "results"
"""The folder of the pages that show measurements."""
BEGIN, END = "<!-- benchmark:begin -->", "<!-- benchmark:end -->"
LOSSES_BEGIN, LOSSES_END = "<!-- losses:begin -->", "<!-- losses:end -->"
GROWTH_BEGIN, GROWTH_END = "<!-- growth:begin -->", "<!-- growth:end -->"
GROWN = 1.15
"""A stage that takes so many times as long a voxel is said to grow."""
MANY = 16
"""So many threads Amdahl's law is asked about."""
KINDS = {
    "ws": "watershed on the affinity graph",
    "xy": "distance transform, section by section",
    "3d": "distance transform, 3-D",
}


def contest_of(report: dict, what: str, title: str) -> dict:
    """The rows of a contest, segkit's first: the middle round of each entrant, and `ratio`, its seconds by segkit's."""
    runs = [run for run in report["runs"] if (run["what"], run["title"]) == (what, title)]
    rows = []
    for name in dict.fromkeys(run["name"] for run in runs):
        rounds = [run for run in runs if run["name"] == name]
        done = [run for run in rounds if "seconds" in run]
        rows.append(middle(done) if done else rounds[0])
    for row in rows[1:]:
        if "seconds" in row and "seconds" in rows[0]:
            row |= {"ratio": row["seconds"] / rows[0]["seconds"]}
    return {"what": what, "title": title, "rows": rows}


def table(report: dict) -> str:
    """The Markdown of one file of measurements."""
    inputs = report["inputs"]
    counts = [f"`{kind}` = {KINDS[kind]}, {count:,}" for kind, count in inputs["fragments"].items()]
    shape = " x ".join(map(str, inputs["shape"]))
    lines = [
        f"**{shape} voxels** (`{inputs['name']}`; fragments: {'; '.join(counts)})",
        "",
        "| | segkit (s) | (MB) | / floor | beside | (s) | (MB) | its seconds / segkit's |",
        "|---|--:|--:|--:|---|--:|--:|--:|",
    ]
    rates = report["rates"][str(report["threads"])]
    for what, title in dict.fromkeys((run["what"], run["title"]) for run in report["runs"]):
        ours, *others = contest_of(report, what, title)["rows"]
        for row in others:
            ratio = f"**{row['ratio']:.1f}**" if "ratio" in row else ""
            own = f"{_cost(ours)} | {_over_floor(ours, inputs, rates)}"
            lines.append(f"| {what}: {title} | {own} | {row['name']} | {_cost(row)} | {ratio} |")
    return "\n".join(lines)


def _over_floor(row: dict, inputs: dict, rates: Mapping[str, float]) -> str:
    work = floors.work(row["function"], row["options"], inputs)
    return f"{row['seconds'] / work.seconds(rates):,.1f}" if work and "seconds" in row else ""


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


def rates_line(report: dict) -> str:
    """What the floors were reckoned with."""
    said = [
        f"{count} thread{'s' * (count != '1')} {rates['bandwidth'] / 1e9:.1f} GB/s (triad), "
        f"{rates['float32'] / 1e9:.0f} GFLOP/s in float32, {rates['bfloat16'] / 1e9:.0f} in bfloat16"
        for count, rates in report["rates"].items()
    ]
    return f"This machine: {'; '.join(said)}."


def section(reports: list[dict]) -> str:
    """All tables, and how they came about."""
    tables = "\n\n".join(f"{table(report)}\n\n{rates_line(report)} {machine_line(report)}" for report in reports)
    return (
        "Made by `make benchmark`. The entrants of a row were timed in turn, in fresh processes, after a warm-up; the\n"
        "middle round counts. Agglomeration includes a segmentation at each of 0.1, 0.2, ... 0.9. MB is the highest\n"
        "resident memory beyond that of the inputs. segkit uses the threads that are stated, the others one.\n"
        '"/ floor": the seconds of segkit divided by those that it takes this machine to move its inputs and results\n'
        "through memory once (`benchmarks/floors.py`).\n\n" + tables
    )


def growth_section(report: dict) -> str:
    """Seconds and memory by size, and what threads and the machine leave to be gained."""
    inputs = {each["voxels"]: each for each in report["inputs"]}
    sizes = sorted(inputs)
    stages = dict.fromkeys(run["stage"] for run in report["runs"])
    by_size = [line for stage in stages if (line := _growth_line(report, stage, sizes))]
    by_threads = [line for stage in stages if (line := _threads_line(report, stage, inputs))]
    edges = [" x ".join(map(str, inputs[size]["shape"])) for size in sizes]
    short = " | ".join(edge.partition(" ")[0] + "^3" for edge in edges)
    names = ", ".join(f"`{inputs[size]['name']}`" for size in sizes)
    middle_size = edges[len(edges) // 2]
    threads = report["threads"]
    lines = [
        f"Made by `make benchmark-growth`, on {names}; each stage in fresh processes, from memory to memory,",
        f'by {threads} threads. "times": the largest by the smallest; in bold above {GROWN}, with what grows most.',
        "",
        f"| seconds a megavoxel | {short} | times | |",
        "|---|" + "--:|" * len(sizes) + "--:|---|",
        *by_size,
        "",
        "The highest resident memory beyond that of the inputs:",
        "",
        f"| MB a megavoxel | {short} |",
        "|---|" + "--:|" * len(sizes),
        *[line for stage in stages if (line := _memory_line(report, stage, sizes))],
        "",
        f"By one thread and by {threads}, {middle_size} voxels. s is the serial share of Amdahl's law that both times",
        f"come to; {MANY} threads could be at most 1 / (s + (1 - s) / {MANY}) times as fast as one. "
        '"/ floor": the seconds by',
        f"{threads} threads divided by those that it takes this machine to move inputs and results through memory",
        "once, or to do the operations of the convolutions (`benchmarks/floors.py`).",
        "",
        f"| | 1 thread (s) | {threads} threads (s) | s | at most by {MANY} | most of s | / floor | of |",
        "|---|--:|--:|--:|--:|---|--:|---|",
        *by_threads,
        "",
        f"{rates_line(report)} {machine_line(report)}",
    ]
    return "\n".join(lines)


def _runs_of(report: dict, stage: str, threads: int) -> dict[int, dict]:
    """The runs of a stage that did not fail, by voxels."""
    found = (run for run in report["runs"] if (run["stage"], run["threads"]) == (stage, threads))
    return {run["voxels"]: run for run in found if "seconds" in run}


def _growth_line(report: dict, stage: str, sizes: list[int]) -> str:
    runs = _runs_of(report, stage, report["threads"])
    if not runs:
        return ""
    costs = [f"{runs[size]['seconds'] / size * 1e6:.3g}" if size in runs else "" for size in sizes]
    small, large = runs[min(runs)], runs[max(runs)]
    times = _per_voxel(large) / _per_voxel(small)
    shown, why = (f"**{times:.2f}**", growing(small, large)) if times > GROWN else (f"{times:.2f}", "")
    return f"| {stage} | {' | '.join(costs)} | {shown} | {why} |"


def _per_voxel(run: dict) -> float:
    return run["seconds"] / run["voxels"]


def growing(small: dict, large: dict) -> str:
    """Name the phase that takes most of what `large` takes longer, a voxel, than `small`.

    >>> small = {"voxels": 1_000_000, "phases": {"a": 1.0, "b": 2.0}}
    >>> growing(small, {"voxels": 2_000_000, "phases": {"a": 4.0, "b": 5.0}})
    'a, 1 to 2 us a voxel'
    """
    costs = {name: [run["phases"].get(name, 0.0) / run["voxels"] for run in (small, large)] for name in large["phases"]}
    name = max(costs, key=lambda phase: costs[phase][1] - costs[phase][0])
    before, after = (1e6 * cost for cost in costs[name])
    return f"{name}, {before:.3g} to {after:.3g} us a voxel"


def _memory_line(report: dict, stage: str, sizes: list[int]) -> str:
    runs = _runs_of(report, stage, report["threads"])
    known = [(runs.get(size) or {}).get("peak_bytes") for size in sizes]
    costs = ["" if cost is None else f"{cost / size:.0f}" for cost, size in zip(known, sizes, strict=True)]
    return f"| {stage} | {' | '.join(costs)} |" if any(costs) else ""


def serial_share(one: float, several: float, threads: int) -> float:
    """The share s of Amdahl's law, several = one (s + (1 - s) / threads), within 0..1.

    >>> serial_share(8.0, 5.0, 2), serial_share(8.0, 3.0, 2), serial_share(8.0, 9.0, 2)
    (0.25, 0.0, 1.0)
    """
    return min(max((threads * several / one - 1) / (threads - 1), 0.0), 1.0)


def serial_part(one: dict, several: dict) -> str:
    """Name the phase with the most serial seconds, and how many of all serial seconds they are.

    >>> one, two = {"phases": {"a": 4.0, "b": 2.0}}, {"phases": {"a": 2.5, "b": 2.0}, "threads": 2}
    >>> serial_part(one, two)
    'b, 67 %'
    """
    serial = {}
    for name, seconds in one["phases"].items():
        after = several["phases"].get(name, 0.0)
        serial[name] = seconds * serial_share(seconds, after, several["threads"]) if seconds else 0.0
    name = max(serial, key=serial.get)
    return f"{name}, {serial[name] / sum(serial.values()):.0%}".replace("%", " %") if serial[name] else ""


def _threads_line(report: dict, stage: str, inputs: Mapping[int, dict]) -> str:
    threads = report["threads"]
    alone, together = (_runs_of(report, stage, count) for count in (1, threads))
    size = next((size for size in alone if size in together), None)
    if size is None or threads == 1:
        return ""
    one, several = alone[size], together[size]
    share = serial_share(one["seconds"], several["seconds"], threads)
    most = 1 / (share + (1 - share) / MANY)
    work, rates = floors.work(several["function"], several["options"], inputs[size]), report["rates"][str(threads)]
    over = f"{several['seconds'] / work.seconds(rates):,.1f} | {work.bound(rates)}" if work else " | "
    costs = f"{one['seconds']:.3g} | {several['seconds']:.3g} | {share:.2f} | {most:.1f}"
    return f"| {stage} | {costs} | {serial_part(one, several)} | {over} |"


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
    runs = [report for report in measured if {"runs", "inputs"} <= report.keys()]
    reports = sorted((r for r in runs if isinstance(r["inputs"], dict)), key=lambda r: prod(r["inputs"]["shape"]))
    grown = [report for report in runs if report not in reports]
    if not losses + runs:
        raise SystemExit(f"there are no measurements in {HERE / 'results'}; make them with benchmarks/peers.py")
    text = arguments.page.read_text()
    if reports:
        text = insert(text, section(reports))
    for report in grown:
        text = insert(text, growth_section(report), GROWTH_BEGIN, GROWTH_END)
    if losses:
        losses.sort(key=lambda report: (report["batch"], report["threads"] or 0))
        text = insert(text, losses_section(losses), LOSSES_BEGIN, LOSSES_END)
    with replacing(arguments.page) as temporary:
        temporary.write_text(text)


if __name__ == "__main__":
    main()
