"""What differs between operating systems: the one place that asks which one this is."""

import os
import signal
import sys
from types import ModuleType

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

WINDOWS = sys.platform == "win32"
"""There a file that is open can be neither removed nor replaced, and a folder cannot be opened."""
KILLED = int(getattr(signal, "SIGKILL", 9))
"""The signal that no process survives."""
BROKEN_PIPE = int(getattr(signal, "SIGPIPE", 13))
"""The signal by which the reader of a pipe ends its writer."""


def cores() -> int:
    """Count the cores that this process may use; all of the machine where the system does not say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_start(file: int, size: int) -> bytes:
    """Read the first `size` bytes of an open file; where it is read next is not kept on Windows."""
    if hasattr(os, "pread"):
        return os.pread(file, size, 0)
    os.lseek(file, 0, os.SEEK_SET)
    return os.read(file, size)


def sync_entry(path: str | os.PathLike[str]) -> None:
    """Let a file, or what a folder lists, survive a crash of the machine.

    On Windows a folder cannot be opened, and its file system keeps what it lists by itself; there a file must be
    open for writing.
    """
    if WINDOWS and os.path.isdir(path):
        return
    descriptor = os.open(path, os.O_RDWR if WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
