"""Boxes of volumes in files through one cache of chunks, so that no chunk is decoded again while there is room.

A chunk here is one of the file, or a few small ones together. Those of a box are read at the same time.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import prod
from threading import Lock

import numpy as np

from segkit.data.boxes import counted_from
from segkit.errors import InvalidInput, sentence
from segkit.io.address import Box
from segkit.io.lookup import AnyAddress
from segkit.io.reader import RegionSource
from segkit.memory import decimal_bytes

READERS = 16
"""Chunks that are read at the same time."""
SMALLEST = 2**18
"""Voxels that are kept together at least, 64 along each axis: smaller chunks of a file are joined."""
PARTS = 64
"""Chunks that fit into a cache, unless those of the file are larger."""


class ChunkCache:
    """Keeps chunks of several volumes in memory, those used last, up to `size` bytes; asked from any thread.

    Beside it lie the chunks of the boxes that are being read. One that travels to another process is empty there.
    """

    def __init__(self, size: int) -> None:
        self.size, self.held = size, 0
        self._chunks: OrderedDict[tuple, tuple[Future[np.ndarray], int]] = OrderedDict()
        self._lock = Lock()
        self._readers = ThreadPoolExecutor(READERS, "segkit-chunks")

    def __reduce__(self) -> tuple[type["ChunkCache"], tuple[int]]:
        return ChunkCache, (self.size,)

    def fetch(self, key: tuple, size: int, read: Callable[[], np.ndarray]) -> "Future[np.ndarray]":
        """Return the chunk of this key, of at most `size` bytes, which `read` reads unless it is there already."""
        with self._lock:
            if key in self._chunks:
                self._chunks.move_to_end(key)
                return self._chunks[key][0]
            chunk = self._readers.submit(self._read, key, read)
            self._chunks[key] = chunk, size
            self.held += size
            while self.held > self.size:
                self.held -= self._chunks.popitem(last=False)[1][1]
            return chunk

    def _read(self, key: tuple, read: Callable[[], np.ndarray]) -> np.ndarray:
        """Read a chunk; one that cannot be read is forgotten, so that it is read anew when it is asked for again."""
        try:
            values = read()
        except BaseException:
            with self._lock:
                if key in self._chunks:
                    self.held -= self._chunks.pop(key)[1]
            raise
        with self._lock:
            if key in self._chunks:
                chunk, expected = self._chunks[key]
                self._chunks[key] = chunk, values.nbytes
                self.held += values.nbytes - expected
        return values


class CachedSource:
    """A volume in a file, read chunk by chunk through a cache that it shares with others.

    It gives the values of :class:`segkit.io.RegionSource`, and travels to other processes as that one does.
    """

    def __init__(self, address: AnyAddress, role: str, cache: ChunkCache) -> None:
        """Open the volume. Raises InvalidInput if a chunk of it does not fit into the cache."""
        self._source, self._cache = RegionSource(address, role), cache
        self.shape, self.grid, self.dtype = self._source.shape, self._source.grid, self._source.dtype
        self._key = role, str(self._source.address)
        crop = self._source.address.crop or (slice(None),) * 3
        first = [along.start or 0 for along in crop]
        ends = [a + size for a, size in zip(first, self.shape, strict=True)]
        sides = _sides(self._source.chunks, ends, min(SMALLEST, cache.size // (PARTS * self.dtype.itemsize)))
        self._axes = [_Axis(*along) for along in zip(first, sides, self.shape, strict=True)]
        largest = prod(map(min, sides, self.shape)) * self.dtype.itemsize
        if largest > cache.size:
            what = f"{self._source.address.path}:{self._source.address.at(role)}"
            rule = f"must hold what is decoded at once of {what}, {decimal_bytes(largest)}"
            next_step = "give a larger one by --cache, or store smaller chunks"
            raise InvalidInput(sentence("cache", rule, decimal_bytes(cache.size), next_step))

    def read(self, box: Box, /) -> np.ndarray:
        """Read a box, (Z, Y, X), which the caller may change. It has both ends given, inside the volume."""
        result = np.empty([along.stop - along.start for along in box], self.dtype)
        numbers = product(*(axis.numbers(along) for axis, along in zip(self._axes, box, strict=True)))
        for chunk, future in [self._fetch(number) for number in numbers]:
            common = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(box, chunk, strict=True)]
            result[counted_from(box, common)] = future.result()[counted_from(chunk, common)]
        return result

    def _fetch(self, number: tuple[int, ...]) -> tuple[Box, "Future[np.ndarray]"]:
        """The chunk of this number along z, y, x: where it lies, and what it will be."""
        chunk = tuple(axis.chunk(n) for axis, n in zip(self._axes, number, strict=True))
        size = prod(along.stop - along.start for along in chunk) * self.dtype.itemsize
        return chunk, self._cache.fetch((*self._key, number), size, partial(self._read, chunk))

    def _read(self, chunk: Box) -> np.ndarray:
        """The values of a chunk, ids below 2^32 as uint32, of which twice as many fit into the cache."""
        values = self._source.read(chunk)
        small = values.dtype == np.uint64 and values.max() < 2**32
        return values.astype(np.uint32) if small else values


@dataclass(frozen=True)
class _Axis:
    """How an axis is cut into chunks, which end where those of the file end."""

    first: int
    """The voxel of the file at which the volume begins."""
    side: int
    """Voxels of a chunk."""
    size: int
    """Voxels of the volume."""

    def numbers(self, along: slice) -> range:
        """The chunks that a part touches; the first of the file is 0."""
        return range((self.first + along.start) // self.side, (self.first + along.stop - 1) // self.side + 1)

    def chunk(self, number: int) -> slice:
        """Where a chunk lies in the volume, of which it does not stick out."""
        start = number * self.side - self.first
        return slice(max(start, 0), min(start + self.side, self.size))


def _sides(chunks: Sequence[int] | None, shape: Sequence[int], least: int = SMALLEST) -> list[int]:
    """The sides of one chunk of the file, or of some joined, until they have `least` voxels or all of `shape`.

    >>> _sides((32, 32, 32), (500, 500, 500)), _sides((1, 900, 900), (40, 900, 900)), _sides(None, (10, 500, 500))
    ([64, 64, 64], [1, 900, 900], [10, 128, 128])
    """
    steps = list(chunks or (1, 1, 1))
    sides = steps.copy()
    while prod(sides) < least:
        growing = [axis for axis in range(3) if sides[axis] < shape[axis]]
        if not growing:
            break
        shortest = min(growing, key=lambda axis: sides[axis])
        sides[shortest] *= 2
    return [min(side, size) if side > step else side for side, size, step in zip(sides, shape, steps, strict=True)]
