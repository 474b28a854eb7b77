"""Memory of this process and of the machine, as the system counts it."""

import os
import re
import sys
from contextlib import suppress
from ctypes import CDLL
from pathlib import Path

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
SMALL = 10**8
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
ARENA_MAX, MMAP_MAX, TRIM_THRESHOLD = -8, -4, -1
"""What `mallopt` of glibc calls them, in <malloc.h>."""
KEEPING = {"MALLOC_ARENA_MAX": 1, "MALLOC_MMAP_MAX_": 0, "MALLOC_TRIM_THRESHOLD_": 2**40}
"""What :func:`keep_freed` does, as the environment of a process that starts; glibc reads it, and nobody else."""
MEMINFO, CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def parse_bytes(text: str) -> int:
    """Read a number of bytes, with a unit or without; ValueError for what is none.

    >>> parse_bytes("4GB"), parse_bytes("1.5 GiB"), parse_bytes("500000000")
    (4000000000, 1610612736, 500000000)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text, re.IGNORECASE)
    if found is None or (found[2] or "B").upper() not in UNITS or not float(found[1]):
        raise ValueError(text)
    return max(int(float(found[1]) * UNITS[(found[2] or "B").upper()]), 1)


def decimal_bytes(count: int) -> str:
    """Bytes as messages give them, in units that --memory takes.

    >>> decimal_bytes(2_500_000_000), decimal_bytes(1_300_000)
    ('2.5 GB', '1.3 MB')
    """
    return f"{count / 1e9:,.1f} GB" if count >= SMALL else f"{count / 1e6:,.1f} MB"


def resident() -> int | None:
    """Bytes resident now; None where the system does not say."""
    return _status("VmRSS")


def forget_peak() -> bool:
    """Let :func:`peak` start anew from what is resident now; False where the system cannot."""
    try:
        CLEAR.write_text("5")
    except OSError:
        return False
    return True


def peak() -> int | None:
    """The most bytes that were ever resident, or since :func:`forget_peak`; None where the system does not say."""
    highest = _status("VmHWM")
    if highest is not None or sys.platform == "win32":
        return highest
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def available() -> int | None:
    """Bytes that may still be taken without swapping, within the limit of a container; None where nothing says so."""
    try:
        stated = re.search(r"^MemAvailable:\s+(\d+) kB", MEMINFO.read_text(), re.MULTILINE)
    except OSError:
        return None
    if stated is None:
        return None
    found = 1024 * int(stated[1])
    with suppress(OSError, ValueError):  # no such files, or "max" for no limit
        found = min(found, int((CGROUP / "memory.max").read_text()) - int((CGROUP / "memory.current").read_text()))
    return max(found, 0)


def give_back() -> None:
    """Return memory that was freed to the system, where its C library can (glibc); no harm elsewhere."""
    with suppress(OSError, AttributeError, TypeError):
        CDLL(None).malloc_trim(0)


def keep_freed() -> bool:
    """Have the C library keep freed memory for whatever asks next, until the process ends; False where it cannot.

    A network on a CPU asks for the memory of each layer anew. glibc returns such large pieces to the system at once,
    which clears every page before it gives it again: that takes much of the time of a network. Afterwards
    all threads share one heap; :func:`give_back` still returns what is free in it. The command line calls this before
    it uses a network; in a program of your own call it before threads are started. It leaves other C libraries alone,
    and does nothing where the environment has settings for malloc (MALLOC_..., GLIBC_TUNABLES).
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return False
    with suppress(OSError, AttributeError, TypeError):
        settings = ((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, -1))  # -1 is the largest size
        mallopt = CDLL(None).mallopt
        return sys.platform == "linux" and all(mallopt(*each) for each in settings)
    return False


def _status(name: str) -> int | None:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None
