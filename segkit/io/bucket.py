"""Zarr stores and precomputed volumes in buckets, where nothing can be moved.

All files of an object lie in a folder of it that has a name of its own, ``volumes/raw/v-5e1f…/0/c/…``. Its last file is
``volumes/raw/zarr.json``, which says so: there the object appears, or takes the place of another, in one step. What is
no longer needed is removed then; what killed processes have left is removed by whoever writes the object next.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import zarr
from zarr.storage import ObjectStore

from segkit.errors import SegkitError, StorageError, sentence
from segkit.io.address import Box
from segkit.io.atomic import storage_errors
from segkit.io.fetch import work_folder_of
from segkit.io.json_file import read_json_object
from segkit.io.lock import PATIENCE, lock_of, locked
from segkit.io.ome import FIRST_SCALE, image_attributes
from segkit.io.records import Record
from segkit.io.remote import Remote
from segkit.io.shard_target import ShardTarget
from segkit.io.shown import scales_beside
from segkit.io.zarr import changing, check_addable, check_room, fill

LAST_REQUESTS = 2.0
"""Seconds after which requests that were on their way when others failed have come to their end."""
GROUP = {"zarr_format": 3, "node_type": "group", "attributes": {}}


def write(path: Remote, records: Mapping[str, Record], drop: Iterable[str] = ()) -> None:
    """Write objects, by name; each appears in one step. Those in `drop` are removed first."""
    with storage_errors("written", path), ExitStack() as locks:
        for name in sorted(records):
            locks.enter_context(locked(lock_of(path, name), f"{path}:{name}", PATIENCE))
        _prepare(path, records)
        for name in drop:
            with _changing(path, name):
                (path / name / "zarr.json").unlink()
                (path / name).remove()
        for name, record in records.items():
            with versioned(path / name, "zarr.json", partial(_changing, path, name)) as folder:
                fill(_new_group(folder), name, record, scales_beside(path, name))


@contextmanager
def versioned(place: Remote, last: str, around: Callable[[], AbstractContextManager] = nullcontext) -> Iterator[Remote]:
    """A new folder in `place` to write an object into, which then is the object there, see :func:`commit`.

    `last` is the file that says so, and `around` what is entered while it is written. What fails leaves nothing.
    """
    folder = place / f"v-{uuid4().hex[:16]}"
    try:
        yield folder
    except BaseException:
        for _ in range(2):
            with suppress(SegkitError):  # the server may have gone, and of that the error tells
                folder.remove()
            time.sleep(LAST_REQUESTS)
        raise
    with around():
        commit(place, folder.name, last)


def commit(place: Remote, version: str, last: str = "zarr.json") -> None:
    """Let what lies in the folder `version` of a place be the object there, in one step; remove what was before.

    Raises StorageError if another machine, of which no lock tells, has written the object meanwhile.
    """
    folder, next_step = place / version, "write it again, from one machine"
    replaced = StorageError(sentence(f"{place}", "was written by others meanwhile", next_step=next_step))
    if not (folder / last).is_file():  # for others remove what is not theirs
        folder.remove()
        raise replaced
    metadata = read_json_object(folder / last)
    metadata.pop("consolidated_metadata", None)
    for scale in metadata.get("scales", ()):  # of a precomputed volume
        scale["key"] = f"{version}/{scale['key']}"
    attributes: dict[str, Any] = metadata.get("attributes", {})
    for image in attributes.get("ome", {}).get("multiscales", ()):
        for scale in image["datasets"]:
            if not (folder / scale["path"] / "zarr.json").is_file():
                folder.remove()
                raise replaced
            scale["path"] = f"{version}/{scale['path']}"
    if "segkit" in attributes:
        attributes["segkit"] = attributes["segkit"] | {"at": version}
    (place / last).write_bytes(json.dumps(metadata).encode())
    if read_json_object(place / last) != metadata:
        return
    for entry, is_folder in place.entries():
        if entry.name not in (version, last):
            entry.remove() if is_folder else entry.unlink()


@contextmanager
def _changing(path: Remote, name: str) -> Iterator[None]:
    with locked(lock_of(path), str(path), PATIENCE), changing(path, name):
        yield


def _prepare(path: Remote, names: Iterable[str]) -> None:
    """Make the store and the groups that objects lie in, where there are none. Raises InvalidInput as `check_room`."""
    with locked(lock_of(path), str(path), PATIENCE):
        if not path.exists():
            (path / "zarr.json").create(json.dumps(GROUP).encode())
        check_addable(path)
        for name in names:
            check_room(path, name)
            for end in range(1, len(name.split("/"))):
                (path / "/".join(name.split("/")[:end]) / "zarr.json").create(json.dumps(GROUP).encode())


def _new_group(folder: Remote) -> zarr.Group:
    return zarr.create_group(ObjectStore(folder.store()), zarr_format=3)


@dataclass(frozen=True)
class BucketTarget(ShardTarget):
    """A volume in a bucket that is being made, block by block."""

    path: Remote

    @property
    def folder(self) -> Any:
        """Where its files lie, finished or not."""
        return self.path / self.name / self._version

    @property
    def marks(self) -> Path:
        """A folder for marks of finished blocks: on this machine, or where $SEGKIT_WORK says."""
        return work_folder_of(self.path) / self.name.replace("/", ".") / self._version / "marks"

    def read(self, part: Box) -> np.ndarray:
        """The values of a box, as far as they are written; 0 elsewhere."""
        with storage_errors("read", self.path):
            array = zarr.open_array(ObjectStore((self.folder / FIRST_SCALE).store(), read_only=True), mode="r")
            return np.asarray(array[(*(slice(size) for size in self._leading), *part)])

    def digest(self, part: Box) -> str | None:
        """What the server says of the blocks in `part`; None unless all are there."""
        found = blake2b(digest_size=16)
        for index, _ in self._blocks(part):
            stated = self._file(index).etag()
            if stated is None:
                return None
            found.update(stated.encode())
        return found.hexdigest()

    def finish(self) -> None:
        """Let the volume be the object of its name; it replaces one that is there. Its blocks must all be written."""
        with storage_errors("written", self.path), _changing(self.path, self.name):
            commit(self.path / self.name, self._version)
        for other in self.marks.parent.parent.iterdir() if self.marks.is_dir() else ():
            if other.name != self._version:
                shutil.rmtree(other, ignore_errors=True)

    @property
    def _version(self) -> str:
        return f"v-{blake2b(self.key.encode(), digest_size=8).hexdigest()}"

    def _open(self, attributes: Mapping[str, object]) -> "BucketTarget":
        if self._agrees(self.folder):
            self._restate(attributes)
        else:
            self._begin(attributes)
        return self

    def _restate(self, attributes: Mapping[str, object]) -> None:
        file = self.folder / "zarr.json"
        metadata = read_json_object(file)
        metadata["attributes"] = image_attributes(self.name, 3 + len(self._leading), attributes)
        file.write_bytes(json.dumps(metadata).encode())

    def _begin(self, attributes: Mapping[str, object]) -> None:
        _prepare(self.path, [self.name])
        self.folder.remove()
        self._create(_new_group(self.folder), attributes)

    def _put_file(self, file: Any, content: memoryview) -> None:
        file.write_bytes(content)
