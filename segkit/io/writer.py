"""One way to write: containers, or arrays that come part by part, in any format; all appears at once, or nothing."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import DTypeLike

from segkit.data import Affinities, Grid, Labels, Volume
from segkit.data.affinities import as_neighborhood
from segkit.errors import InvalidInput, StorageError, sentence
from segkit.io.address import Box, as_address, role_of
from segkit.io.atomic import check_folder
from segkit.io.fetch import uploaded
from segkit.io.formats import FORMATS, IN_PLACE, format_to_write, own_format, reading
from segkit.io.handed import current, is_there
from segkit.io.lock import PATIENCE, lock_of, locked
from segkit.io.lookup import NOTES, AnyAddress, exists
from segkit.io.records import PLAIN, Blocks, Layout, Record, encode, kind_of
from segkit.io.remote import VERSION, Remote

Part = tuple[tuple[slice, ...], np.ndarray]
"""Where in an array, and what."""


def write_blocks(
    address: AnyAddress, role: str, blocks: Blocks, attributes: Mapping[str, object], layout: Layout = PLAIN
) -> None:
    """Write one array that comes block by block, with `attributes` as they are; atomic as :func:`write` is.

    TIFF (.tif, .tiff) and neuroglancer precomputed (.precomputed) hold one volume, which is replaced. A `layout` is for
    Zarr and precomputed.
    """
    address = as_address(address)
    backend = format_to_write(address)
    _write_file(backend, address.path, {address.at(role): Record(blocks, dict(attributes), layout)})


def check_target(address: AnyAddress, role: str, overwrite: bool) -> str:
    """The name of the format that `address` will be written in.

    Raises what :func:`write_blocks` would raise because of the address, and unless `overwrite` if something is there.
    """
    address = as_address(address)
    backend = format_to_write(address)
    check_folder(address.path)
    name = backend.__name__.rpartition(".")[2]
    if name in FORMATS.values():
        check_writable(address)
        there = exists(address, role)
    else:
        there = _is_written(address.path)
    if there and not overwrite:
        raise InvalidInput(sentence(f"{address}", "exists already", next_step="give --overwrite, or another name"))
    return name


def _is_written(path: Path | Remote) -> bool:
    """Whether there is something; in a bucket not what a killed process has left."""
    if isinstance(path, Path) or not path.listed:
        return path.exists()
    return path.is_file() or not all(VERSION.fullmatch(entry.name) for entry in path.iterdir())


def write(
    path: AnyAddress, container: object, role: str | None = None, *, notes: Mapping[str, object] | None = None
) -> None:
    """Write a container, beside whatever else is in the file, under its role's usual name or the dataset of `path`.

    Without a role: raw (mask, if boolean) for a Volume, segmentation for Labels, affinities, merge_tree. The suffix
    chooses the format: .h5 .hdf .hdf5 or .zarr .ome.zarr. A failure leaves what was there, and no half file. An
    object of that name is replaced. A process waits for another that writes to the file (InUse, if it takes longer than
    ten minutes). `notes` are plain
    values (JSON) that :func:`read_notes` gives back: how the object was made, say.
    """
    output = Output(path)
    output.put(container, role or _default_role(container), notes=notes)
    output.finish()


def write_all(
    path: AnyAddress,
    containers: Mapping[str, object],
    drop: str | None = None,
    *,
    notes: Mapping[str, Mapping[str, object]] | None = None,
) -> None:
    """Write several containers, by role, in one go: in HDF5 all of them appear, or none.

    A key is a role, or ``role:dataset`` where the dataset should not have the role's usual name. Datasets that were
    there before and whose names begin with `drop` are removed, those that are written excepted. `notes` are those of
    :func:`write`, by key.
    """
    address = as_address(path)
    if address.crop or address.dataset:
        raise InvalidInput(sentence(f"{address}", "must name neither a dataset nor a crop", next_step="name the file"))
    output = Output(address)
    for key, container in containers.items():
        role, _, dataset = key.partition(":")
        output.put(container, role, dataset=dataset or None, notes=(notes or {}).get(key))
    if drop is not None:
        output.drop(drop)
    output.finish()


@dataclass(frozen=True)
class Form:
    """What a volume in a file is, whatever its values."""

    role: str
    """What it will be: "affinities", "fragments", "segmentation" ..."""
    shape: tuple[int, int, int]
    """Size in voxels, z, y, x."""
    grid: Grid
    """Where the voxels lie."""
    neighborhood: np.ndarray | None = None
    """Offsets of affinities, (C, 3)."""
    dtype: np.dtype | None = None
    """Of the values; that of the container of such a role if not given: uint64 for labels, else float32. Affinities may
    be uint8: see :func:`segkit.data.affinities.as_levels`."""

    @property
    def values(self) -> np.dtype:
        """The dtype of the values, given or not."""
        if self.dtype is not None:
            return np.dtype(self.dtype)
        return np.dtype(np.uint64 if role_of(self.role)[1] == "labels" else np.float32)


class Target(ABC):
    """A volume that is being made: what a stage writes to, box by box."""

    @property
    def marks(self) -> Path:
        """A folder for marks of finished blocks, which goes where the volume goes."""
        return Path()

    @abstractmethod
    def write(self, part: Box, array: np.ndarray) -> None:
        """Write the values of a box: a block of the lattice."""

    def fill(self, part: Box, parts: Iterable[Part]) -> None:
        """Write the values of a box that come part by part: where in the box, and what. Here it is one part."""
        ((_, array),) = parts
        self.write(part, array)

    def defer(self, part: Box, make: Callable[[], np.ndarray]) -> None:
        """Write the values that `make` gives of a box, once it is their turn. Here that is at once."""
        self.write(part, make())

    @abstractmethod
    def digest(self, part: Box) -> str | None:
        """A checksum of a box as it lies on disk; None if it cannot be read."""


class Output:
    """A file of any format; all that is put into it appears in one go, when it is finished."""

    def __init__(self, address: AnyAddress) -> None:
        self.address = as_address(address)
        self._records: dict[str, Record] = {}
        self._dropped: str | None = None
        self._streamed = False
        if self.address.crop:
            raise InvalidInput(sentence(f"{self.address}", "must have no crop where something is written"))

    def put(
        self,
        container: object,
        role: str,
        *,
        dataset: str | None = None,
        notes: Mapping[str, object] | None = None,
    ) -> None:
        """Add an object, under `dataset`, the dataset of the address or the usual name of its role."""
        self.add(dataset or self.address.at(role), _record(container, role, notes))

    def add(self, name: str, record: Record) -> None:
        """Add an object as it will lie in the file, under the full name of its dataset."""
        self._records[name] = record

    def volume(
        self, form: Form, *, key: str = "", dataset: str | None = None, notes: Mapping[str, object] | None = None
    ) -> Target:
        """Begin a volume whose only block is all of it; `key` is for those that can go on where they were stopped."""
        return _WholeTarget(self, form, dataset, notes)

    def drop(self, beginning: str) -> None:
        """Have datasets removed whose names begin so, those that are written excepted."""
        self._dropped = beginning

    def stream(self, form: Form, parts: Iterable[Part], notes: Mapping[str, object] | None) -> None:
        """Write affinities that come part by part, now: they are the only object of this output."""
        where = form.shape, form.neighborhood, form.grid
        write_affinities(self.address, parts, *where, notes=notes, dtype=form.values)  # type: ignore[arg-type]
        self._streamed = True

    def finish(self) -> None:
        """Write the file."""
        if not self._streamed:
            self._write()

    def _write(self) -> None:
        path = self.address.path
        backend = own_format(path)
        stale = []
        if self._dropped is not None and is_there(path):
            with reading(path) as store:
                there = [name for name in store.names() if name.startswith(self._dropped)]
                stale = [name for name in there if name not in self._records]
        _write_file(backend, path, self._records, stale)


class _WholeTarget(Target):
    def __init__(self, output: Output, form: Form, dataset: str | None, notes: Mapping[str, object] | None) -> None:
        self._output, self._form, self._dataset, self._notes = output, form, dataset, notes

    def write(self, part: Box, array: np.ndarray) -> None:
        """Keep it until the file is written."""
        labels = role_of(self._form.role)[1] == "labels"
        container = (Labels if labels else Volume)(array, self._form.grid)
        self._output.put(container, self._form.role, dataset=self._dataset, notes=self._notes)

    def defer(self, part: Box, make: Callable[[], np.ndarray]) -> None:
        """Have labels made while the file is written, in the order in which they were deferred: never two at once."""
        header = _record(Labels(np.zeros((1, 1, 1), np.uint64), self._form.grid), self._form.role, self._notes)
        blocks = Blocks(self._form.shape, self._form.values, ((each, make()) for each in [part]))
        self._output.add(self._dataset or self._output.address.at(self._form.role), Record(blocks, header.attributes))

    def fill(self, part: Box, parts: Iterable[Part]) -> None:
        """Write affinities to the file as they come."""
        self._output.stream(self._form, parts, self._notes)

    def digest(self, part: Box) -> str | None:
        """None: nothing lies on disk before all does."""
        return None


def check_writable(path: AnyAddress, dataset: bool = True) -> None:
    """Raise what :func:`write` would raise because of the address, the folder or the file that is there already.

    To be called before long work. Without `dataset`, an address that names one is refused too.
    """
    address = as_address(path)
    if address.crop or (address.dataset and not dataset):
        rule = "must have no crop where something is written" if address.crop else "must name a file only"
        raise InvalidInput(sentence(f"{address}", rule))
    own_format(address.path)
    check_folder(address.path)
    if isinstance(address.path, Remote):
        _check_bucket(address.path)
    elif not os.access(folder := address.path.absolute().parent, os.W_OK):
        raise StorageError(sentence(f"the folder {folder}", "must be writable", next_step="write elsewhere"))
    if address.path.exists():
        with reading(address.path):
            pass


def _check_bucket(place: Remote) -> None:
    """Raise StorageError unless something can be written beside `place`: the bucket is there, and may be written to."""
    trial = place.with_name(f".{place.name}.tmp")  # the same each time, so that none is left for long
    trial.write_bytes(b"")
    with suppress(FileNotFoundError):  # another process may have tried too
        trial.unlink()


def _write_file(
    backend: ModuleType, path: Path | Remote, records: Mapping[str, Record], drop: Iterable[str] = ()
) -> None:
    """Write objects into a file of a format; one that is a single file is put into a bucket once it is whole.

    Where objects are handed over, those of HDF5 are held, and written in the background.
    """
    check_folder(path)
    name, held = backend.__name__.rpartition(".")[2], current()
    if held is not None and isinstance(path, Path) and name == "hdf5":
        drop = list(drop)
        if held.take(path, records, drop, lambda taken: backend.write(path, taken, drop)):
            return
    if not isinstance(path, Remote) or name in IN_PLACE:
        backend.write(path, records, drop)
        return
    with locked(lock_of(path), str(path), PATIENCE), uploaded(path, added_to=name in FORMATS.values()) as file:
        backend.write(file, records, drop)


def _default_role(container: object) -> str:
    if isinstance(container, Volume):
        return "mask" if container.array.dtype == bool else "raw"
    kind = kind_of(container)
    return "segmentation" if kind == "labels" else kind


def _record(container: object, role: str, notes: Mapping[str, object] | None = None) -> Record:
    kind = kind_of(container)
    expected = role_of(role)[1]
    if kind != expected:
        raise InvalidInput(sentence(f"what is written as {role}", f"must be of kind {expected}", kind))
    record = encode(container)
    return Record(record.data, record.attributes | as_attributes(notes))


def attributes_of(form: Form) -> dict[str, object]:
    """Those that a volume of this form has, whatever its size."""
    kind = role_of(form.role)[1]
    if kind != "affinities":
        container = Labels if kind == "labels" else Volume
        return encode(container(np.zeros((1, 1, 1), form.values), form.grid)).attributes
    if form.neighborhood is None:
        raise InvalidInput(sentence("neighborhood", "must be given for affinities"))
    stand_in = np.zeros((len(form.neighborhood), 1, 1, 1), np.float32)
    attributes = encode(Affinities(stand_in, form.neighborhood, form.grid)).attributes
    return attributes | ({"full_scale": int(np.iinfo(form.values).max)} if form.values.kind == "u" else {})


def as_attributes(notes: Mapping[str, object] | None) -> dict[str, str]:
    """Notes as an attribute of what is written."""
    return {NOTES: json.dumps(dict(notes))} if notes else {}


def write_affinities(
    address: AnyAddress,
    parts: Iterable[Part],
    shape: tuple[int, int, int],
    neighborhood: np.ndarray | Sequence[Sequence[int]],
    grid: Grid,
    *,
    notes: Mapping[str, object] | None = None,
    dtype: DTypeLike = np.float32,
) -> None:
    """Write affinities of `shape` (Z, Y, X) that come part by part: what :func:`segkit.io.write` writes of the whole.

    Of uint8, they come as :func:`segkit.data.affinities.as_levels` makes them.
    An error of `parts` is raised as it is, and then nothing is written.
    """
    check_writable(address)
    form = Form("affinities", shape, grid, as_neighborhood(neighborhood), np.dtype(dtype))
    header = attributes_of(form) | as_attributes(notes)
    failed: list[Exception] = []

    def watched() -> Iterator[Part]:
        try:
            yield from parts
        except Exception as error:
            failed.append(error)
            raise

    try:
        blocks = Blocks((len(neighborhood), *shape), form.values, watched())
        write_blocks(address, "affinities", blocks, header)
    except StorageError as error:
        if failed and error is not failed[0]:  # a format takes all that goes wrong while it writes for its own fault
            raise failed[0] from None
        raise
