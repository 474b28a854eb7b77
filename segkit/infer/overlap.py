"""Work that goes on in a thread of its own while earlier results are used."""

import threading
from collections.abc import Generator, Iterable
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, Full, Queue
from typing import Any, TypeVar

T = TypeVar("T")
DEPTH = 2
PATIENCE = 0.05
"""Seconds between looks at whether anybody still wants an item that there is no room for."""
_END = object()


def ahead(items: Iterable[T], depth: int = DEPTH) -> Generator[T, None, None]:
    """`items` in order, made in a thread of their own, at most `depth` of them ahead of who takes them.

    What making one raises is raised here, after the items before it. Closing this iterator ends the thread once the
    item at hand is made, and closes `items`, so that such iterators can be put into one another.

    >>> list(ahead(number**2 for number in range(4)))
    [0, 1, 4, 9]
    """
    maker = _Maker(items, depth)
    thread = threading.Thread(target=copy_context().run, args=(maker.run,), daemon=True)
    thread.start()
    try:
        while (item := maker.ready.get()) is not _END:
            yield item
    finally:
        maker.stopped.set()
        with suppress(Empty):  # room for what it may be about to put
            while True:
                maker.ready.get_nowait()
        thread.join()
    if maker.error is not None:
        raise maker.error


class _Maker:
    """What both threads share."""

    def __init__(self, items: Iterable, depth: int) -> None:
        self.items, self.stopped = items, threading.Event()
        self.ready: Queue[Any] = Queue(depth)
        self.error: BaseException | None = None

    def run(self) -> None:
        """Make items until there are no more, one fails, or nobody wants them."""
        try:
            for item in self.items:
                self._put(item)
                if self.stopped.is_set():
                    break
        except BaseException as error:
            self.error = error
        finally:
            try:
                getattr(self.items, "close", lambda: None)()
            finally:
                self._put(_END)

    def _put(self, item: object) -> None:
        while not self.stopped.is_set():
            with suppress(Full):
                self.ready.put(item, timeout=PATIENCE)
                return
