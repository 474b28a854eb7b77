"""The order of merges of waterz 0.10 without waterz: its stale entries, its queue in bins and its float32."""

from typing import ClassVar, Literal

import numpy as np
from segkit.agglomerate import Score, check_parameters, millionths
from segkit.agglomerate.rag import contact_bins, region_adjacency_graph
from segkit.data import Affinities, Labels, MergeTree, RegionAdjacencyGraph
from segkit.data.rag import frozen
from segkit.errors import InvalidInput, InvalidParameter, sentence
from segkit.protocols import Agglomerator
from segkit.timing import phase

from segkit_waterz import _kernels_order, _kernels_scores
from segkit_waterz._kernels_scores import Statistics
from segkit_waterz.adapter import MOST_QUEUE_BINS, compacted

MODES = {
    "mean": _kernels_scores.MEAN,
    "min": _kernels_scores.MIN,
    "max": _kernels_scores.MAX,
    "median": _kernels_scores.QUANTILE,
    "quantile": _kernels_scores.QUANTILE,
}
MAX_EDGES = 2**30
"""Halves of edges are numbered in int32."""


class WaterzOrder(Agglomerator):
    """Merge in the order of waterz 0.10.1 (J. Funke et al. 2018, doi:10.1109/TPAMI.2018.2835450), without waterz.

    Compiled by Numba: no C++ compiler is needed for any score or number of bins, waterz is not imported. What waterz,
    and so this, does otherwise than `python`, which merges the pair of lowest score:

    - All contacts enter a queue in lexicographic order of the fragment ids. It has `queue_bins` equal bins of 0..1, and
      within a bin first come is first served, whatever the scores.
    - Two contacts that are united keep one entry of the queue, that of the lower score; if both are equal, that of the
      cluster of higher number (a cluster is called by its lowest fragment). The entry is stale then: when it comes up
      it is scored anew and goes to the end of its bin.
    - Scores are float32, and a mean is a running mean, rounded at each step.
    - It stops when the entry that comes up had a score of t or more, be it stale or dead.

    The altitude of a merge is the highest score of any entry that came up until then, so that a cut at t is what waterz
    gives for t. waterz rounds t to float32, a cut does not: for scores equal to float32(t), cut at np.float32(t).

    With nearest neighbours (in any order of the channels, stored at either end) the partitions are those of waterz
    0.10.1 at every threshold; other neighborhoods, which waterz cannot take, follow the same rules, the affinities of a
    voxel being read in the order of their offsets. The same holds without bins, where waterz is compiled with the GNU
    library, whose heap decides which of equal scores comes first. Sizes at which waterz overflows an int (contacts of
    more than 2^31 / 100 affinities, for quantiles) are no model to follow.

    The backend `waterz` calls the library. Its tree comes from one run to the end, so with bins its cuts are those of
    waterz at multiples of 1 / queue_bins only; the cuts of `waterz-order` are so at every threshold.

    Parameters
    ----------
    score
        The score of a contact is 1 - this statistic of its affinities.
    quantile
        For "quantile": the fraction 0..1 of the affinities of a contact that lie below its statistic, rounded to
        millionths. waterz takes whole percents.
    bins
        Quantiles are the middles of so many equal bins of 0..1, 1 to 65536. waterz has 256.
    histogram_init
        For quantiles: "all" counts every affinity of a contact; "max", the default of waterz, only the largest of each
        contact between two fragments.
    queue_bins
        Bins of the queue, up to 65536; 0: a heap of the scores.
    """

    segkit_api = "1"
    segkit_claims: ClassVar[dict[str, object]] = {"ties_by_id": True}

    def __init__(
        self,
        *,
        score: Score = "mean",
        quantile: float = 0.5,
        bins: int = 256,
        histogram_init: Literal["all", "max"] = "all",
        queue_bins: int = 256,
    ) -> None:
        check_parameters(score, quantile, bins, histogram_init)
        if bins == 0:
            next_step = "choose 256, as waterz, or use the agglomerator 'python' for exact quantiles"
            raise InvalidParameter(sentence("bins", "must be positive for the order of waterz", bins, next_step))
        if not 0 <= queue_bins <= MOST_QUEUE_BINS:
            raise InvalidParameter(sentence("queue_bins", f"must lie in 0..{MOST_QUEUE_BINS}", queue_bins))
        self.score = score
        self.quantile = quantile
        self.bins = bins
        self.histogram_init = histogram_init
        self.queue_bins = queue_bins

    def agglomerate(self, affinities: Affinities, fragments: Labels) -> MergeTree:
        """Build the region adjacency graph and merge its nodes; any neighborhood."""
        with phase("region graph"):
            rag, statistics = self._contacts(affinities, fragments)
        if len(rag.edges) >= MAX_EDGES:
            rule, next_step = f"must have fewer than {MAX_EDGES} contacts", "agglomerate blocks of the volume"
            raise InvalidInput(sentence("fragments", rule, len(rag.edges), next_step))
        with phase("merging"):
            merges, altitudes = _kernels_order.merge_all(len(rag.node_ids), rag.edges, statistics, self.queue_bins)
            return MergeTree.from_merges(rag.node_ids.copy(), merges, altitudes)

    def _contacts(self, affinities: Affinities, fragments: Labels) -> tuple[RegionAdjacencyGraph, Statistics]:
        """The graph and what its edges are scored by."""
        values, counts = np.empty(0, np.float32), np.empty(0, np.int64)
        starts, numbers = np.zeros(1, np.int64), np.empty(0, np.int32)
        if self.score in ("min", "max"):
            rag = region_adjacency_graph(affinities, fragments, (self.score,))
            values = rag.features[self.score].copy()
        elif self.score == "mean":
            rag = region_adjacency_graph(affinities, fragments, ())
            values, counts = _running_means(affinities, fragments, rag)
        elif self.histogram_init == "all":
            rag, starts, numbers = contact_bins(affinities, fragments, self.bins)
            counts = np.diff(starts)
        else:
            rag = region_adjacency_graph(affinities, fragments, ("max",))
            starts, counts = np.arange(len(rag.edges) + 1), np.ones(len(rag.edges), np.int64)
            numbers = np.minimum(rag.features["max"] * np.float32(self.bins), self.bins - 1).astype(np.int32)
        per_million = millionths(self.score, self.quantile)
        histograms = _kernels_scores.histograms_of(starts, numbers)
        return rag, Statistics(MODES[self.score], per_million, self.bins, values, counts, histograms)


def _running_means(
    affinities: Affinities, fragments: Labels, rag: RegionAdjacencyGraph
) -> tuple[np.ndarray, np.ndarray]:
    """Means and counts of the edges, each voxel read with those of its neighbours that come before it in the scan."""
    _, nodes = compacted(fragments)
    offsets = affinities.neighborhood
    stored_here = np.array([tuple(offset) < (0, 0, 0) for offset in offsets.tolist()], bool)
    steps = np.where(stored_here[:, None], offsets, -offsets)
    order = np.lexsort(steps.T[::-1])
    starts = np.searchsorted(rag.edges[:, 0], np.arange(len(rag.node_ids) + 1))
    sorted_already = np.array_equal(order, np.arange(len(order)))
    values = frozen(np.ascontiguousarray(affinities.array if sorted_already else affinities.array[order]))
    others = np.ascontiguousarray(rag.edges[:, 1])
    return _kernels_scores.running_means(nodes, values, steps[order], stored_here[order], starts, others)
