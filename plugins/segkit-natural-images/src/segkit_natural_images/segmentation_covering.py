"""How well the objects of the truth are covered by segments."""

import numpy as np
from segkit.evaluate.contingency import Contingency
from segkit.evaluate.counting import CountingMetric


class SegmentationCovering(CountingMetric):
    """Covering of the truth by the segmentation (Arbelaez et al. 2011, doi:10.1109/TPAMI.2010.161); 1 is perfect.

    Each object has an overlap (intersection over union) with each segment; the best of them counts, and the mean over
    the objects is weighted by their voxels. Of several annotators the mean is taken. It is not symmetric: small false
    segments beside large right ones cost little. Only voxels that count make up the sizes. A voxel where the
    segmentation is 0 is a segment of its own.

    Parameters
    ----------
    ignore_background
        Voxels where the truth is 0 do not count.
    border
        Voxels within this distance (nm, in the section plane) of a boundary of the truth do not count.
    """

    def of(self, table: Contingency) -> dict[str, float]:
        """segmentation_covering.

        >>> from segkit import Grid, Labels
        >>> segments, objects = (Labels.convert([[ids]], Grid()) for ids in ([1, 1, 1, 2], [5, 5, 6, 6]))
        >>> SegmentationCovering().score(segments, objects)  # the overlaps are 2/3 and 1/2
        {'segmentation_covering': 0.5833333333333333}
        """
        unsegmented = table.segments[table.rows] == 0
        shared = np.where(unsegmented, 1, table.counts)
        either = table.object_sizes[table.cols] + np.where(unsegmented, 1, table.segment_sizes[table.rows]) - shared
        best = np.zeros(len(table.objects))
        np.maximum.at(best, table.cols, shared / either)
        return {"segmentation_covering": float(best @ table.object_sizes / table.total)}
