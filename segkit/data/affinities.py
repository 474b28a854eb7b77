"""Affinities: does this voxel belong with its neighbour?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segkit.data.grid import Grid
from segkit.data.labels import Labels
from segkit.data.volume import hold
from segkit.errors import InvalidInput, InvalidShape, sentence

NEAREST = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
"""The default neighborhood: the predecessors along z, y and x."""

Slices = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class Affinities:
    """`array[c, v]` belongs to the edge from voxel v to voxel v + neighborhood[c]; 1 = same object, 0 = split.

    An edge that leaves the volume has affinity 0 and is no edge to any stage. Files of other tools differ in edge
    side, polarity, scale and axis order: convert them first, for no stage knows any other convention.
    """

    array: NDArray[np.float32]
    """float32 in 0..1, shape (C, Z, Y, X), as a read-only view."""
    neighborhood: NDArray[np.int64]
    """Offsets in voxels, int64, shape (C, 3), z, y, x; distinct, none zero, none the negative of another."""
    grid: Grid
    """Where the voxels lie."""

    def __post_init__(self) -> None:
        hold(self, "affinities", 4, "channel, z, y, x")
        neighborhood = as_neighborhood(self.neighborhood)
        object.__setattr__(self, "neighborhood", neighborhood)
        channels = len(neighborhood)
        if self.array.shape[0] != channels:
            last = self.array.shape[-1] == channels
            next_step = "the channels seem to be last: move them with np.moveaxis(array, -1, 0)" if last else None
            value = f"{self.array.shape[0]}, of shape {self.array.shape}"
            raise InvalidShape(
                sentence("affinities", f"must have one channel an offset, {channels}, first", value, next_step)
            )
        if self.array.dtype != np.float32:
            raise InvalidInput(sentence("affinities", "must be float32", self.array.dtype, "use Affinities.convert"))

    @classmethod
    def convert(cls, array: ArrayLike, neighborhood: ArrayLike = NEAREST, grid: Grid | None = None) -> "Affinities":
        """Affinities from float16, float32, float64 (0..1), uint8 (divided by 255) or uint16 (by 65535).

        Checks every value, and writes 0 (to a copy) where an edge leaves the volume.
        """
        values = np.asarray(array)
        if values.dtype in (np.uint8, np.uint16) and values.size and values.max() == 1:
            rule = f"of {values.dtype} must span 0..{np.iinfo(values.dtype).max}"
            raise InvalidInput(sentence("affinities", rule, "0..1", "store them as floats if 1 = same object"))
        affinities = cls(as_fractions(values), as_neighborhood(neighborhood), grid or Grid())
        check_fractions(affinities.array)
        if affinities._first_leaving() is None:
            return affinities
        cleaned = np.where(edge_mask(affinities.shape, affinities.neighborhood), affinities.array, np.float32(0))
        return cls(cleaned, affinities.neighborhood, affinities.grid)

    @classmethod
    def from_labels(cls, labels: Labels, neighborhood: ArrayLike = NEAREST) -> "Affinities":
        """The affinities of a perfect network: 1 where both ends carry the same object, else 0.

        Background and voxels outside the annotation belong with nothing.

        >>> labels = Labels.convert([[[5, 5, 7]]], Grid())
        >>> Affinities.from_labels(labels, [(0, 0, -1)]).array.ravel().tolist()
        [0.0, 1.0, 0.0]
        """
        offsets = as_neighborhood(neighborhood)
        objects = np.where(labels.inside, labels.array, np.uint64(0))
        array = np.zeros((len(offsets), *labels.shape), np.float32)
        for channel, offset in zip(array, offsets, strict=True):
            source, target = edge_slices(labels.shape, offset)
            channel[source] = (objects[source] == objects[target]) & (objects[source] != 0)
        return cls(array, offsets, labels.grid)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size in voxels, (Z, Y, X), without the channels."""
        return self.array.shape[1:]

    def check(self) -> None:
        """Raise InvalidInput unless all values are in 0..1 and 0 where an edge leaves the volume. O(n)."""
        check_fractions(self.array)
        leaving = self._first_leaving()
        if leaving is not None:
            rule = "must be 0 where an edge leaves the volume"
            value = f"{self.array[leaving]} at (channel, z, y, x) {leaving}"
            raise InvalidInput(sentence("affinities", rule, value, "use Affinities.convert"))

    def _first_leaving(self) -> tuple[int, ...] | None:
        for c, offset in enumerate(self.neighborhood):
            for axis, step in enumerate(offset):
                if step == 0:
                    continue
                band = [slice(None)] * 3
                band[axis] = slice(0, -step) if step < 0 else slice(max(self.shape[axis] - step, 0), None)
                found = np.argwhere(self.array[c][tuple(band)])
                if len(found):
                    found[0, axis] += band[axis].start
                    return (c, *(int(i) for i in found[0]))
        return None


def as_fractions(array: np.ndarray) -> NDArray[np.float32]:
    """Affinities of a dtype that files have, as float32: 8 and 16 bits are divided by their largest value.

    >>> as_fractions(np.array([0, 51, 255], np.uint8)).tolist()
    [0.0, 0.20000000298023224, 1.0]
    """
    if array.dtype in (np.uint8, np.uint16):
        largest = np.float32(np.iinfo(array.dtype).max)
        fractions: NDArray[np.float32] = np.divide(array, largest, dtype=np.float32)  # without a copy before it
        return fractions
    if array.dtype.kind != "f":
        raise InvalidInput(sentence("affinities", "must be floats in 0..1, uint8 or uint16", array.dtype))
    return array.astype(np.float32, copy=False)


def as_levels(array: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Affinities in 0..1 as 8 bits, a quarter of the bytes: 255 is 1, and each is off by at most 1/510.

    Each goes to the nearest of the 256 levels, one in the middle to the even one.

    >>> as_levels(np.array([0, 0.2, 0.5, 0.998, 0.999, 1], np.float32)).tolist()
    [0, 51, 128, 254, 255, 255]
    """
    levels: NDArray[np.uint8] = np.rint(array * np.float32(255)).astype(np.uint8)
    return levels


def cut_leaving(
    array: np.ndarray, neighborhood: np.ndarray, part: Slices | None = None, shape: Sequence[int] | None = None
) -> None:
    """Write 0 where edges leave a volume of `shape`, into the affinities (C, Z, Y, X) of a box of it, in place.

    Where nothing else is said the box is the volume.
    """
    part = part or tuple(slice(0, size) for size in array.shape[1:])
    shape = shape or array.shape[1:]
    for channel, offset in zip(array, neighborhood, strict=True):
        for axis, step in enumerate(map(int, offset)):
            leaving = slice(0, -step) if step < 0 else slice(shape[axis] - step, shape[axis])
            low = max(leaving.start - part[axis].start, 0) if step else 0
            high = max(leaving.stop - part[axis].start, 0) if step else 0
            channel[(slice(None),) * axis + (slice(low, high),)] = 0


def check_fractions(array: np.ndarray) -> None:
    """Raise InvalidInput unless all values lie in 0..1. O(n)."""
    low, high = array.min(), array.max()  # both are NaN if any value is
    if np.isnan(low):
        where = tuple(int(i) for i in np.argwhere(np.isnan(array))[0])
        raise InvalidInput(sentence("affinities", "must not be NaN", f"NaN at (channel, z, y, x) {where}"))
    if low < 0 or high > 1:
        next_step = "divide by 255 if they come from 8 bits, apply a sigmoid if they are logits"
        raise InvalidInput(sentence("affinities", "must lie in 0..1", f"{low:g}..{high:g}", next_step))


def as_neighborhood(offsets: ArrayLike) -> NDArray[np.int64]:
    """Checked offsets as a read-only int64 array (C, 3): distinct edges, so that none is counted twice."""
    try:
        array = np.array(offsets)
    except ValueError:  # rows of different lengths
        array = np.empty(0)
    if array.ndim != 2 or array.shape[1] != 3 or len(array) == 0 or array.dtype.kind not in "iu":
        value = repr(offsets.tolist() if isinstance(offsets, np.ndarray) else offsets)
        raise InvalidInput(sentence("neighborhood", "must be a list of integer offsets [z, y, x]", value))
    seen: set[tuple[int, ...]] = set()
    for offset in (tuple(int(step) for step in row) for row in array):
        opposite = tuple(-step for step in offset)
        if not any(offset):
            raise InvalidInput(sentence("neighborhood", "must not contain the zero offset", array.tolist()))
        if offset in seen or opposite in seen:
            raise InvalidInput(sentence("neighborhood", f"must name the edge {list(offset)} once", array.tolist()))
        seen.add(offset)
    checked = array.astype(np.int64)
    checked.flags.writeable = False
    return checked


def edge_slices(shape: Iterable[int], offset: Iterable[int]) -> tuple[Slices, Slices]:
    """Slices (source, target) of the last axes: source selects the voxels v whose v + offset lies inside `shape`.

    Both select the same number of voxels, in the same order; none if the offset is longer than the volume.

    >>> edge_slices((5,), (-2,))
    ((slice(2, 5, None),), (slice(0, 3, None),))
    """
    source, target = [], []
    for size, step in zip(shape, (int(s) for s in offset), strict=True):
        length = max(size - abs(step), 0)
        source.append(slice(-step, -step + length) if step < 0 else slice(0, length))
        target.append(slice(0, length) if step < 0 else slice(step, step + length))
    return tuple(source), tuple(target)


def edge_mask(
    shape: Sequence[int], neighborhood: ArrayLike, mask: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """bool (C, Z, Y, X): True where an edge exists: both ends inside the volume and, if given, inside `mask`."""
    offsets = as_neighborhood(neighborhood)
    edges = np.zeros((len(offsets), *shape), bool)
    for channel, offset in zip(edges, offsets, strict=True):
        source, target = edge_slices(shape, offset)
        channel[source] = True if mask is None else mask[source] & mask[target]
    return edges
