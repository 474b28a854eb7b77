"""HDF5 in the layout of CREMI."""

import io
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from segkit.errors import InvalidInput, MissingDataset, sentence
from segkit.io.atomic import storage_errors
from segkit.io.lock import writing
from segkit.io.records import Blocks, Record, Stored, stated_axes

CHUNK = 64
"""Longest side of a chunk, in voxels."""


class Hdf5File:
    """An open file."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file

    def names(self) -> list[str]:
        """Names of all datasets, and of the groups that are objects themselves, sorted."""
        objects: list[str] = []
        arrays: list[str] = []

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                arrays.append(name)
            elif "kind" in item.attrs:
                objects.append(name)

        self._file.visititems(visit)
        return sorted(objects + [name for name in arrays if name.rpartition("/")[0] not in objects])

    def find(self, name: str, whole: bool) -> str | None:
        """`name`, if there is such an object. An HDF5 file is never one object as a whole."""
        return name if name in self._file else None

    def attributes(self, name: str) -> Mapping[str, object]:
        """The attributes of the dataset or group of that name."""
        return _attributes(self._file[name])

    def array(self, name: str) -> Stored:
        """The dataset of that name."""
        dataset = self._file[name]
        if not isinstance(dataset, h5py.Dataset):
            raise MissingDataset(sentence(name, "must be a dataset", "a group", "name one of the datasets in it"))
        attributes = _attributes(dataset)
        axes = stated_axes(attributes.get("axes"))
        return Stored(dataset.shape or (), lambda part: np.asarray(dataset[part]), attributes, dataset.dtype, axes)

    def group(self, name: str) -> tuple[dict[str, np.ndarray], Mapping[str, object]]:
        """The arrays of the group of that name, and its attributes."""
        group = self._file[name]
        if not isinstance(group, h5py.Group):
            raise MissingDataset(sentence(name, "must be a group", "a dataset", "name the group of a merge tree"))
        arrays = {key: item[()] for key, item in group.items() if isinstance(item, h5py.Dataset)}
        return arrays, _attributes(group)


@contextmanager
def reading(path: Path) -> Iterator[Hdf5File]:
    """The file, open for reading."""
    check_format(path)
    with storage_errors("read", path), h5py.File(path, "r") as file:
        yield Hdf5File(file)


def check_format(path: Path) -> None:
    """Raise InvalidInput unless an existing `path` is an HDF5 file."""
    if path.is_dir():
        raise InvalidInput(sentence(f"{path}", "must be an HDF5 file", "a folder", "name a file"))
    with storage_errors("read", path), open(path, "rb"):
        pass
    if not h5py.is_hdf5(path):
        raise InvalidInput(sentence(f"{path}", "must be an HDF5 file", "a file of another format", "name another file"))


def write(path: Path, records: Mapping[str, Record], drop: Iterable[str] = ()) -> None:
    """Write objects, by dataset name, into a new file or beside the other objects of an existing one; all or none.

    The datasets in `drop` are removed in the same step.
    """
    if path.exists():
        check_format(path)
    with storage_errors("written", path), writing(path) as temporary:
        if path.exists():
            shutil.copy(path, temporary)
        with _Output(temporary) as output:
            with h5py.File(output, "r+" if path.exists() else "w") as file:
                for name in filter(file.__contains__, drop):
                    del file[name]
                for name, record in records.items():
                    _write(file, name, record)
            output.check()


class _Output(io.FileIO):
    """A file that remembers that writing failed, and goes on as if it had not, until it is asked.

    HDF5 cannot close a file that it cannot write to: it tries again when the process ends, and crashes it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "r+" if path.exists() else "w+")
        self._error: OSError | None = None

    def write(self, data: Any) -> int:
        """All of `data`, unless writing failed before."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while len(rest) and self._error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self._error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """As io does, unless it or a write before it failed."""
        try:
            if self._error is None:
                return super().truncate(size)
        except OSError as error:
            self._error = error
        return size or 0

    def check(self) -> None:
        """Raise what failed."""
        if self._error is not None:
            raise self._error


def _write(file: h5py.File, name: str, record: Record) -> None:
    _make_room(file, name)
    if not isinstance(record.data, Mapping):
        item = _create(file, name, record.data)
    else:
        item = file.create_group(name)
        for key, array in record.data.items():
            _create(item, key, array)
    for key, value in record.attributes.items():
        item.attrs[key] = value


def _make_room(file: h5py.File, name: str) -> None:
    parts = name.split("/")
    for end in range(1, len(parts)):
        above = "/".join(parts[:end])
        if isinstance(file.get(above), h5py.Dataset):
            raise InvalidInput(sentence(name, "cannot be written", next_step=f"{above} is a dataset, not a group"))
    if name in file:
        if isinstance(file[name], h5py.Group) and "kind" not in file[name].attrs:
            raise InvalidInput(sentence(name, "is a group of other datasets", next_step="name another dataset"))
        del file[name]


def _create(group: h5py.Group, name: str, array: np.ndarray | Blocks) -> h5py.Dataset:
    if array.size == 0:
        return group.create_dataset(name, data=array)
    spatial = tuple(min(size, CHUNK) for size in array.shape[-3:]) if array.ndim > 1 else (min(array.size, 2**16),)
    chunks = (1,) * (array.ndim - len(spatial)) + spatial
    layout = {"chunks": chunks, "compression": "gzip", "compression_opts": 1, "shuffle": True}
    if not isinstance(array, Blocks):
        return group.create_dataset(name, data=array, **layout)
    dataset = group.create_dataset(name, array.shape, array.dtype, **layout)
    for part, block in array.parts:
        dataset[part] = block
    return dataset


def _attributes(item: Any) -> dict[str, object]:
    return {key: value.decode() if isinstance(value, bytes) else value for key, value in item.attrs.items()}
