"""Expected run length: how far one can follow a neuron before the segmentation errs.

By the definition of Januszewski et al. 2018 (doi:10.1038/s41592-018-0049-4), as it is counted on skeletons: an edge of
a skeleton is correct if both its nodes lie in one segment, which is neither 0 nor merging. The run lengths of a
skeleton are the summed lengths of its correct edges in each segment, in one piece or not. The expected run length
(ERL) is the sum of their squares, over all skeletons, divided by the length of all skeletons; it is what one follows
from a place that was chosen at random. The normalised one (NERL) is divided by that of the perfect segmentation.

A segment is merging if it holds more than `tolerance` nodes of each of two skeletons, or more. Then none of its edges
is correct, those of a third skeleton neither.

Lengths are integers of 2^-20 nm and their squares exact, so that neither order nor blocks change a score.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from segkit.data import Grid
from segkit.data.labels import FIRST_OUTSIDE
from segkit.data.skeletons import STEP, Skeletons
from segkit.errors import InvalidInput, SegkitWarning, sentence
from segkit.evaluate.contingency import sum_of_squares

NM_PER_UM = 1000


@dataclass(frozen=True, eq=False)
class Runs:
    """What each skeleton has in each segment: row k is of skeleton `rows[k]` and segment `cols[k]`."""

    segments: np.ndarray
    """Ids of the segments that hold a node, uint64 (T,), increasing; 0 may be one, and is none that counts."""
    rows: np.ndarray
    """Which of the skeletons, int64 (P,)."""
    cols: np.ndarray
    """Position in `segments`, int64 (P,); the pairs (row, col) are unique and in lexicographic order."""
    nodes: np.ndarray
    """Nodes that they share, int64 (P,), positive."""
    steps: np.ndarray
    """Length of the edges with both ends there, in 2^-20 nm, int64 (P,)."""
    whole: np.ndarray
    """Length of each skeleton, in 2^-20 nm, int64 (S,)."""

    @classmethod
    def of(cls, skeletons: Skeletons, segments: np.ndarray) -> "Runs":
        """Count nodes and edges; `segments` are those of the nodes, uint64 (N,). "Outside" is read as 0."""
        ids, cols = np.unique(np.where(segments < FIRST_OUTSIDE, segments, np.uint64(0)), return_inverse=True)
        pairs, of_node, nodes = np.unique(skeletons.rows * len(ids) + cols, return_inverse=True, return_counts=True)
        ends = of_node[skeletons.edges]
        inner = ends[:, 0] == ends[:, 1]
        steps, whole = np.zeros(len(pairs), np.int64), np.zeros(len(skeletons.skeleton_ids), np.int64)
        np.add.at(steps, ends[inner, 0], skeletons.steps[inner])  # np.bincount would sum in float64
        np.add.at(whole, skeletons.rows[skeletons.edges[:, 0]], skeletons.steps)
        rows, cols = np.divmod(pairs, max(len(ids), 1))
        return cls(ids, rows, cols, nodes, steps, whole)

    @cached_property
    def counted(self) -> np.ndarray:
        """bool (P,): False in segment 0."""
        return self.segments[self.cols] != 0

    def merging(self, tolerance: int) -> np.ndarray:
        """bool (T,): which segments hold more than `tolerance` nodes of each of two skeletons."""
        large = self.cols[self.nodes > tolerance]
        return np.bincount(large, minlength=len(self.segments)) > 1

    def squares(self, tolerance: int) -> int:
        """The sum of the squared run lengths, exactly, in 2^-40 nm^2."""
        return sum_of_squares(self.steps[self.counted & ~self.merging(tolerance)[self.cols]])

    def scores(self, tolerances: Sequence[int]) -> dict[str, float]:
        """NERL and ERL at each tolerance, and the ERL of the perfect segmentation; see :func:`run_length_scores`."""
        return Scale.of(self.whole).scores(tolerances, [self.squares(tolerance) for tolerance in tolerances])


@dataclass(frozen=True)
class Scale:
    """What sums of squared run lengths are divided by."""

    perfect: int
    """Their sum in the perfect segmentation, 2^-40 nm^2."""
    total: int
    """Length of all skeletons, 2^-20 nm."""

    @classmethod
    def of(cls, whole: np.ndarray) -> "Scale":
        """From the length of each skeleton. Raises InvalidInput if all are 0."""
        total = int(whole.sum())
        if total == 0:
            rule, next_step = "must hold an edge inside the volume", "check unit and place of the nodes"
            raise InvalidInput(sentence("skeletons", rule, next_step=next_step))
        return cls(sum_of_squares(whole), total)

    def scores(self, tolerances: Sequence[int], squares: Sequence[int]) -> dict[str, float]:
        """The scores by name, each rounded once."""
        found = {f"nerl_{t}": each / self.perfect for t, each in zip(tolerances, squares, strict=True)}
        found |= {f"erl_um_{t}": self._um(each) for t, each in zip(tolerances, squares, strict=True)}
        return found | {"erl_um_perfect": self._um(self.perfect)}

    def _um(self, squares: int) -> float:
        return float(Fraction(squares, self.total) * Fraction(STEP) / NM_PER_UM)


def run_length_scores(skeletons: Skeletons, segments: np.ndarray, tolerances: Sequence[int] = (0,)) -> dict[str, float]:
    """Compute the expected run length of a segmentation, at each tolerance of merges.

    Returns ``nerl_T``, 0..1, 1 = perfect; ``erl_um_T``, in um; and ``erl_um_perfect``, what the perfect segmentation
    has. False splits and false merges lower them. Raises InvalidInput if no skeleton has an edge.

    Parameters
    ----------
    skeletons
        The truth.
    segments
        The segment that each node lies in, uint64 (N,); 0 is none.
    tolerances
        A segment is merging if it holds more nodes than this of each of two skeletons.

    Examples
    --------
    Two neurons of 20 nm; a segment has half of each:

    >>> nodes = [[0, 0, 0], [0, 0, 10], [0, 0, 20], [0, 9, 0], [0, 9, 10], [0, 9, 20]]
    >>> pair = Skeletons(nodes, [[0, 1], [1, 2], [3, 4], [4, 5]], [1, 1, 1, 2, 2, 2])
    >>> run_length_scores(pair, np.array([5, 5, 6, 6, 6, 6], np.uint64), [0, 1])
    {'nerl_0': 0.125, 'nerl_1': 0.625, 'erl_um_0': 0.0025, 'erl_um_1': 0.0125, 'erl_um_perfect': 0.02}
    """
    return Runs.of(skeletons, segments).scores(tolerances)


def placed(skeletons: Skeletons, grid: Grid, shape: tuple[int, int, int]) -> tuple[Skeletons, np.ndarray]:
    """Leave out nodes outside of a volume, and their edges; return the rest, and the voxel of each, int64 (N, 3).

    A SegkitWarning says how many are left out. Raises InvalidInput if no edge is left.
    """
    skeletons.check()
    voxels = skeletons.voxels(grid)
    inside = np.asarray(((voxels >= 0) & (voxels < shape)).all(axis=1))
    left = skeletons if inside.all() else skeletons.only(inside)
    Scale.of(left.steps)
    if left is not skeletons:
        message = (
            f"{(~inside).sum()} of {len(inside)} nodes of the skeletons lie outside of the volume and do not count"
        )
        warnings.warn(SegkitWarning(message), stacklevel=2)
    return left, voxels[inside]
