"""Says that kernels are being compiled, where a verb would seem to do nothing for half a minute."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

AFTER = 1.0
"""Seconds of compiling from which it is worth saying."""
EVERY = 0.1
"""Seconds between looks whether Numba has been imported; it is not imported here."""
EVENTS = "numba.core.event"
KIND = "numba:compile"
WORDS = "compiling kernels (once; they are kept for the next call)"


class Watch:
    """Listens to Numba's compiler and calls `say` once, when it has compiled for AFTER seconds in all.

    Numba begins an event where its cache holds no kernel, and one inside for each function that the kernel calls.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self.say, self.said, self.listens = say, False, False
        self.depth, self.since, self.spent = 0, 0.0, 0.0
        self.timer: threading.Timer | None = None

    def notify(self, event: Any) -> None:
        """Take note of the begin or the end of a compilation; Numba's lock lets one thread do so at a time."""
        self.depth = max(self.depth + (1 if event.is_start else -1), 0)
        if event.is_start and self.depth == 1 and not self.said:
            self.since = time.perf_counter()
            self.timer = threading.Timer(max(AFTER - self.spent, 0.0), self._tell)
            self.timer.daemon = True
            self.timer.start()
        elif not self.depth:
            self.rest()

    def rest(self) -> None:
        """Count the seconds of a compilation that has ended."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer, self.spent = None, self.spent + time.perf_counter() - self.since

    def _tell(self) -> None:
        if not self.said:
            self.said = True
            self.say(WORDS)


_watched = False


@contextmanager
def telling_of_compiling(say: Callable[[str], object]) -> Iterator[None]:
    """Call `say` if kernels are compiled inside the block, for more than a moment; blocks inside it change nothing."""
    global _watched
    if _watched:
        yield
        return
    watch, ended = Watch(say), threading.Event()
    waiting = threading.Thread(target=_register_when_there, args=(watch, ended), daemon=True)
    _watched = True
    try:
        if not _register(watch):
            waiting.start()
        yield
    finally:
        _watched = False
        ended.set()
        if waiting.ident is not None:
            waiting.join()
        watch.rest()
        if watch.listens:
            sys.modules[EVENTS].unregister(KIND, watch)


def _register_when_there(watch: Watch, ended: threading.Event) -> None:
    while not ended.wait(EVERY):
        if _register(watch):
            return


def _register(watch: Watch) -> bool:
    """Register `watch` if Numba has been imported, to its last line."""
    events = sys.modules.get(EVENTS)
    if events is None or not hasattr(sys.modules.get("numba"), "njit"):
        return False
    events.Listener.register(Watch)
    events.register(KIND, watch)
    watch.listens = True
    return True
