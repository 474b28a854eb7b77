"""MRC files (.mrc, .map, .rec, .st, .ali), through mrcfile (`pip install 'segkit-em[mrc]'`).

Sections, rows and columns run along the axes that the header names, z, y, x as a rule. Lengths are in angstroms. The
first voxel lies at the origin, or where the start of columns, rows and sections says if that is 0. In files of IMOD
bytes have no sign, and the origin has the opposite one, unless their flags say otherwise.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from segkit.errors import InvalidInput, sentence
from segkit.io.atomic import storage_errors
from segkit.io.dialects import nanometers_along
from segkit.io.placement import Placement
from segkit.io.records import About, Stored
from segkit.io.single import OneVolume, library, parts_of

MODES = (0, 1, 2, 6, 12)
"""Bytes, 16 bits, floats, 16 bits without a sign, floats of 16 bits; others are complex, or coloured, or half bytes."""
IMOD = 1146047817
"""What IMOD stamps into its files."""
STAMP, SIGNED, INVERTED = 40, 1, 4
"""Where in `extra2` the stamp is; the flags after it: bytes have a sign, the origin has the sign of the standard."""


@contextmanager
def reading(path: Path, options: Mapping[str, str]) -> Iterator[OneVolume]:
    """The volume, open for reading; there are no `options`."""
    mrcfile = library("mrcfile", "MRC", "mrc")
    with warnings.catch_warnings(), storage_errors("read", path):
        warnings.simplefilter("ignore")  # of bytes after the last voxel
        with mrcfile.open(path, header_only=True) as file:
            mode = int(file.header.mode)
        if mode not in MODES:
            next_step = "convert it, by newstack of IMOD for instance"
            raise InvalidInput(sentence(f"{path}: mode", f"must be {', '.join(map(str, MODES))}", mode, next_step))
        file = mrcfile.mmap(path, "r")
    with file:
        yield OneVolume(_stored(path, file), "an MRC file")


def _stored(path: Path, file: Any) -> Stored:
    header, values = file.header, file.data
    flags = _imod_flags(header)
    if values.dtype == np.int8 and flags is not None and not flags & SIGNED:
        values = values.view(np.uint8)
    axes = _axes(header)[-min(values.ndim, 3) :]
    placement = _placement(header, axes, flags)
    if values.ndim == 4:  # a stack of volumes
        placement = replace(placement, axes=f"t{axes}")
    return Stored(values.shape, parts_of(path, lambda: values), About(), placement, values.dtype)


def _axes(header: Any) -> str:
    """The axes along sections, rows and columns."""
    numbers = [int(header.maps), int(header.mapr), int(header.mapc)]
    if numbers == [0, 0, 0]:  # left out by some tools
        return "zyx"
    if sorted(numbers) != [1, 2, 3]:
        rule, value = "must be 1, 2 and 3 in some order", numbers[::-1]
        raise InvalidInput(sentence("the axes of columns, rows and sections", rule, value, "correct the header"))
    return "".join("xyz"[number - 1] for number in numbers)


def _imod_flags(header: Any) -> int | None:
    """The flags of a file that IMOD wrote; None of any other."""
    order = header.nx.dtype.byteorder
    stamp, flags = np.frombuffer(bytes(header.extra2)[STAMP : STAMP + 8], np.dtype("i4").newbyteorder(order))
    return int(flags) if stamp == IMOD else None


def _placement(header: Any, axes: str, flags: int | None) -> Placement:
    """Where the voxels lie; voxels of no size at all are those that nobody measured."""
    cell, counts = [float(header.cella[axis]) for axis in "xyz"], [int(header[f"m{axis}"]) for axis in "xyz"]
    sizes = [length / count if count else 0.0 for length, count in zip(cell, counts, strict=True)]
    if not any(sizes):
        return Placement(axes)
    angles = [float(header.cellb[name]) for name in ("alpha", "beta", "gamma")]
    if any(angle not in (0.0, 90.0) for angle in angles):
        next_step = "`segkit convert --voxel-size Z Y X` takes voxels for upright"
        return Placement(
            axes, refusal=InvalidInput(sentence("the angles of the cell", "must be 90", angles, next_step))
        )
    places = [float(header.origin[axis]) for axis in "xyz"]
    if flags is not None:
        places = places if flags & INVERTED else [-place for place in places]
    elif not any(places):
        starts = [int(header.nxstart), int(header.nystart), int(header.nzstart)]  # of columns, rows, sections
        order = _axes(header)[::-1]
        places = [starts[order.index(axis)] * size for axis, size in zip("xyz", sizes, strict=True)]
    return replace(nanometers_along("xyz", sizes, ["angstrom"] * 3, places), axes=axes)
