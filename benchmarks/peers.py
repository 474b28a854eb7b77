"""segkit beside other packages: python benchmarks/peers.py INPUTS.zarr [--what agglomerate ...] [--out FILE.json].

INPUTS.zarr comes from make_inputs.py. Every entrant runs in a fresh process, called as its own users call it, without
segkit around it: one warm-up, then --repeat timed calls; the entrants of a contest take turns, --rounds times. What is
measured, and how, is said in segkit.benchmark. Prints how many times faster segkit is, and writes JSON after each
entrant, of which report.py makes the table in docs/results/benchmarks.md. Stopped, it goes on by the same command;
what was measured is not measured again unless --again says so.
"""

import argparse
import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from recipes import Runs, keep
from report import KINDS, contest_of

from segkit import io
from segkit.benchmark.measure import machine
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


@dataclass(frozen=True)
class Contest:
    """One thing to do: segkit first, then the others."""

    what: str
    title: str
    entrants: tuple[Entrant, ...]


def contests() -> list[Contest]:
    """All of them, in the order of the table."""
    return [*_agglomerations(), *_fragmentations(), *_scores()]


def _agglomerations() -> list[Contest]:
    mean = "OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>"
    found = []
    for kind in ("ws", "xy", "3d"):
        peers = [_waterz(kind, mean)]
        if kind == "ws":
            peers.append(_waterz(kind, mean, queue=256))
        if BIOIMAGE:
            peers.append(Entrant("bioimage-cpp, at 0.5 only", "bioimage_agglomerate", {"fragments": kind}))
        ours = Entrant("segkit", "segkit_agglomerate", {"fragments": kind, "score": "mean"})
        found.append(_contest("agglomerate", f"mean, {kind}", ours, peers))
    for percent, init, kind in ((50, "max", "ws"), (50, "all", "ws"), (85, "max", "ws"), (50, "max", "xy")):
        from_maxima = str(init == "max").lower()
        scoring = f"OneMinus<HistogramQuantileAffinity<RegionGraphType, {percent}, ScoreValue, 256, {from_maxima}>>"
        parameters = {"score": "quantile", "quantile": percent / 100, "histogram_init": init}
        ours = Entrant("segkit", "segkit_agglomerate", {"fragments": kind} | parameters)
        title = f"quantile {percent} of {'maxima' if init == 'max' else 'all'}, {kind}"
        found.append(_contest("agglomerate", title, ours, [_waterz(kind, scoring)]))
    return found


def _waterz(kind: str, scoring: str, queue: int = 0) -> Entrant:
    name = f"waterz, queue of {queue} bins" if queue else "waterz"
    return Entrant(name, "waterz_agglomerate", {"fragments": kind, "scoring": scoring, "queue": queue})


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


def _contest(what: str, title: str, ours: Entrant, peers: list[Entrant]) -> Contest:
    return Contest(what, title, (ours, *peers))


def run(contest: Contest, file: Path, runs: Runs, options: argparse.Namespace) -> None:
    """Measure what is not measured yet of a contest: the entrants take turns."""
    limits = Limits(timeout=options.timeout, threads=options.threads)
    for number in range(options.rounds):
        for entrant in contest.entrants:
            called = {"function": entrant.function, "options": entrant.options}
            named = {"what": contest.what, "title": contest.title, "name": entrant.name, "round": number, **called}
            asked = {**called, "file": str(file), "repeat": options.repeat}
            runs.once(lambda asked=asked: in_fresh_process("entrants:measured", asked, limits), **named)


def main() -> None:
    """Run the contests one after the other; what is finished is kept at once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, metavar="INPUTS.zarr")
    whats = list(dict.fromkeys(contest.what for contest in contests()))
    parser.add_argument("--what", action="append", choices=whats, help="repeatable; all if not given")
    parser.add_argument("--title", action="append", help="only contests whose title contains this; repeatable")
    parser.add_argument("--repeat", type=int, default=1, help="timed calls of an entrant in a round")
    parser.add_argument("--rounds", type=int, default=3, help="how often the entrants take turns")
    parser.add_argument("--threads", type=int, help="all cores if not given")
    parser.add_argument("--timeout", type=float, help="seconds for one entrant")
    parser.add_argument("--out", type=Path, help="JSON; benchmarks/results/NAME_OF_INPUTS.json if not given")
    parser.add_argument("--again", action="store_true", help="measure what is measured already, too")
    options = parser.parse_args()
    out = options.out or Path(__file__).parent / "results" / f"{options.file.stem}.json"
    about = {"inputs": describe(options.file), "machine": machine(), "repeat": options.repeat}
    runs = Runs(out, about | {"threads": options.threads or threads_of_entrants()}, again=options.again)
    measure_rates(runs, runs.results["threads"])
    for contest in contests():
        if _wanted(contest, options):
            run(contest, options.file, runs, options)
            _show(contest_of(runs.results, contest.what, contest.title))


def _wanted(contest: Contest, options: argparse.Namespace) -> bool:
    named = not options.title or any(part in contest.title for part in options.title)
    return named and (not options.what or contest.what in options.what)


def threads_of_entrants() -> int:
    """How many threads an entrant has that is not told: it inherits what the environment says."""
    return int(os.environ.get("NUMBA_NUM_THREADS") or machine()["cores"])


def describe(file: Path) -> dict:
    """What inputs hold, as floors.py asks for it."""
    found = {kind: io.read_labels(f"{file}:volumes/fragments_{kind}", role="fragments") for kind in KINDS}
    stored = sum(each.stat().st_size for each in (file / "volumes" / "affinities").rglob("*") if each.is_file())
    counts = {kind: int(labels.array.max()) for kind, labels in found.items()}  # numbered from 1 without gaps
    return {"name": file.stem, "shape": list(io.shape_of(file, "affinities")), "fragments": counts, "stored": stored}


def measure_rates(runs: Runs, *threads: int) -> None:
    """Measure the rates of the machine by so many threads, for the floors, unless they are known."""
    known = runs.results.setdefault("rates", {})
    for count in threads:
        if str(count) not in known:
            known[str(count)] = in_fresh_process("floors:rates", {"threads": count}, Limits(threads=count))
            keep(runs.path, runs.results)


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
