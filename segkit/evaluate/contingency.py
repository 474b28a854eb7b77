"""The contingency table: how many voxels each segment shares with each object."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from segkit.data import Labels, check_aligned
from segkit.data.labels import FIRST_OUTSIDE
from segkit.errors import InvalidInput, InvalidParameter, sentence
from segkit.evaluate._kernels import FIRST_CAPACITY, count_pairs, larger, tabulate
from segkit.evaluate.border import near_boundary
from segkit.threads import share
from segkit.timing import phase

SLAB = 1 << 16
"""Voxels that are not worth sharing among threads."""


@dataclass(frozen=True, eq=False)
class Contingency:
    """A sparse table: entry k says that `counts[k]` voxels lie in segment `rows[k]` and object `cols[k]`."""

    segments: np.ndarray
    """Ids of the segments that share a counted voxel with an object, uint64 (S,), increasing; 0 may be one."""
    objects: np.ndarray
    """Ids of the objects of the truth, uint64 (T,), increasing."""
    rows: np.ndarray
    """Position in `segments`, int64 (N,)."""
    cols: np.ndarray
    """Position in `objects`, int64 (N,); the pairs (row, col) are unique and in lexicographic order."""
    counts: np.ndarray
    """Voxels, int64 (N,), positive."""

    @cached_property
    def total(self) -> int:
        """The number of voxels that count."""
        return int(self.counts.sum())

    @cached_property
    def row_starts(self) -> np.ndarray:
        """Entries row_starts[s] to row_starts[s + 1] belong to segment s, int64 (S + 1,)."""
        return np.searchsorted(self.rows, np.arange(len(self.segments) + 1))

    @cached_property
    def segment_sizes(self) -> np.ndarray:
        """Counted voxels of each segment, int64 (S,)."""
        return np.add.reduceat(self.counts, self.row_starts[:-1])

    @cached_property
    def object_sizes(self) -> np.ndarray:
        """Counted voxels of each object, int64 (T,)."""
        sizes = np.zeros(len(self.objects), np.int64)
        np.add.at(sizes, self.cols, self.counts)  # np.bincount would sum in float64
        return sizes

    def merged(self, ids: np.ndarray) -> "Contingency":
        """The table after `segments[k]` was renamed to `ids[k]`, uint64 (S,); equal ids are one segment.

        >>> from segkit import Grid
        >>> labels = Labels.convert([[[1, 2, 3, 3]]], Grid())
        >>> contingency(labels, labels).merged(np.array([1, 1, 3], np.uint64)).counts.tolist()
        [1, 1, 2]
        """
        return Contingency(*tabulate(np.asarray(ids, np.uint64)[self.rows], self.objects[self.cols], self.counts))


def contingency(
    segmentation: Labels, truth: Labels, *, ignore_background: bool = True, border: float = 0.0
) -> Contingency:
    """Count, in one pass, how many voxels each segment shares with each object. O(n), any uint64 ids.

    Truth 2^64 - 1 and 2^64 - 2 (outside) never count, truth 0 only if not `ignore_background`, and voxels within
    `border` (nm, in the section) of a boundary of the truth only if it is 0. Raises InvalidInput if the two are not
    aligned, or if no voxel counts.

    >>> from segkit import Grid
    >>> table = contingency(Labels.convert([[[1, 1, 7]]], Grid()), Labels.convert([[[0, 5, 5]]], Grid()))
    >>> table.segments.tolist(), table.objects.tolist(), table.counts.tolist()
    ([1, 7], [5], [1, 1])
    """
    check_aligned(segmentation=segmentation, truth=truth)
    with phase("counting"):
        ignored = near_boundary(truth, check_border(border)) if border else None
        table = count(segmentation.array, truth.array, ignored, ignore_background=ignore_background)
    return check_counted(table, border)


def count(
    segmentation: np.ndarray, truth: np.ndarray, ignored: np.ndarray | None = None, *, ignore_background: bool = True
) -> Contingency:
    """The table of two uint64 arrays of one shape, without the voxels that are `ignored` (bool); it may be empty."""
    ignored = np.zeros(0, bool) if ignored is None else ignored.reshape(-1)
    return _count(segmentation, truth, ignored, np.uint64(1 if ignore_background else 0))


def unite(tables: Sequence[Contingency]) -> Contingency:
    """The table of a volume from those of its parts, exactly, in whatever order they come. At least one is needed.

    >>> from segkit import Grid
    >>> left, right = (Labels.convert([[ids]], Grid()) for ids in ([1, 1, 7], [7, 7]))
    >>> table = unite([contingency(left, left), contingency(right, right)])
    >>> table.segments.tolist(), table.counts.tolist()
    ([1, 7], [2, 3])
    """
    entries = [(table.segments[table.rows], table.objects[table.cols], table.counts) for table in tables]
    return Contingency(*tabulate(*map(np.concatenate, zip(*entries, strict=True))))


def check_counted(table: Contingency, border: float) -> Contingency:
    """`table`, unless no voxel was counted in it, with that `border`: then InvalidInput."""
    if len(table.counts) == 0:
        next_step = f"lower the border of {border:g}" if border else "check that it is the annotation of this region"
        raise InvalidInput(sentence("truth", "must hold a voxel that counts", next_step=next_step))
    return table


def check_border(border: float) -> float:
    """`border`, if it is a finite number from 0 on; else InvalidParameter."""
    if not 0 <= border < math.inf:
        raise InvalidParameter(sentence("border", "must be a distance of 0 nm or more", border, "CREMI uses 25"))
    return border


def sum_of_squares(counts: np.ndarray) -> int:
    """The exact sum of the squares of int64 counts, for volumes of up to 2^42 voxels.

    >>> sum_of_squares(np.array([2**40, 1])) == 2**80 + 1
    True
    """
    large = counts >= 2**21  # the others sum to less than 2^21 times the number of voxels
    small = counts[~large]
    return int(small @ small) + sum(count * count for count in counts[large].tolist())


def _count(segmentation: np.ndarray, truth: np.ndarray, ignored: np.ndarray, lowest: np.uint64) -> Contingency:
    """Every thread counts slabs; sorting their entries sums what they share, so that slabs leave no trace."""
    entries = share(_entries, -(-truth.size // SLAB), _flat(segmentation), _flat(truth), ignored, lowest)
    segments, objects, voxels = np.concatenate(entries).T.copy()
    return Contingency(*tabulate(segments, objects, voxels.astype(np.int64)))


def _entries(
    first: int, last: int, segmentation: np.ndarray, truth: np.ndarray, ignored: np.ndarray, lowest: np.uint64
) -> np.ndarray:
    """The pairs in slabs `first` to `last`, in no particular order: segment, object, voxels, uint64 (N, 3)."""
    start, stop = first * SLAB, min(last * SLAB, truth.size)
    volumes, counted = (segmentation, truth, ignored), (lowest, FIRST_OUTSIDE)
    table, used = np.zeros((FIRST_CAPACITY, 3), np.uint64), 0
    while True:
        start, used = count_pairs(volumes, counted, start, stop, table, used)
        if start == stop:
            return table[table[:, 2] > 0]
        table = larger(table)


def _flat(array: np.ndarray) -> np.ndarray:
    flat = np.ascontiguousarray(array).reshape(-1)
    flat.flags.writeable = False  # always the same type, so that the kernel is compiled once
    return flat
