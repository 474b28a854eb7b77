"""Each channel of affinities on its own: how its values are spread, and how well they tell joins from splits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segkit.data import Affinities, Labels, edge_slices

SATURATED = 1 / 255
"""Values this near to 0 or 1 count as saturated: in 8 bits they could not be told from it."""
BINS = 4096
"""Affinities are told apart in so many steps where edges are ranked."""
AXES = "zyx"


@dataclass(frozen=True)
class Channel:
    """Figures of one channel over the edges that exist; with labels, those inside the annotation."""

    name: str
    """Axis of its edges, with their length if it is not 1: "z", "x3"; offsets along several axes in full."""
    mean: float
    variance: float
    lowest: float
    highest: float
    at_zero: float
    """Share of values saturated at 0."""
    at_one: float
    """Share of values saturated at 1."""
    not_finite: int
    """Values that are NaN or infinite; they are left out of all other figures."""
    truth_variance: float | None = None
    """Variance of the true affinities; 0 where all edges agree. None without labels."""
    auc: float | None = None
    """Probability that a true join has a higher affinity than a true split (ties count half): the area under the
    ROC curve. None without labels, or where the truth holds only one of both."""


def channel_name(offset: Sequence[int]) -> str:
    """How figures call a channel.

    >>> channel_name((-1, 0, 0)), channel_name((0, 0, -3)), channel_name((0, -1, -1))
    ('z', 'x3', '(0,-1,-1)')
    """
    steps = [(axis, abs(int(step))) for axis, step in zip(AXES, offset, strict=True) if step]
    if len(steps) > 1:
        return f"({','.join(str(int(step)) for step in offset)})"
    ((axis, length),) = steps
    return axis if length == 1 else f"{axis}{length}"


def channel_figures(affinities: Affinities, labels: Labels | None = None) -> tuple[Channel, ...]:
    """The figures of all channels that have any edge, in their order."""
    found = []
    for values, offset in zip(affinities.array, affinities.neighborhood, strict=True):
        source, target = edge_slices(affinities.shape, offset)
        values, truth = values[source], None
        if labels is not None:
            ids, ends = labels.array[source], labels.array[target]
            inside = labels.inside[source] & labels.inside[target]
            values, truth = values[inside], ((ids == ends) & (ids != 0))[inside]
        if values.size:
            found.append(_figures(channel_name(offset), values, truth))
    return tuple(found)


def _figures(name: str, values: np.ndarray, truth: np.ndarray | None) -> Channel:
    finite = np.isfinite(values)
    lost = int(values.size - np.count_nonzero(finite))
    if lost:
        values, truth = values[finite], None if truth is None else truth[finite]
    if not values.size:
        values = np.full(1, np.nan, np.float32)
    return Channel(
        name,
        float(np.mean(values, dtype=np.float64)),
        float(np.var(values, dtype=np.float64)),
        float(values.min()),
        float(values.max()),
        float(np.mean(values <= SATURATED)),
        float(np.mean(values >= 1 - SATURATED)),
        lost,
        None if truth is None else float(np.var(truth, dtype=np.float64)) if truth.size else 0.0,
        None if truth is None else _auc(values, truth),
    )


def _auc(values: np.ndarray, truth: np.ndarray) -> float | None:
    """The area under the ROC curve, from histograms.

    >>> _auc(np.array([0.1, 0.4, 0.6, 0.9]), np.array([False, True, False, True]))
    0.75
    """
    steps = np.minimum(np.nan_to_num(values) * BINS, BINS - 1).astype(np.int64)
    splits = np.bincount(steps[~truth], minlength=BINS)
    joins = np.bincount(steps[truth], minlength=BINS)
    pairs = float(splits.sum()) * float(joins.sum())
    if not pairs:
        return None
    below = np.cumsum(splits) - splits
    return float((joins * (below + splits / 2)).sum() / pairs)
