"""The processes that train one network, each on a device of its own: their launch, what they exchange, their ends.

Fabric (:mod:`lightning_fabric`) places the network on the devices and averages the gradients; the processes are started
here, since what one of them dies of must be said by the first.
"""

import gc
import mmap
import os
import pickle
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from segkit.errors import InvalidInput, InvalidParameter, SegkitError, TrainingFailed, sentence
from segkit.memory import keep_freed
from segkit.models.device import resolve_device
from segkit.train.config import TrainConfig

T = TypeVar("T")

TIMEOUT = timedelta(hours=6)
"""How long a process waits for the others: while rank 0 validates, they have nothing to do."""
GRACE_SECONDS = 5.0
"""How long another process may take to end after rank 0 has lost it, and to leave the reason."""


def check_devices(config: TrainConfig) -> None:
    """Raise InvalidInput if a device is absent, and InvalidParameter if it cannot do what the settings want of it."""
    device = resolve_device(config.device)
    if config.precision == "fp16" and device.type == "cpu":
        next_step = "set precision=bf16 or 32, or train on a GPU"
        raise InvalidParameter(sentence("precision", "must be 32 or bf16 on a CPU", repr("fp16"), next_step))
    if config.devices == 1:
        return
    if config.batch_size % config.devices:
        rule, value = f"must be a multiple of devices, {config.devices}", config.batch_size
        raise InvalidParameter(sentence("batch_size", rule, value, f"set batch_size={config.devices}, say"))
    present = torch.cuda.device_count() if device.type == "cuda" else 1 if device.type == "mps" else config.devices
    if device.index is not None or config.devices > present:
        rule = f"must be at most {present} and device without a number" if present > 1 else "must be 1 here"
        raise InvalidInput(sentence("devices", rule, f"{config.devices} of {config.device!r}"))


def threads_per_process(config: TrainConfig) -> int | None:
    """Divide the CPU threads among the processes; None leaves torch's own choice."""
    if config.devices == 1 or config.threads is not None:
        return config.threads
    return max(torch.get_num_threads() // config.devices, 1)


def world_size() -> int:
    """Count the processes that train together; 1 outside :func:`launched`."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process among them, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def on_rank_zero(work: Callable[[], T]) -> T:
    """Run `work` on rank 0 and broadcast to all ranks what it returns, or the SegkitError that it raises."""
    if world_size() == 1:
        return work()
    outcome: list[Any] = [None, None]
    if rank() == 0:
        try:
            outcome[0] = work()
        except SegkitError as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def mean_over_ranks(values: Mapping[str, float]) -> dict[str, float]:
    """Average values that all ranks have, by name."""
    if world_size() == 1:
        return dict(values)
    sums = torch.tensor(list(values.values()), dtype=torch.float64)
    dist.all_reduce(sums)
    return dict(zip(values, (sums / world_size()).tolist(), strict=True))


def any_over_ranks(flags: Mapping[str, Tensor]) -> dict[str, bool]:
    """Say which flags are set on any rank; all ranks have flags of these names."""
    seen = {name: bool(flag) for name, flag in flags.items()}
    if world_size() == 1 or not seen:
        return seen
    found = torch.tensor([seen[name] for name in sorted(seen)], dtype=torch.uint8)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return seen | dict(zip(sorted(seen), map(bool, found.tolist()), strict=True))


@contextmanager
def launched(devices: int, device: str, work: Callable[..., None], *arguments: object) -> Iterator[None]:
    """Launch `devices` - 1 processes that call ``work(*arguments)`` as ranks 1, 2, ... while the block runs as rank 0.

    `work` is a function of a module and `arguments` can be pickled; arrays reach the others through files that all
    map into memory. An error of another process ends the block, and is raised here.
    """
    if devices == 1:
        yield
        return
    with TemporaryDirectory(prefix="segkit-") as name:
        folder = Path(name)
        _write_call(folder, (work, arguments))
        others = [_start(folder, number, devices, device) for number in range(1, devices)]
        try:
            _wait_until_ready(folder, others)
            with process_group(0, devices, folder, device), _failures_of(folder, others):
                yield
                dist.barrier()
        finally:
            _kill(others)


@contextmanager
def process_group(number: int, devices: int, folder: Path, device: str) -> Iterator[None]:
    """Make this process rank `number` of `devices`, which meet in `folder`, inside the block.

    The group outlives the block except on rank 0: the others are to end without taking it apart.
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
            _destroy_group()


def _destroy_group() -> None:
    """End the group of this process.

    Gloo's thread drops what is left of the last exchange with Python's lock, and the group waits for that thread while
    it has the lock, if it is taken apart at once.
    """
    gc.collect()  # what DistributedDataParallel leaves holds the group in cycles
    time.sleep(0.2)
    dist.destroy_process_group()
    gc.collect()


@contextmanager
def _failures_of(folder: Path, others: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Raise what another process failed by in place of the RuntimeError that its end is to this one.

    It looks while the group is there, for without this process the others fail too.
    """
    try:
        yield
    except SegkitError:
        raise
    except RuntimeError as error:
        raise _failure(folder, others) or error from error


def _wait_until_ready(folder: Path, others: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until the others can meet. Raises the reason why one of them cannot: nobody would wait for it in vain."""
    while not all((folder / f"ready-{number}").exists() for number in range(1, len(others) + 1)):
        if any(other.poll() is not None for other in others):
            ended = TrainingFailed("a process of training has ended before it was ready; start training again")
            raise _failure(folder, others) or ended
        time.sleep(0.02)


def _write_call(folder: Path, call: object) -> None:
    """Pickle a function and its arguments into `folder`, each array in a file of its own."""
    arrays: list[pickle.PickleBuffer] = []
    (folder / "call").write_bytes(pickle.dumps(call, protocol=5, buffer_callback=arrays.append))
    for number, array in enumerate(arrays):
        (folder / f"array-{number}").write_bytes(array.raw())


def _read_call(folder: Path) -> tuple[Callable[..., None], Sequence[object]]:
    paths = (folder / f"array-{number}" for number in range(len(list(folder.glob("array-*")))))
    return pickle.loads((folder / "call").read_bytes(), buffers=map(_mapped, paths))


def _mapped(path: Path) -> mmap.mmap | bytes:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""


def _start(folder: Path, number: int, devices: int, device: str) -> subprocess.Popen[bytes]:
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    words = [sys.executable, "-P", "-m", "segkit.train.distributed"]
    words += [str(folder), str(number), str(devices), device]
    with (folder / f"output-{number}").open("wb") as output:
        environment = os.environ | {"PYTHONPATH": path}
        return subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def _failure(folder: Path, others: Sequence[subprocess.Popen[bytes]]) -> SegkitError | None:
    """Say why the first of the others that failed did so; None if none has ended by itself."""
    until = time.monotonic() + GRACE_SECONDS
    while all(other.poll() is None for other in others) and time.monotonic() < until:
        time.sleep(0.02)
    ended = [number for number, other in enumerate(others, start=1) if other.poll() is not None]
    for path in (folder / f"error-{number}" for number in ended):
        if path.exists():
            return pickle.loads(path.read_bytes())
    for number in ended:
        if code := others[number - 1].returncode:
            lines = (folder / f"output-{number}").read_text(errors="replace").splitlines()
            why = lines[-1] if lines else f"exit code {code}"
            return TrainingFailed(sentence(f"process {number} of training", f"has ended ({why})"))
    return None


def _kill(others: Sequence[subprocess.Popen[bytes]]) -> None:
    """Kill what has not ended by itself; nothing that the others could still do counts."""
    for other in others:
        other.kill()
        other.wait()


def _run_launched(folder: Path, number: int, devices: int, device: str) -> int:
    """Run this process as rank `number`: make the call that rank 0 has left in `folder`. Returns the exit code."""
    keep_freed()
    try:
        work, arguments = _read_call(folder)
        (folder / f"ready-{number}").touch()
        with process_group(number, devices, folder, device):
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
    from segkit.train import distributed  # one module, whether it is run or imported

    code = distributed._run_launched(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    sys.stderr.flush()
    os._exit(code)  # why not the usual end? See _destroy_group
