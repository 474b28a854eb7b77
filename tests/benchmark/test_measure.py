"""The clock and the scales: what they add up to, not how long anything takes."""

import mmap
import statistics
import time

import numpy as np
import pytest

from segkit.benchmark import measure as module
from segkit.benchmark.measure import measure, time_in_turn
from segkit.memory import forget_peak, peak, resident
from segkit.timing import phase


def test_phases_sum_to_the_seconds():
    def call():
        with phase("seeds"):
            time.sleep(0.002)
        return 7

    seen = []
    costs, result = measure(call, 3, then={"relabelling": seen.append})
    assert result == 7 and seen == [7] * 4
    assert list(costs["phases"]) == ["seeds", "relabelling", "other"]
    assert sum(costs["phases"].values()) == pytest.approx(costs["seconds"])
    assert costs["seconds"] == statistics.median(costs["all_seconds"]) and len(costs["all_seconds"]) == 3
    assert costs["cpu_seconds"] >= 0


def test_a_step_may_name_phases_of_its_own():
    def step(_):
        with phase("relabelling"):
            time.sleep(0.002)

    costs, _ = measure(lambda: None, 1, then={"relabelling": step})
    assert sum(costs["phases"].values()) == pytest.approx(costs["seconds"])


@pytest.mark.parametrize("seconds", [[9.0, 1.0, 3.0, 2.0], [9.0, 3.0, 1.0, 2.0]])
def test_the_middle_call_counts_and_the_first_compiles(monkeypatch, seconds):
    durations = iter(seconds)
    monkeypatch.setattr(module, "_once", lambda *_: ({"seconds": next(durations)}, None))
    costs, _ = measure(lambda: None, 3)
    assert costs["seconds"] == 2.0 and costs["compile_seconds"] == 7.0


def test_a_slow_later_call_is_no_negative_compilation(monkeypatch):
    durations = iter([1.0, 2.0])
    monkeypatch.setattr(module, "_once", lambda *_: ({"seconds": next(durations)}, None))
    assert measure(lambda: None, 1)[0]["compile_seconds"] == 0.0


def test_every_call_gets_fresh_arguments():
    made = iter(range(10))
    seen = []
    measure(seen.append, 2, prepare=lambda: (next(made),))
    assert seen == [0, 1, 2]


def test_calls_take_turns_and_the_first_of_each_does_not_count():
    seen = []
    found = time_in_turn(
        {"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, 2, wait=lambda: seen.append(".")
    )
    assert "".join(seen) == 3 * ".a..b."
    assert {name: len(seconds) for name, seconds in found.items()} == {"a": 2, "b": 2}


def filled(size):
    """That many bytes of memory which, unlike an array's, the process did not hold before."""
    array = np.frombuffer(mmap.mmap(-1, size), np.uint8)
    array.fill(1)
    return array


def test_peak_of_a_call():
    if not forget_peak():
        pytest.skip("this system cannot set the peak back")
    size = 64 * 2**20
    costs, _ = measure(lambda: filled(size).sum(), 1)
    assert 0.9 * size <= costs["peak_bytes"] < 2 * size


def test_results_of_earlier_calls_are_not_held():
    if not forget_peak():
        pytest.skip("this system cannot set the peak back")
    size = 64 * 2**20
    costs, _ = measure(lambda: filled(size), 3)
    assert costs["peak_bytes"] < 1.5 * size


def test_peak_is_forgotten():
    before = resident()
    if before is None or not forget_peak():
        pytest.skip("this system does not say")
    filled(64 * 2**20)
    assert peak() >= before + 60 * 2**20
    forget_peak()
    assert peak() < before + 60 * 2**20


def test_without_a_warm_up_the_first_call_counts():
    calls = []
    costs, _ = measure(lambda: calls.append(1), 2, warm_up=False)
    assert len(calls) == 2 and len(costs["all_seconds"]) == 2 and costs["compile_seconds"] == 0.0
