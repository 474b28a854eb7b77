"""What fragmenters share: which edges they use, the mask, and sections treated apart."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from segkit.data import Affinities, Volume, check_aligned
from segkit.errors import InvalidInput, InvalidParameter, sentence
from segkit.fragment._kernels_affinity import mean_or_least
from segkit.threads import share

Statistic = Literal["mean", "min"]


def checked_mask(affinities: Affinities, mask: Volume | None) -> np.ndarray | None:
    """The mask as bool (Z, Y, X), or None; it must be aligned with `affinities` and hold booleans or integers."""
    if mask is None:
        return None
    check_aligned(affinities=affinities, mask=mask)
    if mask.array.dtype.kind == "f":
        raise InvalidInput(sentence("mask", "must hold booleans", mask.array.dtype, "compare it with a threshold"))
    return mask.array.astype(bool)


def check_unit(name: str, value: float) -> None:
    """Raise InvalidParameter unless `value` lies in 0..1."""
    if not 0 <= value <= 1:
        raise InvalidParameter(sentence(name, "must lie in 0..1", value))


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise InvalidParameter unless `value` is at least `least`."""
    if not value >= least:
        raise InvalidParameter(sentence(name, f"must be at least {least}", value))


def nearest_channels(affinities: Affinities, per_section: bool) -> list[int]:
    """The channels of edges between direct neighbours, in the plane only if `per_section`.

    Raises InvalidInput if an axis along which the volume has more than one voxel has no such channel, or if one of
    their affinities is NaN or not in 0..1.
    """
    steps = np.abs(affinities.neighborhood)
    direct = steps.sum(axis=1) == 1
    for axis in range(1 if per_section else 0, 3):
        if affinities.shape[axis] > 1 and not (direct & (steps[:, axis] == 1)).any():
            rule = f"must have the edge to the next voxel along {'zyx'[axis]}"
            next_step = "treat the sections apart with per_section=true" if axis == 0 else None
            raise InvalidInput(sentence("neighborhood", rule, affinities.neighborhood.tolist(), next_step))
    channels = [int(c) for c in np.flatnonzero(direct & (steps[:, 0] == 0) if per_section else direct)]
    if not all(share(_in_range, affinities.shape[0], affinities.array, channels)):
        affinities.check()
    return channels


def _in_range(start: int, stop: int, array: np.ndarray, channels: list[int]) -> bool:
    """Whether all affinities of some sections lie in 0..1; section by section, to read the memory once."""
    sections = (array[channel, z] for channel in channels for z in range(start, stop))
    return all(section.min() >= 0 and section.max() <= 1 for section in sections)  # both are NaN if any value is


@dataclass(frozen=True)
class Edges:
    """The edges between direct neighbours, as the kernels read them; see _kernels_affinity."""

    array: np.ndarray
    """All affinities, C-contiguous and read-only: two kinds of arrays would be compiled twice."""
    channels: np.ndarray
    """The channel of the edges along z, y and x, int64 (3,); -1 if they are not used."""
    later: np.ndarray
    """Whether edges along z, y and x are stored at their later end, bool (3,)."""
    mask: np.ndarray
    """bool (Z, Y, X), or of size 0."""

    @classmethod
    def of(cls, affinities: Affinities, mask: np.ndarray | None, per_section: bool) -> "Edges":
        """Those that :func:`nearest_channels` names."""
        array = np.ascontiguousarray(affinities.array).view()
        array.flags.writeable = False
        channels, later = np.full(3, -1), np.ones(3, bool)
        for channel in nearest_channels(affinities, per_section):
            offset = affinities.neighborhood[channel]
            axis = int(np.flatnonzero(offset)[0])
            channels[axis], later[axis] = channel, offset[axis] < 0
        return cls(array, channels, later, contiguous(mask))

    def arguments(self) -> tuple[np.ndarray, ...]:
        """What every kernel on edges takes as one argument, and unpacks once a row."""
        return self.array, self.channels, self.later, self.mask


def contiguous(mask: np.ndarray | None) -> np.ndarray:
    """`mask` as kernels take it: bool (Z, Y, X), C-contiguous, of size 0 for None."""
    return np.empty((0, 0, 0), bool) if mask is None else np.ascontiguousarray(mask, bool)


def voxel_affinity(
    affinities: Affinities, mask: np.ndarray | None, per_section: bool, statistic: Statistic = "mean"
) -> np.ndarray:
    """Mean (or minimum) affinity of the edges of each voxel with its direct neighbours, float32 (Z, Y, X).

    Both the edges to predecessors and those to successors count, so that the result does not lean half a voxel to
    one side and flipping the volume flips it. Edges that leave the volume or the mask do not count at all; a voxel
    without any edge has 1, for nothing separates it from others.
    """
    out = np.empty(affinities.shape, np.float32)
    edges = Edges.of(affinities, mask, per_section).arguments()
    mean_or_least(0, len(out), edges, statistic == "min", out)
    return out


def voxels_above(
    affinities: Affinities, mask: np.ndarray | None, per_section: bool, statistic: Statistic, threshold: float
) -> np.ndarray:
    """Where :func:`voxel_affinity` exceeds `threshold` and the mask is True, bool (Z, Y, X)."""
    above = np.empty(affinities.shape, bool)
    edges = Edges.of(affinities, mask, per_section).arguments()
    share(_write_above, len(above), edges, statistic == "min", threshold, above)
    return above


def _write_above(
    start: int, stop: int, edges: tuple[np.ndarray, ...], least: bool, threshold: float, above: np.ndarray
) -> None:
    """Section by section, so that affinities of voxels stay in the cache."""
    section, mask = np.empty((1, *above.shape[1:]), np.float32), edges[-1]
    for z in range(start, stop):
        mean_or_least(z, z + 1, edges, least, section)
        np.greater(section[0], threshold, out=above[z])
        if mask.size:
            above[z] &= mask[z]


def slabs(shape: tuple[int, int, int], per_section: bool) -> Iterator[slice]:
    """Slices along z: each section, or the whole volume at once."""
    if not per_section:
        yield slice(0, shape[0])
        return
    for z in range(shape[0]):
        yield slice(z, z + 1)


def stacked(parts: Iterable[tuple[np.ndarray, int]], shape: tuple[int, int, int], per_section: bool) -> np.ndarray:
    """The labels of all slabs in one uint64 volume, ids of each moved above those before it.

    `parts` yields, for each slab in order, labels numbered from 1 without gaps and how many they are.
    """
    labels = np.zeros(shape, np.uint64)
    last = 0
    for slab, (part, count) in zip(slabs(shape, per_section), parts, strict=True):
        labels[slab] = part
        labels[slab][part > 0] += np.uint64(last)
        last += int(count)
    return labels
