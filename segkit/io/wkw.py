"""WKW, the files of webKnossos: blocks of voxels, raw or packed by LZ4, in files that hold a cube of blocks each.

It is read here, not by the library of that name, which ends the process where a file is damaged, and misreads all files
where header.wkw is. The format: https://github.com/scalableminds/webknossos-wrap.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numcodecs import lz4

from segkit.errors import InvalidInput, sentence
from segkit.io.atomic import storage_errors
from segkit.io.placement import Placement
from segkit.io.records import Stored, check_chunk
from segkit.io.remote import AnyPath

HEADER, TABLE = 8, 16
"""Bytes that all files have in common; where the table of packed blocks begins, after where the first block does."""
DTYPES = ("u1", "u2", "u4", "u8", "f4", "f8", "i1", "i2", "i4", "i8")
RAW, PACKED = 1, (2, 3)
LONGEST = 2**31
"""Voxels along an axis; the format states none."""


@dataclass(frozen=True)
class Header:
    """What header.wkw says, and each file again."""

    content: bytes
    block: int
    """Voxels along a side of a block."""
    blocks: int
    """Blocks along a side of a file."""
    packed: bool
    dtype: np.dtype
    channels: int

    @property
    def nbytes(self) -> int:
        """Bytes of a block."""
        return self.block**3 * self.channels * self.dtype.itemsize


def stored_in(folder: AnyPath) -> Stored:
    """All that a folder may hold, channel, x, y, z: what has no file is zero."""
    header = _header(folder / "header.wkw")

    def read(part: tuple[slice, ...]) -> np.ndarray:
        box = part[1:]
        found = np.zeros((header.channels, *(along.stop - along.start for along in box)), header.dtype, "F")
        for index, low, into in _cut(box, header.block * header.blocks):
            file = folder / f"z{index[2]}" / f"y{index[1]}" / f"x{index[0]}.wkw"
            if file.exists():
                with storage_errors("read", file):
                    _fill(found[(slice(None), *into)], file, header, low)
        return found[part[0]]

    return Stored((header.channels, *[LONGEST] * 3), read, placement=Placement("cxyz"), dtype=header.dtype)


def _header(file: AnyPath) -> Header:
    with storage_errors("read", file):
        content = file.read_bytes()[:HEADER]
        magic, version, sides, kind, dtype, size = struct.unpack("<3sBBBBB", content)
    number = dtype - 1
    if (magic, version) != (b"WKW", 1) or kind not in (RAW, *PACKED) or number not in range(len(DTYPES)):
        raise InvalidInput(sentence(f"{file}", "must be a header of WKW, version 1", content.hex(), "copy it again"))
    found = np.dtype(DTYPES[number]).newbyteorder("<")
    if not size or size % found.itemsize:
        raise InvalidInput(sentence(f"{file}", f"must state voxels of {found}", f"{size} bytes", "copy it again"))
    header = Header(content, 1 << (sides & 15), 1 << (sides >> 4), kind in PACKED, found, size // found.itemsize)
    check_chunk([header.channels, *[header.block] * 3], found)
    check_chunk([header.blocks] * 3, np.dtype("<u8"))  # the table of a file
    return header


def _fill(found: np.ndarray, file: AnyPath, header: Header, low: tuple[int, ...]) -> None:
    """Put the voxels of a file, from `low` on, into `found`, channel, x, y, z."""
    content = np.memmap(file, np.uint8, "r") if isinstance(file, Path) else np.frombuffer(file.read_bytes(), np.uint8)
    if content[:HEADER].tobytes() != header.content:
        raise ValueError("its header is not that of header.wkw")
    first = int(content[HEADER:TABLE].view("<u8")[0])
    ends = content[TABLE : TABLE + 8 * header.blocks**3].view("<u8") if header.packed else None
    box = tuple(slice(at, at + size) for at, size in zip(low, found.shape[1:], strict=True))
    for index, start, into in _cut(box, header.block):
        number = _morton(index)
        if ends is None:
            values = content[first + number * header.nbytes : first + (number + 1) * header.nbytes].tobytes()
        else:
            begin = first if number == 0 else int(ends[number - 1])
            packed = content[begin : int(ends[number])].tobytes()
            values = bytes(lz4.decompress(struct.pack("<I", header.nbytes) + packed))
        block = np.frombuffer(values, header.dtype).reshape((header.channels, *[header.block] * 3), order="F")
        ends_at = (along.stop - along.start for along in into)
        part = (slice(at, at + size) for at, size in zip(start, ends_at, strict=True))
        found[(slice(None), *into)] = block[(slice(None), *part)]


def _cut(box: tuple[slice, ...], side: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], tuple[slice, ...]]]:
    """The cubes of a grid that a box lies in: the index of each, where the box begins in it, its part of the box."""
    for index in product(*(range(along.start // side, -(-along.stop // side)) for along in box)):
        begins = [max(along.start, at * side) for along, at in zip(box, index, strict=True)]
        stops = [min(along.stop, (at + 1) * side) for along, at in zip(box, index, strict=True)]
        low = tuple(begin - at * side for begin, at in zip(begins, index, strict=True))
        into = (slice(a - along.start, b - along.start) for a, b, along in zip(begins, stops, box, strict=True))
        yield index, low, tuple(into)


def _morton(index: tuple[int, ...]) -> int:
    """The number of a block in its file: the bits of x, y and z in turn, x lowest."""
    return sum((at >> bit & 1) << (3 * bit + axis) for axis, at in enumerate(index) for bit in range(at.bit_length()))
