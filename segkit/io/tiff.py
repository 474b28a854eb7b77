"""TIFF stacks: one file of many pages, or a folder with one file a section.

A page is a section: pages run along z, rows along y, columns along x. The voxel size is taken from what segkit, ImageJ
or OME wrote into the file; a folder of sections has none. What segkit writes is uncompressed, of any size (BigTIFF
from 4 GB on), with kind, resolution and offset in the description of the first page.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from segkit.errors import InvalidInput, MissingDataset, MissingFile, SegkitError, StorageError, sentence
from segkit.io.atomic import storage_errors
from segkit.io.lock import writing
from segkit.io.records import NANOMETERS, Blocks, Record, Stored

SUFFIXES = (".tif", ".tiff")
BIG = 2**32 - 2**25
"""Bytes of data from which on a classic TIFF, whose offsets have 32 bits, might not do."""


class TiffStack:
    """One stack."""

    def __init__(self, stack: Stored) -> None:
        self._stack = stack

    def names(self) -> list[str]:
        """A stack is one volume without a name."""
        return []

    def find(self, name: str, whole: bool) -> str | None:
        """ "" if the stack may be taken as a `whole`."""
        return "" if whole else None

    def attributes(self, name: str) -> Mapping[str, object]:
        """Nothing beyond what :meth:`array` says: no notes are kept here."""
        return {}

    def array(self, name: str) -> Stored:
        """The stack."""
        return self._stack

    def group(self, name: str) -> tuple[dict[str, np.ndarray], Mapping[str, object]]:
        """A stack holds no merge tree."""
        raise MissingDataset(sentence("a TIFF stack", "holds one volume and no merge tree"))


@contextmanager
def reading(path: Path) -> Iterator[TiffStack]:
    """The stack, open for reading."""
    if path.is_dir():
        yield TiffStack(_sections(path))
        return
    with _open(path) as file:
        yield TiffStack(_pages(path, file))


def write(path: Path, records: Mapping[str, Record], drop: Iterable[str] = ()) -> None:
    """Write one volume, section by section; its blocks must be whole sections in order."""
    (record,) = records.values()
    data = record.data
    assert not isinstance(data, Mapping)  # merge trees are refused by the name of the file
    if data.ndim != 3:
        next_step = "write several channels to .h5, .zarr or .precomputed"
        raise InvalidInput(sentence("what is written to TIFF", "must have the axes z, y, x", f"{data.ndim}", next_step))
    if data.shape[2] == 1:  # tifffile would take the last axis for colours
        next_step = "write it to .h5 or .zarr"
        raise InvalidInput(sentence("what is written to TIFF", "must be wider than one voxel", next_step=next_step))
    sections = (section for _, block in data.parts for section in block) if isinstance(data, Blocks) else iter(data)
    size = data.size * np.dtype(data.dtype).itemsize
    with storage_errors("written", path), writing(path) as temporary:
        tifffile.imwrite(
            temporary,
            sections,
            shape=data.shape,
            dtype=data.dtype,
            bigtiff=size > BIG,
            photometric="minisblack",
            metadata={"axes": "ZYX", "segkit": record.attributes},
        )


def _open(path: Path) -> tifffile.TiffFile:
    if path.is_dir():
        raise InvalidInput(sentence(f"{path}", "must be a TIFF file", "a folder"))
    with storage_errors("read", path):
        try:
            return tifffile.TiffFile(path)
        except tifffile.TiffFileError as error:
            rule = "must be a TIFF file"
            raise InvalidInput(sentence(f"{path}", rule, "a file of another format", "name another file")) from error


def _pages(path: Path, file: tifffile.TiffFile) -> Stored:
    with storage_errors("read", path):
        if len(file.series) != 1:
            shapes = ", ".join(str(series.shape) for series in file.series[:3])
            rule = "must have pages of one size and one dtype"
            raise InvalidInput(sentence(f"{path}", rule, shapes, "split it into one file for each"))
        series = file.series[0]
        shape = _stack_shape(path, series)
        mapped = series.dataoffset is not None and not series.keyframe.is_tiled
        order = file.byteorder

    def read(part: tuple[slice, ...]) -> np.ndarray:
        z, *rest = part
        with _decoding(path):
            if mapped:
                dtype = series.dtype.newbyteorder(order)
                return np.array(file.filehandle.memmap_array(dtype, shape, series.dataoffset)[part])
            first, stop, _ = z.indices(shape[0])
            sections = series.asarray() if shape[0] == 1 else file.asarray(key=slice(first, stop), series=0)
            return sections.reshape(stop - first, *shape[1:])[(slice(None), *rest)]

    return Stored(shape, read, _attributes(file), series.dtype, "zyx")


def _stack_shape(path: Path, series: Any) -> tuple[int, int, int]:
    """Shape (Z, Y, X). Axes of length 1 other than those are left out; channels and times are refused."""
    axes = series.get_axes(squeeze=False)
    kept = [(axis, size) for axis, size in zip(axes, series.get_shape(squeeze=False), strict=True) if size > 1]
    depth = {axis: size for axis, size in kept if axis not in "YX"}
    if len(depth) > 1 or not set(depth) <= set("ZQI"):
        rule = "must be a stack of grey sections (pages along z)"
        next_step = "save its time points or channels as files of their own, or say that they are slices"
        raise InvalidInput(sentence(f"{path}", rule, f"one with the axes {axes} {series.shape}", next_step))
    sizes = dict(kept)
    return (next(iter(depth.values()), 1), sizes.get("Y", 1), sizes.get("X", 1))


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Errors of reading; a compression that needs another package is named."""
    try:
        with storage_errors("read", path):
            yield
    except SegkitError as error:
        if "imagecodecs" not in str(error):
            raise
        rule = "is compressed in a way that needs the package imagecodecs"
        raise StorageError(sentence(f"{path}", rule, next_step="pip install imagecodecs")) from error


def _attributes(file: tifffile.TiffFile) -> dict[str, object]:
    """What the file says of its voxels: by segkit, by ImageJ or by OME."""
    shaped = file.shaped_metadata
    if shaped and "segkit" in shaped[0]:
        return dict(shaped[0]["segkit"])
    size = _imagej_size(file) if file.is_imagej else _ome_size(file.ome_metadata)
    return {} if size is None else {"resolution": size, "unit": "nm"}


def _imagej_size(file: tifffile.TiffFile) -> list[float] | None:
    """Voxel size in nm, z, y, x, if the file states all three."""
    stated, tags = file.imagej_metadata or {}, file.pages.first.tags
    unit = str(stated.get("unit", "")).replace("\\u00B5", "µ")
    across = [tags.get(name) for name in ("YResolution", "XResolution")]
    if unit not in NANOMETERS or "spacing" not in stated or None in across:
        return None
    (py, qy), (px, qx) = (tag.value for tag in across)
    if not py or not px:
        return None
    return [NANOMETERS[unit] * length for length in (abs(float(stated["spacing"])), qy / py, qx / px)]


def _ome_size(text: str | None) -> list[float] | None:
    """The same from the XML of OME, whose lengths are in micrometers unless it says otherwise."""
    pixels = next((item for item in ElementTree.fromstring(text or "<a/>").iter() if item.tag.endswith("Pixels")), None)
    if pixels is None:
        return None
    size = []
    for axis in "ZYX":
        length, unit = pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")
        if length is None or unit not in NANOMETERS:
            return None
        size.append(float(length) * NANOMETERS[unit])
    return size


def _sections(folder: Path) -> Stored:
    files = section_files(folder)
    with _open(files[0]) as file:
        first = _pages(files[0], file)
        dtype = first.dtype

    def read(part: tuple[slice, ...]) -> np.ndarray:
        z, *rest = part
        return np.stack([_section(file, first.shape, dtype)[tuple(rest)] for file in files[z]])

    return Stored((len(files), *first.shape[1:]), read, {}, dtype, "zyx")


def _section(path: Path, shape: tuple[int, ...], dtype: np.dtype | None) -> np.ndarray:
    with _open(path) as file:
        section = _pages(path, file)
        if section.shape != (1, *shape[1:]) or section.dtype != dtype:
            rule = f"must be one section of {shape[1]} x {shape[2]} {dtype} as the first is"
            raise InvalidInput(sentence(f"{path}", rule, f"{section.shape} {section.dtype}", "mend that section"))
        return section.read((slice(None),) * 3)[0]


def section_files(folder: Path) -> list[Path]:
    """The sections of a folder in the order of the one number that their names differ in.

    Raises MissingFile if a number is left out, InvalidInput if the names do not say the order.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise MissingFile(sentence(f"{folder}", "has no TIFF sections", next_step="name another folder"))
    parts = [re.split(r"(\d+)", path.name) for path in files]
    varying = {i for part in parts for i, (a, b) in enumerate(zip(part, parts[0], strict=False)) if a != b}
    if len({len(part) for part in parts}) > 1 or len(varying) > 1 or any(i % 2 == 0 for i in varying):
        rule = "must hold sections whose names differ in one number only"
        raise InvalidInput(sentence(f"{folder}", rule, f"{files[0].name} ... {files[-1].name}", "rename the others"))
    if not varying:
        return files
    (place,) = varying
    numbers = [int(part[place]) for part in parts]
    order = sorted(range(len(files)), key=numbers.__getitem__)
    _check_numbers(folder, sorted(numbers), parts[order[0]], place)
    return [files[i] for i in order]


def _check_numbers(folder: Path, numbers: list[int], name: list[str], place: int) -> None:
    for previous, number in pairwise(numbers):
        if number == previous:
            raise InvalidInput(sentence(f"{folder}", "must hold each section once", f"section {number} twice"))
        if number != previous + 1:
            missing = "".join([*name[:place], str(previous + 1).zfill(len(name[place])), *name[place + 1 :]])
            next_step = "add it (a blank section, say), for without it the sections after it would be displaced"
            raise MissingFile(sentence(f"{folder / missing}", "is missing", next_step=next_step))
