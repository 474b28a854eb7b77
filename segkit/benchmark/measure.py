"""The clock: one warm-up, then timed calls. What is measured is said in :mod:`segkit.benchmark`."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from segkit.memory import forget_peak, peak, resident
from segkit.timing import listening

Steps = Mapping[str, Callable[[Any], object]]


def measure(
    call: Callable[..., object],
    repeat: int = 3,
    *,
    then: Steps | None = None,
    prepare: Callable[[], tuple] = tuple,
) -> tuple[dict[str, object], object]:
    """What `call` costs, by the names of the JSON, and its last result.

    `then` holds steps by the name of their phase, each called with the result and timed too. `prepare` makes the
    arguments of each call, outside the time.
    """
    steps = then or {}
    before = resident()
    first, result = _once(call, steps, prepare)
    forget_peak()
    runs = []
    for _ in range(repeat):
        del result  # so that no two results are held at once
        run, result = _once(call, steps, prepare)
        runs.append(run)
    highest = peak()
    middle = sorted(runs, key=lambda run: run["seconds"])[(repeat - 1) // 2]
    usual = statistics.median(run["seconds"] for run in runs)
    memory = None if before is None or highest is None else max(highest - before, 0)
    costs = {"compile_seconds": max(first["seconds"] - usual, 0.0), "peak_bytes": memory}
    return middle | costs | {"all_seconds": [run["seconds"] for run in runs]}, result


def _once(call: Callable[..., object], steps: Steps, prepare: Callable[[], tuple]) -> tuple[dict, object]:
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
