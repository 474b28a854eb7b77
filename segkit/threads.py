"""Sharing work among threads: kernels release the GIL, and give the same whatever the pieces are."""

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

PIECES = 4
"""Pieces a thread: few enough to cost nothing, enough to even out slow ones."""


_limit: list[int] = []
_own = threading.local()
"""In a thread that works on a piece: `limit`, how many threads that piece may use in its turn."""


def set_thread_limit(threads: int) -> None:
    """Use at most `threads` threads from now on, in this process, whichever of its threads asks."""
    _limit[:] = [threads]


def thread_limit() -> int | None:
    """The limit of :func:`set_thread_limit`; None if none is set."""
    return _limit[0] if _limit else None


def thread_count() -> int:
    """How many threads to use: the limit, if one is set, else Numba's (NUMBA_NUM_THREADS), else all.

    Within a piece of shared work: its part of them, at least one.

    Why not numba.get_num_threads? It starts Numba's own threads, which nobody here uses, and resets torch's number.
    """
    own = getattr(_own, "limit", None)
    if own:
        return own
    if _limit:
        return _limit[0]
    numba = sys.modules.get("numba")
    return numba.config.NUMBA_NUM_THREADS if numba else os.cpu_count() or 1


def share(work: Callable, count: int, *arguments: Any, least: int = 1) -> list:
    """Call ``work(start, stop, *arguments)`` for pieces that together make up ``range(count)``; results in order.

    The calling thread works too, and no thread is started for fewer than `least` of the count. Where there are more
    threads than pieces, a piece that shares work itself has those that are left. The first piece that fails raises its
    error here, once no thread is at work; so does an interrupt, or a thread that cannot be started.

    >>> sum(share(lambda start, stop: sum(range(start, stop)), 100)) == sum(range(100))
    True
    """
    allowed = thread_count()
    threads = min(allowed, count // least)
    if threads <= 1:
        return [work(0, count, *arguments)]
    pieces = min(count, threads * PIECES)
    results, errors, todo = [None] * pieces, {}, deque(range(pieces))

    def run() -> None:
        _own.limit = allowed // threads
        while todo:
            try:
                piece = todo.popleft()
            except IndexError:  # another thread took it meanwhile
                return
            try:
                results[piece] = work(count * piece // pieces, count * (piece + 1) // pieces, *arguments)
            except BaseException as error:
                errors[piece] = error
                todo.clear()

    # Why no pool? To start and to end one takes longer than many a kernel.
    before = getattr(_own, "limit", None)
    helpers = [threading.Thread(target=run) for _ in range(threads - 1)]
    try:
        for helper in helpers:
            helper.start()
        run()
    finally:
        _own.limit = before
        todo.clear()
        for helper in helpers:
            if helper.is_alive():
                helper.join()
    if errors:
        raise errors[min(errors)]
    return results
