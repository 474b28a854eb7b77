"""A function in a fresh process: what it gets, what comes back, and the sentence for each way to end."""

import os

import pytest

from segkit.benchmark.process import Limits, in_fresh_process

ASKED = """
import os
import sys
import time

from segkit.errors import InvalidInput


def doubled(*, number):
    print("noise")
    return {"number": 2 * number, "process": os.getpid(), "threads": os.environ.get("NUMBA_NUM_THREADS")}


def refuses():
    raise InvalidInput("it must be otherwise")


def fails():
    raise RuntimeError("out of luck")


def leaves():
    print("last words", file=sys.stderr)
    os._exit(3)


def sleeps():
    time.sleep(600)
"""


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """A module that this process finds, and so the fresh one."""
    (tmp_path / "asked.py").write_text(ASKED)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_keywords_go_and_the_result_comes_back(asked, monkeypatch):
    row = in_fresh_process("asked:doubled", {"number": 21}, Limits(threads=3))
    assert row["number"] == 42 and row["process"] != os.getpid() and row["threads"] == "3"
    monkeypatch.setenv("NUMBA_NUM_THREADS", "7")
    assert in_fresh_process("asked:doubled", {"number": 1})["threads"] == "7", "without a limit it inherits"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("refuses", "it must be otherwise"),
        ("fails", "RuntimeError: out of luck"),
        ("leaves", "its process ended with exit code 3: last words"),
        ("sleeps", "it was not done after 0.5 s; give it longer with --timeout"),
        ("nothing", "AttributeError: module 'asked' has no attribute 'nothing'"),
    ],
)
def test_how_it_ends_is_a_sentence(asked, name, error):
    limits = Limits(timeout=0.5 if name == "sleeps" else None)
    assert in_fresh_process(f"asked:{name}", {}, limits) == {"error": error}
