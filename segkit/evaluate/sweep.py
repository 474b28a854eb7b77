"""Scores of a merge tree at all thresholds, with one pass over the voxels and one over the merges."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from segkit.data import Labels, MergeTree, check_aligned
from segkit.errors import InvalidInput, InvalidParameter, sentence
from segkit.evaluate._kernels_sweep import LIMB, LOW, children_of, follow_merges, largest_cols, rows_of_leaves
from segkit.evaluate.contingency import Contingency, contingency
from segkit.evaluate.cremi import cremi_scores
from segkit.evaluate.rand import pair_counts
from segkit.timing import phase

SCORES = ("rand_index", "adapted_rand_error", "voi_split", "voi_merge", "cremi_score")


@dataclass(frozen=True, eq=False)
class Sweep:
    """Scores after all merges of altitude < threshold, for every threshold that makes a difference."""

    thresholds: np.ndarray
    """float64 (A + 1,), increasing: the A different altitudes, and one above all of them, at least 1. The first gives
    the fragments; between two thresholds the scores are those of the next one."""
    rand_index: np.ndarray
    """float64 (A + 1,), 1 = perfect; the scores are those of the metric `cremi`."""
    adapted_rand_error: np.ndarray
    """float64 (A + 1,), 0 = perfect."""
    voi_split: np.ndarray
    """Bits, float64 (A + 1,); false splits."""
    voi_merge: np.ndarray
    """Bits, float64 (A + 1,); false merges."""
    cremi_score: np.ndarray
    """float64 (A + 1,), 0 = perfect."""
    fragments: dict[str, float] = field(default_factory=dict)
    """Scores of the fragments: their voi_merge, the merges already in them, is what no threshold can mend."""
    oracle: dict[str, float] = field(default_factory=dict)
    """Scores if every fragment were merged with those of the object it overlaps most (ties: the lowest id)."""

    def at(self, thresholds: Iterable[float]) -> list[dict[str, float]]:
        """The scores at any thresholds: one dictionary each, `threshold` first. Raises InvalidInput for NaN."""
        return [{"threshold": t} | self._row(row) for t, row in rows_at(self.thresholds, thresholds)]

    def best(self, score: str = "cremi_score") -> dict[str, float]:
        """The scores at the best threshold: the lowest of `score` (of rand_index the highest); ties: least merged.

        The threshold is given with as few decimals as lead to the same segmentation.
        """
        if score not in SCORES:
            raise InvalidParameter(sentence("score", f"must be one of {', '.join(SCORES)}", repr(score)))
        values = getattr(self, score)
        row = int(np.argmax(values) if score == "rand_index" else np.argmin(values))
        return {"threshold": shortest_at(self.thresholds, row)} | self._row(row)

    def _row(self, row: int) -> dict[str, float]:
        return {name: float(getattr(self, name)[row]) for name in SCORES}


def sweep(
    tree: MergeTree,
    fragments: Labels,
    truth: Labels,
    *,
    ignore_background: bool = True,
    border: float = 0.0,
) -> Sweep:
    """Compute the scores of the metric `cremi` for the segmentations of a merge tree, at all thresholds at once.

    The voxels are counted once, for the fragments; then every merge changes the sums by what it joins (the shorter row
    of the table goes into the longer one), so that all thresholds together cost about as much as one. Pairs of voxels
    are exact integers, rounded when divided; bits are sums without loss, to 1e-9. Raises InvalidInput if the two
    volumes are not aligned, if no voxel counts, or if a fragment is no leaf of the tree.

    Parameters
    ----------
    tree
        Its leaves are the fragments.
    fragments
        uint64 (Z, Y, X).
    truth
        The objects, aligned with `fragments`.
    ignore_background
        Voxels where the truth is 0 do not count.
    border
        Voxels within this distance (nm, in the section plane) of a boundary of the truth do not count; CREMI: 25.

    Examples
    --------
    >>> from segkit import Grid
    >>> tree = MergeTree.from_merges([1, 2], [[0, 1]], [0.25])
    >>> fragments, truth = (Labels.convert([[ids]], Grid()) for ids in ([1, 2], [5, 5]))
    >>> found = sweep(tree, fragments, truth)
    >>> found.thresholds.tolist(), found.voi_split.tolist()
    ([0.25, 1.0], [1.0, 0.0])
    >>> found.best()["threshold"], found.at([0.25, 0.5])[1]["voi_split"]
    (1.0, 0.0)
    """
    check_aligned(fragments=fragments, truth=truth)  # contingency would speak of a segmentation
    table = contingency(fragments, truth, ignore_background=ignore_background, border=border)
    with phase("scores"):
        return sweep_of(tree, table)


def oracle(table: Contingency) -> Contingency:
    """The table after every segment but 0 was merged with those that overlap the same object most.

    >>> from segkit import Grid
    >>> fragments, truth = (Labels.convert([[ids]], Grid()) for ids in ([1, 1, 2, 3], [5, 5, 5, 6]))
    >>> oracle(contingency(fragments, truth)).counts.tolist()
    [3, 1]
    """
    ids = largest_cols(table.row_starts, table.cols, table.counts) + 1
    return table.merged(np.where(table.segments == 0, 0, ids))


def sweep_of(tree: MergeTree, table: Contingency) -> Sweep:
    """What :func:`sweep` gives, from the table of the fragments and the truth."""
    leaf_rows, known = rows_of_leaves(tree.leaf_ids, table.segments)
    if known < len(table.segments):
        rule, next_step = "must be leaves of the merge tree", "use the fragments that were agglomerated"
        raise InvalidInput(sentence("fragments", rule, int(table.segments[known]), next_step))
    children = children_of(tree.parents, len(tree.leaf_ids))
    entries = table.row_starts, table.segment_sizes, table.cols, table.counts
    changes = follow_merges(children, tree.altitudes, leaf_rows, *entries, len(table.objects))
    unmerged = cremi_scores(table)
    scores = _scores(table, unmerged, *changes)
    return Sweep(thresholds_of(tree), **scores, fragments=unmerged, oracle=cremi_scores(oracle(table)))


def thresholds_of(tree: MergeTree) -> np.ndarray:
    """The thresholds that make a difference, float64 (A + 1,): the A different altitudes, and one above all of them."""
    altitudes = tree.altitudes[np.append(True, np.diff(tree.altitudes) > 0)[: len(tree.altitudes)]]
    above = np.nextafter(altitudes[-1], np.inf) if len(altitudes) else 1.0
    return np.append(altitudes, max(above, 1.0))


def rows_at(known: np.ndarray, thresholds: Iterable[float]) -> list[tuple[float, int]]:
    """Each threshold with the row of :func:`thresholds_of` that has its scores. Raises InvalidInput for NaN."""
    wanted = [float(threshold) for threshold in thresholds]
    if np.isnan(wanted).any():
        raise InvalidInput(sentence("threshold", "must be a number", "nan"))
    return list(zip(wanted, np.searchsorted(known[:-1], wanted, side="left").tolist(), strict=True))


def shortest_at(known: np.ndarray, row: int) -> float:
    """The threshold with as few decimals as lead to the same segmentation as that of a row."""
    return _shortest(float(known[row - 1]) if row else -np.inf, float(known[row]))


def _scores(
    table: Contingency, unmerged: dict[str, float], bits: np.ndarray, both: np.ndarray, apart: np.ndarray
) -> dict[str, np.ndarray]:
    """All scores at all steps, from the scores before any merge and from the changes."""
    split, merge = np.maximum(bits.T / table.total + [[unmerged["voi_split"]], [unmerged["voi_merge"]]], 0.0)
    pairs, segment_pairs, object_pairs = pair_counts(table)
    twice = 2 * _exact_sum(pairs, both)
    different = _exact_sum(segment_pairs + object_pairs - 2 * pairs, apart)
    index, error = twice / (twice + different), different / (twice + different)
    names = (index, error, split, merge, np.sqrt((split + merge) * error))
    return dict(zip(SCORES, names, strict=True))


def _exact_sum(start: int, limbs: np.ndarray) -> np.ndarray:
    """start + high * 2^LIMB + low as float64, rounded once; nothing cancels after the rounding."""
    high, low = limbs[:, 0] + (start >> LIMB), limbs[:, 1] + (start & LOW)
    return high * 2.0**LIMB + low


def _shortest(below: float, threshold: float) -> float:
    """The number with the fewest decimals in (below, threshold], the highest of those."""
    for decimals in range(17):
        short = np.floor(threshold * 10.0**decimals) / 10.0**decimals
        if below < short <= threshold:
            return float(short)
    return threshold
