"""What stages keep beside volumes: keys that say what decided a result, and small arrays in files."""

import json
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np

from segkit import __version__
from segkit.io.address import Address
from segkit.io.atomic import remove, replacing, storage_errors
from segkit.io.fetch import work_folder_of
from segkit.io.remote import Remote

WORK = ".segkit-work"
"""The folder, in the store of the result, of all that is removed in the end."""


def fingerprint(**parts: object) -> str:
    """The key of what is decided by `parts`, plain values, and by this version of segkit.

    >>> fingerprint(block=(1, 2, 3), method="a") == fingerprint(method="a", block=[1, 2, 3]) != fingerprint(method="a")
    True
    """
    text = json.dumps({"segkit": __version__} | parts, sort_keys=True, default=_plain)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def work_folder(store: Address | Path | Remote, stage: str) -> Path:
    """Where a stage keeps what is removed in the end: in a Zarr store, or beside a file of another format."""
    path = (store.path if isinstance(store, Address) else store).absolute()
    if isinstance(path, Remote):
        return work_folder_of(path) / WORK / stage
    if path.suffix.lower() == ".zarr":
        return path / WORK / stage
    return path.with_name(f".{path.name}{WORK}") / stage


def clear(folder: Path) -> None:
    """Remove a folder, and those that it lies in as far as they are folders for work and hold nothing else."""
    remove(folder)
    while WORK in str(folder.parent):
        folder = folder.parent
        try:
            folder.rmdir()
        except OSError:  # somebody else works there
            return


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array as .npy, in one step, durably; its folder is made if need be."""
    with storage_errors("written", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.save(file, array)


def load_array(path: Path, *, mapped: bool = False) -> np.ndarray:
    """The array of a .npy; `mapped`, only what is looked at of it is read."""
    with storage_errors("read", path):
        return np.load(path, mmap_mode="r" if mapped else None)


class Shelf:
    """Arrays that the blocks of a stage look up, by name: in files that any process maps, or in memory."""

    def __init__(self, folder: Path | None) -> None:
        """Without a folder in memory, for blocks that are computed in this process."""
        self._folder = folder
        self._held: dict[str, np.ndarray] = {}

    def put(self, name: str, array: np.ndarray) -> None:
        """Keep an array."""
        if self._folder is None:
            self._held[name] = array
        else:
            save_array(self._folder / f"{name}.npy", array)

    def get(self, name: str) -> np.ndarray:
        """The array of that name; of a file only what is looked at is read."""
        return self._held[name] if self._folder is None else load_array(self._folder / f"{name}.npy", mapped=True)

    def clear(self) -> None:
        """Remove the files, and the folders for work that hold nothing else."""
        if self._folder is not None:
            clear(self._folder)


def file_digest(path: Path) -> str | None:
    """A checksum of a file as it lies on disk; None if it cannot be read."""
    found = blake2b(digest_size=16)
    try:
        with open(path, "rb") as file:
            while piece := file.read(1 << 20):
                found.update(piece)
    except OSError:
        return None
    return found.hexdigest()


def array_digest(arrays: Sequence[np.ndarray]) -> str:
    """A checksum of the dtypes, shapes and values of arrays in memory."""
    found = blake2b(digest_size=16)
    for array in arrays:
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else str(value)
