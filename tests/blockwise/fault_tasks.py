"""A stage whose right results are known, and what can go wrong with it. Every run of a block is a line of a log."""

import errno
import hashlib
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segkit.blockwise.engine import BlockTask, Stage
from segkit.errors import StorageError
from segkit.io.atomic import replacing


@dataclass(frozen=True)
class Squares(BlockTask):
    """The product of block n is an array full of n squared."""

    folder: Path
    seconds: float = 0.0
    """Each block takes so long."""

    def run(self, number):
        with open(self.folder / "log", "a") as log:
            log.write(f"{number} {os.getpid()}\n")
        time.sleep(self.seconds)
        self.trouble(number)
        self.path(number).parent.mkdir(exist_ok=True)
        with replacing(self.path(number)) as temporary, open(temporary, "wb") as file:
            np.save(file, np.full(1000, number**2, np.uint64))
        return {"square": np.uint64(number**2)}

    def trouble(self, number):
        pass

    def digest(self, number):
        try:
            return hashlib.blake2b(self.path(number).read_bytes()).hexdigest()
        except OSError:
            return None

    def path(self, number):
        return self.folder / "products" / f"{number}.npy"

    def count(self, name):
        """How often this was called with `name`, this time included, by all processes together."""
        path = self.folder / f"count-{name}"
        with open(path, "a") as file:
            file.write(".")
        return path.stat().st_size


@dataclass(frozen=True)
class Raises(Squares):
    """Some blocks raise, the first `times` times."""

    numbers: tuple[int, ...] = ()
    times: int = 10**9

    def trouble(self, number):
        if number in self.numbers and self.count(number) <= self.times:
            raise ValueError(f"block {number} is cursed\nwith a second line")


@dataclass(frozen=True)
class Dies(Squares):
    """Some blocks end their process: so often, each."""

    times: dict[int, int] = field(default_factory=dict)

    def trouble(self, number):
        if number in self.times and self.count(number) <= self.times[number]:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class NoSpace(Squares):
    """From the block `begin` on there is no space, until somebody makes the file "space"."""

    begin: int = 0
    wrapped: bool = False

    def trouble(self, number):
        if number < self.begin or (self.folder / "space").exists():
            return
        error = OSError(errno.ENOSPC, "No space left on device")
        if self.wrapped:
            raise StorageError("the volume cannot be written") from error
        raise error


def stage(task, blocks=12, key="settings"):
    return Stage("squares", task, [1000] * blocks, task.folder / "marks", key)


def runs(folder):
    """The blocks that were computed, as often as they were."""
    path = folder / "log"
    return [int(line.split()[0]) for line in path.read_text().splitlines()] if path.exists() else []


def check(report, folder, blocks=12):
    """The results and products are those of an undisturbed run."""
    assert report.results == [{"square": number**2} for number in range(blocks)]
    for number in range(blocks):
        assert (np.load(folder / "products" / f"{number}.npy") == np.full(1000, number**2, np.uint64)).all()
