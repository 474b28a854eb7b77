"""Compute one block in the process of a worker, read it back and mark it, unless it is done already."""

import errno
import json
import os
import re
import socket
import time
import traceback
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segkit import __version__
from segkit.blockwise.blocks import Lattice
from segkit.blockwise.marks import Mark, read_mark, write_mark
from segkit.errors import BrokenComponent, SegkitError, StorageError, sentence
from segkit.memory import forget_peak, give_back, peak
from segkit.threads import set_thread_limit

FULL = {errno.ENOSPC, errno.EDQUOT}
"""What the system says where there is no space: on the disk, or for this user."""
FULL_TEXT = re.compile("|".join([*map(os.strerror, sorted(FULL)), r"\d+ requested and \d+ written"]))
"""The same in the words of libraries that keep the number to themselves: HDF5, and NumPy where a file is cut short."""


class BlockTask(ABC):
    """What is done to each block of a stage.

    It is pickled and sent to other processes, maybe on other machines: it holds absolute addresses and settings, no
    open file and no array. What it stores must not depend on who computes it, nor when; two processes may store the
    same block at the same time (where one was thought dead), so that it is written whole, at once.
    """

    @abstractmethod
    def run(self, number: int) -> dict:
        """Compute a block and store its product durably. Returns a few plain values (JSON) for the next stages."""

    @abstractmethod
    def digest(self, number: int) -> str | None:
        """Of the product as it lies on the disk now, read anew; None if there is none or it cannot be read."""

    def place(self, number: int) -> str:
        """Where the block lies, for people; a task that has a `lattice` names place and voxels."""
        lattice = getattr(self, "lattice", None)
        if not isinstance(lattice, Lattice) or number >= len(lattice):
            return ""
        block = lattice[number]
        voxels = ", ".join(f"{axis} {part.start}:{part.stop}" for axis, part in zip("zyx", block.inner, strict=True))
        return f"at {block.index}, voxels {voxels}"


class WholeTask(BlockTask):
    """What is done to a whole volume at once: nothing is kept of one that is not done."""

    def digest(self, number: int) -> str | None:
        """Return None: there is no product to look at before all is done."""
        return None


@dataclass(frozen=True)
class Outcome:
    """How one try at a block ended. Just one of the cases below; the defaults say "done, and computed now"."""

    number: int
    result: dict | None = None
    """What the block returned, if it is done."""
    seconds: float = 0.0
    """How long it took, when it was computed."""
    peak_bytes: int | None = None
    kept: bool = False
    """It was done already, and its product is as it was."""
    cause: str | None = None
    """It failed: the error, in one line."""
    trace: str = ""
    """Where it failed."""
    final: bool = False
    """It failed, and further tries are not worth it."""
    full: bool = False
    """There was no space on the disk."""
    lost: bool = False
    """Its worker went away before it answered; the block is not to blame."""


@dataclass(frozen=True)
class Job:
    """A stage's work on blocks, as it is sent to the workers."""

    name: str
    task: BlockTask
    folder: Path
    key: str
    threads: int | None = None
    """How many threads a block may use; None leaves the process as it is."""
    version: str = __version__

    def __call__(self, number: int) -> Outcome:
        """Try to have one block done. Never raises an Exception."""
        try:
            if self.threads is not None:
                set_thread_limit(self.threads)
            self._check_version()
            return self._kept(number) or self._compute(number)
        except Exception as error:
            full = no_space(error)
            final = isinstance(error, BrokenComponent)  # a plugin makes the same mistake again
            cause, trace = in_a_line(full or error), traceback.format_exc()
            return Outcome(number, cause=cause, trace=trace, full=full is not None, final=final)

    def _check_version(self) -> None:
        if self.version != __version__:
            rule = f"must have segkit {self.version}, as the process that sends the blocks"
            raise SegkitError(sentence(f"the worker on {socket.gethostname()}", rule, __version__, "install it there"))

    def _kept(self, number: int) -> Outcome | None:
        mark = read_mark(self.folder, number)
        if mark is None or mark.key != self.key or mark.digest != self._digest(number):
            return None
        return Outcome(number, mark.result, mark.seconds, mark.peak_bytes, kept=True)

    def _digest(self, number: int) -> str | None:
        """Here a product that cannot be read is no error, whatever the task makes of it: it is computed anew."""
        try:
            return self.task.digest(number)
        except Exception:
            return None

    def _compute(self, number: int) -> Outcome:
        give_back()  # what earlier blocks left must not count, nor add up
        forget_peak()
        begin = time.perf_counter()
        result = json.loads(json.dumps(self.task.run(number), default=_plain))
        if not isinstance(result, dict):
            raise TypeError(f"a block must return a mapping of plain values, not {type(result).__name__}")
        digest = self.task.digest(number)
        if digest is None:
            rule = "must be readable once it is written"
            raise StorageError(sentence(f"the product of block {number}", rule, next_step="look at the disk"))
        mark = Mark(self.key, digest, result, time.perf_counter() - begin, peak())
        write_mark(self.folder, number, mark)
        return Outcome(number, result, mark.seconds, mark.peak_bytes)


def no_space(error: BaseException) -> OSError | None:
    """What the system said, if a lack of space is at the bottom of an error."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        if (
            isinstance(each, OSError)
            and not isinstance(each, SegkitError)
            and (each.errno in FULL or FULL_TEXT.search(str(each)))
        ):
            return each
        todo += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
    return None


def in_a_line(error: BaseException) -> str:
    """An error by its type and first line; those of segkit are sentences of their own."""
    text = next(iter(str(error).strip().splitlines()), "")
    if isinstance(error, SegkitError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return str(value)
    raise TypeError(f"a block must return plain values (JSON), not {type(value).__name__}")
