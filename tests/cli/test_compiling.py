"""Compiling is said once, only where it takes place, and not where it is over in a moment."""

import os
import subprocess
import sys
import textwrap

import pytest

from segkit.cli import compiling
from segkit.cli.compiling import WORDS, telling_of_compiling

KERNEL = """
    from numba import njit

    @njit(cache=True)
    def inner(x):
        return x * 2 + 1

    @njit(cache=True)
    def outer(x):
        return inner(x) + 1
"""


@pytest.fixture
def call(tmp_path):
    """Runs a verb that calls a kernel, in a process that has not imported Numba; what it says on stderr."""
    (tmp_path / "kernels.py").write_text(textwrap.dedent(KERNEL))
    (tmp_path / "verb.py").write_text(
        textwrap.dedent("""
            import sys
            import click
            from segkit.cli import compiling
            from segkit.cli.common import Verb

            compiling.AFTER = float(sys.argv.pop(1))

            @click.command(cls=Verb)
            def inner():
                import kernels
                assert kernels.outer(3) == 8

            @click.command(cls=Verb)
            def verb():
                assert "numba" not in sys.modules
                import numba, time
                time.sleep(3 * compiling.EVERY)
                inner.main([], standalone_mode=False)
                inner.main([], standalone_mode=False)

            verb.main([], standalone_mode=False)
            from numba.core import event
            assert not event._registered[compiling.KIND]
        """)
    )

    def run(after):
        words = [sys.executable, "verb.py", str(after)]  # which imports what lies beside it
        here = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=here)
        assert done.returncode == 0, done.stderr
        return done.stderr.splitlines()

    return run


def test_it_is_said_once_and_only_where_it_takes_place(call):
    assert call(0.0) == [WORDS]
    assert call(0.0) == []  # kept from the call before


def test_a_moment_is_not_worth_saying(call):
    assert call(100.0) == []


class Event:
    def __init__(self, is_start):
        self.is_start = is_start


def test_seconds_add_up_over_kernels(monkeypatch):
    said, now = [], [0.0]
    monkeypatch.setattr(compiling.time, "perf_counter", lambda: now[0])
    waits = []

    class Timer:
        def __init__(self, seconds, call):
            waits.append(seconds)

        def start(self):
            pass

        def cancel(self):
            pass

    monkeypatch.setattr(compiling.threading, "Timer", Timer)
    watch = compiling.Watch(said.append)
    for is_start, seconds in ((True, 0.25), (True, 0.25), (False, 0), (False, 9), (True, 0.25), (False, 9), (True, 0)):
        watch.notify(Event(is_start))
        now[0] += seconds
    assert waits == [1.0, 0.5, 0.25] and said == []
    watch._tell()
    watch._tell()
    assert said == [WORDS]


def test_nothing_is_left_behind():
    from numba.core import event

    before = list(event._registered[compiling.KIND])
    with telling_of_compiling(print), telling_of_compiling(print):
        assert len(event._registered[compiling.KIND]) == len(before) + 1
    assert event._registered[compiling.KIND] == before


def test_a_numba_that_comes_too_late_to_be_heard_does_no_harm():
    program = "import segkit.cli.compiling as c; c.EVERY = 99\nwith c.telling_of_compiling(print):\n    import numba"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
