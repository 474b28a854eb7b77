"""TIFF stacks: one file of many pages.

A page is a section: pages run along z, rows along y, columns along x; other axes, times say, are those of the series.
The voxel size is taken from what segkit, ImageJ or OME wrote into the file. What segkit
writes is uncompressed, of any size (BigTIFF from 4 GB on), with kind, resolution and offset in the description of the
first page, and calibrated as ImageJ has it where ImageJ opens such a file, or by the XML of OME if it ends in .ome.tif.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import tifffile
from pydantic import FiniteFloat

from segkit.errors import InvalidInput, SegkitError, StorageError, sentence
from segkit.io.atomic import storage_errors
from segkit.io.dialects import nanometers_along, read_placement
from segkit.io.lock import writing
from segkit.io.placement import NANOMETERS, Placement
from segkit.io.records import About, Blocks, Record, Stored
from segkit.io.schemas import Schema, checked, parse_xml, plain, stated_about
from segkit.io.single import OneVolume

OME = (".ome.tif", ".ome.tiff")
OME_DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64")
NAMESPACE = "segkit"
"""Of the annotation in the XML of OME that holds what segkit says of a file."""
IMAGEJ = (np.dtype("u1"), np.dtype("u2"), np.dtype("f4"))
"""What ImageJ opens."""
BIG = 2**32 - 2**25
"""Bytes of data from which on a classic TIFF, whose offsets have 32 bits, might not do."""


@contextmanager
def reading(path: Path, options: Mapping[str, str]) -> Iterator[OneVolume]:
    """The stack, open for reading; there are no `options`."""
    with opened(path) as stack:
        yield OneVolume(stack, "a TIFF stack")


@contextmanager
def opened(path: Path) -> Iterator[Stored]:
    """The stack in a file, for reading part by part."""
    with _open(path) as file:
        yield _pages(path, file)


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
    dtype, ome = np.dtype(data.dtype), path.name.lower().endswith(OME)
    if ome and dtype.name not in OME_DTYPES:
        rule, next_step = f"must be of dtype {', '.join(OME_DTYPES)}", "choose one by --dtype, or leave .ome out"
        raise InvalidInput(sentence("what is written as OME-TIFF", rule, dtype, next_step))
    sections = (section for _, block in data.parts for section in block) if isinstance(data, Blocks) else iter(data)
    size = data.size * dtype.itemsize
    with storage_errors("written", path), writing(path) as temporary:
        tifffile.imwrite(
            temporary,
            sections,
            shape=data.shape,
            dtype=data.dtype,
            photometric="minisblack",
            **_calibrated(dtype, size, record.attributes, ome),
        )


def _calibrated(dtype: np.dtype, size: int, attributes: Mapping[str, Any], ome: bool) -> dict[str, Any]:
    """What tifffile is told of an array of `size` bytes, so that other programs see how large its voxels are.

    The XML of OME if wanted; ImageJ's own description where ImageJ knows the dtype and the size; else the resolution
    along y and x alone.
    """
    if "resolution" not in attributes:
        return {"bigtiff": size > BIG, "metadata": {"axes": "ZYX", "segkit": attributes}}
    if ome:
        return _in_xml(size, attributes)
    z, y, x = attributes["resolution"]
    if dtype in IMAGEJ and size < BIG:
        more = {"axes": "ZYX", "spacing": z, "unit": attributes.get("unit", "nm"), "segkit": json.dumps(attributes)}
        return {"imagej": True, "resolution": (1 / x, 1 / y), "metadata": more}
    return {"bigtiff": size > BIG, "metadata": {"axes": "ZYX", "segkit": attributes}, **_per_centimeter(y, x)}


def _in_xml(size: int, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The same in the XML of OME, which states the lengths in nanometers, and all else as an annotation."""
    z, y, x = attributes["resolution"]
    sizes = {f"PhysicalSize{axis}": float(length) for axis, length in (("X", x), ("Y", y), ("Z", z))}
    units = {f"PhysicalSize{axis}Unit": "nm" for axis in "XYZ"}
    note = {"CommentAnnotation": {"Namespace": NAMESPACE, "Value": json.dumps(attributes)}}
    metadata = {"axes": "ZYX", **sizes, **units, **note}
    return {"ome": True, "bigtiff": size > BIG, "metadata": metadata, **_per_centimeter(y, x)}


def _per_centimeter(y: float, x: float) -> dict[str, Any]:
    """The tags of a page that say how large its pixels are."""
    return {"resolution": (NANOMETERS["cm"] / x, NANOMETERS["cm"] / y), "resolutionunit": "CENTIMETER"}


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

    reading = Lock()  # one at a time: all threads share the place in the file

    def read(part: tuple[slice, ...]) -> np.ndarray:
        with _decoding(path), reading:
            if mapped:
                dtype = series.dtype.newbyteorder(order)
                return np.array(file.filehandle.memmap_array(dtype, shape, series.dataoffset)[part])
            if axes != "zyx":
                return series.asarray().reshape(shape)[part]
            z, *rest = part
            first, stop, _ = z.indices(shape[0])
            sections = series.asarray() if shape[0] == 1 else file.asarray(key=slice(first, stop), series=0)
            return sections.reshape(stop - first, *shape[1:])[(slice(None), *rest)]

    page = tuple(1 if letter == "z" else size for letter, size in zip(axes, shape, strict=True))
    chunks = None if mapped else page if axes == "zyx" else shape
    return Stored(shape, read, about, placement, series.dtype, chunks=chunks)


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
    if file.ome_metadata:
        ours = _annotated(file.ome_metadata)
    if isinstance(ours, Mapping):
        ours = plain(ours)
        return stated_about(ours, "segkit"), replace(read_placement(ours, 3, ours=True), axes=axes)
    found = _of_imagej(file) if file.is_imagej else _of_ome(file.ome_metadata)
    return About(), replace(found or Placement(), axes=axes)


def _annotated(text: str) -> object:
    """What segkit says in the XML of OME; None where another tool wrote it."""
    notes = [item for item in parse_xml(text, "OME").iter() if item.get("Namespace") == NAMESPACE]
    values = [item.text for note in notes for item in note if item.tag.endswith("Value")]
    with suppress(ValueError):
        return json.loads(values[0] or "") if values else None
    return None


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
