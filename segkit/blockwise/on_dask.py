"""Blocks on dask.distributed. Dask moves tasks and small outcomes only: no array, and nothing stays on a worker."""

import queue
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import TYPE_CHECKING

from segkit.blockwise.executor import Executor, Patience
from segkit.blockwise.job import Job, Outcome, in_a_line
from segkit.errors import ClusterUnavailable, sentence
from segkit.memory import KEEPING

if TYPE_CHECKING:
    from distributed import Client, Future

AHEAD = 2
"""Blocks in flight for each that can be computed at once, so that no worker waits for the driver."""
LOOK = 2.0
"""Seconds between two looks at how many workers there are."""
ANSWER = 60.0
"""Seconds for a worker to hand over a small outcome."""
CONNECT = 10.0
"""Seconds of one try to reach a scheduler."""
SETTINGS = {
    "distributed.scheduler.allowed-failures": 2,  # a block that ends three workers is given up
    "distributed.scheduler.worker-saturation": 1.0,  # blocks wait with the scheduler, not on a worker that may die
    "distributed.scheduler.work-stealing": False,
    # Workers hold no data of Dask's: to spill or to pause for what a block needs would only stop it.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    # Dask has workers give freed memory back at once. A block asks for the same again: a third of its time went there.
    **{f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in KEEPING.items()},
}
"""What is set for schedulers and workers that are started here."""
THREADS = (
    "NUMBA_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "ZARR_THREADING__MAX_WORKERS",
)
"""What limits the threads of libraries, in the environment of a process that starts."""


class Cluster(ABC):
    """A scheduler that somebody runs, and how to reach it."""

    threads: int | None = None
    """How many threads each block may use."""

    @abstractmethod
    def connect(self, timeout: float) -> "Client":
        """A new client, within `timeout` seconds. Raises OSError where no scheduler answers."""

    @abstractmethod
    def keep_up(self) -> None:
        """Called every now and then: start again what has gone away, if that is ours to do."""

    def why(self) -> str:
        """What is known of why workers ended since the last call, for people."""
        return ""

    @abstractmethod
    def close(self) -> None:
        """End what was started here."""

    @abstractmethod
    def __str__(self) -> str:
        """What it is, for people: "2 processes of this machine"."""


class OnDask(Executor):
    """Blocks are sent to the workers of a :class:`Cluster`.

    Dask itself sends the blocks of a worker that died to others. A scheduler that goes away takes with it all that it
    knew: the executor looks for it again and reports what was in flight as lost, which :func:`run_stage` sends anew.
    """

    def __init__(
        self, cluster: Cluster, patience: Patience | None = None, say: Callable[[str], None] | None = None
    ) -> None:
        """Connects, and waits for a first worker. Raises ClusterUnavailable."""
        super().__init__(patience)
        self.say = say or self.say
        self.cluster = cluster
        self.threads = cluster.threads
        self._ended: queue.SimpleQueue[tuple[Client, int, Future]] = queue.SimpleQueue()
        self._flying: dict[int, Future | None] = {}
        self._client: Client | None = None
        self._counts = (0, 0)
        self._known: set[str] = set()
        self._looked = 0.0
        self._missing_since: float | None = None
        try:
            self._connect(begin=time.monotonic(), patience=min(self.patience.scheduler, 3 * CONNECT))
            self._wait_for_a_worker()
        except BaseException:
            self.close()
            raise

    @property
    def workers(self) -> int:
        """Processes that the scheduler knew at the last look."""
        return self._counts[0]

    @property
    def room(self) -> int:
        """Two blocks for each that can be computed at once, and one."""
        return AHEAD * max(self._counts[1], 1) + 1

    @property
    def dashboard(self) -> str | None:
        """Address of Dask's page; None where bokeh is not installed, or before there is a connection."""
        with suppress(Exception):
            return self._client.dashboard_link or None  # type: ignore[union-attr]
        return None

    def submit(self, job: Job, number: int) -> None:
        """Send a block; where the scheduler has gone, :meth:`next` calls it lost. Raises if it cannot be pickled."""
        client, future = self._client, None
        try:
            # Why no retries of Dask's own? They come at once, mostly on the same worker, and nobody hears of them.
            future = client.submit(job, number, pure=False, retries=0, key=_key(job, number))  # type: ignore[union-attr]
            future.add_done_callback(lambda done: self._ended.put((client, number, done)))
        except Exception:
            if not self._broken():
                raise
        self._flying[number] = future

    def next(self, timeout: float) -> Iterable[Outcome]:
        """Blocks that ended; where the scheduler has gone, all that were in flight, as lost."""
        outcomes = list(self._collect(timeout))
        if self._broken():
            outcomes += [Outcome(number, lost=True) for number in self._flying]
            self._flying.clear()
            self.say(f"{self.cluster} has gone; looking for it")
            self._connect(begin=time.monotonic(), patience=self.patience.scheduler)
            self.say(f"{self.cluster} is there again")
        self._look()
        return outcomes

    def drop(self) -> None:
        """Cancel what is in flight."""
        futures = [future for future in self._flying.values() if future is not None]
        self._flying.clear()
        with suppress(Exception):
            if futures and not self._broken():
                self._client.cancel(futures, force=True)  # type: ignore[union-attr]

    def close(self) -> None:
        """Leave the scheduler, and end the cluster if it was started here."""
        self._leave()
        self.cluster.close()

    def __str__(self) -> str:
        return str(self.cluster)

    def _collect(self, timeout: float) -> Iterable[Outcome]:
        until = time.monotonic() + timeout
        while True:
            try:
                client, number, future = self._ended.get(timeout=max(until - time.monotonic(), 0.0))
            except queue.Empty:
                return
            if client is not self._client or self._flying.get(number) is not future:
                continue  # of a connection that was given up, or of a stage that was dropped
            outcome = self._outcome(number, future)
            if outcome is not None:
                del self._flying[number]
                until = 0.0  # hand over what is there, and wait for no more
                yield outcome

    def _outcome(self, number: int, future: "Future") -> Outcome | None:
        """How a block ended; None if it did not: its outcome died with a worker, and Dask computes it again."""
        from distributed import KilledWorker

        try:
            return future.result(timeout=ANSWER)
        except KilledWorker as error:
            cause = f"its worker died, {error.allowed_failures + 1} times in all: is the memory enough?"
            return Outcome(number, cause=cause, trace=str(error), final=True)
        except TimeoutError:
            client = self._client
            future.add_done_callback(lambda done: self._ended.put((client, number, done)))
            return None
        except (CancelledError, OSError):
            return Outcome(number, lost=True)
        except Exception as error:
            cause = f"it cannot be read there ({in_a_line(error.__cause__ or error)}): is segkit the same everywhere?"
            return Outcome(number, cause=cause, trace=repr(error))

    def _broken(self) -> bool:
        return getattr(self._client, "status", None) != "running" or None in self._flying.values()

    def _connect(self, begin: float, patience: float) -> None:
        self._leave()
        while True:
            try:
                self._client = self.cluster.connect(min(CONNECT, patience))
                self._looked, self._known = 0.0, set()
                return
            except (OSError, TimeoutError) as error:
                if time.monotonic() - begin < patience:
                    time.sleep(min(0.2, patience))
                    continue
                raise self._gone(f"no scheduler answers ({in_a_line(error)})", patience) from error

    def _leave(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                client.close(timeout=2)

    def _wait_for_a_worker(self) -> None:
        while True:
            self._look()
            if self.workers:
                return
            time.sleep(0.05)

    def _look(self) -> None:
        """See how many workers there are; raise once there has been none for too long."""
        now = time.monotonic()
        if now - self._looked < (LOOK if self.workers else 0.1):
            return
        self._looked = now
        with suppress(Exception):  # the connection broke just now: the next call of `next` sees to it
            threads = self._client.nthreads()  # type: ignore[union-attr]
            self._counts = (len(threads), sum(threads.values()))
            gone, self._known = sorted(self._known - set(threads)), set(threads)
            if gone:
                self.say(f"{_named(gone)}{self.cluster.why()}; what was computed there is computed by another")
        try:
            self.cluster.keep_up()
        except ClusterUnavailable as error:
            self.say(str(error))
        if self.workers:
            self._missing_since = None
        elif self._missing_since is None:
            self._missing_since = now
            self.say(f"{self.cluster} has no worker; waiting for one")
        elif now - self._missing_since > self.patience.workers:
            raise self._gone("there is no worker", self.patience.workers)

    def _gone(self, what: str, waited: float) -> ClusterUnavailable:
        rule = f"cannot compute: {what}, {waited:.0f} s long"
        next_step = "start it, and give the same command again: blocks that are done are kept"
        return ClusterUnavailable(sentence(f"{self.cluster}", rule, next_step=next_step))


def client_of(*where: object, timeout: float, **options: object) -> "Client":
    """Connect, within `timeout` seconds. Raises OSError where no scheduler answers."""
    from distributed import Client

    return Client(*where, **options, timeout=timeout, set_as_default=False, name="segkit")


def _named(workers: Sequence[str]) -> str:
    """Workers that have ended, by their addresses.

    >>> _named(["tcp://a:1"]), _named(["tcp://a:1", "tcp://a:2", "tcp://a:3", "tcp://a:4"])
    ('the worker tcp://a:1 has ended', '4 workers have ended (tcp://a:1, tcp://a:2, tcp://a:3, ...)')
    """
    if len(workers) == 1:
        return f"the worker {workers[0]} has ended"
    return f"{len(workers)} workers have ended ({', '.join(workers[:3])}{', ...' * (len(workers) > 3)})"


def _key(job: Job, number: int) -> tuple[str, int, int]:
    """Unlike all before, also of the same block; Dask's pages group by the first part."""
    return (job.name, number, time.monotonic_ns())
