"""Containers as arrays with attributes, the same for every file format, and back.

Attributes on disk: `kind` ("volume", "labels", "affinities", "merge_tree"), `format_version`; of voxels `resolution`
and `offset` (z, y, x) and their `unit`; of affinities `neighborhood` (C, 3) and `polarity`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from warnings import warn

import numpy as np
from numpy.typing import ArrayLike

from segkit.data import Affinities, Grid, Labels, MergeTree, Volume
from segkit.data.affinities import as_neighborhood
from segkit.errors import InvalidInput, SegkitError, SegkitWarning, sentence
from segkit.io.address import MADE_BY, ROLES

FORMAT_VERSION = 1
POLARITY = "1=same object"
KEY = "made_by"
"""The attribute of an object made block by block that says what decided its content."""
TREE = ("leaf_ids", "parents", "altitudes")
KINDS: dict[type, str] = {Volume: "volume", Labels: "labels", Affinities: "affinities", MergeTree: "merge_tree"}

_NAMES = {
    1e-3: "pm picometer picometre",
    1e-1: "angstrom Å",
    1.0: "nm nanometer nanometre nanometers nanometres",
    1e3: "um µm μm micrometer micrometre micrometers micrometres micron microns",
    1e6: "mm millimeter millimetre millimeters millimetres",
    1e7: "cm centimeter centimetre",
    1e9: "m meter metre",
}
NANOMETERS = {name: factor for factor, names in _NAMES.items() for name in names.split()}
"""Unit of length -> nanometers."""


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
class Record:
    """What a format writes: one array, or the named arrays of a group, and the attributes."""

    data: "np.ndarray | Blocks | Mapping[str, np.ndarray]"
    attributes: dict[str, object]


@dataclass(frozen=True)
class Stored:
    """What a format finds: its shape and attributes, and how to read a part of it."""

    shape: tuple[int, ...]
    read: Callable[[tuple[slice, ...]], np.ndarray]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    dtype: np.dtype | None = None
    axes: str | None = None
    """The names of the axes in order, such as "czyx", where the file states them."""
    folder: str = ""
    """The folder of its chunks, in a Zarr store."""


def stated_axes(value: object) -> str | None:
    """Axes as a file states them, "zyx" or ["c", "z", "y", "x"] say, as one word; None for what does not name them."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    letters = "".join(map(str, value)) if isinstance(value, list | tuple) else value
    if not isinstance(letters, str) or sorted(letters.lower().replace("c", "", 1)) != ["x", "y", "z"]:
        return None
    return letters.lower()


def check_axes(stored: Stored) -> Stored:
    """Raise InvalidInput if the file says that its axes are not [c,] z, y, x."""
    if stored.axes and not stored.axes.endswith("zyx"):
        axes, next_step = ", ".join(stored.axes), "transpose it with `segkit convert`"
        raise InvalidInput(sentence("the axes of the image", "must include z, y, x in this order", axes, next_step))
    return stored


@contextmanager
def located(place: object) -> Iterator[None]:
    """Put `place` before the message of every segkit error on its way up."""
    try:
        yield
    except SegkitError as error:
        raise type(error)(f"{place}: {error}") from error


def encode(container: Any) -> Record:
    """The arrays and attributes of a container, lengths in nanometers."""
    kind = kind_of(container)
    attributes: dict[str, object] = {"kind": kind, "format_version": FORMAT_VERSION}
    if isinstance(container, MergeTree):
        return Record({name: getattr(container, name) for name in TREE}, attributes)
    factor = nanometers(container.grid.unit)
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


def check_kind(attributes: Mapping[str, object], allowed: tuple[str, ...], name: str, role: str) -> None:
    """Raise InvalidInput if the file says that this is another kind of object, or of a later format.

    Where it states no kind, a `name` that is the usual one of a role says it: volumes/raw holds no labels.
    """
    kind = str(attributes.get("kind", dict(ROLES.values()).get(name)))
    if kind in KINDS.values() and kind not in allowed:
        rule = f"must be of kind {' or '.join(allowed)}"
        raise InvalidInput(sentence("the dataset", rule, kind, f"name another as FILE:DATASET; {MADE_BY[role]}"))
    version = attributes.get("format_version", FORMAT_VERSION)
    if kind in KINDS.values() and version != FORMAT_VERSION:
        raise InvalidInput(sentence("format_version", f"must be {FORMAT_VERSION}", version, "upgrade segkit"))


def grid_of(attributes: Mapping[str, object], place: str) -> Grid:
    """The grid that the attributes state, in nanometers; voxels of 1 nm, and a warning, where they state none."""
    if "resolution" not in attributes:
        message = f"{place} has no attribute `resolution`; voxels are taken to be 1 nm long along z, y and x"
        message += " (`segkit convert --voxel-size Z Y X` writes a file that states their size)"
        warn(message, SegkitWarning, stacklevel=4)
    given = Grid(attributes.get("resolution", (1, 1, 1)), attributes.get("offset", (0, 0, 0)))  # type: ignore[arg-type]
    factor = nanometers(attributes.get("unit", "nm"))
    return Grid(tuple(factor * x for x in given.voxel_size), tuple(factor * x for x in given.offset))  # type: ignore[arg-type]


def nanometers(unit: object) -> float:
    """The length of a unit. Raises InvalidInput for what is no unit of length."""
    if unit not in NANOMETERS:
        raise InvalidInput(sentence("unit", "must be a unit of length such as nm or um", repr(unit)))
    return NANOMETERS[unit]


def neighborhood_of(attributes: Mapping[str, object], given: ArrayLike | None) -> np.ndarray:
    """The neighborhood of stored affinities: the file's, else the one `given`. Other conventions are refused."""
    polarity = attributes.get("polarity", POLARITY)
    if polarity != POLARITY:
        next_step = "convert them: write 1 - value, and the attribute `polarity`"
        raise InvalidInput(sentence("the polarity of affinities", f"must be {POLARITY!r}", repr(polarity), next_step))
    stated = attributes.get("neighborhood")
    if stated is None and given is None:
        rule = "is not stated by the file"
        next_step = "say which edge each channel is, as --neighborhood '[[-1,0,0],[0,-1,0],[0,0,-1]]'"
        raise InvalidInput(sentence("the neighborhood of the affinities", rule, next_step=next_step))
    if stated is None and given is not None:
        return as_neighborhood(given)
    if given is not None and as_neighborhood(given).tolist() != np.asarray(stated).tolist():
        rule = f"must be the one that the file states, {np.asarray(stated).tolist()}"
        raise InvalidInput(sentence("neighborhood", rule, np.asarray(given).tolist(), "leave it out"))
    return np.asarray(stated)


def as_mask(array: np.ndarray) -> np.ndarray:
    """A stored mask as bool. Raises InvalidInput unless it holds booleans, or integers of 0 and one other value."""
    if array.dtype.kind not in "bui":
        raise InvalidInput(sentence("mask", "must hold booleans or integers", array.dtype))
    mask = array != 0
    values = array[mask]
    if values.size and values.min() != values.max():
        found = f"{values.min()} and {values.max()}"
        raise InvalidInput(sentence("mask", "must hold 0 and one other value", found, "name another dataset"))
    return mask
