"""From fragments to segments, by a look-up table."""

from collections.abc import Callable

import numpy as np

from segkit.data import Labels, MergeTree
from segkit.data.labels import FIRST_OUTSIDE
from segkit.errors import InvalidInput, sentence


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
    segments = tree.cut(threshold)
    position = _finder(tree.leaf_ids, fragments.array.size)
    result = np.zeros(fragments.shape, np.uint64)
    for section, written in zip(fragments.array, result, strict=True):  # one at a time, to save memory
        found, known = position(section)
        written[...] = np.where(known, segments[found], section) if len(segments) else section
        unknown = ~known & (section != 0) & (section < FIRST_OUTSIDE)
        if unknown.any():
            next_step = "cut the tree with the fragments that it was made from"
            raise InvalidInput(sentence("fragments", "must be leaves of the tree", section[unknown][0], next_step))
    return Labels(result, fragments.grid)


def _finder(leaf_ids: np.ndarray, voxels: int) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """A function from ids to their positions in `leaf_ids` and to whether they are there; any position if not.

    Ids in a narrow range, however high, are found in a table, others by binary search.
    """
    if len(leaf_ids) == 0:
        return lambda ids: (np.zeros(ids.shape, np.int64), np.zeros(ids.shape, bool))
    low, high = leaf_ids[0], leaf_ids[-1]
    if int(high - low) >= 4 * voxels + 1024:

        def search(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            found = np.minimum(np.searchsorted(leaf_ids, ids), len(leaf_ids) - 1)
            return found, leaf_ids[found] == ids

        return search
    table = np.full(int(high - low) + 2, -1, np.int64)
    table[leaf_ids - low] = np.arange(len(leaf_ids))

    def look_up(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # ids below `low` wrap around to high numbers, and with all others out of range go to the last entry, -1
        found = table[np.minimum(ids - low, np.uint64(len(table) - 1))]
        return found, found >= 0

    return look_up
