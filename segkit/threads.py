"""Sharing work among threads: kernels release the GIL, and give the same whatever the pieces are."""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

PIECES = 4
"""Pieces a thread: few enough to cost nothing, enough to even out slow ones."""


_limit: list[int] = []


def set_thread_limit(threads: int) -> None:
    """Use at most `threads` threads from now on, in this process, whichever of its threads asks."""
    _limit[:] = [threads]


def thread_count() -> int:
    """How many threads to use: the limit, if one is set, else what numba is set to where it is loaded, else all."""
    if _limit:
        return _limit[0]
    numba = sys.modules.get("numba")
    return numba.get_num_threads() if numba else os.cpu_count() or 1


def share(work: Callable, count: int, *arguments) -> list:
    """Call ``work(start, stop, *arguments)`` for pieces that together make up ``range(count)``; results in order.

    >>> sum(share(lambda start, stop: sum(range(start, stop)), 100)) == sum(range(100))
    True
    """
    threads = min(thread_count(), count)
    if threads <= 1:
        return [work(0, count, *arguments)]
    pieces = min(count, threads * PIECES)
    bounds = [count * piece // pieces for piece in range(pieces + 1)]
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(work, a, b, *arguments) for a, b in pairwise(bounds)]
        return [future.result() for future in futures]
