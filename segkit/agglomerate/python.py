"""segkit's own agglomerator: the definition of the reference, compiled."""

from typing import Literal

import numpy as np

from segkit.agglomerate import _kernels_merge as kernels
from segkit.agglomerate._kernels import bins_of
from segkit.agglomerate.rag import contact_bins, region_adjacency_graph
from segkit.agglomerate.scores import Score, check_parameters, millionths
from segkit.data import Affinities, Labels, MergeTree, RegionAdjacencyGraph
from segkit.errors import InvalidInput, sentence
from segkit.protocols import RagAgglomerator

MODES = {
    "mean": kernels.MEAN,
    "min": kernels.MIN,
    "max": kernels.MAX,
    "median": kernels.QUANTILE,
    "quantile": kernels.QUANTILE,
}


class Python(RagAgglomerator):
    """Greedy merging of the pair of lowest score: fast, near-linear in the number of contacts (Numba).

    Gives exactly the trees of `reference`. What is merged when, and how ties are broken, is said in
    :mod:`segkit.agglomerate`; J. Funke et al. 2018, doi:10.1109/TPAMI.2018.2835450.

    Parameters
    ----------
    score
        The score of a contact is 1 - this statistic of its affinities. "mean": average linkage. "max": single linkage.
        "min": complete linkage. "median": the quantile 0.5. "quantile": see `quantile`.
    quantile
        Fraction 0..1 of the affinities of a contact that lie below its statistic, rounded to millionths: of n sorted
        affinities the one at position floor(quantile * n), from 0; the largest for 1. High values merge more (more
        false merges, fewer false splits).
    bins
        Quantiles are read from histograms with this many equal bins of 0..1, and the middle of the bin is taken, so
        that a score is off by at most half a bin.
    histogram_init
        "all": every affinity counts. "max": each initial contact of two fragments counts as one affinity, its largest,
        as in waterz by default; that is no quantile of the affinities.
    """

    def __init__(
        self,
        *,
        score: Score = "mean",
        quantile: float = 0.5,
        bins: int = 256,
        histogram_init: Literal["all", "max"] = "all",
    ) -> None:
        check_parameters(score, quantile, bins, histogram_init)
        self.score = score
        self.quantile = quantile
        self.bins = bins
        self.histogram_init = histogram_init

    @property
    def features(self) -> tuple[str, ...]:
        """The statistics that the score is made of."""
        if self.score in ("min", "max"):
            return (self.score,)
        if self.score == "mean":
            return ("count", "sum")
        return ("max",) if self.histogram_init == "max" else ("histogram",)

    def agglomerate(self, affinities: Affinities, fragments: Labels) -> MergeTree:
        """Build the region adjacency graph and cluster it."""
        if "histogram" in self.features:  # without the dense histograms of the graph: they take a kilobyte an edge
            rag, starts, numbers = contact_bins(affinities, fragments, self.bins)
            return self._merge(rag, _no_extremes(rag.features["count"]), _lists(starts, numbers))
        return self.cluster(region_adjacency_graph(affinities, fragments, self.features))

    def cluster(self, rag: RegionAdjacencyGraph) -> MergeTree:
        """All merges of the nodes of `rag`, which must have the statistics in `features`."""
        self._check(rag)
        no_lists = _lists(np.zeros(1, np.int64), np.empty(0, np.uint16))
        if self.score == "mean":
            totals = np.stack([rag.features["count"], rag.features["sum"]], axis=1)
            return self._merge(rag, (totals, np.empty(0, np.float32)), no_lists)
        if self.score in ("min", "max"):
            return self._merge(rag, (np.empty((0, 2), np.int64), rag.features[self.score].copy()), no_lists)
        if self.histogram_init == "max":
            starts = np.arange(len(rag.edges) + 1)
            ones = np.ones(len(rag.edges), np.int64)
            return self._merge(rag, _no_extremes(ones), _lists(starts, bins_of(rag.features["max"], self.bins)))
        histograms = rag.features["histogram"]
        edge, number = np.nonzero(histograms)
        starts = np.searchsorted(edge, np.arange(len(rag.edges) + 1))
        lists = _lists(starts, number.astype(np.uint16), histograms[edge, number].astype(np.int64))
        return self._merge(rag, _no_extremes(histograms.sum(axis=1, dtype=np.int64)), lists)

    def _merge(self, rag: RegionAdjacencyGraph, statistics: tuple, lists: tuple) -> MergeTree:
        """The tree, from arrays that are changed on the way."""
        if len(rag.edges) >= kernels.MAX_EDGES:
            rule = f"must have fewer than {kernels.MAX_EDGES} edges"
            raise InvalidInput(sentence("rag", rule, len(rag.edges), "agglomerate blocks of the volume"))
        parameters = (MODES[self.score], statistics, lists, millionths(self.score, self.quantile), self.bins)
        scores = np.empty(len(rag.edges))
        kernels.score_edges(*parameters, scores)
        order = np.argsort(scores, kind="stable").astype(np.int32)
        merges, heights = kernels.merge_all(len(rag.node_ids), rag.edges, *parameters, scores, order)
        return MergeTree.from_merges(rag.node_ids.copy(), merges, heights)

    def _check(self, rag: RegionAdjacencyGraph) -> None:
        for feature in self.features:
            if feature not in rag.features:
                known = ", ".join(rag.features) or "no features"
                next_step = "build it with region_adjacency_graph"
                raise InvalidInput(sentence("rag", f"must have the feature {feature!r}", known, next_step))
        if "histogram" in self.features and rag.features["histogram"].shape[1:] != (self.bins,):
            shape = rag.features["histogram"].shape
            raise InvalidInput(sentence("histogram of rag", f"must have {self.bins} bins", f"of shape {shape}"))


def _lists(starts: np.ndarray, numbers: np.ndarray, weights: np.ndarray | None = None) -> tuple:
    return kernels.lists_of_bins(starts, numbers, np.empty(0, np.int64) if weights is None else weights)


def _no_extremes(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([counts, counts], axis=1), np.empty(0, np.float32)
