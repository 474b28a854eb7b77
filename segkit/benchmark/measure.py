"""The clock: a call to warm up, then timed calls, of which the middle one counts; and where it was measured."""

import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from segkit import __version__
from segkit.memory import forget_peak, peak, resident
from segkit.system import cores
from segkit.timing import listening

LIBRARIES = ("numpy", "numba", "torch", "scipy", "scikit-image", "waterz", "mahotas", "higra")

Steps = Mapping[str, Callable[[Any], object]]
Row = dict[str, Any]


def measure(
    call: Callable[..., Any],
    repeat: int = 3,
    *,
    then: Steps | None = None,
    prepare: Callable[[], tuple] = tuple,
    warm_up: bool = True,
) -> tuple[Row, Any]:
    """Measure what `call` costs, by the names of the JSON; returns that and its last result.

    `then` holds steps by the name of their phase, each called with the result and timed too. `prepare` makes the
    arguments of each call, outside the time. Without `warm_up` the first call counts, of what was compiled before. What
    each number means is said in :mod:`segkit.benchmark`.
    """
    steps = then or {}
    before = resident()
    first, result = _once(call, steps, prepare) if warm_up else ({"seconds": 0.0}, None)
    forget_peak()
    runs = []
    for _ in range(repeat):
        del result  # so that no two results are held at once
        run, result = _once(call, steps, prepare)
        runs.append(run)
    highest = peak()
    usual = statistics.median(run["seconds"] for run in runs)
    memory = None if before is None or highest is None else max(highest - before, 0)
    costs = {"compile_seconds": max(first["seconds"] - usual, 0.0), "peak_bytes": memory}
    return middle(runs) | costs | {"all_seconds": [run["seconds"] for run in runs]}, result


def middle(runs: Sequence[Row]) -> Row:
    """Find the run that took the seconds in the middle; of two, the faster one.

    >>> middle([{"seconds": 3.0}, {"seconds": 1.0}, {"seconds": 9.0}, {"seconds": 2.0}])
    {'seconds': 2.0}
    """
    return sorted(runs, key=lambda run: run["seconds"])[(len(runs) - 1) // 2]


def time_in_turn(
    calls: Mapping[str, Callable[[], object]], repeat: int, *, wait: Callable[[], object] = lambda: None
) -> dict[str, list[float]]:
    """Time several calls in turn, `repeat` times each after one call of each to warm up; returns the seconds of each.

    In turn, so that a machine that slows down slows all of them. `wait` waits for a device to be done, before and after
    each call.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(repeat + 1):
        for name, call in calls.items():
            wait()
            begin = time.perf_counter()
            call()
            wait()
            if number:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def machine() -> dict[str, object]:
    """Name processor, cores, system, versions, the load beforehand and the date, for the record."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "processor": _processor(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {"segkit": __version__} | {name: found for name in LIBRARIES if (found := _version(name))},
        "load": load,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _once(call: Callable[..., Any], steps: Steps, prepare: Callable[[], tuple]) -> tuple[Row, Any]:
    arguments = prepare()
    cpu, started = time.process_time(), time.perf_counter()
    with listening() as phases:
        result = call(*arguments)
    for name, step in steps.items():
        begun = time.perf_counter()
        step(result)
        phases[name] = phases.get(name, 0.0) + time.perf_counter() - begun
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    phases["other"] = max(seconds - sum(phases.values()), 0.0)
    return {"seconds": seconds, "cpu_seconds": cpu, "phases": phases}, result


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
