"""What a person sees of a stage: how far it is, how fast, and in the end where time and memory went."""

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from segkit.blockwise.job import Outcome

SLOWEST = 5
"""So many blocks are named in the end."""


@dataclass(frozen=True)
class StageProgress:
    """How far a stage is; or, where `message` is set, what there is to say meanwhile."""

    stage: str
    done: int
    """Blocks that are done, those found done among them."""
    kept: int
    """Blocks that were found done: by an earlier run."""
    failed: int
    """Blocks that are given up."""
    total: int
    workers: int
    voxels_per_second: float | None
    """Of late; None where nothing is known yet, or the stage does not count voxels."""
    seconds_left: float | None
    """At that pace."""
    message: str | None = None
    """A sentence for a person: a block failed, the disk is full, the scheduler is gone ..."""


@dataclass(frozen=True)
class SlowBlock:
    """A block that took long."""

    number: int
    place: str
    """See :meth:`segkit.blockwise.job.BlockTask.place`."""
    seconds: float
    peak_bytes: int | None


@dataclass(frozen=True)
class BlockFailure:
    """A block that could not be computed."""

    number: int
    place: str
    cause: str
    """The error, in one line."""
    trace: str
    """Where it was raised, as far as known."""

    def __str__(self) -> str:
        return f"block {self.number}{' ' * bool(self.place)}{self.place}: {self.cause}"


@dataclass(frozen=True)
class StageReport:
    """A stage that has ended well."""

    name: str
    results: list[dict] = field(repr=False)
    """What each block returned, by number."""
    kept: int
    """Blocks that an earlier run had done."""
    seconds: float
    """By the clock, of this run."""
    voxels: int
    """Computed in this run."""
    work_seconds: float
    """Of all blocks together, those of earlier runs included."""
    peak_bytes: int | None
    """The most memory that any worker held, earlier runs included; None where the system does not say."""
    slowest: tuple[SlowBlock, ...]
    workers: int
    """Processes at the end of this run."""

    def row(self) -> dict[str, object]:
        """The stage as a row of a table, of plain values.

        >>> blocks = (SlowBlock(7, "at (0, 1, 1), voxels z 0:64, y 64:128, x 64:128", 2.0, 2**30),)
        >>> row = StageReport("fragments", [{}, {}], 1, 4.0, 2**18, 3.5, 2**30, blocks, 2).row()
        >>> row["megavoxels_per_second"], row["slowest"]
        (0.065536, '7 (2.0 s)')
        """
        speed = self.voxels / self.seconds / 1e6 if self.voxels and self.seconds else None
        return {
            "stage": self.name,
            "blocks": len(self.results),
            "kept": self.kept,
            "workers": self.workers,
            "seconds": self.seconds,
            "work_seconds": self.work_seconds,
            "megavoxels_per_second": speed,
            "peak_bytes": self.peak_bytes,
            "slowest": ", ".join(f"{block.number} ({block.seconds:.1f} s)" for block in self.slowest),
        }


class Pace:
    """Speed over the last blocks: what was done long ago, or was found done, says little about what is left."""

    def __init__(self, begin: float, memory: int = 32) -> None:
        self._ends: deque[tuple[float, float]] = deque([(begin, 0.0)], maxlen=memory + 1)

    def add(self, now: float, work: float) -> None:
        """Take note that some work ended now."""
        self._ends.append((now, work))

    def remember(self, blocks: int) -> None:
        """Average the speed over at least so many blocks from now on."""
        if blocks >= (self._ends.maxlen or 0):
            self._ends = deque(self._ends, maxlen=2 * blocks)

    @property
    def speed(self) -> float | None:
        """Work a second; None before there is any."""
        seconds = self._ends[-1][0] - self._ends[0][0]
        work = sum(work for _, work in list(self._ends)[1:])
        return work / seconds if seconds > 0 and work > 0 else None


class Tally:
    """Adds up what ended blocks say of time and memory."""

    def __init__(self) -> None:
        self.kept = 0
        self.work_seconds = 0.0
        self.peak_bytes: int | None = None
        self._slowest: list[tuple[float, int, int | None]] = []

    def add(self, outcome: Outcome) -> None:
        """Count a block that is done."""
        self.kept += outcome.kept
        self.work_seconds += outcome.seconds
        if outcome.peak_bytes is not None:
            self.peak_bytes = max(self.peak_bytes or 0, outcome.peak_bytes)
        entry = (outcome.seconds, -outcome.number, outcome.peak_bytes)
        (heapq.heappush if len(self._slowest) < SLOWEST else heapq.heappushpop)(self._slowest, entry)

    def slowest(self, place: Callable[[int], str]) -> tuple[SlowBlock, ...]:
        """The blocks that took longest, the slowest first; `place` says where each lies."""
        ordered = sorted(self._slowest, key=lambda entry: (-entry[0], -entry[1]))
        return tuple(SlowBlock(-key, place(-key), seconds, memory) for seconds, key, memory in ordered)


def rows(reports: Iterable[StageReport]) -> list[dict[str, object]]:
    """Stages as the rows of a table."""
    return [report.row() for report in reports]
