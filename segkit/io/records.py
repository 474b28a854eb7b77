"""Containers as arrays with attributes, the same for every file format, and back.

Attributes on disk: `kind` ("volume", "labels", "affinities", "merge_tree"), `format_version`; of voxels `resolution`
and `offset` (z, y, x) and their `unit`; of affinities `neighborhood` (C, 3) and `polarity`.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from warnings import warn

import numpy as np
from numpy.typing import ArrayLike

from segkit.data import Affinities, Grid, Labels, MergeTree, Volume
from segkit.data.affinities import as_neighborhood
from segkit.errors import InvalidInput, SegkitError, SegkitWarning, sentence
from segkit.io.address import MADE_BY, ROLES, Address
from segkit.io.placement import Placement, nanometers
from segkit.memory import available, decimal_bytes

FORMAT_VERSION = 1
POLARITY = "1=same object"
KEY = "made_by"
"""The attribute of an object made block by block that says what decided its content."""
LARGEST_CHUNK = 2**32
"""Bytes of a chunk at most."""
TREE = ("leaf_ids", "parents", "altitudes")
KINDS: dict[type, str] = {Volume: "volume", Labels: "labels", Affinities: "affinities", MergeTree: "merge_tree"}


@dataclass(frozen=True)
class Blocks:
    """An array that comes block by block while it is written, so that it never lies in memory whole."""

    shape: tuple[int, ...]
    dtype: np.dtype
    parts: Iterable[tuple[tuple[slice, ...], np.ndarray]]
    """Disjoint parts that cover the array, and what belongs there; can be gone through once."""

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class Layout:
    """How a format that leaves a choice lays out an array of voxels."""

    pyramid: bool = False
    """Whether smaller scales are written beside it."""
    sharding: bool = False
    """Whether many chunks lie in one file."""
    progress: Callable[[int, int], None] | None = None
    """What is called with the number of blocks done, and of all, of each smaller scale."""


PLAIN = Layout()
"""One scale, and each chunk a file."""


@dataclass(frozen=True)
class Record:
    """What a format writes: one array, or the named arrays of a group, and the attributes."""

    data: "np.ndarray | Blocks | Mapping[str, np.ndarray]"
    attributes: dict[str, object]
    layout: Layout = PLAIN


@dataclass(frozen=True)
class About:
    """What segkit writes about an object, or says of one that another tool made."""

    kind: str | None = None
    format_version: int = 1
    neighborhood: list[list[int]] | None = None
    polarity: str | None = None
    convention: dict[str, Any] | None = None
    notes: str | None = None
    made_by: str | None = None
    chunks: str | None = None
    """"all" where every chunk of a Zarr array is a file: one that is not there was lost."""
    at: str | None = None
    """The folder that the arrays of a group lie in, in a bucket."""
    full_scale: int | None = None
    """The integer that stands for an affinity of 1."""


NOTHING, NOWHERE = About(), Placement()
"""What a file says that says nothing."""


@dataclass(frozen=True)
class Stored:
    """What a format finds: its shape, what the file says of it, and how to read a part of it."""

    shape: tuple[int, ...]
    read: Callable[[tuple[slice, ...]], np.ndarray]
    about: About = NOTHING
    """What segkit wrote about it; nothing where another tool made it."""
    placement: Placement = NOWHERE
    """Its axes in order, and where its voxels lie."""
    dtype: np.dtype | None = None
    folder: str = ""
    """The folder of its chunks, in a Zarr store."""
    chunks: tuple[int, ...] | None = None
    """The sides of what is decoded at once, along each axis; None where any box costs what it holds."""


def oriented(stored: Stored, address: Address, *, channels: bool = False) -> Stored:
    """The same seen as z, y, x, or as channel, z, y, x where `channels` are wanted, whatever its axes in the file.

    The axes are those of `address`, else those that the file states, else the last of channel, z, y, x. An axis besides
    is taken at the index that the address picks; one of length 1 needs no pick. Arrays of so many axes that nobody
    said their order are returned as they are: who asked will refuse them, in words of its own.
    """
    stored = _with_depth(stored, address)
    ndim, axes = len(stored.shape), _order_of(stored, address, channels)
    if axes is None:
        return stored
    fixed = _fixed(axes, stored.shape, dict(address.picks), channels)
    order = sorted((at for at in range(ndim) if at not in fixed), key=lambda at: "czyx".index(axes[at]))
    place = {at: position for position, at in enumerate(order)}

    def read(part: tuple[slice, ...]) -> np.ndarray:
        index = tuple(slice(fixed[at], fixed[at] + 1) if at in fixed else part[place[at]] for at in range(ndim))
        values = stored.read(index)
        return values.transpose([*order, *fixed]).reshape([values.shape[at] for at in order])

    plain = not fixed and order == list(range(ndim))
    found = replace(_placed(stored.placement, axes), axes="".join(axes[at] for at in order))
    shape = tuple(stored.shape[at] for at in order)
    chunks = stored.chunks and tuple(stored.chunks[at] for at in order)
    return replace(stored, shape=shape, read=stored.read if plain else read, placement=found, chunks=chunks)


def _placed(placement: Placement, axes: str) -> Placement:
    """The placement for an array of these axes: its numbers may have been taken to be along others."""
    if placement.supposed in (None, axes):
        return placement
    rule = f"must be along {', '.join(placement.supposed or '')} where the file does not state its axes"
    next_step = "`segkit convert --voxel-size Z Y X` (nm) says it in its place"
    refusal = InvalidInput(sentence(f"a voxel size of {len(axes)} numbers", rule, ", ".join(axes), next_step))
    return Placement(certain=False, refusal=refusal)


def _with_depth(stored: Stored, address: Address) -> Stored:
    """A single section, y, x, as one of z, y, x; other axes must be of length 1, or picked."""
    axes = stored.placement.axes
    if address.axes or not axes or "z" in axes or not set("yx") <= set(axes):
        return stored
    if any(stored.shape[at] > 1 for at, letter in enumerate(axes) if letter not in ("y", "x", *dict(address.picks))):
        return stored

    def read(part: tuple[slice, ...]) -> np.ndarray:
        return stored.read(part[1:])[np.newaxis]

    placement, chunks = replace(stored.placement, axes=f"z{axes}"), stored.chunks and (1, *stored.chunks)
    return replace(stored, shape=(1, *stored.shape), read=read, placement=placement, chunks=chunks)


def _order_of(stored: Stored, address: Address, channels: bool) -> str | None:
    """A letter for each axis of an array; None where nobody says them."""
    ndim = len(stored.shape)
    if address.axes and stored.placement.axes not in (None, address.axes):
        message = f"{address.path} states the axes {stored.placement.axes}; {address.axes} are followed, as was said"
        warn(message, SegkitWarning, stacklevel=4)
    axes = address.axes or stored.placement.axes or {3: "zyx", 4: "czyx" if channels else None}.get(ndim)
    if axes is None and address.picks:
        letter, index = address.picks[0]
        next_step = f"say it as well: [axes={'tczyx'[-ndim:]},{letter}={index}]"
        raise InvalidInput(sentence("the order of the axes", "is not stated by the file", next_step=next_step))
    if axes is not None and (len(axes) != ndim or any(axes.count(letter) != 1 for letter in "zyx")):
        rule, value = "must include each of z, y, x once, one letter an axis", f"{axes} for an array of {stored.shape}"
        next_step = "say what they are, as ADDRESS[axes=zyx]"
        raise InvalidInput(sentence("the axes of the image", rule, value, next_step))
    return axes


def _fixed(axes: str, shape: tuple[int, ...], picks: dict[str, int], channels: bool) -> dict[int, int]:
    """The index at which each axis besides z, y, x (and channels, where they are wanted) is taken, by the axis."""
    for letter in picks:
        if letter not in axes:
            rule = f"must include {letter} for one to be picked"
            raise InvalidInput(sentence("the axes of the image", rule, ", ".join(axes)))
    fixed: dict[int, int] = {}
    for at, letter in enumerate(axes):
        if letter in "zyx" or (channels and letter == "c" and letter not in picks):
            continue
        index = picks.get(letter, 0 if shape[at] == 1 else None)
        what = {"c": "channels", "t": "times"}.get(letter, f"places along axis {at}, which nobody names")
        if index is None:
            next_step = f"pick one as ADDRESS[{letter}=0]" if letter in "ct" else "name the axes, as ADDRESS[axes=czyx]"
            raise InvalidInput(sentence("the image", f"has {shape[at]} {what}", next_step=next_step))
        if not 0 <= index < shape[at]:
            rule = f"must be an index of {shape[at]} {what}"
            raise InvalidInput(sentence(letter, rule, index, "correct the number in [...]"))
        fixed[at] = index
    return fixed


@contextmanager
def located(place: object) -> Iterator[None]:
    """Put `place` before the message of every segkit error on its way up that does not begin with it."""
    try:
        yield
    except SegkitError as error:
        if str(error).startswith(str(place)):
            raise
        raise type(error)(f"{place}: {error}") from error


def encode(container: Any) -> Record:
    """The arrays and attributes of a container, lengths in nanometers."""
    kind = kind_of(container)
    attributes: dict[str, object] = {"kind": kind, "format_version": FORMAT_VERSION}
    if isinstance(container, MergeTree):
        return Record({name: getattr(container, name) for name in TREE}, attributes)
    factor = nanometers(container.grid.unit)
    if factor is None:
        raise InvalidInput(sentence("the unit of the grid", "must be a unit of length", repr(container.grid.unit)))
    attributes["resolution"] = [factor * length for length in container.grid.voxel_size]
    attributes["offset"] = [factor * length for length in container.grid.offset]
    attributes["unit"] = "nm"
    if isinstance(container, Affinities):
        attributes |= {"neighborhood": container.neighborhood.tolist(), "polarity": POLARITY}
    return Record(container.array, attributes)


def kind_of(container: object) -> str:
    """The kind of a container, as it stands in a file."""
    kind = next((kind for container_type, kind in KINDS.items() if isinstance(container, container_type)), None)
    if kind is None:
        rule = "must be a Volume, Labels, Affinities or MergeTree"
        raise InvalidInput(sentence("what is written", rule, f"of type {type(container).__name__}"))
    return kind


PART = "name a part of it as ADDRESS[0:100,0:500,0:500], or go by blocks (--blockwise)"
"""What to do where a volume does not fit into memory."""


def check_memory(what: str, needed: int, next_step: str = PART) -> None:
    """Raise InvalidInput if `needed` bytes are not free: declared sizes are looked at before anything is taken."""
    room = available()
    if room is not None and needed > room:
        rule = f"takes {decimal_bytes(needed)}, and {decimal_bytes(room)} are free"
        raise InvalidInput(sentence(what, rule, next_step=next_step))


def check_chunk(sides: Sequence[int], dtype: np.dtype) -> None:
    """Raise InvalidInput for chunks that are absurdly large: each is decoded whole, whatever is read of it."""
    if math.prod(map(int, sides)) * dtype.itemsize > LARGEST_CHUNK:
        rule = f"must be smaller than {LARGEST_CHUNK // 2**30} GiB, for each is decoded whole"
        raise InvalidInput(sentence("the chunks", rule, f"{tuple(sides)} of {dtype}"))


def check_kind(about: About, allowed: tuple[str, ...], name: str, role: str) -> None:
    """Raise InvalidInput if the file says that this is another kind of object, or of a later format.

    Where it states no kind, a `name` that is the usual one of a role says it: volumes/raw holds no labels.
    """
    kind = about.kind or dict(ROLES.values()).get(name)
    if kind in KINDS.values() and kind not in allowed:
        rule = f"must be of kind {' or '.join(allowed)}"
        raise InvalidInput(sentence("the dataset", rule, kind, f"name another as FILE:DATASET; {MADE_BY[role]}"))
    if kind in KINDS.values() and about.format_version != FORMAT_VERSION:
        value = about.format_version
        raise InvalidInput(sentence("format_version", f"must be {FORMAT_VERSION}", value, "upgrade segkit"))


def grid_of(placement: Placement, place: str) -> Grid:
    """The grid that the file states, in nanometers; voxels of 1 nm, and a warning, where it states none."""
    for doubt in placement.doubts:
        message = f"{place}: {doubt} (`segkit convert --voxel-size Z Y X` writes a file that states their size in nm)"
        warn(message, SegkitWarning, stacklevel=4)
    if placement.voxel_size is None and placement.refusal is None:
        message = f"{place} has no attribute `resolution`; voxels are taken to be 1 nm long along z, y and x"
        message += " (`segkit convert --voxel-size Z Y X` writes a file that states their size)"
        warn(message, SegkitWarning, stacklevel=4)
    return placement.grid()


def neighborhood_of(about: About, given: ArrayLike | None) -> np.ndarray:
    """The neighborhood of stored affinities: the file's, else the one `given`. Other conventions are refused."""
    if about.polarity not in (None, POLARITY):
        next_step = "convert them: write 1 - value, and the attribute `polarity`"
        value = repr(about.polarity)
        raise InvalidInput(sentence("the polarity of affinities", f"must be {POLARITY!r}", value, next_step))
    stated = about.neighborhood
    if stated is None and given is None:
        rule = "is not stated by the file"
        next_step = "say which edge each channel is, as --neighborhood '[[-1,0,0],[0,-1,0],[0,0,-1]]'"
        raise InvalidInput(sentence("the neighborhood of the affinities", rule, next_step=next_step))
    if stated is None and given is not None:
        return as_neighborhood(given)
    if given is not None and as_neighborhood(given).tolist() != stated:
        rule = f"must be the one that the file states, {stated}"
        raise InvalidInput(sentence("neighborhood", rule, np.asarray(given).tolist(), "leave it out"))
    return as_neighborhood(stated or ())


def as_mask(array: np.ndarray, inside: object = None) -> np.ndarray:
    """A stored mask as bool. Raises InvalidInput unless it holds booleans, or integers of 0 and one other value.

    `inside` is that other value where it is known, from another part of the mask.
    """
    if array.dtype.kind not in "bui":
        raise InvalidInput(sentence("mask", "must hold booleans or integers", array.dtype))
    mask = array != 0
    values = array[mask]
    if values.size:
        first = values[0] if inside is None else inside
        other = values[values != first]
        if other.size:
            found = f"{first} and {other[0]}"
            raise InvalidInput(sentence("mask", "must hold 0 and one other value", found, "name another dataset"))
    return mask
