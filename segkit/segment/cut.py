"""From fragments to segments: one segmentation, or many of the same fragments."""

from collections.abc import Iterable, Iterator

import numpy as np

from segkit.data import Labels, MergeTree
from segkit.errors import InvalidInput, sentence
from segkit.segment import _kernels
from segkit.segment.runs import Runs
from segkit.segment.storage import Storage
from segkit.timing import phase

KEPT = 2
"""Volumes kept for another use: in a loop, the variable still holds the last one while the next is made."""


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
    return next(segmentations(tree, fragments, [threshold]))


def segmentations(tree: MergeTree, fragments: Labels, thresholds: Iterable[float]) -> Iterator[Labels]:
    """What :func:`segment` gives for each of `thresholds`, one after the other; the fragments are read once.

    What was yielded never changes while anybody holds it or a view of it. When nobody does any more, its memory is
    used for a later one, which saves the time that new memory costs. So a loop that keeps nothing needs two volumes,
    the one in its variable and the one that is made; with ``del`` at the end of its body it needs one.

    Parameters
    ----------
    tree, fragments
        As of :func:`segment`.
    thresholds
        In any order.

    Raises
    ------
    InvalidInput
        At once, if a fragment is no leaf of `tree`, or a threshold is NaN.

    Examples
    --------
    >>> from segkit import Grid
    >>> tree = MergeTree.from_merges([2, 5, 9], [[0, 1], [2, 3]], [0.1, 0.6])
    >>> fragments = Labels.convert([[[9, 5, 0, 2]]], Grid())
    >>> [labels.array.ravel().tolist() for labels in segmentations(tree, fragments, [0.5, 1])]
    [[9, 2, 0, 2], [2, 2, 0, 2]]
    """
    thresholds = [float(threshold) for threshold in thresholds]
    if np.isnan(thresholds).any():
        raise InvalidInput(sentence("threshold", "must be a number", "nan"))
    return renamed(fragments, tree.leaf_ids, (segments_at(tree, threshold) for threshold in thresholds))


def renamed(fragments: Labels, ids: np.ndarray, names: Iterable[np.ndarray]) -> Iterator[Labels]:
    """For each array of `names`, uint64 (L,), the volume in which they stand for `ids`, uint64 (L,), which increase.

    0 and "outside" stay. Memory is that of :func:`segmentations`. Raises InvalidInput at once if a fragment is none of
    `ids`.

    >>> from segkit import Grid
    >>> fragments = Labels.convert([[[9, 5, 0, 2]]], Grid())
    >>> names = [np.array([2, 2, 9], np.uint64)]
    >>> [labels.array.tolist() for labels in renamed(fragments, np.array([2, 5, 9], np.uint64), names)]
    [[[[9, 2, 0, 2]]]]
    """
    with phase("relabelling"):
        runs = Runs.of(fragments, ids)
    return _renamed(fragments, runs, names)


def _renamed(fragments: Labels, runs: Runs, names: Iterable[np.ndarray]) -> Iterator[Labels]:
    kept: list[Storage] = []
    for each in names:
        storage = next((storage for storage in kept if storage.free), None) or Storage(fragments.array.size)
        kept = [*(other for other in kept if other is not storage), storage][-KEPT:]
        yield _written(storage, runs, each, fragments)


def _written(storage: Storage, runs: Runs, names: np.ndarray, fragments: Labels) -> Labels:
    """A segmentation in `storage`; nothing but the result holds the array that was lent for it."""
    with phase("relabelling"):
        array = storage.lend()
        runs.write(names, array)
    return Labels(array.reshape(fragments.shape), fragments.grid)


def segments_at(tree: MergeTree, threshold: float) -> np.ndarray:
    """As `tree.cut`, which goes over the tree once for each doubling of the paths; here twice in all."""
    if len(tree.parents) >= 2**31:
        return tree.cut(threshold)
    nodes = len(tree.leaf_ids) + int(np.searchsorted(tree.altitudes, threshold, side="left"))
    segments = _kernels.cut(tree.leaf_ids, tree.parents, nodes)
    return segments if len(segments) else tree.cut(threshold)
