"""Pooling that follows from the size of the voxels."""

import math
from collections.abc import Sequence
from typing import Literal

from segkit.errors import InvalidParameter, sentence

FACTOR = 2
NEAR = 2**0.5 * (1 + 1e-6)
"""An axis is pooled if its voxel edge is at most this times the shortest. Beyond it, leaving that axis alone makes the
voxels more like cubes; below it, less."""
LEVELS = 4

Pooling = tuple[tuple[int, ...], ...]


def pooling_for(voxel_size: Sequence[float], poolings: int) -> Pooling:
    """Factors, z, y, x, of so many poolings: each halves the resolution along the axes of the shortest voxel edges.

    >>> pooling_for((40, 4, 4), 4)
    ((1, 2, 2), (1, 2, 2), (1, 2, 2), (2, 2, 2))
    >>> pooling_for((10, 10, 10), 2)
    ((2, 2, 2), (2, 2, 2))
    """
    edges, factors = list(voxel_size), []
    for _ in range(poolings):
        shortest = min(edges)
        step = tuple(FACTOR if edge <= NEAR * shortest else 1 for edge in edges)
        edges = [edge * factor for edge, factor in zip(edges, step, strict=True)]
        factors.append(step)
    return tuple(factors)


def automatic_pooling(
    pooling: Pooling | Literal["auto"], voxel_size: Sequence[float] | None, levels: int | None
) -> Pooling:
    """`pooling`, or what follows from the voxel size if it is "auto". Raises InvalidParameter for what is missing."""
    if voxel_size is not None and not all(0 < edge < math.inf for edge in voxel_size):
        raise InvalidParameter(sentence("parameter 'voxel_size'", "must be three positive lengths", list(voxel_size)))
    if pooling != "auto":
        if levels is not None and levels != len(pooling) + 1:
            rule = f"must be one more than the factors of pooling, {len(pooling) + 1}"
            raise InvalidParameter(sentence("parameter 'levels'", rule, levels, "leave it out"))
        return pooling
    if voxel_size is None:
        rule, next_step = "must be given with pooling='auto'", "say it in nm, as voxel_size=[40,4,4]"
        raise InvalidParameter(sentence("parameter 'voxel_size'", rule, next_step=next_step))
    levels = LEVELS if levels is None else levels
    if levels < 1:
        raise InvalidParameter(sentence("parameter 'levels'", "must be at least 1", levels))
    return pooling_for(voxel_size, levels - 1)
