"""Where blocks are computed: in this process, or on Dask (:mod:`segkit.blockwise.cluster`)."""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

from segkit.blockwise.job import Job, Outcome

HOUR = 3600.0


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds, and how often to try, before a run gives up."""

    tries: int = 3
    """So often is a block tried that raises."""
    pause: float = 1.0
    """After its first failure a block waits so long, and as long again after each further one."""
    full_disk: float = 6 * HOUR
    """For space on a full disk."""
    full_disk_pauses: tuple[float, float] = (1.0, 60.0)
    """The first pause between two looks at a full disk, and the longest; each is twice the one before."""
    scheduler: float = HOUR / 6
    """For a scheduler that has gone away."""
    workers: float = HOUR / 6
    """For a first worker, and for a new one where all have gone away."""
    hopeless: int = 20
    """A stage ends early once so many blocks have failed and none is done."""


class Executor(ABC):
    """Takes blocks, computes them somewhere, and hands back how it went. A context manager: its end frees all.

    It is driven by one caller: :meth:`submit` up to :attr:`room` blocks, :meth:`next`, and so on.
    """

    threads: int | None = None
    """How many threads each block may use; None: as this process may."""

    def __init__(self, patience: Patience | None = None) -> None:
        self.patience = patience or Patience()
        self.say: Callable[[str], None] = lambda message: None
        """Called with what a person should know, such as that the scheduler has gone."""

    @property
    def dashboard(self) -> str | None:
        """Address of a web page that shows the work, if there is one."""
        return None

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many processes compute, as far as known."""

    @property
    @abstractmethod
    def room(self) -> int:
        """How many blocks should be in flight: enough to keep all workers busy, few enough to forget none."""

    @abstractmethod
    def submit(self, job: Job, number: int) -> None:
        """Have `job` done on a block, some time."""

    @abstractmethod
    def next(self, timeout: float) -> Iterable[Outcome]:
        """Blocks that ended since, in any order; waits for one at most about `timeout` seconds."""

    @abstractmethod
    def drop(self) -> None:
        """Forget all blocks that are in flight; those at work may end, but nobody waits for them."""

    def close(self) -> None:
        """Free what the executor holds."""
        self.drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()


class Inline(Executor):
    """One block after the other in this process, without Dask."""

    workers = 1
    room = 1

    def __init__(self, patience: Patience | None = None) -> None:
        super().__init__(patience)
        self._todo: deque[tuple[Job, int]] = deque()

    def submit(self, job: Job, number: int) -> None:
        """Put a block into the queue that :meth:`next` computes."""
        self._todo.append((job, number))

    def next(self, timeout: float) -> Iterable[Outcome]:
        """Compute one block, if there is one; it takes as long as it takes."""
        if self._todo:
            job, number = self._todo.popleft()
            return [job(number)]
        time.sleep(timeout)
        return []

    def drop(self) -> None:
        """Nothing is at work between two calls."""
        self._todo.clear()

    def __str__(self) -> str:
        return "this process"


def inline(patience: Patience | None = None) -> Executor:
    """An executor that needs no other process.

    >>> with inline() as executor:
    ...     print(executor, executor.workers)
    this process 1
    """
    return Inline(patience)
