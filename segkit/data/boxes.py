"""Boxes of voxels: the middle of a volume, what several volumes have in common, and what lies around a box."""

from collections.abc import Sequence
from math import prod

import numpy as np

from segkit.data.grid import Placed

Slices = tuple[slice, slice, slice]


def middle(shape: Sequence[int], largest: int) -> Slices:
    """Return the middle of a volume, at most `largest` voxels: short axes stay whole, long ones become equally long.

    >>> middle((4, 100, 100), 400)
    (slice(0, 4, None), slice(45, 55, None), slice(45, 55, None))
    """
    edge = max(shape)
    while prod(min(size, edge) for size in shape) > largest:
        edge -= 1
    starts = [(size - min(size, edge)) // 2 for size in shape]
    z, y, x = (slice(start, start + min(size, edge)) for start, size in zip(starts, shape, strict=True))
    return z, y, x


def common(first: Placed, *others: Placed) -> Slices | None:
    """Return the voxels of `first` that lie in all `others` too; None if there are none.

    Raises InvalidInput if voxel sizes differ, or the volumes are shifted by part of a voxel.

    >>> import numpy as np
    >>> from segkit import Grid, Volume
    >>> near, far = (Volume(np.zeros((2, 3, 4)), Grid((9, 9, 9), (0, 0, x))) for x in (18, 99))
    >>> whole = Volume(np.zeros((2, 3, 4)), Grid((9, 9, 9)))
    >>> common(whole, near), common(whole, far)
    ((slice(0, 2, None), slice(0, 3, None), slice(2, 4, None)), None)
    """
    low, high = [0, 0, 0], list(first.shape)
    for other in others:
        start = first.grid.voxel_position(other.grid)
        low = [max(a, b) for a, b in zip(low, start, strict=True)]
        high = [min(a, b + size) for a, b, size in zip(high, start, other.shape, strict=True)]
    if any(a >= b for a, b in zip(low, high, strict=True)):
        return None
    z, y, x = map(slice, low, high)
    return z, y, x


def counted_from(outer: Sequence[slice], box: Sequence[slice]) -> Slices:
    """Return the place of a box counted from the beginning of `outer`: what :func:`within` counts back.

    >>> counted_from((slice(5, 9), slice(0, 9), slice(0, 9)), (slice(6, 7), slice(3, 4), slice(0, 9)))[0]
    slice(1, 2, None)
    """
    z, y, x = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, outer, strict=True))
    return z, y, x


def within(outer: Sequence[slice], inner: Sequence[slice]) -> Slices:
    """Return the place of a box that is counted from the beginning of `outer`, counted as `outer` is.

    >>> within((slice(5, 9), slice(0, 9), slice(0, 9)), (slice(1, 2), slice(3, 4), slice(0, 9)))[0]
    slice(6, 7, None)
    """
    z, y, x = (slice(a.start + b.start, a.start + b.stop) for a, b in zip(outer, inner, strict=True))
    return z, y, x


def reached(box: Slices, shape: Sequence[int], neighborhood: np.ndarray) -> Slices:
    """Return a box, and all that the edges of its voxels lead to inside the volume.

    >>> reached((slice(4, 8), slice(0, 8), slice(0, 4)), (9, 9, 9), np.array([[-1, 0, 0], [0, 2, 0], [0, -1, 1]]))
    (slice(3, 8, None), slice(0, 9, None), slice(0, 5, None))
    """
    before, behind = np.minimum(neighborhood.min(axis=0), 0), np.maximum(neighborhood.max(axis=0), 0)
    return around(box, shape, -before, behind)


def around(box: Slices, shape: Sequence[int], before: Sequence[int], behind: Sequence[int]) -> Slices:
    """Return a box and so many voxels before and behind it along each axis, as far as the volume goes."""
    z, y, x = (
        slice(max(part.start - int(low), 0), min(part.stop + int(high), size))
        for part, low, high, size in zip(box, before, behind, shape, strict=True)
    )
    return z, y, x
