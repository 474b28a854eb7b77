"""Memory that is freed: kept for what asks next, counted by the pages that the system has to give."""

import os
import platform
import sys

import pytest

from segkit import memory
from segkit.benchmark.process import in_fresh_process
from segkit.memory import KEEPING

ROUNDS, SETTLED, PIECES = 20, 10, (3, 17, 9)
"""Millions of numbers. Aligned pieces leave gaps at first, so that what counts are the rounds after the first ten."""
needs_glibc = pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="needs the C library glibc"
)


def pages(kept: bool) -> dict[str, object]:
    """In a process of its own: the pages given to a thread that takes and frees tens of megabytes, round by round."""
    import resource
    import threading

    import torch

    done = memory.keep_freed() if kept else None
    counts = []

    def work() -> None:
        for _ in range(ROUNDS):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for size in PIECES:
                torch.ones(size * 10**6)
            counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return {"done": done, "counts": counts}


@needs_glibc
def test_what_was_freed_is_taken_again(monkeypatch):
    for name in [*KEEPING, "GLIBC_TUNABLES"]:
        monkeypatch.delenv(name, raising=False)
    usual, kept = (in_fresh_process(f"{__name__}:pages", {"kept": kept}) for kept in (False, True))
    assert sum(usual["counts"][SETTLED:]) > 10 * sum(kept["counts"][SETTLED:]), (usual, kept)
    assert kept["done"]


@needs_glibc
def test_the_environment_does_the_same(monkeypatch):
    for name, value in KEEPING.items():
        monkeypatch.setenv(name, str(value))
    found = in_fresh_process(f"{__name__}:pages", {"kept": False})["counts"]
    assert found[0] > 10 * max(found[SETTLED:]), found


def test_settings_of_the_user_are_left_alone(monkeypatch):
    monkeypatch.setattr(memory, "CDLL", lambda name: pytest.fail("it was called"))
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    assert not memory.keep_freed()


def test_other_c_libraries_are_left_alone(monkeypatch):
    for name in [each for each in os.environ if each.startswith("MALLOC_")] + ["GLIBC_TUNABLES"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(memory, "CDLL", lambda name: object())  # has no mallopt
    assert not memory.keep_freed()
