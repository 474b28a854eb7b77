"""Measure whether channels of affinities contradict each other: in a square of voxels, one cut edge parts nothing."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from segkit.data import Affinities
from segkit.health.channels import channel_name

CUT = 0.5
"""An edge of lower affinity is cut."""


@dataclass(frozen=True)
class Agreement:
    """Figures of two channels p and q over the squares of voxels v, v + p, v + q, v + p + q that lie in the volume."""

    first: str
    """Name of channel p."""
    second: str
    """Name of channel q."""
    correlation: float | None
    """Pearson's, of the two edges of a voxel. None where a channel is constant."""
    opposed: float | None
    """Pearson's, of opposite edges of a square, mean over both channels: 0 where a channel is noise."""
    cut: float
    """Share of squares with any edge cut (affinity below 0.5)."""
    contradictions: float
    """Share, of the squares with an edge cut, in which only one is: the path round it joins what it splits."""
    chance: float | None
    """What that share would be if edges knew nothing of each other but how often each channel cuts. None if nothing
    is cut."""


def agreement_figures(affinities: Affinities) -> tuple[Agreement, ...]:
    """The figures of all pairs of channels that span a square."""
    pairs = combinations(range(len(affinities.neighborhood)), 2)
    found = (_figures(affinities, first, second) for first, second in pairs)
    return tuple(figures for figures in found if figures is not None)


def _figures(affinities: Affinities, first: int, second: int) -> Agreement | None:
    (p, q), shape = affinities.neighborhood[[first, second]], affinities.shape
    near, far = _corners(shape, p, q)
    edges = [affinities.array[first][near[0]], affinities.array[first][far[1]]]
    edges += [affinities.array[second][near[0]], affinities.array[second][far[0]]]
    if not edges[0].size or not _spans(p, q):
        return None
    cuts = np.zeros(edges[0].shape, np.uint8)
    for edge in edges:
        cuts += edge < CUT
    shares = [float(np.mean(np.concatenate([a.ravel(), b.ravel()]) < CUT)) for a, b in (edges[:2], edges[2:])]
    several, any_cut = np.count_nonzero(cuts > 1), np.count_nonzero(cuts)
    single = any_cut - several
    own, other = _correlation(*edges[:2]), _correlation(*edges[2:])
    return Agreement(
        channel_name(p),
        channel_name(q),
        _correlation(edges[0], edges[2]),
        None if own is None or other is None else float(np.mean([own, other])),
        any_cut / cuts.size,
        single / any_cut if any_cut else 0.0,
        _chance(*shares) if any_cut else None,
    )


def _spans(p: np.ndarray, q: np.ndarray) -> bool:
    return bool(np.cross(p, q).any())


def _corners(shape: tuple[int, ...], p: np.ndarray, q: np.ndarray) -> tuple[list, list]:
    """Slices of the corners v of all squares, and of (v + p, v + q)."""
    corners = np.array([np.zeros(3, np.int64), p, q, p + q])
    low, high = -corners.min(axis=0), np.array(shape) - corners.max(axis=0)
    slices = [tuple(slice(a, max(a, b)) for a, b in zip(low + c, high + c, strict=True)) for c in corners]
    return [slices[0]], slices[1:3]


def _chance(first: float, second: float) -> float:
    """Single cuts among squares with cuts, if each of the four edges is cut on its own account."""
    joined, other = (1 - first) ** 2, (1 - second) ** 2
    single = 2 * first * (1 - first) * other + 2 * second * (1 - second) * joined
    return single / (1 - joined * other)


def _correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Pearson's coefficient; None where either is constant.

    >>> _correlation(np.array([0.0, 1, 2]), np.array([2.0, 1, 0])), _correlation(np.ones(3), np.arange(3))
    (-1.0, None)
    """
    a = first.ravel() - np.mean(first, dtype=np.float64)
    b = second.ravel() - np.mean(second, dtype=np.float64)
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return round(float(a @ b) / scale, 12) if scale > 0 else None
