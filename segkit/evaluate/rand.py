"""The adapted Rand error."""

from segkit.data import Labels
from segkit.evaluate.contingency import Contingency, check_border, contingency, sum_of_squares
from segkit.protocols import Metric


class Rand(Metric):
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

    def __init__(self, *, ignore_background: bool = True, border: float = 0.0) -> None:
        self.ignore_background = ignore_background
        self.border = check_border(border)

    def score(self, segmentation: Labels, truth: Labels) -> dict[str, float]:
        """rand_index and adapted_rand_error. Raises InvalidInput unless both are aligned and some voxel counts.

        >>> from segkit import Grid
        >>> halves, whole = (Labels.convert([[ids]], Grid()) for ids in ([1, 1, 2, 2], [5, 5, 5, 5]))
        >>> Rand().score(halves, whole)  # P = 8, S = 8, T = 16
        {'rand_index': 0.6666666666666666, 'adapted_rand_error': 0.3333333333333333}
        """
        options = {"ignore_background": self.ignore_background, "border": self.border}
        return rand_scores(contingency(segmentation, truth, **options))


def rand_scores(table: Contingency) -> dict[str, float]:
    """rand_index and adapted_rand_error of a contingency table, rounded once."""
    sizes = table.segment_sizes
    unsegmented = int(sizes[table.segments == 0].sum())  # each of these voxels pairs with itself alone
    both = sum_of_squares(table.counts[table.segments[table.rows] != 0]) + unsegmented
    either = sum_of_squares(sizes[table.segments != 0]) + unsegmented + sum_of_squares(table.object_sizes)
    return {"rand_index": 2 * both / either, "adapted_rand_error": (either - 2 * both) / either}
