"""What `--cluster` names: processes of this machine, a running scheduler, or jobs of a batch system.

The file of a batch system, all options and advice on scale are in docs/how-to/cluster.md.
"""

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from segkit.blockwise.batch import Jobs
from segkit.blockwise.executor import Executor, Patience, inline
from segkit.blockwise.on_dask import SETTINGS, THREADS, Cluster, OnDask, client_of
from segkit.errors import BrokenComponent, InUse, InvalidParameter, StorageError, sentence
from segkit.io.atomic import remove
from segkit.io.lock import RUN_LOCK, locked_run
from segkit.system import KILLED

if TYPE_CHECKING:
    from distributed import Client

FORMS = "local:N, tcp://HOST:PORT, tls://HOST:PORT, a scheduler file (.json) or a file of a batch system (.yaml)"

STAY = {"distributed.deploy.lost-worker-timeout": "1 day"}
"""Else Dask gives up a process for good that takes longer to start again than this: on a busy machine, say."""


def open_executor(
    spec: str | None = None,
    threads: int | None = None,
    *,
    patience: Patience | None = None,
    say: Callable[[str], None] | None = None,
) -> Executor:
    """The executor that `spec` names: a context manager that connects now and frees all when it ends.

    - None: this process.
    - "local:N": N processes of this machine; each computes one block at a time with its part of the cores.
    - "tcp://HOST:PORT", "tls://HOST:PORT", or the scheduler file "NAME.json": a scheduler that is running.
    - "FILE.yaml": jobs of a batch system, through dask-jobqueue; they end with the executor.

    `threads` is for all of this machine where `spec` is None or "local:N", else for each block. `say` hears what there
    is to tell while it waits for workers. Raises InvalidParameter for a `spec` of no such form or a file that does not
    fit, MissingFile, BrokenComponent where Dask is not installed, ClusterUnavailable where nobody answers.
    """
    if spec is None:
        executor = inline(patience)
        executor.threads = threads
        return executor
    cluster = _cluster(str(spec), threads)
    if isinstance(cluster, Jobs):
        patience = replace(patience or Patience(), workers=cluster.wait)
    return OnDask(cluster, patience, say)


def _cluster(spec: str, threads: int | None) -> Cluster:
    kind, _, rest = spec.partition(":")
    if kind == "local":
        if not rest.isdecimal() or int(rest) < 1:
            raise InvalidParameter(sentence("cluster", "must be local:N with N >= 1", spec, "write local:2, say"))
        _check_dask(spec)
        return Local(int(rest), threads)
    if spec.startswith(("tcp://", "tls://")) or spec.endswith(".json"):
        _check_dask(spec)
        return Running(spec, threads)
    if spec.endswith((".yaml", ".yml")):
        _check_dask(spec)
        return Jobs(Path(spec), threads)
    raise InvalidParameter(sentence("cluster", f"must be {FORMS}", spec))


def _check_dask(spec: str) -> None:
    try:
        import cryptography  # noqa: F401  # for the credentials of local clusters
        import distributed  # noqa: F401
    except ImportError as error:
        rule = f"needs Dask ({error})"
        raise BrokenComponent(sentence(f"cluster {spec}", rule, next_step="pip install 'segkit-em[dask]'")) from error


class Local(Cluster):
    """Processes of this machine, which Dask starts again where one dies, with a scheduler in this process.

    They talk TLS on the loopback address, with credentials that are made anew and kept in memory: no other user of the
    machine can connect.
    """

    def __init__(self, processes: int, threads: int | None = None) -> None:
        import dask
        from dask.system import CPU_COUNT
        from distributed import LocalCluster
        from distributed.security import Security

        self.processes = processes
        self.threads = max(1, (threads or CPU_COUNT) // processes)
        self._ends: list[int] = []
        self._stack = ExitStack()
        try:
            self._stack.enter_context(_safe_path())
            folder = self._stack.enter_context(scratch())
            self._stack.enter_context(dask.config.set(SETTINGS | STAY | {"temporary-directory": folder}))
            self._stack.enter_context(_quiet_tracker())
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Port .* is already in use")
                self._cluster = LocalCluster(
                    n_workers=processes,
                    threads_per_worker=1,
                    processes=True,
                    worker_class=_keeper(self._ends),
                    security=Security.temporary(),
                    dashboard_address="127.0.0.1:8787",
                    local_directory=folder,
                    env={name: str(self.threads) for name in THREADS},
                    preload=["segkit.blockwise._preload"],
                    silence_logs=logging.CRITICAL,
                )
            self._stack.callback(self._cluster.close, timeout=10)
        except BaseException:
            self._stack.close()
            raise

    def connect(self, timeout: float) -> "Client":
        """A client of the scheduler in this process."""
        return client_of(self._cluster, timeout=timeout)

    def keep_up(self) -> None:
        """Start a worker process again that died together with its keeper; Dask starts others again by itself."""
        if len(self._cluster.workers) < self.processes:
            self._cluster.scale(self.processes)

    def why(self) -> str:
        """By the exit codes of the processes."""
        ends, self._ends[:] = set(self._ends), []
        said = [f"killed by signal {-code}" if code < 0 else f"exit code {code}" for code in sorted(ends)]
        memory = ": is the memory enough?" if -KILLED in ends else ""
        return f" ({', '.join(said)}{memory})" if said else ""

    def close(self) -> None:
        """End the processes."""
        self._stack.close()

    def __str__(self) -> str:
        return f"{self.processes} process{'es' * (self.processes > 1)} of this machine"


SCRATCH = "segkit-dask-"
"""What the names of folders begin with, in the folder for temporary files, that are used by drivers."""


@contextmanager
def scratch() -> Iterator[str]:
    """A folder for what Dask writes; those of drivers that were killed are removed."""
    temporary, own = Path(tempfile.gettempdir()), f"{SCRATCH}{os.getpid()}-"
    for old in temporary.glob(f"{SCRATCH}*"):
        if old.name.startswith(own):
            continue
        with suppress(InUse, StorageError), locked_run(old):
            _empty(old)
        with suppress(OSError):
            old.rmdir()
    folder = temporary / f"{own}{uuid4().hex[:12]}"
    with locked_run(folder):  # which removes it in the end
        try:
            yield str(folder)
        finally:
            _empty(folder)


def _empty(folder: Path) -> None:
    for item in folder.iterdir():
        if item.name != RUN_LOCK:
            remove(item)


def _keeper(ends: list[int]) -> type:
    """What Dask keeps a worker by; it notes the exit codes."""
    from distributed import Nanny

    class Keeper(Nanny):
        def _on_worker_exit_sync(self, exitcode: int) -> None:
            ends.append(exitcode)
            super()._on_worker_exit_sync(exitcode)

    return Keeper


@contextmanager
def _safe_path() -> Iterator[None]:
    """Let no process that is started meanwhile, Python's own helper included, take code from the working directory."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        os.environ.pop("PYTHONSAFEPATH")
        if before is not None:
            os.environ["PYTHONSAFEPATH"] = before


@contextmanager
def _quiet_tracker() -> Iterator[None]:
    """Keep Python's process that looks after semaphores from warning of those that a killed process has left."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [before, "ignore:resource_tracker"]))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


class Running(Cluster):
    """A scheduler that somebody else started, by its address or its scheduler file. Its settings are left alone."""

    def __init__(self, spec: str, threads: int | None = None) -> None:
        self.spec = spec
        self.threads = threads or 1
        """One, because such workers mostly compute as many blocks at once as there are cores."""

    def connect(self, timeout: float) -> "Client":
        """A new client; the scheduler file is read anew, for a scheduler that was started again may be elsewhere."""
        if not self.spec.endswith(".json"):
            return client_of(self.spec, timeout=timeout)
        if not Path(self.spec).exists():
            raise FileNotFoundError(f"there is no file {self.spec}")
        return client_of(scheduler_file=self.spec, timeout=timeout)

    def keep_up(self) -> None:
        """Do nothing: who started the scheduler sees to its workers."""

    def close(self) -> None:
        """Do nothing: the scheduler goes on running."""

    def __str__(self) -> str:
        return f"the scheduler {self.spec}"
