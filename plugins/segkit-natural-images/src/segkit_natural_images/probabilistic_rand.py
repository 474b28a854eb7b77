"""The Rand index over all pairs of voxels, as segmentations of natural images are scored."""

from segkit.evaluate.contingency import Contingency
from segkit.evaluate.counting import CountingMetric
from segkit.evaluate.rand import pair_counts


class ProbabilisticRand(CountingMetric):
    """Probabilistic Rand index (Unnikrishnan et al. 2007, doi:10.1109/TPAMI.2007.1046); 1 is perfect.

    The share of pairs of different voxels on which segmentation and truth agree: together in both, or apart in both.
    That is the plain Rand index; its mean over the truths of several annotators is the probabilistic one, which
    ``segkit evaluate SEGMENTATION TRUTH TRUTH ...`` gives. Unlike `rand` it rewards pairs that are rightly apart, so
    that even poor segmentations into many segments come out high. A voxel where the segmentation is 0 is a segment of
    its own; voxels outside the annotation do not count.

    Parameters
    ----------
    ignore_background
        Voxels where the truth is 0 do not count.
    border
        Voxels within this distance (nm, in the section plane) of a boundary of the truth do not count.
    """

    def of(self, table: Contingency) -> dict[str, float]:
        """probabilistic_rand, rounded once.

        >>> from segkit import Grid, Labels
        >>> halves, whole = (Labels.convert([[ids]], Grid()) for ids in ([1, 1, 2, 2], [5, 5, 5, 5]))
        >>> ProbabilisticRand().score(halves, whole)  # 2 of 6 pairs are together in both, none is apart in both
        {'probabilistic_rand': 0.3333333333333333}
        """
        both, segment, object_ = pair_counts(table)  # ordered pairs; each voxel with itself cancels below
        pairs = table.total * (table.total - 1)
        disagreeing = segment + object_ - 2 * both
        return {"probabilistic_rand": (pairs - disagreeing) / pairs if pairs else 1.0}
