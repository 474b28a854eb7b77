"""What fragmenters share: which edges they use, the mask, and sections treated apart."""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from segkit.data import Affinities, Volume, check_aligned, edge_slices
from segkit.errors import InvalidInput, InvalidParameter, sentence

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

    Raises InvalidInput if an axis along which the volume has more than one voxel has no such channel.
    """
    steps = np.abs(affinities.neighborhood)
    direct = steps.sum(axis=1) == 1
    for axis in range(1 if per_section else 0, 3):
        if affinities.shape[axis] > 1 and not (direct & (steps[:, axis] == 1)).any():
            rule = f"must have the edge to the next voxel along {'zyx'[axis]}"
            next_step = "treat the sections apart with per_section=true" if axis == 0 else None
            raise InvalidInput(sentence("neighborhood", rule, affinities.neighborhood.tolist(), next_step))
    return [int(c) for c in np.flatnonzero(direct & (steps[:, 0] == 0) if per_section else direct)]


def voxel_affinity(
    affinities: Affinities, mask: np.ndarray | None, per_section: bool, statistic: Statistic = "mean"
) -> np.ndarray:
    """Mean (or minimum) affinity of the edges of each voxel with its direct neighbours, float32 (Z, Y, X).

    Both the edges to predecessors and those to successors count, so that the result does not lean half a voxel to
    one side and flipping the volume flips it. Edges that leave the volume or the mask do not count at all; a voxel
    without any edge has 1, for nothing separates it from others.
    """
    extreme = np.full(affinities.shape, 0 if statistic == "mean" else 1, np.float32)
    count = np.zeros(affinities.shape, np.float32)
    for channel in nearest_channels(affinities, per_section):
        source, target = edge_slices(affinities.shape, affinities.neighborhood[channel])
        exists = np.float32(1) if mask is None else (mask[source] & mask[target]).astype(np.float32)
        values = affinities.array[channel][source]
        for end in (source, target):
            count[end] += exists
            if statistic == "mean":
                extreme[end] += values * exists
            else:
                extreme[end] = np.minimum(extreme[end], np.where(exists, values, np.float32(1)))
    if statistic == "mean":
        np.divide(extreme, count, out=extreme, where=count > 0)
        extreme[count == 0] = 1
    return extreme


def slabs(shape: tuple[int, int, int], per_section: bool) -> Iterator[slice]:
    """Slices along z: each section, or the whole volume at once."""
    if not per_section:
        yield slice(0, shape[0])
        return
    for z in range(shape[0]):
        yield slice(z, z + 1)


def stacked(parts, shape: tuple[int, int, int], per_section: bool) -> np.ndarray:
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
