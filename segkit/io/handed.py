"""What this process makes, handed on in memory to who reads it next, while its files are written in the background.

Within :func:`handing_over` a file of HDF5 that is written is *taken*: its objects are held, and one thread writes the
files, in order, each whole or not at all as ever. Who reads an object meanwhile, or later, gets what is held, frozen,
as long as the file is the one that was written; all else is read from the file, once it is there. So no stage and no
component knows of it. Memory: at most `most` bytes are held; what does not fit is written at once, as without.
"""

import math
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any
from warnings import warn

import numpy as np

from segkit.errors import MissingDataset, SegkitWarning, sentence
from segkit.io.records import Blocks, Record, Stored
from segkit.memory import available

if TYPE_CHECKING:
    from segkit.io.formats import Store
    from segkit.io.records import About

SHARE = 4
"""The part of the free memory that is held at most: a quarter."""
OTHERWISE = 2**30
"""Bytes that are held at most where the system does not say what is free."""
PATIENT = 10
"""What is added to the niceness of the thread that writes: it takes what the stages leave of the processors."""

Write = Callable[[Mapping[str, Record]], None]
"""Writes objects into the file that they were taken for."""


@dataclass
class _File:
    """A file of which objects are held."""

    whole: bool
    """Whether these are all that it holds."""
    objects: dict[str, Record] = field(default_factory=dict)
    serial: int = 0
    """Differs once an object is another."""
    pending: int = 0
    """Writes that have not ended."""
    state: tuple | None = None
    """Of the file as it was written last: another means that somebody has changed it since."""

    @property
    def size(self) -> int:
        """Bytes that are held."""
        return sum(map(_bytes, self.objects.values()))


class _Abandoned(Exception):
    """Who makes the blocks that are being written has failed, and says so himself."""


class HandOver:
    """The objects that are held, and the thread that writes their files."""

    def __init__(self, most: int | None = None) -> None:
        free = available()
        self.most = most if most is not None else OTHERWISE if free is None else free // SHARE
        """Bytes that are held at most."""
        self.passing: set[Path] = set()
        """Files of which nothing is written: what they would hold is read from memory alone, unless it does not fit."""
        self.process = os.getpid()
        self._files: OrderedDict[Path, _File] = OrderedDict()  # those looked at last are last
        self._changed = threading.Condition()
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._waiting = 0
        self._error: Exception | None = None
        self._serials = 0

    def take(self, path: Path, records: Mapping[str, Record], drop: Iterable[str], write: Write) -> bool:
        """Hold objects, and have them written by `write`; False, and nothing done, if they do not fit into memory.

        What comes in blocks is written as it comes, and read as it was until all has come. Raises what the blocks
        raise, and what went wrong with an earlier file.
        """
        self._raise()
        place, size = _real(path), sum(map(_bytes, records.values()))
        if not self._makes_room(size, place):
            self.settle(path)
            return False
        held = {name: _held(record) for name, record in records.items()}
        coming = [name for name, record in records.items() if isinstance(record.data, Blocks)]
        feed: SimpleQueue = SimpleQueue()
        written = {name: _fed(record, feed) if name in coming else held[name] for name, record in records.items()}
        passing = place in self.passing and not path.exists()
        try:  # whatever stops it, Ctrl-C too: else the thread would wait for blocks for ever
            if coming and not passing:
                self._do(lambda: self._write(place, lambda: write(written)))
            for number, name in enumerate(coming):
                if number:
                    feed.put(None)
                self._fill(held[name].data, records[name].data, feed)
            self._publish(place, held, drop, 0 if passing else 1)
        except BaseException:
            feed.put(_Abandoned())
            raise
        if coming:
            feed.put(None)
        elif not passing:
            self._do(lambda: self._write(place, lambda: write(written)))
        return True

    def after(self, work: Callable[[], None]) -> None:
        """Do something, in the thread, once all that was taken before is written; nothing, if a file was not."""
        self._do(work)

    def is_pending(self, path: object) -> bool:
        """Whether a file is yet to be written, so that what lies there is not what will."""
        with self._changed:
            return isinstance(path, Path) and (file := self._files.get(_real(path))) is not None and file.pending > 0

    def settle(self, path: Path | None = None) -> None:
        """Wait until a file is written, or all are. Raises what went wrong with one."""
        place = None if path is None else _real(path)

        def settled() -> bool:
            file = self._files.get(place) if place else None
            return self._error is not None or (file is None or not file.pending if place else not self._waiting)

        with self._changed:
            self._changed.wait_for(settled)
        self._raise()

    def find(self, path: Path) -> _File | None:
        """The file at `path` as it is held; None if nothing of it is."""
        with self._changed:
            file = self._valid(_real(path))
            return file

    def close(self) -> Exception | None:
        """End the thread, once it has written what it can; what went wrong."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
        return self._error

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _valid(self, place: Path) -> _File | None:
        """What is held of a file, if nobody has changed it since. The lock is held."""
        file = self._files.get(place)
        if file is not None and not file.pending and file.state != _state(place):
            del self._files[place]
            return None
        if file is not None:
            self._files.move_to_end(place)
        return file

    def _makes_room(self, size: int, place: Path) -> bool:
        """Whether so many bytes more may be held; of files that are there, those looked at first are let go."""
        with self._changed:
            free = available()
            if size > self.most or (free is not None and size > free):
                return False
            for each in list(self._files):
                if size + sum(file.size for file in self._files.values()) <= self.most:
                    break
                if not self._files[each].pending and each not in self.passing | {place}:
                    del self._files[each]
            return size + sum(file.size for file in self._files.values()) <= self.most

    def _fill(self, array: Any, blocks: Any, feed: SimpleQueue) -> None:
        """Hold blocks as they come, and let each be written."""
        for where, values in blocks.parts:
            self._raise()
            array[where] = values
            feed.put((where, array[where]))

    def _publish(self, place: Path, held: Mapping[str, Record], drop: Iterable[str], writes: int) -> None:
        """Let objects be read, in place of those that lie there by these names; so many `writes` of them are to end."""
        with self._changed:
            file = self._valid(place) or _File(not place.exists())
            self._files[place] = file
            self._serials += 1
            file.serial, file.pending = self._serials, file.pending + writes
            kept = {name: record for name, record in file.objects.items() if name not in {*drop, *held}}
            file.objects = kept | {name: replace(each, data=_frozen(each.data)) for name, each in held.items()}

    def _do(self, work: Callable[[], None]) -> None:
        with self._changed:
            self._waiting += 1
        self._queue.put(work)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="segkit-writer")
            self._thread.start()

    def _run(self) -> None:
        """Do what is to be done, one after the other; nothing more once something went wrong."""
        if sys.platform == "linux":  # elsewhere threads have no niceness of their own
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), PATIENT)
        while (work := self._queue.get()) is not None:
            error = None
            try:
                if self._error is None:
                    work()
            except Exception as caught:
                error = caught
            with self._changed:
                self._error = self._error or error
                self._waiting -= 1
                self._changed.notify_all()
            work = None  # with what it wrote

    def _write(self, place: Path, write: Callable[[], None]) -> None:
        try:
            write()
        except _Abandoned:
            return
        finally:
            with self._changed:
                if (file := self._files.get(place)) is not None and file.pending:
                    file.pending, file.state = file.pending - 1, _state(place)


_active: list[HandOver] = []


@contextmanager
def handing_over(most: int | None = None) -> Iterator[HandOver]:
    """Hold what is written meanwhile for who reads it, `most` bytes of it; all files are there in the end.

    Raises what went wrong with one: StorageError, with its path. Within another it is that one.
    """
    if (outer := current()) is not None:
        yield outer
        return
    held = HandOver(most)
    _active[:] = [held]
    failed: BaseException | None = None
    try:
        yield held
    except BaseException as error:
        failed = error
        raise
    finally:
        _active.clear()
        problem = held.close()
        if failed is None and problem is not None:
            raise problem
        if problem is not None and problem is not failed:
            warn(f"{problem}", SegkitWarning, stacklevel=3)


def current() -> HandOver | None:
    """What holds objects now, in this process; None if nothing does."""
    return _active[0] if _active and _active[0].process == os.getpid() else None


def held_at(path: object) -> _File | None:
    """What is held of the file at `path`; None if nothing is."""
    held = current()
    return held.find(path) if held is not None and isinstance(path, Path) else None


def is_there(path: Any) -> bool:
    """Whether a file, a folder or a URL exists, or a file is about to."""
    return path.exists() or held_at(path) is not None


def settle(path: object) -> None:
    """Wait until a file is written, for who reads it in another way or in another process."""
    held = current()
    if held is not None and isinstance(path, Path):
        held.settle(path)


class HeldStore:
    """An open file of which objects are held: they come from memory, and all else from the file once it is written."""

    def __init__(self, file: _File, rest: "Callable[[], Store]") -> None:
        self._objects, self._whole, self._rest = dict(file.objects), file.whole, rest

    def names(self) -> list[str]:
        """Names of all objects, sorted."""
        return sorted(self._objects) if self._whole else self._rest().names()

    def find(self, name: str, whole: bool) -> str | None:
        """`name`, if there is such an object. An HDF5 file is never one object as a whole."""
        return name if name in self._objects else self._rest().find(name, whole)

    def about(self, name: str) -> "About":
        """What segkit wrote about an object."""
        if name not in self._objects:
            return self._rest().about(name)
        from segkit.io.schemas import stated_about

        return stated_about(_attributes(self._objects[name]))

    def array(self, name: str) -> Stored:
        """The array of that name; what is read of it cannot be changed."""
        if name not in self._objects:
            return self._rest().array(name)
        from segkit.io.dialects import read_placement

        record = self._objects[name]
        array: Any = record.data
        if isinstance(array, Mapping):
            raise MissingDataset(sentence(name, "must be a dataset", "a group", "name one of the datasets in it"))
        placement = read_placement(_attributes(record), array.ndim, ours=True)
        return Stored(array.shape, array.__getitem__, self.about(name), placement, array.dtype)

    def group(self, name: str) -> "tuple[dict[str, np.ndarray], About]":
        """The arrays of the group of that name, and what is said about it."""
        found = self._objects.get(name)
        if found is None or not isinstance(found.data, Mapping):
            return self._rest().group(name)
        return dict(found.data), self.about(name)


def _attributes(record: Record) -> dict[str, Any]:
    """The attributes as they are read from a file."""
    from segkit.io.schemas import plain

    return {name: plain(value) for name, value in record.attributes.items()}


def _held(record: Record) -> Record:
    """An object as it is held: room for what comes in blocks."""
    data = record.data
    if isinstance(data, Blocks):
        return replace(record, data=np.empty(data.shape, data.dtype))
    if isinstance(data, Mapping):
        return replace(record, data={name: np.ascontiguousarray(array) for name, array in data.items()})
    return replace(record, data=np.ascontiguousarray(data))


def _frozen(data: Any) -> Any:
    """Arrays as views that nobody can write to."""
    if isinstance(data, Mapping):
        return {name: _frozen(array) for name, array in data.items()}
    view = data.view()
    view.flags.writeable = False
    return view


def _fed(record: Record, feed: SimpleQueue) -> Record:
    """An object whose blocks come from a queue."""

    def coming() -> Iterator[tuple]:
        while (item := feed.get()) is not None:
            if isinstance(item, _Abandoned):
                raise item
            yield item

    blocks: Any = record.data
    return replace(record, data=Blocks(blocks.shape, blocks.dtype, coming()))


def _bytes(record: Record) -> int:
    data: Any = record.data
    if isinstance(data, Blocks):
        return math.prod(data.shape) * np.dtype(data.dtype).itemsize
    return sum(array.nbytes for array in data.values()) if isinstance(data, Mapping) else data.nbytes


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _state(path: Path) -> tuple | None:
    """What differs once a file was changed or replaced; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino
