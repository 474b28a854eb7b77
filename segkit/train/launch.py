"""Starts the processes that train one network, each on a device of its own, and ends them."""

import gc
import mmap
import os
import pickle
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import distributed as dist

from segkit.errors import SegkitError, TrainingFailed, sentence

TIMEOUT = timedelta(hours=6)
"""How long a process waits for the others: while the first one validates, they have nothing to do."""
LAST_WORDS = 5.0
"""Seconds that another process has to end after the first one has lost it."""


@contextmanager
def together(number: int, devices: int, folder: Path, device: str) -> Iterator[None]:
    """Make this process number `number` of `devices`, which meet in `folder`, inside the block.

    The group outlives the block except in the first process: the others are to end without taking it apart.
    """
    # Its functions take the group of the moment of import as a default, and DistributedDataParallel imports it: with a
    # group already there it would live on, threads and all, into the end of the interpreter, which then may abort.
    import_module("torch.distributed.nn.functional")
    store = dist.FileStore(str(folder / "meeting"), devices)
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    if device == "cuda":
        torch.cuda.set_device(number)
    dist.init_process_group(backend, store=store, rank=number, world_size=devices, timeout=TIMEOUT)
    try:
        yield
    finally:
        if number == 0:
            _leave()


def _leave() -> None:
    """End the group of this process.

    Gloo's thread drops what is left of the last exchange with Python's lock, and the group waits for that thread while
    it has the lock, if it is taken apart at once.
    """
    gc.collect()  # what Lightning and DistributedDataParallel leave holds the group in cycles
    time.sleep(0.2)
    dist.destroy_process_group()
    gc.collect()


@contextmanager
def joined(devices: int, device: str, work: Callable, *arguments: object) -> Iterator[None]:
    """Let `devices` - 1 other processes call ``work(*arguments)`` while the block runs, which is the first's part.

    `work` is a function of a module and `arguments` can be pickled; arrays reach the others through files that all
    map into memory. An error of another process ends the block, and is raised here.
    """
    if devices == 1:
        yield
        return
    with TemporaryDirectory(prefix="segkit-") as name:
        folder = Path(name)
        _pack(folder, (work, arguments))
        others = [_start(folder, number, devices, device) for number in range(1, devices)]
        try:
            _await(folder, others)
            with together(0, devices, folder, device), _blaming(folder, others):
                yield
                dist.barrier()
        finally:
            _end(others)


@contextmanager
def _blaming(folder: Path, others: Sequence[subprocess.Popen]) -> Iterator[None]:
    """Raise what another process failed by in place of the RuntimeError that its end is to this one.

    It looks while the group is there, for without this process the others fail too.
    """
    try:
        yield
    except SegkitError:
        raise
    except RuntimeError as error:
        raise _reason(folder, others) or error from error


def _await(folder: Path, others: Sequence[subprocess.Popen]) -> None:
    """Wait until the others can meet. Raises the reason why one of them cannot: nobody would wait for it in vain."""
    while not all((folder / f"ready-{number}").exists() for number in range(1, len(others) + 1)):
        if any(other.poll() is not None for other in others):
            ended = TrainingFailed("a process of training has ended before it was ready; start training again")
            raise _reason(folder, others) or ended
        time.sleep(0.02)


def _pack(folder: Path, job: object) -> None:
    arrays: list[pickle.PickleBuffer] = []
    (folder / "job").write_bytes(pickle.dumps(job, protocol=5, buffer_callback=arrays.append))
    for number, array in enumerate(arrays):
        (folder / f"array-{number}").write_bytes(array.raw())


def _unpack(folder: Path) -> tuple[Callable, Sequence[object]]:
    paths = (folder / f"array-{number}" for number in range(len(list(folder.glob("array-*")))))
    return pickle.loads((folder / "job").read_bytes(), buffers=map(_mapped, paths))


def _mapped(path: Path) -> mmap.mmap | bytes:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""


def _start(folder: Path, number: int, devices: int, device: str) -> subprocess.Popen:
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    words = [sys.executable, "-m", "segkit.train.launch", str(folder), str(number), str(devices), device]
    with (folder / f"said-{number}").open("wb") as said:
        environment = os.environ | {"PYTHONPATH": path}
        return subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said)


def _reason(folder: Path, others: Sequence[subprocess.Popen]) -> SegkitError | None:
    """Why the first of the others that failed did so; None if none has ended by itself."""
    until = time.monotonic() + LAST_WORDS
    while all(other.poll() is None for other in others) and time.monotonic() < until:
        time.sleep(0.02)
    ended = [number for number, other in enumerate(others, start=1) if other.poll() is not None]
    for path in (folder / f"error-{number}" for number in ended):
        if path.exists():
            return pickle.loads(path.read_bytes())
    for number in ended:
        if code := others[number - 1].returncode:
            lines = (folder / f"said-{number}").read_text(errors="replace").splitlines()
            why = lines[-1] if lines else f"exit code {code}"
            return TrainingFailed(sentence(f"process {number} of training", f"has ended ({why})"))
    return None


def _end(others: Sequence[subprocess.Popen]) -> None:
    """End what has not ended by itself; nothing that the others could still do counts."""
    for other in others:
        other.kill()
        other.wait()


def _main(folder: Path, number: int, devices: int, device: str) -> int:
    """Be one of the other processes. Returns its exit code."""
    try:
        work, arguments = _unpack(folder)
        (folder / f"ready-{number}").touch()
        with together(number, devices, folder, device):
            work(*arguments)
            dist.barrier()
    except SegkitError as error:
        (folder / f"error-{number}").write_bytes(pickle.dumps(error))
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    from segkit.train import launch  # one module, whether it is run or imported

    code = launch._main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    sys.stderr.flush()
    os._exit(code)  # why not the usual end? See _leave
