"""NRRD (.nrrd, or a header .nhdr with its values beside), through pynrrd (`pip install 'segkit-em[nrrd]'`).

The format stores the fastest axis, x as a rule, first. Where the voxels lie is what `space directions` and `space
origin` say, else `spacings` and `axis mins`. Raw values are mapped; packed ones are unpacked whole when first read.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from segkit.errors import InvalidInput, sentence
from segkit.io.atomic import storage_errors
from segkit.io.dialects import nanometers_along
from segkit.io.directions import placed_along
from segkit.io.placement import Placement, axis_letters
from segkit.io.records import About, Stored, check_memory
from segkit.io.schemas import NrrdHeader, checked, inside, plain
from segkit.io.single import OneVolume, library, parts_of

TYPES = {
    "i1": "signed char,int8,int8_t",
    "u1": "uchar,unsigned char,uint8,uint8_t",
    "i2": "short,short int,signed short,signed short int,int16,int16_t",
    "u2": "ushort,unsigned short,unsigned short int,uint16,uint16_t",
    "i4": "int,signed int,int32,int32_t",
    "u4": "uint,unsigned int,uint32,uint32_t",
    "i8": "longlong,long long,long long int,signed long long,signed long long int,int64,int64_t",
    "u8": "ulonglong,unsigned long long,unsigned long long int,uint64,uint64_t",
    "f4": "float",
    "f8": "double",
}
DTYPES = {name: dtype for dtype, names in TYPES.items() for name in names.split(",")}
"""What the format calls a type -> dtype."""
PER_AXIS = ("sizes", "kinds", "labels", "spacings", "units", "axismins", "spacedirections")
SPATIAL = ("domain", "space", "none", "???")
"""The kinds of axes along which voxels lie; of the others "time" are times and the rest channels."""


@contextmanager
def reading(path: Path, options: Mapping[str, str]) -> Iterator[OneVolume]:
    """The volume, open for reading. Its values may lie outside the folder where "links" is of the `options`."""
    nrrd = library("nrrd", "NRRD", "nrrd")
    with storage_errors("read", path), open(path, "rb") as file:
        stated, start = nrrd.read_header(file), file.tell()
    header = checked(NrrdHeader, {key.replace(" ", ""): plain(value) for key, value in stated.items()}, f"{path}")
    for field in PER_AXIS:
        given = getattr(header, field)
        if given is not None and len(given) != header.dimension:
            rule = f"must have {header.dimension} entries, one an axis"
            raise InvalidInput(sentence(f"{path}: {field}", rule, given, "correct the header"))
    values = _values_of(path, header, follow="links" in options)
    dtype = _dtype(path, header)
    if header.encoding == "raw":
        read = _mapped(values or path, header, dtype, 0 if values else start)
    else:
        read = _unpacked(nrrd, path, stated, dtype)
    folder = str(values.absolute()) if values else ""
    stored = Stored(tuple(header.sizes), parts_of(values or path, read), About(), _placement(header), dtype, folder)
    yield OneVolume(stored, "an NRRD file")


def _values_of(path: Path, header: NrrdHeader, *, follow: bool) -> Path | None:
    """The file of the values, where that is not the one of the header."""
    name = header.datafile
    if name is None:
        return None
    if name.split()[0] == "LIST" or "%" in name:
        rule, next_step = "must name one file", "unite them by `unu` or 3D Slicer"
        raise InvalidInput(sentence(f"{path}: data file", rule, repr(name), next_step))
    try:
        return path.parent / (name if follow else inside(name))
    except InvalidInput as error:
        rule = "must lie beside its header"
        next_step = "if you trust it, allow that by ADDRESS[links=follow]"
        raise InvalidInput(sentence(f"{path}: data file", rule, repr(name), next_step)) from error


def _dtype(path: Path, header: NrrdHeader) -> np.dtype:
    if header.type not in DTYPES:
        rule, value = "must be a type of numbers, such as uint8 or float", repr(header.type)
        raise InvalidInput(sentence(f"{path}: type", rule, value, "save it as numbers"))
    dtype = np.dtype(DTYPES[header.type])
    if dtype.itemsize > 1 and header.encoding not in ("ascii", "text", "txt", "ASCII"):
        if header.endian not in ("little", "big"):
            rule = "must be little or big"
            raise InvalidInput(sentence(f"{path}: endian", rule, repr(header.endian), "correct the header"))
        dtype = dtype.newbyteorder("<" if header.endian == "little" else ">")
    return dtype


def _mapped(file: Path, header: NrrdHeader, dtype: np.dtype, start: int) -> Callable[[], np.ndarray]:
    """How to map raw values that begin at byte `start` of a file, or after the lines and bytes to be skipped there."""

    def values() -> np.ndarray:
        with open(file, "rb") as content:
            content.seek(start)
            for _ in range(header.lineskip):
                content.readline()
            first = content.tell() + header.byteskip
        if header.byteskip == -1:
            first = file.stat().st_size - math.prod(header.sizes) * dtype.itemsize
        return np.memmap(file, dtype, "r", first, tuple(header.sizes), "F")

    return values


def _unpacked(nrrd: ModuleType, path: Path, stated: Mapping[str, Any], dtype: np.dtype) -> Callable[[], np.ndarray]:
    """How to unpack all values, once."""

    @lru_cache(1)
    def values() -> np.ndarray:
        check_memory(f"{path}", math.prod(map(int, stated["sizes"])) * dtype.itemsize)
        with open(path, "rb") as file:
            nrrd.read_header(file)
            return nrrd.read_data(stated, file, str(path), index_order="F")

    return values


def _placement(header: NrrdHeader) -> Placement:
    """Where the voxels lie."""
    ndim = len(header.sizes)
    kinds = header.kinds or ["domain"] * ndim
    steps = header.spacedirections
    spatial = [i for i in range(ndim) if kinds[i : i + 1] and kinds[i] in SPATIAL]
    if steps is not None:
        spatial = [i for i, step in enumerate(steps) if step is not None]
    found = _of_spatial(header, spatial)
    letters = iter(found.axes or "xyz")
    named = {"time": "t"}
    axes = "".join(next(letters, "?") if i in spatial else named.get(kinds[i], "c") for i in range(ndim))
    return replace(found, axes=axes)


def _of_spatial(header: NrrdHeader, spatial: list[int]) -> Placement:
    """The same of the axes along which voxels lie."""
    labels = axis_letters([header.labels[i] for i in spatial]) if header.labels else None
    axes = labels if labels and len(labels) == len(spatial) and set(labels) <= set("xyz") else "xyz"[: len(spatial)]
    if len(spatial) != 3:
        return Placement(axes)
    if header.spacedirections is not None:
        steps = np.array([header.spacedirections[i] for i in spatial], float)
        if steps.shape != (3, 3):
            rule = "must be vectors of three numbers"
            return Placement(axes, refusal=InvalidInput(sentence("space directions", rule, steps.tolist())))
        return placed_along(steps, header.spaceorigin, header.spaceunits or [""] * 3)
    if header.spacings is None or any(header.spacings[i] is None for i in spatial):
        return Placement(axes)
    sizes = [float(header.spacings[i] or 0) for i in spatial]
    units = [header.units[i] if header.units else "" for i in spatial]
    places = None if header.axismins is None else [header.axismins[i] for i in spatial]
    if places is not None and None in places:
        places = None
    return nanometers_along(axes, sizes, units, places)  # type: ignore[arg-type]
