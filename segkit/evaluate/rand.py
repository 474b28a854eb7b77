"""The adapted Rand error."""

from segkit.evaluate.contingency import Contingency, sum_of_squares
from segkit.evaluate.counting import CountingMetric


class Rand(CountingMetric):
    """Rand F-score and adapted Rand error, as in SNEMI3D and CREMI.

    Of all ordered pairs of counted voxels (a voxel and itself are one), P lie in one segment and in one object, S in
    one segment, T in one object. Precision P / S falls with false merges, recall P / T with false splits;
    rand_index is their harmonic mean 2 P / (S + T), 1 is perfect; adapted_rand_error = 1 - rand_index. A voxel where
    the segmentation is 0 is a segment of its own; voxels outside the annotation do not count. Arganda-Carreras et al.
    2015, doi:10.3389/fnana.2015.00142.

    Parameters
    ----------
    ignore_background
        Voxels where the truth is 0 do not count.
    border
        Voxels within this distance (nm, in the section plane) of a boundary of the truth do not count; CREMI: 25.
    """

    def of(self, table: Contingency) -> dict[str, float]:
        """rand_index and adapted_rand_error.

        >>> from segkit import Grid, Labels
        >>> halves, whole = (Labels.convert([[ids]], Grid()) for ids in ([1, 1, 2, 2], [5, 5, 5, 5]))
        >>> Rand().score(halves, whole)  # P = 8, S = 8, T = 16
        {'rand_index': 0.6666666666666666, 'adapted_rand_error': 0.3333333333333333}
        """
        return rand_scores(table)


def rand_scores(table: Contingency) -> dict[str, float]:
    """rand_index and adapted_rand_error of a contingency table, rounded once."""
    both, segment, object_ = pair_counts(table)
    either = segment + object_
    return {"rand_index": 2 * both / either, "adapted_rand_error": (either - 2 * both) / either}


def pair_counts(table: Contingency) -> tuple[int, int, int]:
    """P, S and T, exact: pairs of voxels in one segment and one object, in one segment, in one object."""
    segmented = table.segments != 0
    unsegmented = int(table.segment_sizes[~segmented].sum())  # each of these voxels pairs with itself alone
    both = sum_of_squares(table.counts[segmented[table.rows]]) + unsegmented
    return both, sum_of_squares(table.segment_sizes[segmented]) + unsegmented, sum_of_squares(table.object_sizes)
