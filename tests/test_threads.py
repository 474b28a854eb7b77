"""Pieces make up the whole, and the limit holds in every thread."""

import subprocess
import sys
import threading
import time

import pytest

from segkit.threads import PIECES, share, thread_count


def test_pieces_make_up_the_range_in_order():
    for count in (0, 1, 7, 1000):
        pieces = share(lambda start, stop: list(range(start, stop)), count)
        assert [k for piece in pieces for k in piece] == list(range(count))


def test_the_limit_holds_in_threads_that_somebody_else_starts():
    code = (
        "import threading, numba\n"
        "from segkit.threads import set_thread_limit, thread_count\n"
        "set_thread_limit(1)\n"
        "seen = []\n"
        "thread = threading.Thread(target=lambda: seen.append(thread_count()))\n"
        "thread.start(); thread.join()\n"
        "assert seen == [1] == [thread_count()], seen\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_work_runs_in_other_threads_only_where_there_are_several(monkeypatch):
    monkeypatch.setattr("segkit.threads.thread_count", lambda: 1)
    assert set(share(lambda start, stop: threading.current_thread(), 100)) == {threading.main_thread()}
    monkeypatch.setattr("segkit.threads.thread_count", lambda: 3)
    together = threading.Barrier(3, timeout=60)  # opens if three threads are at work

    def work(start, stop):
        if start < 3 * 8:  # the first three pieces
            together.wait()
        return threading.current_thread()

    workers = set(share(work, 96))
    assert len(workers) <= 3 and threading.main_thread() in workers


@pytest.mark.parametrize(("count", "threads"), [(15, 1), (16, 2), (23, 2), (24, 3), (1000, 3)])
def test_little_work_starts_few_threads(count, threads, monkeypatch):
    monkeypatch.setattr("segkit.threads._limit", [3])
    pieces = share(lambda start, stop: stop - start, count, least=8)
    assert sum(pieces) == count and len(pieces) == (1 if threads == 1 else threads * PIECES)


@pytest.mark.parametrize(("limit", "count", "left"), [(1, 5, 1), (2, 1, 2), (2, 2, 1), (7, 3, 2), (8, 2, 4), (3, 9, 1)])
def test_a_piece_may_use_the_threads_that_are_left(limit, count, left, monkeypatch):
    monkeypatch.setattr("segkit.threads._limit", [limit])

    def work(start, stop):
        inner = share(lambda first, last: thread_count(), left)
        return [thread_count(), *inner] if left > 1 else [thread_count()]

    found = {number for piece in share(work, count) for number in piece}
    assert found == {left} | ({1} if left > 1 else set())
    assert thread_count() == limit


def test_the_limit_is_back_after_an_error(monkeypatch):
    monkeypatch.setattr("segkit.threads._limit", [4])
    with pytest.raises(ZeroDivisionError):
        share(lambda start, stop: 1 / 0, 2)
    assert thread_count() == 4


def test_the_first_error_is_raised_and_nobody_is_left_at_work(monkeypatch):
    monkeypatch.setattr("segkit.threads.thread_count", lambda: 4)
    before, together = threading.active_count(), threading.Barrier(4, timeout=60)

    def work(start, stop):
        together.wait()  # so that the first four pieces all fail
        raise ValueError(f"piece from {start}")

    with pytest.raises(ValueError, match="piece from 0"):
        share(work, 1600)
    assert threading.active_count() == before


def test_nobody_is_left_at_work_if_a_thread_cannot_be_started(monkeypatch):
    monkeypatch.setattr("segkit.threads.thread_count", lambda: 3)
    before, at_work, start = threading.active_count(), threading.Event(), threading.Thread.start

    def start_one(thread):
        if at_work.is_set():
            raise RuntimeError("can't start new thread")
        start(thread)
        assert at_work.wait(60)

    def work(first, last):
        at_work.set()
        time.sleep(0.2)  # longer than it takes to raise

    monkeypatch.setattr(threading.Thread, "start", start_one)
    with pytest.raises(RuntimeError, match="can't start"):
        share(work, 1200)
    assert threading.active_count() == before
