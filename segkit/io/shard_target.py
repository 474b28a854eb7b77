"""A volume in a Zarr store that many processes make, block by block.

While it is made, it lies under a name that nobody takes for a finished object, ``volumes/.fragments.partial``; the
last step moves it into place. Each block is one file, a shard of chunks of at most 64 voxels a side, which appears
whole or not at all; so blocks may be written by any process, in any order, and again.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import product
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import zarr

from segkit.data.boxes import counted_from
from segkit.errors import InvalidInput, InvalidShape, sentence
from segkit.io.address import Address, Box, as_address
from segkit.io.atomic import mend, remove, replacing, storage_errors, swap, tidy
from segkit.io.lock import PATIENCE, lock_of, locked
from segkit.io.lookup import AnyAddress
from segkit.io.ome import FIRST_SCALE, dimension_names, image_attributes
from segkit.io.records import KEY, Record
from segkit.io.remote import Remote
from segkit.io.shards import chunk_of, encoded, make_folder, open_array
from segkit.io.writer import Form, Output, Target, as_attributes, attributes_of, check_writable
from segkit.io.zarr import CODECS, changing, check_addable, check_room, make_parents
from segkit.system import sync_entry


@dataclass(frozen=True)
class ShardTarget(Target):
    """A volume that is being made. It travels between processes, and holds nothing open."""

    path: Any
    """The Zarr store: a path, or a place in a bucket."""
    name: str
    """The dataset that it will be."""
    shape: tuple[int, int, int]
    """Size of the volume in voxels, z, y, x."""
    shard: tuple[int, int, int]
    """Size of a block in voxels; blocks at the end of the volume may be smaller."""
    channels: int | None
    """How many there are before z, y, x; None where there is no such axis."""
    dtype: np.dtype
    """Of the values."""
    key: str
    """Fingerprint of all that decides the content."""
    finished: bool = False
    """Whether it lies in its place already: what is written now mends it there."""

    @classmethod
    def create(
        cls,
        address: AnyAddress,
        form: Form,
        shard: Sequence[int],
        *,
        key: str,
        notes: Mapping[str, object] | None = None,
    ) -> "ShardTarget":
        """Begin a volume, or go on with one that was begun, or even finished, with the same `key`.

        A finished one stays where it is. What was begun with another key is removed; what was finished with another
        stays until this one takes its place. `shard` is cut to the volume; `notes` are those of
        :func:`segkit.io.write`; the last ones given count. For one process at a time: see :class:`ShardOutput`. Raises
        InvalidInput where the address cannot be written to.
        """
        address = as_address(address)
        check_writable(address)
        if address.path.suffix.lower() != ".zarr":
            rule = "must end in .zarr where blocks are written: HDF5 takes one process at a time"
            raise InvalidInput(sentence("the file name", rule, repr(address.path.name), "rename it"))
        path = address.path.absolute()
        sizes, clipped = _sizes(form.shape, shard)
        channels = None if form.neighborhood is None else len(form.neighborhood)
        target = cls(path, address.at(form.role), sizes, clipped, channels, form.values, key)
        attributes = attributes_of(form) | as_attributes(notes) | {KEY: key, "chunks": "all"}
        with storage_errors("written", path):
            return target._open(attributes)

    @property
    def folder(self) -> Any:
        """Where it lies: until it is finished, under a hidden name."""
        final = self.path / self.name
        return final if self.finished else final.with_name(f".{final.name}.partial")

    @property
    def marks(self) -> Path:
        """A folder for marks of finished blocks, which goes where the volume goes."""
        return self.folder / FIRST_SCALE / ".marks"

    def write(self, part: Box, array: np.ndarray) -> None:
        """Write one block, or several: `part` must consist of whole ones. On disk when this returns.

        A block appears in one step; what was there is replaced. Raises StorageError if it cannot be written.
        """
        array = np.asarray(array)
        expected = (*self._leading, *(along.stop - along.start for along in part))
        if array.shape != expected or array.dtype != self.dtype:
            rule = f"must be {self.dtype} of shape {expected}"
            raise InvalidShape(sentence("what is written", rule, f"{array.dtype} of shape {array.shape}"))
        with storage_errors("written", self.path):
            for index, box in self._blocks(part):
                self._put(index, box, array[(..., *counted_from(part, box))])

    def read(self, part: Box) -> np.ndarray:
        """The values of a box, as far as they are written; 0 elsewhere."""
        with storage_errors("read", self.path):
            return np.asarray(open_array(self.folder / FIRST_SCALE)[(*(slice(size) for size in self._leading), *part)])

    def digest(self, part: Box) -> str | None:
        """A checksum of the blocks in `part` as they lie on disk; None unless all can be read."""
        found = blake2b(digest_size=16)
        for index, _ in self._blocks(part):
            try:
                with open(self._file(index), "rb") as file:
                    while piece := file.read(1 << 20):
                        found.update(piece)
            except OSError:
                return None
        return found.hexdigest()

    def finish(self) -> None:
        """Move the volume into place; it replaces an object of that name. Its blocks must all be written."""
        with storage_errors("written", self.path):
            remove(self._scratch)
            tidy(self.marks)
            with locked(lock_of(self.path), str(self.path), PATIENCE), changing(self.path, self.name):
                if not self.finished:
                    swap(self.folder, self.path / self.name)
                    sync_entry((self.path / self.name).parent)

    @property
    def _leading(self) -> tuple[int, ...]:
        return () if self.channels is None else (self.channels,)

    @property
    def _scratch(self) -> Path:
        """Where files lie until they are whole.

        Why named by the key, and made only when a volume is begun? A worker of a run that was ended may go on for
        a while: where a volume of another key was begun meanwhile, it finds no such folder, and cannot write into it.
        """
        return self.folder / f".writing-{blake2b(self.key.encode(), digest_size=8).hexdigest()}"

    def _agrees(self, folder: Path) -> bool:
        """Whether such a volume lies there, with that key."""
        try:
            attributes = json.loads((folder / "zarr.json").read_text())["attributes"]["segkit"]
            array = json.loads((folder / FIRST_SCALE / "zarr.json").read_text())
            form = array["chunk_grid"]["configuration"]["chunk_shape"], array["shape"], array["data_type"]
        except (OSError, ValueError, KeyError, TypeError):
            return False
        expected = [*self._leading, *self.shard], [*self._leading, *self.shape], self.dtype.name
        return attributes.get(KEY) == self.key and form == expected

    def _open(self, attributes: Mapping[str, object]) -> "ShardTarget":
        """Begin it, or go on with it."""
        target = self
        mend(self.path / self.name)
        if self._agrees(self.path / self.name):
            remove(self.folder)  # of another key
            target = replace(self, finished=True)
        if target._agrees(target.folder):
            target._restate(attributes)
        else:
            target._begin(attributes)
        target._scratch.mkdir(exist_ok=True)
        return target

    def _restate(self, attributes: Mapping[str, object]) -> None:
        """Say of a volume that was begun what is said of it now: its notes may be others."""
        file = self.folder / "zarr.json"
        mend(file)
        metadata = json.loads(file.read_text())
        metadata["attributes"] = image_attributes(self.name, 3 + len(self._leading), attributes)
        with replacing(file) as temporary:
            temporary.write_text(json.dumps(metadata))

    def _begin(self, attributes: Mapping[str, object]) -> None:
        with locked(lock_of(self.path), str(self.path), PATIENCE):
            if not self.path.exists():
                with replacing(self.path) as temporary:
                    zarr.create_group(str(temporary), zarr_format=3)
            check_addable(self.path)
            check_room(self.path, self.name)
            make_parents(self.path, self.name)
        mend(self.folder)
        remove(self.folder)
        with replacing(self.folder) as temporary:
            self._create(zarr.create_group(str(temporary), zarr_format=3), attributes)

    def _create(self, group: zarr.Group, attributes: Mapping[str, object]) -> None:
        ndim = 3 + len(self._leading)
        group.create_array(
            FIRST_SCALE,
            shape=(*self._leading, *self.shape),
            dtype=self.dtype,
            chunks=(*(1 for _ in self._leading), *map(chunk_of, self.shard)),
            shards=(*self._leading, *self.shard),
            compressors=CODECS,
            dimension_names=dimension_names(ndim),
        )
        group.attrs.update(image_attributes(self.name, ndim, attributes))

    def _blocks(self, part: Box) -> Iterator[tuple[tuple[int, ...], Box]]:
        """The blocks in a box: their places along z, y, x, and the voxels of each."""
        along = []
        for asked, step, size in zip(part, self.shard, self.shape, strict=True):
            if asked.start % step or not (asked.stop % step == 0 or asked.stop == size) or asked.stop > size:
                rule = f"must consist of whole blocks of {self.shard} in a volume of {self.shape}"
                raise InvalidShape(sentence("what is written or checked", rule, [(s.start, s.stop) for s in part]))
            along.append(range(asked.start // step, -(-asked.stop // step)))
        for index in product(*along):
            z, y, x = (
                slice(i * step, min((i + 1) * step, size))
                for i, step, size in zip(index, self.shard, self.shape, strict=True)
            )
            yield index, (z, y, x)

    def _key(self, index: tuple[int, ...]) -> str:
        return "/".join(["c", *("0" for _ in self._leading), *map(str, index)])

    def _file(self, index: tuple[int, ...]) -> Any:
        return self.folder / FIRST_SCALE / self._key(index)

    def _put(self, index: tuple[int, ...], box: Box, array: np.ndarray) -> None:
        content = encoded(
            self.folder / FIRST_SCALE, self._key(index), (*(slice(n) for n in self._leading), *box), array
        )
        self._put_file(self._file(index), content)

    def _put_file(self, file: Any, content: memoryview) -> None:
        make_folder(file.parent)
        temporary = self._scratch / uuid4().hex
        try:
            with open(temporary, "wb") as output:
                output.write(content)
                output.flush()
                os.fsync(output.fileno())
            os.replace(temporary, file)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_entry(file.parent)


def _sizes(shape: Sequence[int], shard: Sequence[int]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    sizes, blocks = tuple(map(int, shape)), tuple(map(int, shard))
    for name, value in (("shape", sizes), ("block", blocks)):
        if len(value) != 3 or min(value) < 1:
            raise InvalidShape(sentence(name, "must be three numbers of voxels, z, y, x, from 1 on", value))
    return sizes, tuple(map(min, blocks, sizes))  # type: ignore[return-value]


def notes_of_begun(address: AnyAddress, role: str) -> dict[str, object]:
    """Read the notes of a volume by blocks that was begun, or of the finished one.

    Empty where neither is, or it says none; in buckets too, where nobody looks.
    """
    address = as_address(address)
    if isinstance(address.path, Remote):
        return {}
    final = address.path / address.at(role)
    for folder in (final.with_name(f".{final.name}.partial"), final):
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(json.loads((folder / "zarr.json").read_text())["attributes"]["segkit"]["notes"])
            return dict(found)
    return {}


class ShardOutput(Output):
    """A Zarr store, volumes of which are made by shards of one size, by any process.

    Any other object is written when it is put, so that a later call finds it; in any format that holds all kinds.
    `locks` holds the lock of each volume, so that no other driver makes it meanwhile: one that is begun raises InUse.
    """

    def __init__(self, address: AnyAddress, shard: Sequence[int], locks: ExitStack) -> None:
        super().__init__(address)
        self.shard, self._locks = shard, locks
        self._targets: list[ShardTarget] = []

    def volume(
        self, form: Form, *, key: str = "", dataset: str | None = None, notes: Mapping[str, object] | None = None
    ) -> ShardTarget:
        """Begin a volume, or go on with it: see :meth:`ShardTarget.create`."""
        address = Address(self.address.path, dataset) if dataset else self.address
        check_writable(address)
        name = address.at(form.role)
        self._locks.enter_context(locked(lock_of(address.path, name), f"{address.path}:{name}"))
        kind: type[ShardTarget] = ShardTarget
        if isinstance(address.path, Remote):
            from segkit.io import bucket  # which is made of this

            kind = bucket.BucketTarget
        target = kind.create(address, form, self.shard, key=key, notes=notes)
        self._targets.append(target)
        return target

    def finish(self) -> None:
        """Move all volumes into place. Their blocks must all be written."""
        for target in self._targets:
            target.finish()

    def add(self, name: str, record: Record) -> None:
        """Write it now, alone."""
        self._records = {name: record}
        self._write()
