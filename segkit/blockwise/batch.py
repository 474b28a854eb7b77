"""Workers that are jobs of a batch system (SLURM, LSF, PBS ...), through dask-jobqueue."""

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkit.blockwise.on_dask import SETTINGS, THREADS, Cluster, client_of
from segkit.errors import BrokenComponent, ClusterUnavailable, InvalidParameter, MissingFile, sentence
from segkit.io.atomic import check_kept
from segkit.memory import KEEPING

if TYPE_CHECKING:
    from distributed import Client


RETRY = 60.0
"""Seconds before a batch system that refused a job is asked again."""


class Jobs(Cluster):
    """Workers that are jobs of a batch system, submitted by dask-jobqueue, with a scheduler in this process."""

    def __init__(self, file: Path, threads: int | None = None) -> None:
        """Submits the jobs. Raises ClusterUnavailable where the batch system takes none."""
        import dask

        settings = read_settings(file)
        self.file, self.kind, self.jobs, self.wait = file, settings["cluster"], settings["jobs"], settings["wait"]
        make = _job_class(file, self.kind)
        self._not_before = 0.0
        self._stack = ExitStack()
        try:
            self._stack.enter_context(dask.config.set(SETTINGS))
            self._stack.enter_context(_quiet("tornado.application", "asyncio"))
            self._cluster = make(**self._completed(dict(settings["arguments"]), make.job_cls.config_name, threads))
            self._stack.callback(self._end)
            self.keep_up()
        except (TypeError, ValueError) as error:
            self._stack.close()
            cause = " ".join(str(error).split())
            raise InvalidParameter(sentence(f"{file}: arguments", f"do not fit {self.kind} ({cause})")) from error
        except BaseException:
            self._stack.close()
            raise

    def _completed(self, arguments: dict, system: str, threads: int | None) -> dict:
        """The user's arguments, and what blocks need beside; sets the number of threads."""
        from dask import config

        def given(name: str, otherwise: object) -> object:
            return arguments.get(name) or config.get(f"jobqueue.{system}.{name.replace('_', '-')}", None) or otherwise

        processes = given("processes", 1)
        self.threads = threads or max(1, int(given("cores", 1)) // int(processes))  # type: ignore[call-overload]
        # One block at a time a process: the last --nthreads is the one that counts.
        extra = [*given("worker_extra_args", []), "--nthreads", "1"]  # type: ignore[misc]
        prologue = [*given("job_script_prologue", []), *self._exports()]  # type: ignore[misc]
        return arguments | {"processes": processes, "worker_extra_args": extra, "job_script_prologue": prologue}

    def _exports(self) -> list[str]:
        memory = [name for name in SETTINGS if ".worker.memory." in name]
        lines = {f"DASK_{name.upper().replace('.', '__')}": str(SETTINGS[name]) for name in memory}
        lines |= {name: str(self.threads) for name in THREADS} | {"PYTHONSAFEPATH": "1"}
        lines |= {name: str(value) for name, value in KEEPING.items()}  # else Dask sets its own
        return [f"export {name}={value}" for name, value in lines.items()]

    def connect(self, timeout: float) -> "Client":
        """A client of the scheduler in this process."""
        return client_of(self._cluster, timeout=timeout)

    def keep_up(self) -> None:
        """Submit jobs in place of those that ended: by their time limit, say."""
        submitted = [job for job in self._cluster.workers.values() if job.job_id is not None]
        if len(submitted) >= self.jobs or time.monotonic() < self._not_before:
            return
        try:
            self._cluster.sync(self._submit)
        except (RuntimeError, OSError) as error:
            self._not_before = time.monotonic() + RETRY
            rule = f"submits no job ({' '.join(str(error).split())})"
            raise ClusterUnavailable(
                sentence(f"{self}", rule, next_step="mend the file, or ask who runs it")
            ) from error

    async def _submit(self) -> None:
        cluster = self._cluster
        for name, job in list(cluster.workers.items()):
            if job.job_id is None:  # the batch system took it not, last time
                del cluster.workers[name]
        cluster.scale(jobs=self.jobs)
        # Why not leave it at that? Dask submits in the background, where errors are only logged.
        await cluster._correct_state()

    def _end(self) -> None:
        with suppress(Exception):  # what ended badly ends badly once more
            self._cluster.close(timeout=30)

    def close(self) -> None:
        """Cancel the jobs."""
        self._stack.close()

    def __str__(self) -> str:
        return f"{self.kind} of {self.file} ({self.jobs} job{'s' * (self.jobs > 1)})"


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Keep loggers from printing the tracebacks of errors that are raised as well."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def read_settings(file: Path) -> dict[str, Any]:
    """The content of a file of a batch system, checked, with what it leaves out. Raises MissingFile, InvalidParameter.

    Keys: `cluster`, the name of a class of dask_jobqueue; `jobs`, how many; `arguments`, of that class; `wait`, how
    many seconds to wait for a first job to start, a day if not given.
    """
    import yaml

    if not file.exists():
        raise MissingFile(
            sentence(f"cluster file {file}", "must exist", next_step="write it as docs/how-to/cluster.md says")
        )
    check_kept(file)
    try:
        text = file.read_text()
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise yaml.YAMLError("it has aliases (*name), which may grow without bound")
        settings = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        message = " ".join(str(error).split())
        raise InvalidParameter(sentence(f"cluster file {file}", f"must be YAML ({message})")) from error
    kinds: dict[str, type | tuple[type, ...]] = {"cluster": str, "jobs": int, "arguments": dict, "wait": (int, float)}
    if not isinstance(settings, dict):
        raise InvalidParameter(sentence(f"cluster file {file}", f"must hold the keys {', '.join(kinds)}", settings))
    for key in settings.keys() - kinds.keys():
        raise InvalidParameter(sentence(f"{file}: {key}", f"must be one of {', '.join(kinds)}"))
    for key in ("cluster", "jobs"):
        if key not in settings:
            raise InvalidParameter(sentence(f"{file}: {key}", "must be given", next_step="see docs/how-to/cluster.md"))
    defaults: dict[str, Any] = {"arguments": {}, "wait": 86400.0}
    settings = defaults | settings
    rules = {"cluster": "a name", "arguments": "a mapping", "jobs": "a number from 1 on", "wait": "seconds"}
    for key, kind in kinds.items():
        value = settings[key]
        fits = isinstance(value, kind) and not isinstance(value, bool)
        if not fits or (key in ("jobs", "wait") and value <= 0):
            raise InvalidParameter(sentence(f"{file}: {key}", f"must be {rules[key]}", repr(value)))
    return settings


def _job_class(file: Path, name: str) -> type[Any]:
    try:
        import dask_jobqueue
    except ImportError as error:
        rule = f"needs dask-jobqueue ({error})"
        raise BrokenComponent(sentence(f"{file}", rule, next_step="pip install 'segkit-em[jobqueue]'")) from error
    known = sorted(each for each in vars(dask_jobqueue) if each.endswith("Cluster") and each != "JobQueueCluster")
    if name not in known:
        raise InvalidParameter(sentence(f"{file}: cluster", f"must be one of {', '.join(known)}", name))
    return getattr(dask_jobqueue, name)
