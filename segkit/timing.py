"""Where the time goes: stages name their phases, and whoever measures them listens; nobody else pays for it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Phases(dict[str, float]):
    """Seconds by the name of the phase, and what was mentioned meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.remarks: list[str] = []


_listener: ContextVar[Phases | None] = ContextVar("segkit_phases", default=None)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Add the wall time of the block to the phase `name`, if somebody listens. Phases do not nest.

    >>> with listening() as phases, phase("region graph"):
    ...     pass
    >>> list(phases)
    ['region graph']
    """
    phases = _listener.get()
    if phases is None:
        yield
        return
    started = time.perf_counter()
    try:
        yield
    finally:
        phases[name] = phases.get(name, 0.0) + time.perf_counter() - started


def mention(remark: str) -> None:
    """Tell who listens something that explains the seconds, once.

    >>> with listening() as phases:
    ...     mention("two tiles")
    >>> phases.remarks
    ['two tiles']
    """
    phases = _listener.get()
    if phases is not None and remark not in phases.remarks:
        phases.remarks.append(remark)


@contextmanager
def listening() -> Iterator[Phases]:
    """Yields a dictionary that fills with seconds by phase while the block runs, in this thread."""
    phases = Phases()
    token = _listener.set(phases)
    try:
        yield phases
    finally:
        _listener.reset(token)
