"""Run by Dask in each worker process on this machine, when it starts."""

import signal
from contextlib import suppress


def dask_setup(worker: object) -> None:
    """Leave Ctrl-C, which the terminal sends to all processes, to the driver: it ends the workers in order."""
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)
