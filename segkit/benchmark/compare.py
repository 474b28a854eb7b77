"""Compare the results of several components: whether they are the same, how far apart, and how good."""

from collections.abc import Mapping, Sequence

import numpy as np

from segkit.data import Labels, MergeTree
from segkit.evaluate import contingency, sweep
from segkit.evaluate.cremi import cremi_scores
from segkit.evaluate.scores import same_score
from segkit.evaluate.voi import voi_scores


def compare_trees(
    trees: Mapping[str, MergeTree], fragments: Labels, truth: Labels | None, thresholds: Sequence[float]
) -> dict[str, dict]:
    """For each label: its partition at each threshold against that of the first, and against the truth.

    Columns: `identical_to` and `voi_to` ({first label: ...}), `thresholds` (a list of rows with the same, the number
    of segments and the scores) and `best`, the scores at the threshold, of all, of the lowest CREMI score. The trees
    have equal leaves.
    """
    first = next(iter(trees), "")
    sizes: np.ndarray | None = None
    columns = {}
    for label, tree in trees.items():
        rows = []
        for threshold in thresholds:
            ours, theirs = tree.cut(threshold), trees[first].cut(threshold)
            same = bool(np.array_equal(ours, theirs))  # a segment is called by its smallest fragment
            if not same and sizes is None:
                sizes = contingency(fragments, fragments).segment_sizes
            distance = 0.0 if same or sizes is None else partition_distance(ours, theirs, sizes)
            row = {"threshold": threshold, "segments": len(np.unique(ours))}
            rows.append(row | {"identical_to": {first: same}, "voi_to": {first: distance}})
        if truth is not None:
            swept = sweep(tree, fragments, truth)
            rows = [row | scores for row, scores in zip(rows, swept.at(thresholds), strict=True)]
        columns[label] = _summary(first, rows) | ({} if truth is None else {"best": swept.best()})
    return columns


def _summary(first: str, rows: list[dict]) -> dict:
    return {
        "identical_to": {first: all(row["identical_to"][first] for row in rows)},
        "voi_to": {first: max((row["voi_to"][first] for row in rows), default=0.0)},
        "thresholds": rows,
    }


def partition_distance(ours: np.ndarray, theirs: np.ndarray, sizes: np.ndarray) -> float:
    """VOI in bits between two partitions of fragments, given the segment of each fragment and its voxels.

    >>> partition_distance(np.array([1, 1]), np.array([1, 2]), np.array([4, 4]))
    1.0
    """
    ours, theirs = (np.unique(ids, return_inverse=True)[1] for ids in (ours, theirs))
    both = np.unique(np.stack([ours, theirs]), axis=1, return_inverse=True)[1].reshape(-1)
    entropy = [_entropy(np.bincount(part, weights=sizes)) for part in (ours, theirs, both)]
    return max(2 * entropy[2] - entropy[0] - entropy[1], 0.0)


def _entropy(sizes: np.ndarray) -> float:
    share = sizes / sizes.sum()
    return float(-np.sum(share * np.log2(share)))


def compare_labels(results: Mapping[str, Labels], truth: Labels | None) -> dict[str, dict]:
    """For each label: whether its fragments are those of the first up to their numbers, else VOI; and the scores."""
    first = next(iter(results), "")
    columns = {}
    for label, fragments in results.items():
        same, distance = (True, 0.0) if label == first else _difference(fragments, results[first])
        columns[label] = {"identical_to": {first: same}, "voi_to": {first: distance}}
        if truth is not None:
            columns[label] |= cremi_scores(contingency(fragments, truth))
    return columns


def _difference(ours: Labels, theirs: Labels) -> tuple[bool, float]:
    """Whether two fragmentations are equal up to the numbers, 0 being 0, and VOI between them, in bits."""
    table = contingency(ours, theirs, ignore_background=False)
    one_to_one = len(table.counts) == len(table.segments) == len(table.objects)
    background = (table.segments[table.rows] == 0) == (table.objects[table.cols] == 0)
    same = bool(one_to_one and background.all())
    return same, 0.0 if same else sum(voi_scores(table).values())


def compare_scores(results: Mapping[str, Mapping[str, float]]) -> dict[str, dict]:
    """For each label: whether the scores in common with the first are the same numbers; None if there are none."""
    first = next(iter(results), "")
    columns = {}
    for label, scores in results.items():
        shared = [name for name in scores if name in results[first]]
        same = all(same_score(results[first][name], scores[name]) for name in shared) if shared else None
        columns[label] = {"identical_to": {first: same}}
    return columns
