"""What is converted: an array of any axis order, seen as [channel,] z, y, x and read box by box."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from segkit.data import Grid
from segkit.data.boxes import within
from segkit.errors import InvalidInput, sentence
from segkit.io import Address, Stored, opened
from segkit.io.placement import Placement
from segkit.io.records import KINDS as RECORDED
from segkit.io.records import grid_of, located, oriented

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Source:
    """An array and where its voxels lie."""

    place: str
    """The address, for messages."""
    stored: Stored
    """Seen as [channel,] z, y, x."""
    bounds: Box
    """The part that is converted, in voxels of the file, z, y, x."""
    grid: Grid
    """Of that part."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size of the part, (Z, Y, X)."""
        z, y, x = (part.stop - part.start for part in self.bounds)
        return z, y, x

    @property
    def channels(self) -> int | None:
        """Number of channels; None where there is no such axis."""
        return self.stored.shape[0] if len(self.stored.shape) == 4 else None

    @property
    def whole(self) -> bool:
        """Whether the part is all of the array."""
        return self.stored.shape[-3:] == self.shape

    @property
    def dtype(self) -> np.dtype:
        """Of the values, in the byte order of this machine."""
        return np.dtype(self.stored.dtype).newbyteorder("=")

    def read(self, box: Box) -> np.ndarray:
        """The values in a box of the part, ([C,] Z, Y, X)."""
        every = (slice(0, self.channels),) if self.channels is not None else ()
        return self.stored.read((*every, *within(self.bounds, box))).astype(self.dtype, copy=False)


@contextmanager
def source(
    address: Address,
    role: str,
    kinds: tuple[str, ...],
    *,
    usual_axes: str | None = None,
    voxel_size: Sequence[float] | None = None,
    offset: Sequence[float] | None = None,
) -> Iterator[Source]:
    """The array at `address`. What the file says need not be given, and must agree where it is; nothing is guessed.

    The axes are those of the address; `usual_axes` are those of the tool that made it, taken if neither the file nor
    the address says them.
    """
    with opened(address, role, kinds) as (stored, place):
        channels = kinds == ("affinities",)
        with located(place):
            stored = _seen(stored, address, usual_axes, channels)
            bounds = address.bounds(stored.shape[-3:])
            grid = _grid(stored.placement, place, voxel_size, offset).crop([part.start for part in bounds])
        yield Source(str(address), stored, bounds, grid)


def _seen(stored: Stored, address: Address, usual: str | None, channels: bool) -> Stored:
    """The array as [channel,] z, y, x."""
    stored = oriented(stored, replace(address, axes=_axes(stored, address.axes, usual, channels)), channels=channels)
    if 0 in stored.shape:
        raise InvalidInput(sentence("it", "must not be empty", stored.shape))
    if len(stored.shape) != 3 + channels:
        rule = f"must have {3 + channels} axes, {', '.join('czyx'[-3 - channels :])}"
        raise InvalidInput(sentence("it", rule, stored.placement.axes, "say them by --axes"))
    return stored


def _axes(stored: Stored, given: str | None, usual: str | None, channels: bool) -> str | None:
    """The order of the axes as given, unless the file states another; z, y, x where CREMI's layout is recognised.

    None for what the file states. Where that names times or channels, they may be said to be something else.
    """
    ndim, stated = len(stored.shape), stored.placement.axes
    if given is not None:
        if any(given.count(axis) != 1 for axis in "xyz") or len(set(given)) < len(given):
            rule = "must name each of x, y, z once, other axes once at most"
            raise InvalidInput(sentence("the axes", rule, f"{given} for an array of shape {stored.shape}"))
        spatial = stated is not None and set(stated) <= set("czyx" if channels else "zyx")
        if spatial and stated != given:
            rule = f"must be those that the file states, {stated}"
            raise InvalidInput(sentence("the axes", rule, given, "leave out --axes"))
        return given
    if stated is not None:
        return None
    cremi = stored.placement.voxel_size is not None or stored.about.kind in RECORDED.values()
    if cremi and (ndim == 3 or stored.about.kind == "affinities"):
        return "czyx"[-ndim:]
    if usual and len(usual) == ndim:
        return usual
    example = "zyxc" if ndim == 4 else "xyz"
    next_step = f"give --axes, {'tczyx'[-ndim:]} or {example} say, for an array of shape {stored.shape}"
    raise InvalidInput(sentence("the order of the axes", "is not stated by the file", next_step=next_step))


def _grid(placement: Placement, place: str, voxel_size: Sequence[float] | None, offset: Sequence[float] | None) -> Grid:
    """Where the voxels lie: as the file states, or as given where it does not say it for certain."""
    if voxel_size is None:
        if placement.voxel_size is None and placement.refusal is None:
            next_step = "give --voxel-size Z Y X in nm"
            raise InvalidInput(sentence("the voxel size", "is not stated by the file", next_step=next_step))
        stated = grid_of(placement, place)
        return stated if offset is None else replace(stated, offset=tuple(offset))  # type: ignore[arg-type]
    given = Grid(tuple(voxel_size))  # type: ignore[arg-type]
    if placement.voxel_size is not None and placement.certain and not placement.grid().same_voxel_size(given):
        rule = f"must be the one that the file states, {placement.voxel_size} nm"
        raise InvalidInput(sentence("the voxel size", rule, given.voxel_size, "leave out --voxel-size"))
    if offset is None and placement.offset is not None:
        if not placement.certain:  # in the unit that the voxel size turns out to have
            ratio = [a / b for a, b in zip(given.voxel_size, placement.voxel_size or (1, 1, 1), strict=True)]
            offset = [a * b for a, b in zip(placement.offset, ratio, strict=True)]
        else:
            offset = placement.offset
    size = placement.voxel_size if placement.voxel_size is not None and placement.certain else given.voxel_size
    return Grid(size, tuple(offset or (0.0, 0.0, 0.0)))  # type: ignore[arg-type]
