"""A file as another: the whole of `segkit convert`."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np

from segkit.convert.affinities import Conversion
from segkit.convert.borders import check_borders
from segkit.convert.conventions import Convention, convention, preset
from segkit.convert.kinds import identify
from segkit.convert.source import Box, Source, source
from segkit.convert.values import check_kind_of_values, read_values, target_dtype
from segkit.errors import InvalidInput, sentence
from segkit.io import ROLES, Address, Blocks, check_target, parse_address, write_blocks
from segkit.io.formats import FORMATS
from segkit.io.precomputed_layout import shards
from segkit.io.pyramid import boxes as covering
from segkit.io.reader import SMALL_MASK
from segkit.io.records import FORMAT_VERSION, POLARITY, Layout, located

SIDE = 64
"""Blocks are multiples of this, as the chunks of all formats are."""
SCALED = ("zarr", "precomputed")
"""Formats of images at several scales."""
VALUES = 2**24
"""About how many values a block may have."""

OnProgress = Callable[[int, int], None]


class Options(TypedDict, total=False):
    """Name the keywords of :func:`convert`, where they are explained, for type checkers.

    It stands beside the dataclass `_Asked` because a signature cannot take its keywords from one.
    """

    axes: str | None
    voxel_size: Sequence[float] | None
    offset: Sequence[float] | None
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    to_axes: str | None
    dtype: str | None
    pyramid: bool | None
    sharding: bool
    overwrite: bool
    checks: bool


@dataclass(frozen=True)
class _Asked:
    """Hold the options that were given, and the defaults of the rest; another name is a TypeError."""

    axes: str | None = None
    voxel_size: Sequence[float] | None = None
    offset: Sequence[float] | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    to_axes: str | None = None
    dtype: str | None = None
    pyramid: bool | None = None
    sharding: bool = False
    overwrite: bool = False
    checks: bool = True


def convert(
    address: str | Path | Address,
    target: str | Path | Address,
    kind: str | None = None,
    *,
    progress: OnProgress | None = None,
    **options: Unpack[Options],
) -> dict[str, Any]:
    """Convert one array, block by block; what was written where, as a dict.

    Parameters
    ----------
    address, target : PATH or PATH:DATASET, the former with a crop or without. Suffixes say the format.
    kind : "raw", "truth", "fragments", "segmentation", "affinities" or "mask", whose usual dataset is read and written
        where none is named; or "labels" for whichever of the three the file holds. Default: what the file says it is.
    axes : order of the axes in the source, such as "xyz" or "zyxc"; needed where the file does not state it.
    voxel_size, offset : nm, z, y, x. The size is needed where the file does not state it.
    before, after : for affinities, what is known of both conventions: `name` of a preset, `neighborhood`, `edges_at`,
        `polarity`, `scale`. The target's is segkit's own where nothing is said.
    to_axes : order of the axes to write, HDF5 only; [c,] z, y, x otherwise.
    dtype : of the values to write.
    pyramid : whether smaller scales are written too, for viewers (see :mod:`segkit.io.pyramid`): Zarr and precomputed
        only. Default: where the format has them, but not of affinities.
    sharding : write many chunks to one file: Zarr and precomputed only.
    overwrite : replace what is there. Without, it is refused.
    checks : refuse a convention that the values contradict.
    progress : called with the number of blocks done and of all, and then of those of each smaller scale.
    """
    asked = _Asked(**options)
    address = address if isinstance(address, Address) else parse_address(str(address))
    address, role = identify(address, kind)
    recorded = ROLES[role][1]
    kind = "labels" if recorded == "labels" else role
    target = target if isinstance(target, Address) else parse_address(str(target))
    format_name = check_target(target, role, asked.overwrite)
    _check_options(kind, asked, format_name)
    usual = preset(asked.before["name"]).axes if asked.before and asked.before.get("name") else None
    kinds = ("volume", "labels") if kind == "mask" else (recorded,)
    if asked.axes is not None:
        address = replace(address, axes=asked.axes)
    with (
        source(address, role, kinds, usual_axes=usual, voxel_size=asked.voxel_size, offset=asked.offset) as found,
        located(found.place),
    ):
        attributes = _attributes(found, recorded)
        if kind == "affinities":
            blocks, more = _affinities(found, asked, format_name, progress)
            attributes |= more
        else:
            blocks = _values(found, kind, asked, format_name, progress)
        if asked.to_axes and asked.to_axes != "czyx"[-blocks.ndim :]:
            blocks, attributes = _transposed(blocks, asked.to_axes), attributes | {"axes": asked.to_axes}
        write_blocks(target, role, blocks, attributes, _layout(asked, kind, format_name, progress))
    written = Address(target.path, target.at(role) if format_name in FORMATS.values() else None)
    return {"out": str(written), "kind": role, "shape": list(blocks.shape), "dtype": str(blocks.dtype)}


def _check_options(kind: str, asked: _Asked, format_name: str) -> None:
    to_axes = asked.to_axes
    if kind != "affinities" and (asked.before or asked.after):
        raise InvalidInput(sentence("a convention", "is for --kind affinities", kind, "leave it out"))
    if kind == "affinities" and format_name == "tiff":
        next_step = "write them to .h5, .zarr or .precomputed"
        raise InvalidInput(sentence("affinities", "cannot be written to TIFF", next_step=next_step))
    if asked.pyramid and (kind == "affinities" or format_name not in SCALED):
        rule = "are written of raw data, labels and masks, to .zarr and .precomputed"
        raise InvalidInput(sentence("smaller scales", rule, next_step="leave out --pyramid"))
    if asked.sharding and format_name not in SCALED:
        rule = "are written to .zarr and .precomputed"
        raise InvalidInput(sentence("shards", rule, next_step="leave out --sharding"))
    if to_axes is None:
        return
    allowed = "cxyz" if kind == "affinities" else "xyz"
    if "".join(sorted(to_axes)) != allowed:
        rule = f"must name each of {', '.join(allowed)} once"
        raise InvalidInput(sentence("the axes to write", rule, to_axes, "correct --to-axes"))
    if format_name != "hdf5":
        rule = "can be chosen in HDF5 only: the other formats have an order of their own"
        raise InvalidInput(sentence("the axes to write", rule, next_step="leave out --to-axes"))


def _layout(asked: _Asked, kind: str, format_name: str, progress: OnProgress | None) -> Layout:
    pyramid = kind != "affinities" and format_name in SCALED if asked.pyramid is None else asked.pyramid
    return Layout(pyramid, asked.sharding, progress)


def _attributes(found: Source, recorded: str) -> dict[str, object]:
    grid = found.grid
    place = {"resolution": list(grid.voxel_size), "offset": list(grid.offset), "unit": "nm"}
    return {"kind": recorded, "format_version": FORMAT_VERSION} | place


def _shard(found: Source, size: int, asked: _Asked) -> Sequence[int] | None:
    """The sides of a shard, where there will be some, of voxels of `size` bytes."""
    return shards(found.shape, size)[0] if asked.sharding else None


def _values(found: Source, kind: str, asked: _Asked, format_name: str, progress: OnProgress | None) -> Blocks:
    check_kind_of_values(found, kind)
    if kind == "mask" and asked.checks:
        _check_mask(found, format_name)
    dtype = target_dtype(found, kind, asked.dtype, format_name)
    boxes = _boxes(found.shape, 1, format_name == "tiff", _shard(found, dtype.itemsize, asked))
    parts = ((box, read_values(found, box, kind, dtype)) for box in _counted(boxes, progress))
    return Blocks(found.shape, dtype, parts)


def _check_mask(found: Source, format_name: str) -> None:
    """Raise InvalidInput unless all values are 0 or one other: those of the stored array, where it is small."""
    sides = found.stored.shape[-3:]
    if math.prod(sides) * found.dtype.itemsize <= SMALL_MASK:
        z, y, x = (slice(0, side) for side in sides)
        found = replace(found, bounds=(z, y, x))
    other = set()
    for box in _boxes(found.shape, 1, format_name == "tiff"):
        values = found.read(box)
        inside = values[values != 0]
        other |= {inside.min(), inside.max()} if inside.size else set()
        if len(other) > 1:
            value = " and ".join(map(str, sorted(other)[:2]))
            raise InvalidInput(sentence("mask", "must hold 0 and one other value", value, "state another --kind"))


def _affinities(
    found: Source, asked: _Asked, format_name: str, progress: OnProgress | None
) -> tuple[Blocks, dict[str, Any]]:
    stated = _stated(found)
    one = convention("from", stated=stated, **(asked.before or {}))
    if stated and one.stated() != Convention(**stated).stated():
        known = ", ".join(f"{key} {value}" for key, value in Convention(**stated).stated().items())
        rule = f"must be the one that the file states, {known}"
        raise InvalidInput(sentence("the convention of the affinities", rule, next_step="leave out --from..."))
    other = _target_convention(one, asked.after or {})
    wanted = np.dtype(asked.dtype) if asked.dtype else _usual_dtype(found, one, other, format_name)
    conversion = Conversion(found, one, other, wanted)
    if asked.checks and found.whole:
        check_borders(found, one)
    shape = (len(other.neighborhood), *found.shape)
    shard = _shard(found, shape[0] * wanted.itemsize, asked)
    boxes = _boxes(found.shape, max(shape[0], found.channels or 1), False, shard)

    def parts() -> Iterator:
        for box in _counted(boxes, progress):
            yield (slice(0, shape[0]), *box), conversion.read(box)
        if asked.checks:
            conversion.check_range()

    if other.native:
        more = {"neighborhood": other.neighborhood.tolist(), "polarity": POLARITY}
    else:  # a word that every reader of segkit's own convention refuses
        more = {"polarity": "another: see `convention`", "convention": json.dumps(other.stated())}
    return Blocks(shape, wanted, parts()), more


def _target_convention(one: Convention, after: Mapping) -> Convention:
    """As said, else segkit's own. Edges keep the offsets that they have in the source."""
    stated = {"neighborhood": one.neighborhood, "edges_at": "start", "polarity": "same", "scale": "plain"}
    return convention("to", stated=stated, **after)


def _stated(found: Source) -> Mapping | None:
    """The convention that the file states: segkit's own, or one that was written by :func:`convert`."""
    about = found.stored.about
    if about.convention is not None:
        return about.convention
    if about.polarity == POLARITY and about.neighborhood is not None and about.kind == "affinities":
        return {"neighborhood": about.neighborhood, "edges_at": "start", "polarity": "same", "scale": "plain"}
    return None


def _usual_dtype(found: Source, one: Convention, other: Convention, format_name: str) -> np.dtype:
    """That of the source where it can hold what is written, else float32."""
    scaled = found.dtype in (np.uint8, np.uint16) and one.scale == other.scale
    floats = found.dtype.kind == "f" and (format_name != "precomputed" or found.dtype == np.float32)
    kept = scaled or floats or (one.scale == other.scale == "binary" and found.dtype.kind != "b")
    return found.dtype if kept else np.dtype(np.float32)


def _boxes(shape: tuple[int, int, int], channels: int, sections: bool, shard: Sequence[int] | None = None) -> list[Box]:
    """Boxes that cover the volume, in order; whole sections where the format needs them, or those of shards."""
    if shard is not None:
        return list(covering(shape, shard))
    sides = [min(size, SIDE) if not axis else size for axis, size in enumerate(shape)]
    while not sections and channels * np.prod(sides) > VALUES and max(sides) > SIDE:
        longest = int(np.argmax(sides))
        sides[longest] = max(SIDE, -(-sides[longest] // (2 * SIDE)) * SIDE)
    if sections:
        sides[0] = max(1, min(SIDE, VALUES // (sides[1] * sides[2])))
    return list(covering(shape, sides))


def _counted(boxes: list[Box], progress: OnProgress | None) -> Iterator[Box]:
    for done, box in enumerate(boxes):
        if progress:
            progress(done, len(boxes))
        yield box
    if progress:
        progress(len(boxes), len(boxes))


def _transposed(blocks: Blocks, axes: str) -> Blocks:
    """The same with its axes in another order."""
    order = ["czyx"[-blocks.ndim :].index(axis) for axis in axes]
    parts = ((tuple(part[i] for i in order), block.transpose(order)) for part, block in blocks.parts)
    return Blocks(tuple(blocks.shape[i] for i in order), blocks.dtype, parts)
