"""TIFF stacks: one file of many pages, or a folder with one file a section.

A page is a section: pages run along z, rows along y, columns along x; other axes, times say, are those of the series.
The voxel size is taken from what segkit, ImageJ or OME wrote into the file; a folder of sections has none. What segkit
writes is uncompressed, of any size (BigTIFF from 4 GB on), with kind, resolution and offset in the description of the
first page, and calibrated as ImageJ has it where ImageJ opens such a file.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from pydantic import FiniteFloat

from segkit.errors import InvalidInput, MissingDataset, MissingFile, SegkitError, StorageError, sentence
from segkit.io.atomic import storage_errors
from segkit.io.dialects import nanometers_along, read_placement
from segkit.io.lock import writing
from segkit.io.placement import NANOMETERS, Placement
from segkit.io.records import About, Blocks, Record, Stored
from segkit.io.schemas import Schema, checked, parse_xml, plain, stated_about

SUFFIXES = (".tif", ".tiff")
IMAGEJ = (np.dtype("u1"), np.dtype("u2"), np.dtype("f4"))
"""What ImageJ opens."""
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

    def about(self, name: str) -> About:
        """What segkit wrote about it: its kind; no notes are kept here."""
        return self._stack.about

    def array(self, name: str) -> Stored:
        """The stack."""
        return self._stack

    def group(self, name: str) -> tuple[dict[str, np.ndarray], About]:
        """A stack holds no merge tree."""
        raise MissingDataset(sentence("a TIFF stack", "holds one volume and no merge tree"))


@contextmanager
def reading(path: Path, allowed: Collection[str] = ()) -> Iterator[TiffStack]:
    """The stack, open for reading; there is nothing to be `allowed`."""
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
            photometric="minisblack",
            **_calibrated(np.dtype(data.dtype), size, record.attributes),
        )


def _calibrated(dtype: np.dtype, size: int, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What tifffile is told of an array of `size` bytes, so that other programs see how large its voxels are.

    ImageJ's own description where ImageJ knows the dtype and the size; else the resolution along y and x alone.
    """
    if "resolution" not in attributes:
        return {"bigtiff": size > BIG, "metadata": {"axes": "ZYX", "segkit": attributes}}
    z, y, x = attributes["resolution"]
    if dtype in IMAGEJ and size < BIG:
        more = {"axes": "ZYX", "spacing": z, "unit": attributes.get("unit", "nm"), "segkit": json.dumps(attributes)}
        return {"imagej": True, "resolution": (1 / x, 1 / y), "metadata": more}
    per_centimeter = NANOMETERS["cm"] / x, NANOMETERS["cm"] / y
    unit = {"resolution": per_centimeter, "resolutionunit": "CENTIMETER"}
    return {"bigtiff": size > BIG, "metadata": {"axes": "ZYX", "segkit": attributes}, **unit}


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
    with _decoding(path):
        if len(file.series) != 1:
            shapes = ", ".join(str(series.shape) for series in file.series[:3])
            rule = "must have pages of one size and one dtype"
            raise InvalidInput(sentence(f"{path}", rule, shapes, "split it into one file for each"))
        series = file.series[0]
        if series.dtype is None:
            raise InvalidInput(sentence(f"{path}", "must hold values of one dtype", "none that is known"))
        axes, shape = _stack_axes(series)
        mapped = series.dataoffset is not None and not series.keyframe.is_tiled
        if not (mapped and series.kind in ("imagej", "shaped")):
            _check_ends(path, file)
        order = file.byteorder
        about, placement = _stated(file, axes)

    def read(part: tuple[slice, ...]) -> np.ndarray:
        with _decoding(path):
            if mapped:
                dtype = series.dtype.newbyteorder(order)
                return np.array(file.filehandle.memmap_array(dtype, shape, series.dataoffset)[part])
            if axes != "zyx":
                return series.asarray().reshape(shape)[part]
            z, *rest = part
            first, stop, _ = z.indices(shape[0])
            sections = series.asarray() if shape[0] == 1 else file.asarray(key=slice(first, stop), series=0)
            return sections.reshape(stop - first, *shape[1:])[(slice(None), *rest)]

    return Stored(shape, read, about, placement, series.dtype)


def _check_ends(path: Path, file: tifffile.TiffFile) -> None:
    """Raise StorageError where the last page that is there names another: the file was cut off."""
    len(file.pages)  # goes along them all
    file.filehandle.seek(file.pages.next_page_offset or 0)
    following = file.filehandle.read(file.tiff.offsetsize)
    if len(following) < file.tiff.offsetsize or any(following):
        rule = f"is cut off: it names pages after the first {len(file.pages)}, which are not there"
        raise StorageError(sentence(f"{path}", rule, next_step="copy or make it again"))


def _stack_axes(series: Any) -> tuple[str, tuple[int, ...]]:
    """A letter for each axis and their sizes; those of length 1 are left out, but for y, x and that of the pages.

    Pages of which nobody says what they are count as sections.
    """
    letters = {"Q": "z", "I": "z", "Z": "z", "Y": "y", "X": "x", "C": "c", "S": "c", "T": "t"}
    kept = [
        (letters.get(axis, "?"), size)
        for axis, size in zip(series.get_axes(squeeze=False), series.get_shape(squeeze=False), strict=True)
        if size > 1
    ]
    others = [letter for letter, _ in kept if letter not in "yx"]
    found = [(letter, 1) for letter in "zyx" if letter not in dict(kept) and (letter != "z" or not others)] + kept
    along = [letter for letter, _ in kept]
    if set(dict(found)) == set("zyx") and along == sorted(along, reverse=True):
        found = sorted(found, reverse=True)
    return "".join(letter for letter, _ in found), tuple(size for _, size in found)


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Errors of reading; a compression that needs another package is named."""
    try:
        with storage_errors("read", path):
            yield
    except SegkitError as error:
        if isinstance(error.__cause__, ImportError) or "imagecodecs" in str(error):
            rule = "is compressed in a way that needs the package imagecodecs"
            raise StorageError(sentence(f"{path}", rule, next_step="pip install imagecodecs")) from error
        raise


def _stated(file: tifffile.TiffFile, axes: str) -> tuple[About, Placement]:
    """What the file says of its kind and of its voxels: by segkit, by ImageJ or by OME."""
    shaped = file.shaped_metadata
    ours = shaped[0].get("segkit") if shaped and isinstance(shaped[0], dict) else None
    if file.is_imagej and "segkit" in (file.imagej_metadata or {}):
        with suppress(ValueError):  # a description that another program has changed
            ours = json.loads(str((file.imagej_metadata or {})["segkit"]))
    if isinstance(ours, Mapping):
        ours = plain(ours)
        return stated_about(ours, "segkit"), replace(read_placement(ours, 3, ours=True), axes=axes)
    found = _of_imagej(file) if file.is_imagej else _of_ome(file.ome_metadata)
    return About(), replace(found or Placement(), axes=axes)


def _of_imagej(file: tifffile.TiffFile) -> Placement | None:
    """Voxel size, each axis in its own unit, if the file states all three."""
    stated, tags = plain(file.imagej_metadata or {}), file.pages.first.tags
    across = [tags.get(name) for name in ("YResolution", "XResolution")]
    if "spacing" not in stated or None in across:
        return None
    (py, qy), (px, qx) = (tag.value for tag in across)
    unit = stated.get("unit")
    units = [stated.get("zunit") or unit, stated.get("yunit") or unit, stated.get("xunit") or unit]
    if not py or not px or all(not each for each in units):
        return None
    spacing = checked(Spacing, stated).spacing
    return nanometers_along("zyx", [abs(spacing), qy / py, qx / px], units, None)


def _of_ome(text: str | None) -> Placement | None:
    """The same from the XML of OME, whose lengths are in micrometers unless it says otherwise."""
    if not text:
        return None
    pixels = next((item for item in parse_xml(text, "OME").iter() if item.tag.endswith("Pixels")), None)
    sizes = [pixels.get(f"PhysicalSize{axis}") if pixels is not None else None for axis in "ZYX"]
    if pixels is None or None in sizes:
        return None
    units = [pixels.get(f"PhysicalSize{axis}Unit", "µm") for axis in "ZYX"]
    lengths = [checked(Spacing, {"spacing": size}, "PhysicalSize").spacing for size in sizes]
    return nanometers_along("zyx", lengths, units, None)


class Spacing(Schema):
    """A length along an axis."""

    spacing: FiniteFloat


def _sections(folder: Path) -> Stored:
    files = section_files(folder)
    with _open(files[0]) as file:
        first = _pages(files[0], file)
        dtype = first.dtype

    def read(part: tuple[slice, ...]) -> np.ndarray:
        z, *rest = part
        return np.stack([_section(file, first.shape, dtype)[tuple(rest)] for file in files[z]])

    return Stored((len(files), *first.shape[1:]), read, About(), Placement("zyx"), dtype)


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
