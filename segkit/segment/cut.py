"""From fragments to segments, by a look-up table."""

import numpy as np

from segkit.data import Labels, MergeTree
from segkit.data.labels import FIRST_OUTSIDE
from segkit.errors import InvalidInput, sentence
from segkit.segment import _kernels
from segkit.threads import share
from segkit.timing import phase

OUTSIDE = np.uint64(FIRST_OUTSIDE)


def segment(tree: MergeTree, fragments: Labels, threshold: float) -> Labels:
    """The segments that are there once all merges of altitude < `threshold` are done.

    A segment carries the smallest id of its fragments. Background (0) and voxels outside the annotation stay as they
    are. A higher threshold merges more: fewer false splits, more false merges.

    Parameters
    ----------
    tree
        Its leaves are the fragments.
    fragments
        uint64 (Z, Y, X).
    threshold
        In the unit of the altitudes, 0..1; anything up to 0 merges nothing, above 1 everything.

    Raises
    ------
    InvalidInput
        If a fragment is no leaf of `tree`, or `threshold` is NaN.

    Examples
    --------
    >>> from segkit import Grid
    >>> tree = MergeTree.from_merges([2, 5, 9], [[0, 1], [2, 3]], [0.1, 0.6])
    >>> segment(tree, Labels.convert([[[9, 5, 0, 2]]], Grid()), 0.5).array.tolist()
    [[[9, 2, 0, 2]]]
    """
    with phase("relabelling"):
        segments = _cut(tree, threshold)
        flat = np.ascontiguousarray(fragments.array).reshape(-1)
        result = np.empty(flat.shape, np.uint64)
        unknown = [position for position in _look_up(tree.leaf_ids, segments, flat, result) if position >= 0]
    if unknown:
        next_step = "cut the tree with the fragments that it was made from"
        raise InvalidInput(sentence("fragments", "must be leaves of the tree", flat[unknown[0]], next_step))
    return Labels(result.reshape(fragments.shape), fragments.grid)


def _cut(tree: MergeTree, threshold: float) -> np.ndarray:
    """As `tree.cut`, which goes over the tree once for each doubling of the paths; here twice in all."""
    if np.isnan(threshold) or len(tree.parents) >= 2**31:
        return tree.cut(threshold)
    nodes = len(tree.leaf_ids) + int(np.searchsorted(tree.altitudes, threshold, side="left"))
    segments = _kernels.cut(tree.leaf_ids, tree.parents, nodes)
    return segments if len(segments) else tree.cut(threshold)


def _look_up(leaf_ids: np.ndarray, segments: np.ndarray, flat: np.ndarray, result: np.ndarray) -> list[int]:
    """Fill `result`; for each piece the position of the first fragment that is no leaf, or -1.

    Ids in a narrow range, however high, are found in a table, others by hashing.
    """
    low, high = (leaf_ids[0], leaf_ids[-1]) if len(leaf_ids) else (np.uint64(1), np.uint64(0))
    if int(high) - int(low) >= max(flat.size // 4, 16 * len(leaf_ids)):
        return share(_kernels.look_up_hashed, flat.size, flat, result, *_kernels.hashed(leaf_ids, segments), OUTSIDE)
    table = np.zeros(int(high) - int(low) + 1, np.uint64)
    table[leaf_ids - low] = segments
    return share(_kernels.look_up, flat.size, flat, result, table, low, OUTSIDE)
