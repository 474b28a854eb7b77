"""segkit's own agglomerator: the definition of the reference, compiled."""

from concurrent.futures import ThreadPoolExecutor
from itertools import chain, pairwise
from typing import Literal

import numpy as np

from segkit.agglomerate import (
    MILLION,
    LongRange,
    Score,
    check_constraints,
    check_long_range,
    check_neighborhood,
    check_parameters,
    millionths,
)
from segkit.agglomerate import _kernels_clusters as clusters
from segkit.agglomerate import _kernels_contacts as contacts
from segkit.agglomerate import _kernels_plateaus as plateaus
from segkit.agglomerate import _kernels_queue as by_queue
from segkit.agglomerate._kernels_clusters import BOUND, HUB, Work
from segkit.agglomerate._kernels_contacts import NONE, Rule
from segkit.agglomerate._kernels_rag import bins_of
from segkit.agglomerate.rag import AffinityLists, contact_bins, region_adjacency_graph
from segkit.data import Affinities, Labels, MergeTree, RegionAdjacencyGraph
from segkit.errors import InvalidInput, sentence
from segkit.protocols import RagAgglomerator
from segkit.threads import share, thread_count
from segkit.timing import phase

MODES = {
    "mean": contacts.MEAN,
    "min": contacts.MIN,
    "max": contacts.MAX,
    "median": contacts.QUANTILE,
    "quantile": contacts.QUANTILE,
}
MOST_EDGES = 2**26
"""Lists of contacts are moved when they grow, so they take more places than there are ends of edges."""
MAX_PLACES = 2**31
"""Places in the lists are int32."""
NODES_OF_PIECE = 2**14
"""Least of a piece: in a small one, most clusters have their best neighbour outside."""
SWEEPS = (clusters.SHORT, 2048, 2**62)
"""Plateaus with more entries in their lists wait for the next sweep: first what is near, then what is large."""
ROOM = 8
"""Places for lists, as a multiple of those that the lists take at first; more are made if they do not suffice."""
INITIAL = 4096
ROOM_OF_AFFINITIES = 2
"""The same for lists of affinities, of which a contact of one value counts as one place."""
PART = 2**14
"""Contacts that are worth a thread."""


class GreedyMerging(RagAgglomerator):
    """Greedy merging of the pair of lowest score: fast, near-linear in the number of contacts (Numba).

    Gives the trees of `reference`; only where means of millions of affinities differ by less than float64 can say may
    two merges change places. What is merged when, and how ties are broken, is said in :mod:`segkit.agglomerate`;
    J. Funke et al. 2018, doi:10.1109/TPAMI.2018.2835450.

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
        that a score is off by at most half a bin. 0: from the affinities themselves, exactly.
    histogram_init
        "all": every affinity counts. "max": each initial contact of two fragments counts as one affinity, its largest,
        as in waterz by default; that is no quantile of the affinities.
    max_size
        Two clusters that have more voxels than this together are not merged. None: any size.
    mutex_above
        Two fragments whose contact scores above this, 0..1, are never put into one cluster, nor are clusters that
        hold such a pair: a contact keeps them apart as long as any part of it does ("cannot link" of A. Bailoni et
        al. 2019, doi:10.48550/arXiv.1906.11713). Fragments without a contact are not kept apart. None: no such rule.
    long_range
        How edges longer than one voxel count, for the score "mean". "alike": as all others. "both": for and against a
        merge, but only between clusters that touch. "against": between clusters that touch, as repulsion alone: an
        affinity a has the weight a - 1, where one of direct neighbours has 2a - 1, and the score is (1 - the mean
        weight) / 2; the signed average linkage of A. Bailoni et al. 2019. A neighborhood without long edges is refused.
    """

    def __init__(
        self,
        *,
        score: Score = "mean",
        quantile: float = 0.5,
        bins: int = 256,
        histogram_init: Literal["all", "max"] = "all",
        max_size: int | None = None,
        mutex_above: float | None = None,
        long_range: LongRange = "alike",
    ) -> None:
        check_parameters(score, quantile, bins, histogram_init)
        check_constraints(max_size, mutex_above)
        check_long_range(long_range, score)
        self.score = score
        self.quantile = quantile
        self.bins = bins
        self.histogram_init = histogram_init
        self.max_size = max_size
        self.mutex_above = mutex_above
        self.long_range = long_range

    @property
    def features(self) -> tuple[str, ...]:
        """The statistics that the score is made of."""
        sizes = () if self.max_size is None else ("size",)
        if self.score in ("min", "max"):
            return (self.score, *sizes)
        if self.score == "mean":
            far = () if self.long_range == "alike" else ("far_count", "far_sum")
            return ("count", "sum", *far, *sizes)
        return ("max" if self.histogram_init == "max" else "histogram", *sizes)

    def check_neighborhood(self, neighborhood: np.ndarray) -> None:
        """Raise InvalidInput unless there are short edges and long ones, where `long_range` needs them."""
        check_neighborhood(neighborhood, self.long_range)

    def agglomerate(self, affinities: Affinities, fragments: Labels) -> MergeTree:
        """Build the region adjacency graph and cluster it."""
        self.check_neighborhood(affinities.neighborhood)
        if "histogram" not in self.features:
            with phase("region graph"):
                rag = region_adjacency_graph(affinities, fragments, self.features)
            return self.cluster(rag)
        with phase("region graph"):  # without the dense histograms of the graph: they take a kilobyte an edge
            rag, starts, numbers = contact_bins(affinities, fragments, self.bins, sizes="size" in self.features)
        with phase("merging"):
            return self._merge(rag, AffinityLists(starts, numbers, np.empty(0, np.int64)))

    @property
    def reducible(self) -> bool:
        """Whether parts of a graph may be merged first; see :class:`segkit.protocols.RagAgglomerator`."""
        return not self._constrained

    def cluster(self, rag: RegionAdjacencyGraph, lists: AffinityLists | None = None) -> MergeTree:
        """All merges of the nodes of `rag`, which must have the statistics in `features`; ties go by the row.

        For quantiles, `lists` may have the affinities of the edges instead, in bins as `bins` says: for those that
        dense histograms are too large for, and for exact quantiles.
        """
        self._check(rag, lists)
        with phase("merging"):
            return self._merge(rag, lists)

    def scores(self, rag: RegionAdjacencyGraph, lists: AffinityLists | None = None) -> np.ndarray:
        """The score of each contact as it is, float64 (E,). For the arguments see :meth:`cluster`."""
        self._check(rag, lists)
        return self._contacts(rag, lists, _cuts(0))[0]["score"].copy()

    def lists(self, rag: RegionAdjacencyGraph) -> AffinityLists:
        """The affinities of each edge as they count for quantiles, from the statistics in `features`."""
        if self.histogram_init == "max":
            largest = rag.features["max"]
            numbers = bins_of(largest, self.bins) if self.bins else (largest + np.float32(0)).view(np.int32)
            return AffinityLists(np.arange(len(rag.edges) + 1), numbers.astype(np.int32), np.empty(0, np.int64))
        histograms = rag.features["histogram"]
        edge, number = np.nonzero(histograms)
        starts = np.searchsorted(edge, np.arange(len(rag.edges) + 1))
        return AffinityLists(starts, number.astype(np.int32), histograms[edge, number].astype(np.int64))

    def _merge(self, rag: RegionAdjacencyGraph, lists: AffinityLists | None) -> MergeTree:
        """The tree: without a queue if nothing but the scores decides."""
        if len(rag.edges) >= by_queue.MAX_EDGES:
            rule = f"must have fewer than {by_queue.MAX_EDGES} edges"
            raise InvalidInput(sentence("rag", rule, len(rag.edges), "agglomerate blocks of the volume"))
        nodes, found = len(rag.node_ids), None
        if not self._constrained and len(rag.edges) < MOST_EDGES:
            cuts = _cuts(nodes)
            found = merge_plateaus(cuts, rag.edges, *self._contacts(rag, lists, cuts), self._rule)
        if found is None:
            records, runs, homes = self._contacts(rag, lists, np.array([0, nodes]))
            sizes = np.empty(0, np.int64) if self.max_size is None else rag.node_features["size"].astype(np.int64)
            blocked = np.empty(0, bool) if self.mutex_above is None else records["score"] > self.mutex_above
            if self.long_range != "alike":
                apart = rag.features["count"] == rag.features["far_count"]
                records["score"][apart] = records["queued"][apart] = contacts.APART
            most = min(self.max_size or 0, 2**62)  # as far as the kernel counts; no volume has more voxels
            known = by_queue.Contacts(records, runs, blocked)
            whole = self._rule._replace(home=homes[-1])
            found = by_queue.merge_all(nodes, rag.edges, whole, known, sizes, most)
        return MergeTree.from_merges(rag.node_ids.copy(), *found)

    def _contacts(
        self, rag: RegionAdjacencyGraph, lists: AffinityLists | None, cuts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """What is known of each contact, its score included, as kernels take and change it.

        For quantiles also the lists of affinities, and where in them the homes are: one for each piece, the nodes
        cuts[p] to cuts[p + 1] - 1, and one for the whole.
        """
        runs, homes, mode = np.empty(0, np.int64), [0] * len(cuts), self._mode
        records = np.zeros(len(rag.edges), contacts.RECORD)
        if mode == contacts.QUANTILE:
            runs, homes = _listed(rag.edges, cuts, lists or self.lists(rag), self.bins, records)
        elif mode == contacts.MEAN:
            records["count"], records["sum"] = rag.features["count"], rag.features["sum"]
        elif mode == contacts.SIGNED:
            total, far = rag.features["sum"], rag.features["far_sum"]
            records["count"] = rag.features["count"]
            records["sum"] = 2 * total if self.long_range == "both" else 2 * total - far
        else:
            records["score"] = 1.0 - rag.features[self.score].astype(np.float64)
        rule = Rule(mode, millionths(self.score, self.quantile), self.bins)
        share(lambda first, last: contacts.score_contacts(rule, records[first:last], runs), len(records), least=PART)
        return records, runs, homes

    @property
    def _rule(self) -> Rule:
        """How contacts are united; the quantile 0 is the least affinity, and 1 the largest."""
        per_million, mode = millionths(self.score, self.quantile), self._mode
        if mode == contacts.QUANTILE and per_million in (0, MILLION):
            mode = contacts.MIN if per_million == 0 else contacts.MAX
        return Rule(mode, per_million, self.bins)

    @property
    def _constrained(self) -> bool:
        return self.max_size is not None or self.mutex_above is not None or self.long_range != "alike"

    @property
    def _mode(self) -> int:
        return MODES[self.score] if self.long_range == "alike" else contacts.SIGNED

    def _check(self, rag: RegionAdjacencyGraph, lists: AffinityLists | None) -> None:
        known = {*rag.features, *rag.node_features}
        if lists is not None:
            self._check_lists(rag, lists)
            known |= {"histogram", "max"}
        for feature in self.features:
            if feature not in known:
                next_step = "build it with region_adjacency_graph"
                value = ", ".join(sorted(known)) or "no features"
                raise InvalidInput(sentence("rag", f"must have the feature {feature!r}", value, next_step))
        if "count" in self.features and (rag.features["count"] <= 0).any():
            raise InvalidInput(sentence("count of rag", "must be positive for every edge", rag.features["count"].min()))
        if "histogram" not in self.features or lists is not None:
            return
        if self.bins == 0:
            next_step = "call agglomerate, or choose a number of bins"
            raise InvalidInput(sentence("rag", "cannot give exact quantiles: it has histograms", next_step=next_step))
        if rag.features["histogram"].shape[1:] != (self.bins,):
            shape = rag.features["histogram"].shape
            raise InvalidInput(sentence("histogram of rag", f"must have {self.bins} bins", f"of shape {shape}"))
        if not rag.features["histogram"].any(axis=1).all():
            raise InvalidInput(sentence("histogram of rag", "must hold an affinity for every edge", "0 everywhere"))

    def _check_lists(self, rag: RegionAdjacencyGraph, lists: AffinityLists) -> None:
        if MODES[self.score] != contacts.QUANTILE:
            raise InvalidInput(sentence("lists", "must be None, for affinities count for quantiles alone", self.score))
        if len(lists.starts) != len(rag.edges) + 1 or (np.diff(lists.starts) <= 0).any():
            raise InvalidInput(sentence("lists", "must hold an affinity for every edge", f"{len(rag.edges)} edges"))
        if self.bins and len(lists.numbers) and not 0 <= lists.numbers.min() <= lists.numbers.max() < self.bins:
            found = f"{lists.numbers.min()}..{lists.numbers.max()}"
            raise InvalidInput(sentence("lists", f"must hold bins of 0..{self.bins - 1}", found))


def _cuts(nodes: int) -> np.ndarray:
    """Where pieces begin, one a thread, and how many nodes there are."""
    pieces = max(1, min(thread_count(), nodes // NODES_OF_PIECE))
    return np.array([nodes * piece // pieces for piece in range(pieces + 1)])


def _listed(
    edges: np.ndarray, cuts: np.ndarray, lists: AffinityLists, bins: int, records: np.ndarray
) -> tuple[np.ndarray, list[int]]:
    """Fill in the affinities of `records`, and give what `GreedyMerging._contacts` gives of quantiles.

    Room that is not touched costs no memory: there is some for each piece, and again for the whole, of all contacts.
    """
    starts, numbers, weights = lists
    total = int(weights.sum()) if len(weights) else len(numbers)
    more = total // int(contacts.COUNT)
    ranges = list(pairwise([*range(0, len(edges), PART), len(edges)]))

    def count(first: int, last: int) -> list[int]:
        return [contacts.count_places(starts[a : b + 1], numbers, weights) for a, b in ranges[first:last]]

    def fill(first: int, last: int) -> None:
        for (a, b), place in zip(ranges[first:last], places[first:last], strict=True):
            contacts.fill_lists(starts[a : b + 1], numbers, weights, records[a:b], runs, place)

    places = np.cumsum([0, *chain.from_iterable(share(count, len(ranges)))])
    inside = [(len(edges), len(numbers))]
    if len(cuts) > 2:
        inside = [*contacts.count_inside(edges, cuts, starts).T.tolist(), *inside]
    entries = [listed + more for _, listed in inside]
    most = [bins + 2 * more + 2 if bins else own for own in entries]
    rooms = [
        ROOM_OF_AFFINITIES * (held + own) + contacts.needed_room(2 * clusters.SHORT, own, longest)
        for (held, _), own, longest in zip(inside, entries, most, strict=True)
    ]
    ends = np.cumsum([places[-1], *rooms])
    runs = np.empty(ends[-1], np.int64)
    share(fill, len(ranges))
    for home, end, own, longest in zip(ends[:-1], ends[1:], entries, most, strict=True):
        runs[home : home + contacts.HOME] = home + contacts.HOME, end, own, longest
    return runs, ends[:-1].tolist()


def merge_plateaus(
    cuts: np.ndarray, edges: np.ndarray, records: np.ndarray, runs: np.ndarray, homes: list[int], rule: Rule
) -> tuple[np.ndarray, np.ndarray] | None:
    """All merges of the nodes in order: int64 (M, 2), two nodes of the tree, and float64 (M,) scores.

    `records` and `runs` say what is known of each edge, int64 (E, 2); both are changed. None if a united contact came
    before both its parts, as a rounded mean may, or if the lists take too many places: then a queue has to do it.

    Nodes of near numbers lie near each other as a rule, so a piece is a range of nodes, one a thread: cuts[p] to
    cuts[p + 1] - 1. Plateaus may merge in any order, so the result does not depend on the pieces.
    """
    count, pieces = int(cuts[-1]), len(cuts) - 1
    rooms = np.zeros(count, np.int32)
    clusters.degrees(edges, rooms)
    ends = np.concatenate([[0], np.cumsum(rooms, dtype=np.int64)])
    spans = ends[cuts]  # where the lists of a piece begin; behind them is as much room again, if there are several
    starts = ends[:-1] + (np.repeat(spans[:-1], np.diff(cuts)) if pieces > 1 else 0)
    graph = {
        "edges": edges,
        "records": records,
        "runs": runs,
        "nodes": np.empty(count, clusters.NODE),
        "rooms": rooms,
        "others": np.empty(count, np.int32),
        "state": np.zeros(count, np.int8),
        "entries": np.empty((max(ROOM, min(pieces, 2)) * ends[-1] + INITIAL, 2), np.int32),
    }
    clusters.fill_lists(edges, starts, graph["nodes"], graph["entries"])
    found: list[np.ndarray | None] = []
    if pieces > 1:
        parts = zip(cuts[:-1], cuts[1:], spans[:-1] + spans[1:], 2 * spans[1:], strict=True)
        works = [_work(graph, *part) for part in parts]
        with ThreadPoolExecutor(pieces) as pool:
            rules = [rule._replace(home=home) for home in homes[:-1]]
            found = list(pool.map(lambda *each: _merge_piece(*each, grow=False), works, rules))
    whole = _work(graph, 0, count, int(ends[-1]) * min(pieces, 2), len(graph["entries"]))
    rule = rule._replace(home=homes[-1])
    if pieces > 1:
        whole = _settled(whole, cuts, rule)
    found.append(_merge_piece(whole, rule, grow=True))
    made = [part for part in found if part is not None]
    if len(made) < len(found):
        return None
    merges = np.concatenate(made)
    if pieces > 1:
        plateaus.carry_edges(count, merges)
    order = plateaus.order_by_edge(merges, len(edges))
    order = order[np.argsort(merges["score"][order], kind="stable")]
    return plateaus.number_merges(count, merges, order), merges["score"][order]


def _work(graph: dict[str, np.ndarray], first: int, last: int, top: int, end: int) -> Work:
    """What merging among the nodes first to last - 1 takes; its lists may grow into the places top to end - 1.

    Memory that is not touched costs nothing, so there is room for the worst case: all contacts of the piece tied, those
    of hubs more than once.
    """
    counts = np.zeros(clusters.COUNTS, np.int64)
    counts[clusters.FIRST], counts[clusters.LAST] = first, last
    counts[clusters.ENTRIES], counts[clusters.END] = top, end
    nodes, entries = last - first, int(graph["nodes"]["length"][first:last].sum())
    return Work(
        **graph,
        hubs=np.empty(nodes + 1, HUB),
        heap=np.empty(2 * entries + INITIAL, BOUND),
        slots=np.zeros(INITIAL, np.int64),
        pairs=np.empty(INITIAL, np.int32),
        frames=np.empty(nodes + 1, plateaus.FRAME),
        members=np.empty(nodes + 1, np.int32),
        pending=np.empty((4 * entries + INITIAL, 2), np.int32),
        ties=np.empty(2 * entries + INITIAL, np.int32),
        merges=np.empty(nodes, plateaus.MERGE),
        counts=counts,
    )


def _merge_piece(work: Work, rule: Rule, *, grow: bool) -> np.ndarray | None:
    """The merges, as they came. None as of `merge_plateaus`; where lists may not `grow`, what had room."""
    counts, own = work.counts, slice(work.counts[clusters.FIRST], work.counts[clusters.LAST])
    for sweep, limit in enumerate(SWEEPS):
        counts[clusters.BEGIN], counts[clusters.START] = counts[clusters.FIRST], NONE
        work.state[own] = clusters.FREE
        if sweep == 1:
            work = _with_hubs(work, own)
        while (wanted := plateaus.advance(limit, rule, work)) != plateaus.DONE:
            if wanted == plateaus.MORE_ENTRIES:
                if not grow:
                    return work.merges[: counts[clusters.MERGES]]
                if 2 * len(work.entries) > MAX_PLACES:
                    return None
                work = work._replace(entries=_doubled(work.entries))
                counts[clusters.END] = len(work.entries)
            elif wanted == plateaus.MORE_RUNS:
                if not grow:
                    return work.merges[: counts[clusters.MERGES]]
                work = _with_more_runs(work, rule.home)
            elif wanted == plateaus.MORE_HEAP:
                work = work._replace(heap=_doubled(work.heap))
            else:
                work = _with_more_slots(work, len(work.slots))
    return None if counts[clusters.BROKEN] else work.merges[: counts[clusters.MERGES]]


def _settled(work: Work, cuts: np.ndarray, rule: Rule) -> Work:
    """The same, the contacts between pieces united, and no cluster a hub."""
    work.nodes["hub"], work.nodes["best"], at = NONE, clusters.UNKNOWN, 0
    while (at := clusters.settle(cuts, at, rule, work)) < len(work.nodes):
        work = _with_more_runs(work, rule.home)
    return work


def _with_hubs(work: Work, own: slice) -> Work:
    """The same, those clusters that have long lists being hubs."""
    nodes = work.nodes[own]
    numbers = np.arange(own.start, own.stop)
    large = numbers[(nodes["length"] > clusters.SHORT) & (nodes["parent"] == numbers) & (nodes["hub"] == NONE)]
    work = _with_more_slots(work, int(work.nodes["length"][large].sum()))
    for cluster in large:
        clusters.become_hub(cluster, work)
    return work


def _with_more_slots(work: Work, more: int) -> Work:
    """The same, with a hash table that has room for more pairs."""
    size = INITIAL
    while size < 2 * (work.counts[clusters.SLOTS] + more):
        size *= 2
    slots, pairs = np.zeros(size, np.int64), np.empty(size, np.int32)
    clusters.copy_pairs(work.nodes, work.slots, work.pairs, slots, pairs, work.counts)
    return work._replace(slots=slots, pairs=pairs)


def _with_more_runs(work: Work, home: int) -> Work:
    """The same, with more room for the lists of affinities of this home, the last."""
    top = work.runs[home + contacts.TOP]
    runs = np.empty(2 * len(work.runs), np.int64)
    runs[:top] = work.runs[:top]
    runs[home + contacts.END] = len(runs)
    return work._replace(runs=runs)


def _doubled(array: np.ndarray) -> np.ndarray:
    """A copy with room for twice as many rows."""
    larger = np.empty((2 * len(array), *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger
