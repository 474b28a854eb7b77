"""Scores of a merge tree at many thresholds, with one pass over the voxels."""

from collections.abc import Iterable

import numpy as np

from segkit.data import Labels, MergeTree
from segkit.errors import InvalidInput, sentence
from segkit.evaluate.contingency import contingency
from segkit.evaluate.cremi import cremi_scores


def sweep(
    tree: MergeTree,
    fragments: Labels,
    truth: Labels,
    thresholds: Iterable[float],
    *,
    ignore_background: bool = True,
    border: float = 0.0,
) -> list[dict[str, float]]:
    """What the metric `cremi` says of the segmentation at each threshold: one dictionary each, `threshold` first.

    Merges of altitude < threshold are done. The voxels are counted once, for the fragments; a threshold then costs
    time in the number of contacts between fragments and objects only. Raises InvalidInput if the two volumes are not
    aligned, if no voxel counts, or if a fragment is no leaf of the tree.

    >>> from segkit import Grid
    >>> tree = MergeTree.from_merges([1, 2], [[0, 1]], [0.25])
    >>> fragments, truth = (Labels.convert([[ids]], Grid()) for ids in ([1, 2], [5, 5]))
    >>> [row["voi_split"] for row in sweep(tree, fragments, truth, [0.25, 0.5])]
    [1.0, 0.0]
    """
    table = contingency(fragments, truth, ignore_background=ignore_background, border=border)
    leaves = _leaves(tree, table.segments)
    rows = []
    for threshold in thresholds:
        ids = np.append(np.uint64(0), tree.cut(threshold))[leaves]
        rows.append({"threshold": float(threshold)} | cremi_scores(table.merged(ids)))
    return rows


def _leaves(tree: MergeTree, segments: np.ndarray) -> np.ndarray:
    """For each segment, 1 + the position of its leaf in the tree; 0 for segment 0."""
    positions = np.searchsorted(tree.leaf_ids, segments, side="right")
    found = np.append(np.uint64(0), tree.leaf_ids)[positions]
    if (found != segments).any():
        rule, value = "must be leaves of the merge tree", int(segments[found != segments][0])
        raise InvalidInput(sentence("fragments", rule, value, "use the fragments that were agglomerated"))
    return positions
