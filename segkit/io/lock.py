"""Locks: one process at a time in the folder of a run, and at a file or an object while it is written.

A lock is a small hidden file that says who holds it. It appears in one step, by a hard link (by exclusive creation
where there are none), which file systems of a network keep too; while its holder lives it is locked in the system as
well (on Windows it is open, and what is open cannot be removed). One whose holder has ended is taken over. Of a holder
on another host nobody here can tell: it is refused, and the message names the file to remove. A kill -9 leaves the
file, and the next who comes takes it over.
"""

import errno
import json
import math
import os
import shlex
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

from segkit import system
from segkit.errors import InUse, SegkitWarning, StorageError, sentence
from segkit.io.atomic import hidden, left_over, mend, replacing, storage_errors
from segkit.io.fetch import cache_folder
from segkit.io.remote import Remote

PATIENCE = 600.0
"""Seconds that who writes a file waits for another who does, rather than lose what was computed."""
LOOK = 0.05
"""Seconds between two looks at a lock."""
HUSH = 2.0
"""Seconds of waiting about which nothing is said."""
RUN_LOCK = ".run.lock"
"""Name of the lock in the folder of a run."""
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What file systems without hard links say."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock."""

    host: str
    pid: int
    start: str | None
    """What tells the process from a later one of the same number."""
    command: str
    since: str
    """When the lock was taken."""

    @classmethod
    def this(cls) -> "Holder":
        """This process, now."""
        command, since = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200], time.strftime("%Y-%m-%d %H:%M:%S")
        return cls(socket.gethostname(), os.getpid(), start_of(os.getpid()), command, since)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} ({self.command}), since {self.since}"


@dataclass
class _Held:
    """A lock of this process."""

    thread: threading.RLock
    pid: int
    file: int = -1
    depth: int = 0


_held: dict[Path, _Held] = {}
_changing = threading.Lock()


def lock_of(path: Path | Remote, name: str = "") -> Path:
    """The lock of what is written at `path`, or of the object `name` in the store there: a file beside it.

    Of a bucket it lies on this machine, among what was fetched, and holds for it alone.
    """
    if isinstance(path, Remote):
        folder = cache_folder() / "locks"
        with storage_errors("written", folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder / f".{blake2b(f'{path}@{name}'.encode(), digest_size=16).hexdigest()}.lock"
    place = Path(os.path.realpath(path))
    return place.with_name(f".{place.name}{'@' * bool(name)}{name.replace('/', '.')}.lock")


@contextmanager
def locked(lock: Path, what: str, patience: float = 0.0) -> Iterator[None]:
    """Hold a lock for `what`, a folder or a file; the thread that holds it may take it again.

    What killed processes have left beside the file is mended or removed first, see :func:`segkit.io.atomic.mend`.
    Raises InUse if another has it and does not give it back within `patience` seconds.
    """
    held = _mine(lock)
    until = time.monotonic() + patience
    if not held.thread.acquire(timeout=max(patience, LOOK)):
        raise _in_use(what, lock, Holder.this())
    try:
        if not held.depth:
            with storage_errors("written", lock):
                held.file = _take(lock, what, until)
        held.depth += 1
        try:
            if held.depth == 1:
                mend(_beside(lock))
            yield
        finally:
            held.depth -= 1
            if not held.depth:
                _release(lock, held)
    finally:
        held.thread.release()


@contextmanager
def locked_run(folder: Path) -> Iterator[None]:
    """Hold the folder of a run, which is made if need be, and removed again if nothing has come into it.

    The lock lies in the folder, for the one around it need not be writable. Raises InUse.
    """
    folder = Path(os.path.realpath(folder))
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    with storage_errors("written", folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder / RUN_LOCK, f"the run {folder}"):
            yield
    finally:
        with suppress(OSError):
            for each in made:
                each.rmdir()


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Replace what lies at `path`, see :func:`segkit.io.atomic.replacing`, as the only one who does.

    Raises InUse after :data:`PATIENCE`.
    """
    with locked(lock_of(path), str(path), PATIENCE), replacing(path) as temporary:
        yield temporary


def restore(path: Path, name: str = "") -> None:
    """Put what lies at `path`, or the object `name` in the store there, back where a killed process moved it aside.

    Nothing happens where it is there, or is being replaced just now, or where nothing may be changed.
    """
    place = path / name
    if not place.exists() and any(kind == "old" for kind, _ in left_over(place)):
        with suppress(InUse, StorageError), locked(lock_of(path, name), str(place), LOOK):
            mend(place)


def start_of(pid: int) -> str | None:
    """What tells a process from another of the same number; None if there is none, or one that has ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return None if state in "ZX" else f"{boot} {fields[18]}"
    except (OSError, IndexError):
        if Path("/proc/self/stat").exists() or system.WINDOWS:
            return None
    found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


def _mine(lock: Path) -> _Held:
    """What this process holds of a lock; a process that was forked holds nothing."""
    with _changing:
        held = _held.get(lock)
        if held is None or held.pid != os.getpid():
            held = _held[lock] = _Held(threading.RLock(), os.getpid())
        return held


def _take(lock: Path, what: str, until: float) -> int:
    """Take a lock, and return its open file. One that is not there, nor ours to take over, is waited for."""
    hush = time.monotonic() + HUSH
    while True:
        file = _taken_over(lock) if lock.exists() else _created(lock)
        if file is not None:
            return file
        holder = _holder(lock)
        now = time.monotonic()
        if now >= until and (holder is not None or now > hush):
            raise _in_use(what, lock, holder)
        if now > hush:
            warnings.warn(f"waiting for {holder}, to write {what}", SegkitWarning, stacklevel=2)
            hush = math.inf
        time.sleep(LOOK)


def _in_use(what: str, lock: Path, holder: Holder | None) -> InUse:
    next_step = "wait until it has ended, or end it"
    if holder is None or holder.host != socket.gethostname():
        next_step += f"; if it has ended, remove {lock}"
    return InUse(sentence(what, f"is in use by {holder or 'a process that has not said who it is'}", None, next_step))


def _created(lock: Path) -> int | None:
    """The open file of a new lock; None if there is one already."""
    if system.WINDOWS:  # there the other name of a file that is open could not be removed
        return _created_alone(lock)
    temporary, file = _written(lock)
    try:
        os.link(temporary, lock)
        return file
    except (FileExistsError, FileNotFoundError):  # the latter where who held it has just tidied up
        os.close(file)
        return None
    except OSError as error:
        os.close(file)
        if error.errno in NO_LINKS:
            return _created_alone(lock)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _created_alone(lock: Path) -> int | None:
    """The same where there are no hard links."""
    try:
        file = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
    except FileExistsError:
        return None
    _fill(file)
    return file


def _beside(lock: Path) -> Path:
    """What a lock is for, a path beside it."""
    return lock.with_name(lock.name[1:].removesuffix(".lock"))


def _written(lock: Path) -> tuple[Path, int]:
    """A file that says that this process holds the lock, under a name that :func:`mend` knows, and open."""
    temporary = hidden(_beside(lock), "tmp")
    file = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
    try:
        _fill(file)
    except BaseException:
        os.close(file)
        os.unlink(temporary)
        raise
    return temporary, file


def _fill(file: int) -> None:
    _is_free(file)
    os.write(file, json.dumps(asdict(Holder.this())).encode())


def _is_free(file: int) -> bool:
    """Whether nobody who lives has locked the file in the system; if so, this process has now."""
    if system.fcntl is None:
        return True
    try:
        system.fcntl.lockf(file, system.fcntl.LOCK_EX | system.fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)  # else the file system has no such locks
    return True


def _taken_over(lock: Path) -> int | None:
    """The open file of a lock that was taken over from a process that has ended; None if that is not so."""
    if system.WINDOWS:
        return _taken_from_closed(lock)
    with suppress(FileNotFoundError):
        old = os.open(lock, os.O_RDWR)
        try:  # until it is closed, nobody else takes the old one over
            if not _is_free(old) or not os.path.samestat(os.fstat(old), os.stat(lock)):
                return None
            holder = _holder(lock, old)
            if holder is None or holder.host != socket.gethostname() or _lives(holder):
                return None
            temporary, file = _written(lock)
            os.replace(temporary, lock)
            return file
        finally:
            os.close(old)
    return None


def _taken_from_closed(lock: Path) -> int | None:
    """The same on Windows, where a lock can be removed once no process has it open."""
    holder = _holder(lock)
    if holder is None or holder.host != socket.gethostname():
        return None
    try:
        lock.unlink(missing_ok=True)
    except PermissionError:
        return None
    return _created_alone(lock)


def _lives(holder: Holder) -> bool:
    return holder.start is not None and start_of(holder.pid) == holder.start


def _holder(lock: Path, file: int | None = None) -> Holder | None:
    """Who a lock says holds it; None if it has gone, or is being written where there are no hard links."""
    try:
        return Holder(**json.loads(lock.read_text() if file is None else system.read_start(file, 1 << 16)))
    except (OSError, ValueError, TypeError):
        return None


def _release(lock: Path, held: _Held) -> None:
    if held.pid != os.getpid():
        return
    mine = False
    with suppress(OSError):
        mine = os.path.samestat(os.fstat(held.file), os.stat(lock))  # else somebody removed it
        if mine and not system.WINDOWS:
            os.unlink(lock)
    os.close(held.file)
    if mine and system.WINDOWS:
        with suppress(OSError):
            os.unlink(lock)
