"""segkit beside other packages: python benchmarks/peers.py INPUTS.h5 [--what agglomerate ...] [--out FILE.json].

INPUTS.h5 comes from make_inputs.py. Every entrant runs in a fresh process, called as its own users call it, without
segkit around it: one warm-up, then --repeat timed calls. What is measured, and how, is said in segkit.benchmark.
Prints how many times faster segkit is, and writes JSON, of which report.py makes the table in
docs/results/benchmarks.md.
"""

import argparse
import json
import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from segkit import io
from segkit.benchmark.measure import machine, middle
from segkit.benchmark.process import Limits, in_fresh_process

BIOIMAGE = find_spec("bioimage_cpp") is not None
"""bioimage-cpp takes part where it is installed."""


@dataclass(frozen=True)
class Entrant:
    """Somebody's way of doing it."""

    name: str
    function: str
    """The name of a function in entrants.py."""
    options: dict = field(default_factory=dict)
    threads: int | None = None


@dataclass(frozen=True)
class Contest:
    """One thing to do: segkit first, then the others."""

    what: str
    title: str
    entrants: tuple[Entrant, ...]
    needs: str | None = None
    """The dataset without which it is left out."""


def contests() -> list[Contest]:
    """All of them, in the order of the table."""
    return [*_agglomerations(), *_fragmentations(), *_scores(), *_threads()]


def _agglomerations() -> list[Contest]:
    mean = "OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>"
    found = []
    for kind in ("ws", "xy", "3d"):
        peers = [Entrant("waterz", "waterz_agglomerate", {"fragments": kind, "scoring": mean})]
        if kind == "ws":
            binned = {"fragments": kind, "scoring": mean, "queue": 256}
            peers.append(Entrant("waterz, queue of 256 bins", "waterz_agglomerate", binned))
        if BIOIMAGE:
            peers.append(Entrant("bioimage-cpp, at 0.5 only", "bioimage_agglomerate", {"fragments": kind}))
        ours = Entrant("segkit", "segkit_agglomerate", {"fragments": kind, "score": "mean"})
        found.append(_contest("agglomerate", f"mean, {kind}", ours, peers, f"volumes/fragments_{kind}"))
    for percent, init, from_maxima in ((50, "max", "true"), (50, "all", "false"), (85, "max", "true")):
        scoring = f"OneMinus<HistogramQuantileAffinity<RegionGraphType, {percent}, ScoreValue, 256, {from_maxima}>>"
        parameters = {"score": "quantile", "quantile": percent / 100, "histogram_init": init}
        ours = Entrant("segkit", "segkit_agglomerate", {"fragments": "ws"} | parameters)
        peers = [Entrant("waterz", "waterz_agglomerate", {"fragments": "ws", "scoring": scoring})]
        title = f"quantile {percent} of {'maxima' if init == 'max' else 'all'}, ws"
        found.append(_contest("agglomerate", title, ours, peers, "volumes/fragments_ws"))
    return found


def _fragmentations() -> list[Contest]:
    found = []
    for title, per_section in (("watershed, 3-D", False), ("watershed, section by section", True)):
        ours = Entrant("segkit", "segkit_fragment", {"method": "watershed", "per_section": per_section})
        peers = [
            Entrant(f"SciPy + {flood}", "scipy_watershed", {"flood": flood, "per_section": per_section})
            for flood in ("mahotas", "scikit-image")
        ]
        if BIOIMAGE and not per_section:
            peers.append(Entrant("bioimage-cpp, seeds by SciPy", "bioimage_watershed"))
        found.append(_contest("fragment", title, ours, peers))
    ours = Entrant("segkit", "segkit_fragment", {"method": "affinity-watershed"})
    waterz = Entrant("waterz, agglomerated to 0", "waterz_watershed")
    return [*found, _contest("fragment", "affinity-watershed", ours, [waterz])]


def _scores() -> list[Contest]:
    peers = [Entrant("scikit-image, two calls", "skimage_scores"), Entrant("waterz.evaluate", "waterz_scores")]
    three = [Entrant("segkit, three single evaluations", "segkit_evaluations", {"count": 3})]
    return [
        _contest("evaluate", "VOI and adapted Rand", Entrant("segkit", "segkit_scores"), peers),
        _contest("evaluate", "sweep over all thresholds, xy", Entrant("segkit", "segkit_sweep"), three),
    ]


def _threads() -> list[Contest]:
    def pair(function: str, **options) -> tuple[Entrant, list[Entrant]]:
        return Entrant("segkit", function, options, 2), [Entrant("segkit, one thread", function, options, 1)]

    return [
        _contest("two threads", "region graph, xy", *pair("segkit_graph", fragments="xy")),
        _contest("two threads", "region graph, ws", *pair("segkit_graph", fragments="ws"), "volumes/fragments_ws"),
        _contest("two threads", "scores", *pair("segkit_scores")),
    ]


def _contest(what: str, title: str, ours: Entrant, peers: list[Entrant], needs: str | None = None) -> Contest:
    return Contest(what, title, (ours, *peers), needs)


def run(contest: Contest, file: Path, *, repeat: int, rounds: int, threads: int | None, timeout: float | None) -> dict:
    """The rows of a contest, segkit's first; entrants take turns `rounds` times, and the middle one counts."""
    found: dict[str, list[dict]] = {entrant.name: [] for entrant in contest.entrants}
    for _ in range(rounds):
        for entrant in contest.entrants:
            asked = {"function": entrant.function, "options": entrant.options, "file": str(file), "repeat": repeat}
            limits = Limits(timeout=timeout, threads=entrant.threads or threads)
            found[entrant.name].append(in_fresh_process("entrants:measured", asked, limits))
    rows = [{"name": name} | _middle(measured) for name, measured in found.items()]
    for row in rows[1:]:
        if "seconds" in row and "seconds" in rows[0]:
            row["ratio"] = row["seconds"] / rows[0]["seconds"]
    return {"what": contest.what, "title": contest.title, "rows": rows}


def _middle(measured: list[dict]) -> dict:
    done = [row for row in measured if "seconds" in row]
    return middle(done) if done else measured[0]


def main() -> None:
    """Run the contests one after the other, and write the results after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, metavar="INPUTS.h5")
    whats = list(dict.fromkeys(contest.what for contest in contests()))
    parser.add_argument("--what", action="append", choices=whats, help="repeatable; all if not given")
    parser.add_argument("--title", action="append", help="only contests whose title contains this; repeatable")
    parser.add_argument("--repeat", type=int, default=3, help="timed calls of an entrant")
    parser.add_argument("--rounds", type=int, default=1, help="how often the entrants take turns")
    parser.add_argument("--threads", type=int, help="all cores if not given")
    parser.add_argument("--timeout", type=float, help="seconds for one entrant")
    parser.add_argument("--out", type=Path, help="JSON; benchmarks/results/NAME_OF_INPUTS.json if not given")
    arguments = parser.parse_args()
    out = arguments.out or Path(__file__).parent / "results" / f"{arguments.file.stem}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    chosen = [contest for contest in contests() if _wanted(contest, arguments)]
    report = {"inputs": _describe(arguments.file), "machine": machine(), "repeat": arguments.repeat}
    report |= {"threads": arguments.threads or _threads_of_entrants(), "contests": []}
    limits = {name: getattr(arguments, name) for name in ("repeat", "rounds", "threads", "timeout")}
    for contest in chosen:
        report["contests"].append(run(contest, arguments.file, **limits))
        _show(report["contests"][-1])
        out.write_text(json.dumps(report, indent=2) + "\n")


def _wanted(contest: Contest, arguments: argparse.Namespace) -> bool:
    if contest.needs and not io.exists(f"{arguments.file}:{contest.needs}", "fragments"):
        return False
    named = not arguments.title or any(part in contest.title for part in arguments.title)
    return named and (not arguments.what or contest.what in arguments.what)


def _threads_of_entrants() -> int:
    """How many threads an entrant has that is not told: it inherits what the environment says."""
    return int(os.environ.get("NUMBA_NUM_THREADS") or machine()["cores"])


def _describe(file: Path) -> dict:
    counts = {}
    for kind in ("ws", "xy", "3d"):
        if io.exists(f"{file}:volumes/fragments_{kind}", "fragments"):
            counts[kind] = len(io.read_labels(f"{file}:volumes/fragments_{kind}", role="fragments").ids())
    return {"name": file.stem, "shape": list(io.shape_of(file, "affinities")), "fragments": counts}


def _show(contest: dict) -> None:
    print(f"{contest['what']}: {contest['title']}")
    for row in contest["rows"]:
        if "error" in row:
            print(f"  {row['name']:32} failed: {row['error']}")
            continue
        memory = "?" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:.0f}"
        ratio = f"{row['ratio']:8.2f} times segkit's" if "ratio" in row else ""
        phases = ", ".join(f"{name} {seconds:.3f}" for name, seconds in row["phases"].items())
        times = f"{row['seconds']:9.4f} s, CPU {row['cpu_seconds']:9.4f} s"
        print(f"  {row['name']:32} {times} {memory:>6} MB {ratio}  ({phases})", flush=True)


if __name__ == "__main__":
    main()
