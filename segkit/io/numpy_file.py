"""NumPy files: .npy, one array, and .npz, arrays by their names.

They say nothing of axes and voxels. Arrays are mapped, but for those that `numpy.savez_compressed` wrote: they are
unpacked whole when the first voxel is read. Pickles are refused, for to read these is to run what they say.
"""

import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from segkit.errors import InvalidInput, MissingDataset, sentence
from segkit.io.atomic import storage_errors
from segkit.io.records import About, Stored, check_memory
from segkit.io.single import OneVolume, parts_of

LOCAL_HEADER = 30
"""Bytes before the name of a member of a zip file; the last four are the lengths of its name and of what follows it."""


class Header(NamedTuple):
    """What stands before the values of an array."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    length: int
    """Bytes of the header itself."""

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize

    def view(self, buffer: bytes | np.ndarray, offset: int = 0) -> np.ndarray:
        """The array that lies in a buffer. Raises ValueError or TypeError if it is too short."""
        return np.ndarray(self.shape, self.dtype, buffer, offset, order="F" if self.fortran else "C")


class Archive:
    """An .npz file: arrays by name."""

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        self._path, self._file = path, file
        self._members = {i.filename.removesuffix(".npy"): i for i in file.infolist() if i.filename.endswith(".npy")}

    def names(self) -> list[str]:
        """The names of the arrays, sorted."""
        return sorted(self._members)

    def find(self, name: str, whole: bool) -> str | None:
        """`name`, if there is such an array. The file is never one as a `whole`."""
        return name if name in self._members else None

    def about(self, name: str) -> About:
        """Nothing: no notes are kept here."""
        return About()

    def array(self, name: str) -> Stored:
        """The array of that name."""
        member, place = self._members[name], f"{self._path}:{name}"
        with storage_errors("read", self._path), self._file.open(member) as content:
            header = _header(content, place)
        packed = member.compress_type != zipfile.ZIP_STORED

        @lru_cache(1)
        def unpacked() -> np.ndarray:
            check_memory(place, header.nbytes)
            with self._file.open(member) as content:
                content.read(header.length)
                return header.view(content.read(header.nbytes))

        read = unpacked if packed else lambda: _mapped(self._path, header, self._start(member))
        return _stored(self._path, header, read)

    def group(self, name: str) -> tuple[dict[str, np.ndarray], About]:
        """Refuse: there is no merge tree."""
        raise MissingDataset(sentence("a NumPy file", "holds no merge tree"))

    def _start(self, member: zipfile.ZipInfo) -> int:
        """Where the content of a member begins in the file."""
        with open(self._path, "rb") as file:
            file.seek(member.header_offset)
            local = file.read(LOCAL_HEADER)
        return member.header_offset + LOCAL_HEADER + sum(np.frombuffer(local[-4:], "<u2").tolist())


@contextmanager
def reading(path: Path, options: Mapping[str, str]) -> Iterator[OneVolume | Archive]:
    """The file, open for reading; there are no `options`."""
    if path.suffix.lower() == ".npz":
        with storage_errors("read", path):
            file = zipfile.ZipFile(path)
        with file:
            yield Archive(path, file)
        return
    with storage_errors("read", path), open(path, "rb") as content:
        header = _header(content, str(path))
    yield OneVolume(_stored(path, header, lambda: _mapped(path, header, 0)), "a NumPy file")


def _header(content: IO[bytes], place: str) -> Header:
    """The header of an array, at the beginning of its content."""
    version = np.lib.format.read_magic(content)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(content)
    if dtype.hasobject:
        next_step = "save the numbers as an array of integers or floats"
        raise InvalidInput(sentence(place, "must not be stored as pickles, which may run code", None, next_step))
    if dtype.kind not in "biufc":
        raise InvalidInput(sentence(place, "must be an array of numbers", dtype, "save the numbers alone"))
    if min(shape, default=0) < 0:
        raise InvalidInput(sentence(f"{place}: shape", "must not be negative", shape, "make the file again"))
    return Header(shape, fortran, dtype, content.tell())


def _mapped(path: Path, header: Header, start: int) -> np.ndarray:
    return header.view(np.memmap(path, np.uint8, "r"), start + header.length)


def _stored(path: Path, header: Header, values: Callable[[], np.ndarray]) -> Stored:
    return Stored(header.shape, parts_of(path, values), dtype=header.dtype)
