"""What is converted: an array of any axis order, seen as [channel,] z, y, x and read box by box."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from segkit.data import Grid
from segkit.data.grid import Triple
from segkit.errors import InvalidInput, sentence
from segkit.io import Address, Stored, opened
from segkit.io.records import KINDS as RECORDED
from segkit.io.records import nanometers

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Source:
    """An array and where its voxels lie."""

    place: str
    """The address, for messages."""
    stored: Stored
    axes: str
    """The order of the axes in the file, with c for channels if there are any."""
    bounds: Box
    """The part that is converted, in voxels of the file, z, y, x."""
    grid: Grid
    """Of that part."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size of the part, (Z, Y, X)."""
        return tuple(part.stop - part.start for part in self.bounds)

    @property
    def channels(self) -> int | None:
        """Number of channels; None where there is no such axis."""
        return self.stored.shape[self.axes.index("c")] if "c" in self.axes else None

    @property
    def whole(self) -> bool:
        """Whether the part is all of the array."""
        return all(
            self.stored.shape[self.axes.index(axis)] == size for axis, size in zip("zyx", self.shape, strict=True)
        )

    @property
    def dtype(self) -> np.dtype:
        """Of the values, in the byte order of this machine."""
        return np.dtype(self.stored.dtype).newbyteorder("=")

    def read(self, box: Box) -> np.ndarray:
        """The values in a box of the part, ([C,] Z, Y, X)."""
        moved = zip("zyx", box, self.bounds, strict=True)
        wanted = {axis: slice(part.start + b.start, part.stop + b.start) for axis, part, b in moved}
        values = self.stored.read(tuple(wanted.get(axis, slice(None)) for axis in self.axes))
        order = "czyx" if "c" in self.axes else "zyx"
        values = values.transpose([self.axes.index(axis) for axis in order])
        return values.astype(self.dtype, copy=False)


@contextmanager
def source(
    address: Address,
    role: str,
    kinds: tuple[str, ...],
    *,
    axes: str | None = None,
    usual_axes: str | None = None,
    voxel_size: Triple | None = None,
    offset: Triple | None = None,
) -> Iterator[Source]:
    """The array at `address`. What the file says need not be given, and must agree where it is; nothing is guessed.

    `usual_axes` are those of the tool that made it, taken if neither the file nor the caller says them.
    """
    with opened(address, role, kinds) as (stored, place):
        order = _axes(stored, axes, usual_axes, channels=kinds == ("affinities",))
        if 0 in stored.shape:
            raise InvalidInput(sentence(place, "must not be empty", stored.shape))
        shape = tuple(stored.shape[order.index(axis)] for axis in "zyx")
        bounds = address.bounds(shape)
        grid = _grid(stored, voxel_size, offset).crop([part.start for part in bounds])
        yield Source(str(address), stored, order, bounds, grid)


def _axes(stored: Stored, given: str | None, usual: str | None, channels: bool) -> str:
    """The order of the axes: as given, as stated, or z, y, x where the layout of CREMI is recognised."""
    ndim = len(stored.shape)
    cremi = "resolution" in stored.attributes or stored.attributes.get("kind") in RECORDED.values()
    named = ndim == 3 or stored.attributes.get("kind") == "affinities"
    known = stored.axes or ("czyx"[-ndim:] if cremi and named else None)
    if known and given and known != given:
        rule = f"must be those that the file states, {known}"
        raise InvalidInput(sentence("the axes", rule, given, "leave out --axes"))
    order = given or known or (usual if usual and len(usual) == ndim else None)
    if order is None:
        example = "zyxc" if ndim == 4 else "xyz"
        next_step = f"give --axes, {'czyx'[-ndim:]} or {example} say, for an array of shape {stored.shape}"
        raise InvalidInput(sentence("the order of the axes", "is not stated by the file", next_step=next_step))
    allowed = ("xyz", "cxyz") if channels else ("xyz",)
    if "".join(sorted(order)) not in allowed or len(order) != ndim:
        rule = f"must name each of {' or '.join(', '.join(word) for word in allowed)} once, one an axis"
        raise InvalidInput(sentence("the axes", rule, f"{order} for an array of shape {stored.shape}"))
    return order


def _grid(stored: Stored, voxel_size: Triple | None, offset: Triple | None) -> Grid:
    attributes = stored.attributes
    factor = nanometers(attributes.get("unit", "nm"))
    stated = attributes.get("resolution")
    if stated is None:
        if voxel_size is None:
            next_step = "give --voxel-size Z Y X in nm"
            raise InvalidInput(sentence("the voxel size", "is not stated by the file", next_step=next_step))
        known = Grid(voxel_size)
    else:
        known = Grid(tuple(factor * length for length in stated))
        if voxel_size is not None and not known.same_voxel_size(Grid(voxel_size)):
            rule = f"must be the one that the file states, {known.voxel_size} nm"
            raise InvalidInput(sentence("the voxel size", rule, tuple(voxel_size), "leave out --voxel-size"))
    if offset is None:
        offset = tuple(factor * length for length in attributes.get("offset", (0, 0, 0)))
    return Grid(known.voxel_size, offset)
