"""Stages: one task for many blocks, whatever happens to the processes that compute them.

A block is done if its mark (:mod:`segkit.blockwise.marks`) was made with the stage's key and agrees with its product
as it lies on the disk now; both are looked at anew in every run, by the workers. So a run that was killed, wherever
that was, goes on by calling it again.
"""

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from segkit.blockwise.executor import Executor, Inline, Patience, inline
from segkit.blockwise.job import BlockTask, Job, Outcome
from segkit.blockwise.progress import BlockFailure, Pace, SlowBlock, StageProgress, StageReport, Tally
from segkit.errors import BlocksFailed, StorageError, sentence

__all__ = [
    "BlockTask",
    "Executor",
    "Patience",
    "SlowBlock",
    "Stage",
    "StageProgress",
    "StageReport",
    "inline",
    "run_stage",
]

NAMED = 3
"""So many failed blocks are named in a message."""
TICK = 1.0
"""Seconds after which the driver looks around, at the latest."""
AGAIN = "give the same command again"

OnStageProgress = Callable[[StageProgress], object]


@dataclass(frozen=True)
class Stage:
    """A task, and the blocks that it is to be done on."""

    name: str
    """For people: "fragments"."""
    task: BlockTask
    voxels: Sequence[int]
    """Of each block: what speed is counted in. As many entries as there are blocks; 0 where a block is no voxels."""
    folder: Path = Path()
    """Where the marks lie; a whole volume has none."""
    key: str = ""
    """Fingerprint of all that decides the result: settings, inputs, versions. A mark with another one does not count,
    so that a changed setting computes all blocks anew."""


def run_stage(stage: Stage, executor: Executor | None = None, report: OnStageProgress | None = None) -> StageReport:
    """Have all blocks done, in this process or by `executor`; those that are done already are not computed again.

    `report` is called with a :class:`StageProgress` whenever a block ends, or there is something to say. Results do not
    depend on the executor, nor on the order in which blocks end.

    Raises BlocksFailed after all other blocks, for blocks that raised (or whose worker died) as often as
    :class:`Patience` says; StorageError where the disk stays full; ClusterUnavailable where Dask stays away. All that
    was done is kept, after KeyboardInterrupt too.
    """
    run = _Run(stage, executor or Inline(), report or (lambda progress: None))
    said_before, run.executor.say = run.executor.say, run.say
    try:
        run.all()
    except KeyboardInterrupt:
        run.say(f"stopped; {run.done} of {run.total} blocks are kept: {AGAIN} to go on")
        raise
    finally:
        run.executor.drop()
        run.executor.say = said_before
    if run.failures:
        raise run.failed()
    return run.summary()


class _Run:
    def __init__(self, stage: Stage, executor: Executor, report: OnStageProgress) -> None:
        self.stage, self.executor, self.report = stage, executor, report
        self.patience: Patience = executor.patience
        self.job = Job(stage.name, stage.task, Path(stage.folder).absolute(), stage.key, executor.threads)
        self.total = len(stage.voxels)
        self.fresh = iter(range(self.total))
        self.later: list[tuple[float, int]] = []  # a heap: not before this time, block
        self.flying = 0
        self.results: list[dict | None] = [None] * self.total
        self.done = 0
        self.tries: dict[int, int] = {}
        self.failures: list[BlockFailure] = []
        self.disk = _FullDisk(self.patience)
        self.tally = Tally()
        self.begin = time.monotonic()
        self.counts_voxels = any(stage.voxels)
        self.left = sum(map(self.work, range(self.total)))
        self.computed = 0
        self.pace = Pace(self.begin)

    def work(self, number: int) -> int:
        """What a block counts for in speed and time left."""
        return int(self.stage.voxels[number]) if self.counts_voxels else 1

    def all(self) -> None:
        while self.done + len(self.failures) < self.total:
            self.launch()
            for outcome in self.executor.next(self.wait()):
                self.flying -= 1
                self.take(outcome)

    def launch(self) -> None:
        """Fill up what is in flight. A full disk is tried with one block: others would compute for nothing."""
        now = time.monotonic()
        room = self.disk.room(now, self.executor.room)
        while self.flying < room:
            number = self.following(now)
            if number is None:
                return
            self.disk.launched(number)
            self.executor.submit(self.job, number)
            self.flying += 1

    def following(self, now: float) -> int | None:
        if self.later and self.later[0][0] <= now:
            return heapq.heappop(self.later)[1]
        return next(self.fresh, None)

    def wait(self) -> float:
        """Until there is something to launch, if nobody else calls."""
        if self.flying:
            return TICK
        until = max(self.disk.until, self.later[0][0] if self.later else 0.0)
        return min(max(until - time.monotonic(), 0.0), TICK)

    def take(self, outcome: Outcome) -> None:
        now = time.monotonic()
        if outcome.lost:
            heapq.heappush(self.later, (now, outcome.number))
        elif outcome.full:
            self.take_full(outcome, now)
        elif outcome.result is None:
            self.take_failure(outcome, now)
        else:
            self.take_result(outcome, now)

    def take_result(self, outcome: Outcome, now: float) -> None:
        self.results[outcome.number] = outcome.result
        self.done += 1
        self.tally.add(outcome)
        work = self.work(outcome.number)
        self.left -= work
        self.pace.remember(4 * self.executor.workers)
        self.pace.add(now, work)
        if not outcome.kept:
            self.computed += work
            if self.disk.ended(outcome.number):
                self.say("there is space on the disk again")
        self.report(self.progress())

    def take_full(self, outcome: Outcome, now: float) -> None:
        heapq.heappush(self.later, (now, outcome.number))
        pause = self.disk.seen(now)
        if pause is None:
            return
        if now - self.disk.since > self.patience.full_disk:
            rule = f"has been full for {duration(now - self.disk.since)} ({outcome.cause})"
            next_step = f"free space and {AGAIN}: {self.done} of {self.total} blocks are kept"
            raise StorageError(sentence("the disk", rule, next_step=next_step))
        self.say(f"the disk is full ({outcome.cause}); free space: the next look is in {duration(pause)}")

    def take_failure(self, outcome: Outcome, now: float) -> None:
        number, cause = outcome.number, outcome.cause or "it returned nothing"
        tried = self.tries[number] = self.tries.get(number, 0) + 1
        failure = BlockFailure(number, self.stage.task.place(number), cause, outcome.trace)
        if tried < self.patience.tries and not outcome.final:
            heapq.heappush(self.later, (now + self.patience.pause * tried, number))
            self.say(f"{failure}; it is tried again ({tried + 1} of {self.patience.tries})")
            return
        self.failures.append(failure)
        self.left -= self.work(number)
        self.say(f"{failure}; it is given up, the others go on")
        if not self.done and len(self.failures) >= self.patience.hopeless:
            raise self.failed()

    def progress(self, message: str | None = None) -> StageProgress:
        speed = self.pace.speed
        return StageProgress(
            stage=self.stage.name,
            done=self.done,
            kept=self.tally.kept,
            failed=len(self.failures),
            total=self.total,
            workers=self.executor.workers,
            voxels_per_second=speed if self.counts_voxels else None,
            seconds_left=self.left / speed if speed else None,
            message=message,
        )

    def say(self, message: str) -> None:
        self.report(self.progress(message))

    def failed(self) -> BlocksFailed:
        failures = sorted(self.failures, key=lambda failure: failure.number)
        named = "; ".join(map(str, failures[:NAMED])) + "; ..." * (len(failures) > NAMED)
        rule = f"has {len(failures)} of {self.total} blocks that cannot be computed ({named})"
        next_step = f"mend the cause and {AGAIN}: the {self.done} that are done are kept"
        error = BlocksFailed(sentence(f"the stage {self.stage.name}", rule, next_step=next_step))
        error.failures = tuple(failures)
        return error

    def summary(self) -> StageReport:
        return StageReport(
            name=self.stage.name,
            results=list(self.results),  # type: ignore[arg-type]
            kept=self.tally.kept,
            seconds=time.monotonic() - self.begin,
            voxels=self.computed if self.counts_voxels else 0,
            work_seconds=self.tally.work_seconds,
            peak_bytes=self.tally.peak_bytes,
            slowest=self.tally.slowest(self.stage.task.place),
            workers=self.executor.workers,
        )


class _FullDisk:
    """Since when the disk is full, and until when nothing is launched."""

    def __init__(self, patience: Patience) -> None:
        self.first, self.longest = patience.full_disk_pauses
        self.since = self.until = 0.0
        self.pause: float | None = None
        self.probe: int | None = None

    def room(self, now: float, room: int) -> int:
        if self.pause is None:
            return room
        return 1 if now >= self.until else 0

    def launched(self, number: int) -> None:
        """Blocks launched earlier say nothing about now: they may have been stored before the disk was full."""
        self.probe = number if self.pause is not None else None

    def seen(self, now: float) -> float | None:
        """A block found no space: the pause that begins; None if one has begun already."""
        if self.pause is None:
            self.since, self.pause = now, self.first
        elif now < self.until:
            return None
        else:
            self.pause = min(2 * self.pause, self.longest)
        self.until = now + self.pause
        return self.pause

    def ended(self, number: int) -> bool:
        """A block was stored: whether it shows that there is space again."""
        news = self.pause is not None and number == self.probe
        if news:
            self.pause, self.until = None, 0.0
        return news


def duration(seconds: float) -> str:
    """A time as people say it.

    >>> duration(0.5), duration(90), duration(5400)
    ('0.5 s', '1.5 min', '1.5 h')
    """
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
