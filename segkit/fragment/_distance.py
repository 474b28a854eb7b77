"""Distances to boundaries, and their maxima."""

from collections.abc import Sequence

import numpy as np

from segkit.fragment._kernels_distance import (
    LANES,
    distance_along,
    distance_in_planes,
    highest_along,
    highest_along_rows,
    peaks_along,
)
from segkit.threads import share

EXACT = 2**24
"""Up to here float32 holds every integer."""


def squared_distance(inside: np.ndarray, sampling: Sequence[float] | np.ndarray, per_section: bool) -> np.ndarray:
    """Squared distance from each inside voxel to the nearest that is not, float32 (Z, Y, X); 0 there.

    `sampling` holds the lengths of a voxel. A volume (with `per_section`, a section) that is inside throughout is 1
    all over. The border of the volume is no boundary.
    """
    squares = np.empty(inside.shape, np.float32)
    z, y, x = np.asarray(sampling, np.float32)
    steps = np.cumsum(np.append(np.float32(0), np.full(inside.shape[2] + 1, x)), dtype=np.float32)
    share(distance_in_planes, len(squares), np.ascontiguousarray(inside), y, steps * steps, squares)
    if not per_section:
        columns = squares.reshape(1, len(squares), -1)
        steps = (np.arange(len(squares) + 2) * np.float64(z)).astype(np.float32)
        share(distance_along, _blocks(columns), columns, steps * steps)
    for part in squares if per_section else squares[None]:
        if np.isinf(part.flat[0]):  # then all of it is
            part[...] = 1
    return squares


def depths_of(squares: np.ndarray, sampling: Sequence[float] | np.ndarray) -> np.ndarray:
    """Integers, as float32, in the order of `squares`: these where voxels have whole lengths, else ranks."""
    if np.array_equal(sampling, np.round(sampling)) and deepest(squares) < EXACT:
        return squares
    values = np.unique(np.concatenate([np.unique(section) for section in squares]))
    values = np.unique(np.append(values, np.float32(0)))  # what is not inside has rank 0, were there none of it
    return np.stack([np.searchsorted(values, section).astype(np.float32) for section in squares])


def deepest(depths: np.ndarray) -> int:
    """The greatest of the depths, rounded down."""
    return int(max(share(lambda start, stop: depths[start:stop].max(), len(depths))))


def maxima(depths: np.ndarray, reach: Sequence[int], per_section: bool) -> np.ndarray:
    """Flat indices, ascending, of the voxels above 0 that no other within `reach` along z, y and x exceeds."""
    reach = [min(steps, size) for steps, size in zip(reach, depths.shape, strict=True)]  # there is nothing beyond
    highest = np.empty_like(depths)
    width = depths.shape[2]
    share(highest_along_rows, depths.size // width, reach[2], depths.reshape(-1, width), highest.reshape(-1, width))
    if per_section:
        return np.sort(np.concatenate(share(peaks_along, _blocks(depths), reach[1], depths, highest)))
    share(highest_along, _blocks(highest), reach[1], highest)
    planes = [volume.reshape(1, len(depths), -1) for volume in (depths, highest)]
    return np.sort(np.concatenate(share(peaks_along, _blocks(planes[0]), reach[0], *planes)))


def _blocks(volume: np.ndarray) -> int:
    """How many blocks of lines along the middle axis there are."""
    return volume.shape[0] * -(-volume.shape[2] // LANES)
