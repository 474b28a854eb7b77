"""The contingency table: how many voxels each segment shares with each object."""

import math
from dataclasses import dataclass

import numpy as np

from segkit.data import Labels, check_aligned
from segkit.data.labels import FIRST_OUTSIDE
from segkit.errors import InvalidInput, InvalidParameter, sentence
from segkit.evaluate._kernels import count_pairs
from segkit.evaluate.border import near_boundary


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

    @property
    def total(self) -> int:
        """The number of voxels that count."""
        return int(self.counts.sum())

    @property
    def segment_sizes(self) -> np.ndarray:
        """Counted voxels of each segment, int64 (S,)."""
        return _sums(self.rows, self.counts, len(self.segments))

    @property
    def object_sizes(self) -> np.ndarray:
        """Counted voxels of each object, int64 (T,)."""
        return _sums(self.cols, self.counts, len(self.objects))

    def merged(self, ids: np.ndarray) -> "Contingency":
        """The table after `segments[k]` was renamed to `ids[k]`, uint64 (S,); equal ids are one segment.

        >>> from segkit import Grid
        >>> labels = Labels.convert([[[1, 2, 3, 3]]], Grid())
        >>> contingency(labels, labels).merged(np.array([1, 1, 3], np.uint64)).counts.tolist()
        [1, 1, 2]
        """
        return _table(np.asarray(ids, np.uint64)[self.rows], self.objects[self.cols], self.counts)


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
    ignored = near_boundary(truth, check_border(border)) if border else np.zeros(0, bool)
    lowest = np.uint64(1 if ignore_background else 0)
    segments, objects, counts = count_pairs(
        _flat(segmentation.array), _flat(truth.array), ignored.reshape(-1), lowest, FIRST_OUTSIDE
    )
    if len(counts) == 0:
        next_step = f"lower the border of {border:g}" if border else "check that it is the annotation of this region"
        raise InvalidInput(sentence("truth", "must hold a voxel that counts", next_step=next_step))
    return _table(segments, objects, counts)


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


def _table(segments: np.ndarray, objects: np.ndarray, counts: np.ndarray) -> Contingency:
    """The sorted table of entries in any order; equal pairs are summed."""
    segments, rows = np.unique(segments, return_inverse=True)
    objects, cols = np.unique(objects, return_inverse=True)
    keys, entries = np.unique(rows * len(objects) + cols, return_inverse=True)
    rows, cols = np.divmod(keys, len(objects))
    return Contingency(segments, objects, rows, cols, _sums(entries, counts, len(keys)))


def _sums(positions: np.ndarray, counts: np.ndarray, length: int) -> np.ndarray:
    sums = np.zeros(length, np.int64)  # np.bincount would sum in float64, inexact from 2^53 on
    np.add.at(sums, positions, counts)
    return sums


def _flat(array: np.ndarray) -> np.ndarray:
    flat = np.ascontiguousarray(array).reshape(-1)
    flat.flags.writeable = False  # always the same type, so that the kernel is compiled once
    return flat
