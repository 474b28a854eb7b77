"""Variation of information, split in two."""

import numpy as np

from segkit.evaluate.contingency import Contingency
from segkit.evaluate.counting import CountingMetric


class VOI(CountingMetric):
    """Variation of information (Meila 2007, doi:10.1016/j.jmva.2006.11.013), in bits; 0 is perfect.

    voi_split = H(segmentation | truth), the false splits: how much is unknown of the segment of a voxel whose object
    is known. voi_merge = H(truth | segmentation), the false merges. Voxels where the segmentation is 0 are one
    segment; voxels outside the annotation do not count.

    Parameters
    ----------
    ignore_background
        Voxels where the truth is 0 do not count.
    border
        Voxels within this distance (nm, in the section plane) of a boundary of the truth do not count; CREMI: 25.
    """

    def of(self, table: Contingency) -> dict[str, float]:
        """voi_split and voi_merge, in bits.

        >>> from segkit import Grid, Labels
        >>> halves, whole = (Labels.convert([[ids]], Grid()) for ids in ([1, 2], [5, 5]))
        >>> VOI().score(halves, whole)
        {'voi_split': 1.0, 'voi_merge': 0.0}
        """
        return voi_scores(table)


def voi_scores(table: Contingency) -> dict[str, float]:
    """voi_split and voi_merge of a contingency table, in bits."""
    split = _conditional_entropy(table.counts, table.object_sizes[table.cols])
    merge = _conditional_entropy(table.counts, table.segment_sizes[table.rows])
    return {"voi_split": split, "voi_merge": merge}


def _conditional_entropy(counts: np.ndarray, sizes: np.ndarray) -> float:
    """Bits still unknown once the part is known that `counts[k]` of `sizes[k]` voxels belong to; never negative."""
    return float(np.sum(counts * np.log2(sizes / counts)) / counts.sum())
