"""GASP: agglomerative clustering of signed graphs."""

from typing import ClassVar, Literal

import numpy as np
from segkit.agglomerate.rag import UNIT, mean_affinity
from segkit.data import MergeTree, RegionAdjacencyGraph
from segkit.protocols import RagAgglomerator

from segkit_bioimage.levels import Contraction, check_thresholds, nested_levels, tree_of_levels

TENTHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class Gasp(RagAgglomerator):
    """GASP of bioimage-cpp (Bailoni et al. 2022, arXiv:1906.11713): clustering of signed region graphs.

    At a threshold t a contact attracts with the weight w = statistic of its affinities - (1 - t), and repels where
    that is negative. The contact of largest |w| is united first, until none attracts; the linkage says which weight
    a united contact has. bioimage-cpp gives the segmentation at one t, not the order of merges. The tree is therefore
    made of the segmentations at `thresholds`, each started from the segments of the one before; a cut at t gives the
    segmentation of the first threshold that is at least t. With the linkages mean, min and max that is what GASP gives
    for this threshold alone; with the others an earlier segment stays together where GASP alone might not unite it.

    Parameters
    ----------
    linkage
        "mean", "max" and "min" of all affinities of the contact (UPGMA, single and complete linkage); "sum" weights
        large contacts more; "abs_max" takes the affinity farthest from 1 - t; "mutex_watershed" does so too, and what
        repels most is kept apart for good.
    thresholds
        At which it is run, increasing, between 0 and 1; above the last nothing more is merged.
    """

    segkit_api = "1"
    segkit_claims: ClassVar[dict[str, object]] = {"merges_all": False, "ties_by_id": True}
    features = ("count", "sum", "min", "max")

    def __init__(
        self,
        *,
        linkage: Literal["mean", "sum", "max", "min", "abs_max", "mutex_watershed"] = "mean",
        thresholds: tuple[float, ...] = TENTHS,
    ) -> None:
        self.linkage = linkage
        self.thresholds = check_thresholds(thresholds)

    def cluster(self, rag: RegionAdjacencyGraph) -> MergeTree:
        """The tree; altitudes are 0 and those of `thresholds` but the last."""
        from bioimage_cpp.graph.agglomeration import GaspClusterPolicy

        policy = GaspClusterPolicy(linkage=self.linkage)

        def solve(contraction: Contraction, threshold: float) -> np.ndarray:
            weights, sizes = self._weights(rag, contraction, threshold)
            return policy.optimize(contraction.graph(), weights, edge_sizes=sizes)

        level = nested_levels(rag, self.thresholds, solve)
        return tree_of_levels(rag, level, self.thresholds, mean_affinity(rag))

    def _weights(
        self, rag: RegionAdjacencyGraph, contraction: Contraction, threshold: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Weight and number of affinities of each pair, float64."""
        bias = 1 - threshold
        sizes = contraction.total(rag.features["count"])
        if self.linkage in ("mean", "sum"):
            mean = contraction.total(rag.features["sum"]) / UNIT / sizes
            return (mean - bias) * (sizes if self.linkage == "sum" else 1), sizes
        high = contraction.extreme(np.maximum, rag.features["max"]) - bias
        low = contraction.extreme(np.minimum, rag.features["min"]) - bias
        farthest = np.where(np.abs(high) >= np.abs(low), high, low)
        return {"max": high, "min": low}.get(self.linkage, farthest), sizes
