"""A picture of a search: VOI split against VOI merge of every combination, and the front that none of them passes."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from segkit.curves import COLOURS
from segkit.io.lock import writing
from segkit.tune.choose import Row

MARKERS = "osD^vPX"


def can_plot() -> bool:
    """Return whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def front(merge: np.ndarray, split: np.ndarray) -> np.ndarray:
    """Return the numbers of the points that no other is at least as good as in both, by increasing `merge`, int64 (P,).

    Of equal points the first is among them.

    >>> front(np.array([2.0, 1, 3, 1]), np.array([1.0, 2, 1, 2])).tolist()
    [1, 0]
    """
    order = np.lexsort((np.arange(len(merge)), split, merge))
    lowest = np.minimum.accumulate(np.append(np.inf, split[order]))[:-1]
    return order[split[order] < lowest]


def save_pareto(
    path: Path, records: Sequence[Mapping[str, Any]], rows: Sequence[Row], names: Sequence[tuple[str, str]]
) -> None:
    """Draw rows, the best first, at their thresholds, and the front over all combinations at all thresholds, as a PNG.

    `names` are those of fragmenter and agglomerator of each record; scores are means over the volumes. Raises
    ImportError where matplotlib is not installed: see :func:`can_plot`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained", dpi=120)
    axes: Any = figure.subplots()
    curves = [_voi(records[row.number]) for row in rows]
    merge, split = np.concatenate(curves, axis=1)
    best = front(merge, split)
    axes.plot(merge[best], split[best], color="#222222", linewidth=1, label="front over all thresholds")
    axes.plot(*curves[0], color="#999999", linewidth=1, linestyle="--", label="the first, all thresholds")
    fragmenters, agglomerators = (list(dict.fromkeys(each)) for each in zip(*names, strict=True))
    for pair in dict.fromkeys(names):
        mine = [row.scores for row in rows if names[row.number] == pair]
        colour = COLOURS[fragmenters.index(pair[0]) % len(COLOURS)]
        marker = MARKERS[agglomerators.index(pair[1]) % len(MARKERS)]
        places = [row["voi_merge"] for row in mine], [row["voi_split"] for row in mine]
        axes.scatter(*places, s=22, color=colour, marker=marker, alpha=0.8, label=" + ".join(pair))
    first = rows[0].scores
    axes.scatter(
        first["voi_merge"], first["voi_split"], s=150, facecolors="none", edgecolors="black", label="the first"
    )
    axes.set_xlim(0, 1.1 * max(row.scores["voi_merge"] for row in rows) + 0.01)
    axes.set_ylim(0, 1.1 * max(row.scores["voi_split"] for row in rows) + 0.01)
    axes.set_xlabel("VOI merge (bits): false merges")
    axes.set_ylabel("VOI split (bits): false splits")
    axes.grid(color="#e4e4e4")
    axes.legend(fontsize=8)
    with writing(path) as temporary:
        figure.savefig(temporary, format="png")


def _voi(record: Mapping[str, Any]) -> np.ndarray:
    """Merge and split at all thresholds, float64 (2, T), means over the volumes."""
    curves = [[volume["curves"][name] for name in ("voi_merge", "voi_split")] for volume in record["volumes"]]
    return np.mean(curves, axis=0)
