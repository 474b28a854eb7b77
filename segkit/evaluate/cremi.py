"""The score of the CREMI challenge."""

import math

from segkit.evaluate.contingency import Contingency
from segkit.evaluate.counting import CountingMetric
from segkit.evaluate.rand import rand_scores
from segkit.evaluate.voi import voi_scores


class Cremi(CountingMetric):
    """CREMI score (https://cremi.org/metrics) with all that goes into it; 0 is perfect.

    cremi_score = sqrt((voi_split + voi_merge) * adapted_rand_error), the geometric mean of the variation of
    information and the adapted Rand error. False merges raise voi_merge, false splits raise voi_split. See the metrics
    `voi` and `rand` for their definitions and for what counts.

    Parameters
    ----------
    ignore_background
        Voxels where the truth is 0 do not count.
    border
        Voxels within this distance (nm, in the section plane) of a boundary of the truth do not count; CREMI: 25.
    """

    def of(self, table: Contingency) -> dict[str, float]:
        """rand_index, adapted_rand_error, voi_split, voi_merge and cremi_score."""
        return cremi_scores(table)


def cremi_scores(table: Contingency) -> dict[str, float]:
    """All scores of a contingency table."""
    scores = rand_scores(table) | voi_scores(table)
    information = scores["voi_split"] + scores["voi_merge"]
    return scores | {"cremi_score": math.sqrt(information * scores["adapted_rand_error"])}
