"""Shards of Zarr arrays as files: many chunks in one, so that a volume of a petavoxel is not a billion files."""

from pathlib import Path

import numpy as np
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from segkit.errors import StorageError, sentence
from segkit.io.zarr import CHUNK
from segkit.system import sync_entry

LEAST = 16
"""Chunks are no smaller along any axis, unless blocks are: blocks of prime sizes are not divided."""


def chunk_of(block: int) -> int:
    """The side of the chunks in a block of this side: the largest divisor up to 64, if it is not too small.

    >>> [chunk_of(block) for block in (7, 64, 96, 100, 256, 127)]
    [7, 64, 48, 50, 64, 127]
    """
    if block <= CHUNK:
        return block
    divisor = max(size for size in range(1, CHUNK + 1) if block % size == 0)
    return divisor if divisor >= LEAST else block


def open_array(folder: Path) -> zarr.Array:
    """The array in a folder, for reading."""
    return zarr.open_array(str(folder), mode="r")


def encoded(folder: Path, key: str, part: tuple[slice, ...], array: np.ndarray) -> memoryview:
    """What the file of a shard holds, of the array in `folder`.

    Why not let zarr write it? It would read an old shard first, damaged as it may be, and sync nothing.
    """
    store: dict = {}
    memory = MemoryStore(store)
    prototype = default_buffer_prototype().buffer
    store["zarr.json"] = prototype.from_bytes((folder / "zarr.json").read_bytes())
    zarr.open_array(memory, mode="r+").with_config({"write_empty_chunks": True})[part] = array
    if key not in store:
        raise StorageError(sentence("a block", "could not be encoded", next_step="report this"))
    return store[key].as_buffer_like()


def make_folder(folder: Path) -> None:
    """Make a folder, with those above, each of which survives a crash of the machine."""
    if not folder.exists():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_entry(folder.parent)
