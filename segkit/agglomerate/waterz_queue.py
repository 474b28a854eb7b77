"""The order of merges of waterz 0.10, with its stale edges, its queue in bins and its float32, in segkit's own code."""

from typing import NamedTuple

import numpy as np

from segkit.agglomerate import _kernels_waterz as kernels
from segkit.agglomerate.rag import contact_bins, region_adjacency_graph
from segkit.agglomerate.scores import millionths
from segkit.data import Affinities, Labels, MergeTree, RegionAdjacencyGraph
from segkit.data.rag import frozen
from segkit.errors import InvalidInput, InvalidParameter, sentence
from segkit.timing import phase

MODES = {
    "mean": kernels.MEAN,
    "min": kernels.MIN,
    "max": kernels.MAX,
    "median": kernels.QUANTILE,
    "quantile": kernels.QUANTILE,
}
MAX_EDGES = 2**30
"""Halves of edges are numbered in int32."""
MOST_QUEUE_BINS = 2**16


def merge_like_waterz(
    affinities: Affinities,
    fragments: Labels,
    *,
    score: str = "mean",
    quantile: float = 0.5,
    bins: int = 256,
    histogram_init: str = "all",
    queue_bins: int = 256,
) -> MergeTree:
    """All merges in the order of waterz 0.10.1 (J. Funke et al. 2018, doi:10.1109/TPAMI.2018.2835450).

    What waterz does otherwise than "merge the pair of lowest score":

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

    Parameters
    ----------
    affinities, fragments
        Aligned; affinities in 0..1.
    score, quantile, bins, histogram_init
        As in :class:`segkit.agglomerate.python.Python`. waterz has 256 bins, quantiles in percent, "max" by default.
    queue_bins
        Bins of the queue, up to 65536; 0 = a heap of the scores.
    """
    check_queue("waterz", queue_bins, bins, None, None)
    with phase("region graph"):
        contacts = _contacts(affinities, fragments, score, bins, histogram_init)
    edges = contacts.rag.edges
    if len(edges) >= MAX_EDGES:
        next_step = "agglomerate blocks of the volume"
        raise InvalidInput(sentence("fragments", f"must have fewer than {MAX_EDGES} contacts", len(edges), next_step))
    with phase("merging"):
        per_million = millionths(score, quantile)
        statistics = contacts.values, contacts.counts, contacts.lists
        merges, altitudes = kernels.merge_all(
            len(contacts.rag.node_ids), edges, MODES[score], *statistics, per_million, bins, queue_bins
        )
        return MergeTree.from_merges(contacts.rag.node_ids.copy(), merges, altitudes)


def check_queue(queue: str, queue_bins: int, bins: int, max_size: int | None, mutex_above: float | None) -> None:
    """Raise InvalidParameter for what is out of range, or does not go with the queue of waterz."""
    if queue not in ("exact", "waterz"):
        raise InvalidParameter(sentence("queue", "must be 'exact' or 'waterz'", repr(queue)))
    if not 0 <= queue_bins <= MOST_QUEUE_BINS:
        raise InvalidParameter(sentence("queue_bins", f"must lie in 0..{MOST_QUEUE_BINS}", queue_bins))
    if queue == "waterz" and (bins == 0 or max_size is not None or mutex_above is not None):
        rule = "'waterz' knows neither bins=0 nor max_size nor mutex_above"
        raise InvalidParameter(sentence("queue", rule, next_step="leave these out, or choose 'exact'"))


class _Contacts(NamedTuple):
    """What `merge_all` takes: the graph, means or extremes, counts, histograms as lists."""

    rag: RegionAdjacencyGraph
    values: np.ndarray
    counts: np.ndarray
    lists: tuple


def _contacts(affinities: Affinities, fragments: Labels, score: str, bins: int, histogram_init: str) -> _Contacts:
    none = kernels.lists_of_bins(np.zeros(1, np.int64), np.empty(0, np.uint16))
    if score in ("min", "max"):
        rag = region_adjacency_graph(affinities, fragments, (score,))
        return _Contacts(rag, rag.features[score].copy(), np.empty(0, np.int64), none)
    if score == "mean":
        rag = region_adjacency_graph(affinities, fragments, ())
        means, counts = _running_means(affinities, fragments, rag)
        return _Contacts(rag, means, counts, none)
    if histogram_init == "all":
        rag, starts, numbers = contact_bins(affinities, fragments, bins)
        return _Contacts(rag, np.empty(0, np.float32), np.diff(starts), kernels.lists_of_bins(starts, numbers))
    rag = region_adjacency_graph(affinities, fragments, ("max",))
    starts = np.arange(len(rag.edges) + 1)
    numbers = np.minimum(rag.features["max"] * np.float32(bins), bins - 1).astype(np.uint16)
    return _Contacts(
        rag, np.empty(0, np.float32), np.ones(len(rag.edges), np.int64), kernels.lists_of_bins(starts, numbers)
    )


def _running_means(affinities: Affinities, fragments: Labels, rag: RegionAdjacencyGraph) -> tuple:
    """Means and counts of the edges, each voxel read with those of its neighbours that come before it in the scan."""
    nodes = kernels.number_nodes(frozen(np.ascontiguousarray(fragments.array)), rag.node_ids)
    offsets = affinities.neighborhood
    stored_here = np.array([tuple(offset) < (0, 0, 0) for offset in offsets.tolist()], bool)
    steps = np.where(stored_here[:, None], offsets, -offsets)
    order = np.lexsort(steps.T[::-1])
    starts = np.searchsorted(rag.edges[:, 0], np.arange(len(rag.node_ids) + 1))
    sorted_already = np.array_equal(order, np.arange(len(order)))
    values = frozen(np.ascontiguousarray(affinities.array if sorted_already else affinities.array[order]))
    others = np.ascontiguousarray(rag.edges[:, 1])
    return kernels.running_means(nodes, values, steps[order], stored_here[order], starts, others)
