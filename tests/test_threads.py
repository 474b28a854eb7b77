"""Pieces make up the whole, and the limit holds in every thread."""

import subprocess
import sys
import threading

from segkit.threads import share


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
    for threads in (1, 3):
        monkeypatch.setattr("segkit.threads.thread_count", lambda threads=threads: threads)
        names = set(share(lambda start, stop: threading.current_thread() is threading.main_thread(), 100))
        assert names == {threads == 1}
