"""Choose among combinations: what is good on all volumes, at thresholds around, and with parameters around.

One number is not to be trusted: the lowest score of many combinations at many thresholds is low by chance as well. So

- the score of a threshold is the mean over those within :data:`WINDOW` of it: a plateau beats a peak;
- the score of a combination on several volumes is the mean of the average and of the worst;
- a combination counts as the mean over itself and its neighbours, which differ by one step of one parameter that is a
  number: each at its own best threshold. Of equals the better one itself comes first: two values of one parameter are
  neighbours of each other, and come to the same mean.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segkit.errors import InvalidParameter, sentence
from segkit.evaluate.sweep import SCORES

STEP = 0.005
THRESHOLDS = tuple(round(STEP * k, 3) for k in range(201))
"""Those that are looked at: 0..1."""
WINDOW = 0.02
"""The score of a threshold is the mean over those at most so far from it."""
DRAWS = 200
"""Draws of blocks, for the spread."""
TOLERANCE = 50
"""Nodes of another skeleton in a segment that are no merger, for NERL."""
GOALS = ("cremi_score", "voi", "adapted_rand_error", "nerl")


@dataclass(frozen=True)
class Goal:
    """Say which score decides."""

    by: str = "cremi_score"
    """One of :data:`GOALS`. voi is voi_split + voi_merge; nerl, the only one that is to be high, that at 50 nodes."""

    def __post_init__(self) -> None:
        if self.by not in GOALS:
            raise InvalidParameter(sentence("by", f"must be one of {', '.join(GOALS)}", repr(self.by)))

    @property
    def counts_voxels(self) -> bool:
        """Whether it is a score of the contingency table."""
        return self.by != "nerl"

    def costs(self, curves: Mapping[str, Any]) -> np.ndarray:
        """Return what is to be low, float64, of scores by name."""
        if self.by == "voi":
            return np.asarray(curves["voi_split"]) + np.asarray(curves["voi_merge"])
        return -np.asarray(curves[f"nerl_{TOLERANCE}"]) if self.by == "nerl" else np.asarray(curves[self.by])

    def shown(self, cost: float) -> float:
        """Return the score of a cost."""
        return -float(cost) if self.by == "nerl" else float(cost)


@dataclass(frozen=True, eq=False)
class Row:
    """What one combination came to, over all volumes."""

    number: int
    """Of the combination."""
    threshold: float
    value: float
    """What rows are sorted by, a cost: see the module."""
    mean: float
    """The cost at the threshold, mean over the volumes."""
    worst: float
    """The cost at the threshold on the worst volume."""
    spread: float
    """Standard deviation of `mean` over draws of blocks; NaN where there are none."""
    scores: dict[str, float]
    """At the threshold, means over the volumes."""
    best: float
    """The mean over the volumes of the cost at each one's own best threshold: what cannot be had."""
    oracle: float
    """The mean cost of the fragments merged by the truth."""
    drawn: np.ndarray
    """The cost of each draw of blocks, mean over the volumes, float64 (R,); none for NERL, and of a single block."""


def plateaus(costs: np.ndarray, window: float = WINDOW) -> np.ndarray:
    """Average over the thresholds within a window of each, over the last axis; at the ends over those that there are.

    >>> plateaus(np.array([0.0, 0, 3, 0, 0]), 0.005).tolist()
    [0.0, 1.0, 1.0, 1.0, 0.0]
    """
    reach = round(window / STEP)
    size = costs.shape[-1]
    sums = np.concatenate([np.zeros((*costs.shape[:-1], 1)), np.cumsum(costs, axis=-1)], axis=-1)
    low, high = np.maximum(np.arange(size) - reach, 0), np.minimum(np.arange(size) + reach + 1, size)
    return (sums[..., high] - sums[..., low]) / (high - low)


def threshold_of(costs: np.ndarray) -> float:
    """Return the threshold for volumes of these costs, float64 (V, T), of one combination; ties: the lowest."""
    return THRESHOLDS[int(np.argmin(plateaus(overall(costs))))]


def overall(costs: np.ndarray) -> np.ndarray:
    """Return the mean of average and worst over the volumes, which stand along the last axis but one."""
    return (costs.mean(axis=-2) + costs.max(axis=-2)) / 2


def values_of(costs: np.ndarray, neighbours: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return what combinations are sorted by, float64 (N,), and the position of the threshold of each, int64 (N,).

    `costs` is float64 (N, V, T); a neighbour that is not there has NaN.
    """
    level = plateaus(overall(costs))
    known = ~np.isnan(level[:, 0])
    places = np.zeros(len(costs), np.int64)
    places[known] = np.argmin(level[known], axis=1)
    own = level[np.arange(len(costs)), places]
    values = own.copy()
    for number, near in enumerate(neighbours):
        values[number] = np.mean([own[number], *(own[each] for each in near if known[each])])
    return values, places


def ranked(
    records: Sequence[Mapping[str, Any]], neighbours: Sequence[Sequence[int]], goal: Goal, volumes: Iterable[int] = ()
) -> list[Row]:
    """Sort combinations, the best first, by `volumes` alone or by all; ties: by the score itself, then as they came.

    Those that have a `problem`, or were not tried, are left out.
    """
    known = [number for number, record in enumerate(records) if "volumes" in record]
    if not known:
        return []
    some = list(volumes) or list(range(len(records[known[0]]["volumes"])))
    costs = np.full((len(records), len(some), len(THRESHOLDS)), np.nan)
    for number in known:
        costs[number] = [goal.costs(records[number]["volumes"][each]["curves"]) for each in some]
    values, places = values_of(costs, neighbours)
    rows = [_row(records[n], n, float(values[n]), int(places[n]), goal, some) for n in known]
    return sorted(rows, key=lambda row: (row.value, row.mean + row.worst))


def wins(row: Row, first: Row) -> float:
    """Return the share of draws in which one row scores better than another; NaN where there are no draws.

    Draws in which they score the same count half, so a row wins 0.5 against itself. The draws of both are of the same
    blocks, so what blocks have in common does not count.
    """
    found = np.mean(row.drawn < first.drawn) + np.mean(row.drawn == first.drawn) / 2 if len(row.drawn) else np.nan
    return float(found)


def left_out(
    records: Sequence[Mapping[str, Any]], neighbours: Sequence[Sequence[int]], goal: Goal
) -> list[dict[str, Any]]:
    """Choose on all volumes but one and score that one, each in turn.

    Returns one dictionary a volume: `volume`, the `number` of the combination that the others choose, its `threshold`
    and its cost there (`chosen`), and the lowest cost of any combination at any threshold there (`best`). Nothing for
    a single volume.
    """
    known = [record for record in records if "volumes" in record]
    count = len(known[0]["volumes"]) if known else 0
    found = []
    for volume in range(count if count > 1 else 0):
        row = ranked(records, neighbours, goal, [each for each in range(count) if each != volume])[0]
        there = goal.costs(records[row.number]["volumes"][volume]["curves"])
        least = min(float(goal.costs(record["volumes"][volume]["best"])) for record in known)
        at = THRESHOLDS.index(row.threshold)
        scores = {"chosen": float(there[at]), "best": least}
        found.append({"volume": volume, "number": row.number, "threshold": row.threshold} | scores)
    return found


def _row(record: Mapping[str, Any], number: int, value: float, place: int, goal: Goal, some: Sequence[int]) -> Row:
    volumes = [record["volumes"][each] for each in some]
    costs = np.array([goal.costs(volume["curves"])[place] for volume in volumes])
    drawn = np.mean([volume["draws"] for volume in volumes], axis=0)
    scores = {name: float(np.mean([volume["curves"][name][place] for volume in volumes])) for name in _names(volumes)}
    return Row(
        number,
        THRESHOLDS[place],
        value,
        float(costs.mean()),
        float(costs.max()),
        float(np.std(drawn, ddof=1)) if len(drawn) else float("nan"),
        scores,
        float(np.mean([goal.costs(volume["best"]) for volume in volumes])),
        float(np.mean([goal.costs(volume["oracle"]) for volume in volumes])),
        drawn,
    )


def _names(volumes: Sequence[Mapping[str, Any]]) -> list[str]:
    return [*SCORES, *(name for name in volumes[0]["curves"] if name not in SCORES)]
