"""Sharing work among threads: kernels release the GIL, and the pieces are fixed, so that no result depends on it."""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

PIECES = 4
"""Pieces a thread: few enough to cost nothing, enough to even out slow ones."""


def thread_count() -> int:
    """How many threads to use: what numba is set to, where it is loaded (and kernels run), else all cores."""
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
