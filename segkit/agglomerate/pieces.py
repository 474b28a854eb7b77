"""Pieces of a region graph: what disjoint sets of affinity edges say, put together, and nodes that became one.

All statistics are integers or extremes, so a graph made of pieces is the graph of the whole, bit for bit, whatever the
pieces are.

Merges that are certain whatever lies outside: agglomeration of a part of a graph, equal to that of the whole.

A node is *complete* in a part of the graph if the part holds all of its edges, with all of their affinities. Let T of
a complete node be the lowest score at which single linkage joins it, by edges of this part, with a node that is not
complete. No contact ever gets better than the better of its parts (the linkage is reducible: M. Bruynooghe 1977), so
below T nothing that lies outside can take part in what happens around the node: the greedy merges of complete nodes
below their T are merges of the whole graph, ties included. Done again with the scores of the clusters, this reaches all
pairs of complete nodes that are each other's best neighbours, and all that follow from these.

Why does the order of all merges not need the graph? Merges of one score that were found in different parts, or in
different rounds, have nothing to do with each other, so the greedy order takes, of those that come next in each, the
one of the lowest edge. Sorted by score and then by the highest edge that was needed until then, they are in that order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from segkit.agglomerate import _kernels_pieces as kernels
from segkit.agglomerate.greedy import GreedyMerging
from segkit.agglomerate.rag import AffinityLists, Box, contact_bins, region_adjacency_graph
from segkit.data import Affinities, Labels, MergeTree, RegionAdjacencyGraph
from segkit.errors import InvalidInput, InvalidParameter, sentence
from segkit.protocols import RagAgglomerator
from segkit.registry import calls

SUMMED = ("count", "sum", "far_count", "far_sum", "histogram")
RULES = {**dict.fromkeys(SUMMED, np.add), "min": np.minimum, "max": np.maximum}
"""How a statistic of two contacts becomes that of both; integers of any other name are added."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A graph of some of the affinity edges of a volume, or one some of whose fragments were merged."""

    graph: RegionAdjacencyGraph
    """A cluster of fragments has the lowest of their ids. The rows of the edges are in the order of `ties`: in
    lexicographic order as long as nothing was merged."""
    lists: AffinityLists | None = None
    """The affinities of each edge, with weights, where quantiles are wanted."""
    lowest: np.ndarray | None = None
    """Of each edge the ids of the two fragments of its lowest edge in the region graph, uint64 (E, 2), lexicographic:
    ties go by it. None where that is the edge itself."""

    @property
    def ties(self) -> np.ndarray:
        """`lowest`, whether it is stored or not."""
        return self.graph.edge_ids() if self.lowest is None else self.lowest


def unite(pieces: Sequence[Piece], *, largest: bool = False) -> Piece:
    """One graph of pieces that have no affinity edge in common, with the statistics that all of them have.

    Counts, sums, histograms and sizes are added, minima and maxima taken, lists merged; with `largest`, lists have one
    number each and of equal contacts the largest stays. Pieces of one volume give what
    :func:`segkit.agglomerate.rag.region_adjacency_graph` gives of all of it. A fragment that several pieces hold must
    not be merged with another in any. The memory taken is about twice that of the pieces. Raises InvalidInput for none.
    """
    if not pieces:
        raise InvalidInput(sentence("pieces", "must be at least one", "none"))
    graphs = [piece.graph for piece in pieces]
    ids = np.unique(np.concatenate([graph.node_ids for graph in graphs]))
    places = [np.searchsorted(ids, graph.node_ids) for graph in graphs]
    node_features = {}
    for name in _common([graph.node_features for graph in graphs]):
        first_of = graphs[0].node_features[name]
        node_features[name] = np.zeros((len(ids), *first_of.shape[1:]), first_of.dtype)
        for graph, place in zip(graphs, places, strict=True):
            node_features[name][place] += graph.node_features[name]
    edges = np.concatenate([place[graph.edges] for graph, place in zip(graphs, places, strict=True)])
    merged = any(piece.lowest is not None for piece in pieces)
    ties = np.concatenate([piece.ties for piece in pieces]) if merged else edges
    order = np.lexsort(ties.T[::-1])
    begins, ends = _groups((ties[order[1:]] != ties[order[:-1]]).any(axis=1), len(order))
    first = order[begins]
    columns = {
        name: [graph.features[name] for graph in graphs] for name in _common([graph.features for graph in graphs])
    }
    features = {name: _reduced(name, np.concatenate(parts), order, begins) for name, parts in columns.items()}
    lists = None
    own = [piece.lists for piece in pieces if piece.lists is not None]
    if len(own) == len(pieces):
        joined = _joined(own)
        lists = AffinityLists(*kernels.unite_runs(order, begins, ends, *joined, largest))
    graph = RegionAdjacencyGraph(ids, edges[first], features, node_features)
    return Piece(graph, lists, ties[first] if merged else None)


def renamed(piece: Piece, ids: np.ndarray, *, largest: bool = False) -> Piece:
    """The graph in which node n has the id ids[n], uint64 (N,); nodes of one id are one, as in :func:`unite`.

    For a graph in which nothing was merged. Its edges are in any order: :func:`unite` sorts them.
    """
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    whole = contract(piece, first[inverse], largest=largest)
    names = ids[np.sort(first)]
    order = np.argsort(names)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    sizes = {name: values[order] for name, values in whole.graph.node_features.items()}
    graph = RegionAdjacencyGraph(names[order], np.sort(rank[whole.graph.edges], axis=1), whole.graph.features, sizes)
    return Piece(graph, whole.lists)


def contract(piece: Piece, clusters: np.ndarray, *, largest: bool = False) -> Piece:
    """The graph of clusters: node n goes into the node clusters[n], int64 (N,), the lowest of its cluster.

    With `largest`, contacts that become one count as one affinity, the largest.
    """
    graph = piece.graph
    stays = clusters == np.arange(len(clusters))
    number = np.cumsum(stays) - 1
    node_features = {}
    for name, values in graph.node_features.items():
        sums = np.zeros_like(values)
        np.add.at(sums, clusters, values)
        node_features[name] = sums[stays]
    pairs = np.sort(number[clusters[graph.edges]], axis=1)
    rows = np.flatnonzero(pairs[:, 0] != pairs[:, 1])
    codes = (pairs[rows, 0] << 32) | pairs[rows, 1]
    order = np.argsort(codes, kind="stable")
    begins, ends = _groups(codes[order[1:]] != codes[order[:-1]], len(order))
    order = rows[order]
    first = order[begins]  # rows are in the order of ties, and the sort was stable
    by_ties = np.argsort(first)
    first = first[by_ties]
    features = {name: _reduced(name, values, order, begins)[by_ties] for name, values in graph.features.items()}
    lists = None
    if piece.lists is not None:
        lists = AffinityLists(*kernels.unite_runs(order, begins[by_ties], ends[by_ties], *piece.lists, largest))
    contracted = RegionAdjacencyGraph(graph.node_ids[stays], pairs[first], features, node_features)
    return Piece(contracted, lists, piece.ties[first])


def part_of(piece: Piece, nodes: np.ndarray, rows: np.ndarray) -> Piece:
    """The graph of some nodes, bool (N,), and some edges between them, positions in increasing order."""
    graph = piece.graph
    edges = (np.cumsum(nodes) - 1)[graph.edges[rows]]
    features = {name: values[rows] for name, values in graph.features.items()}
    node_features = {name: values[nodes] for name, values in graph.node_features.items()}
    part = RegionAdjacencyGraph(graph.node_ids[nodes], edges, features, node_features)
    return Piece(part, piece.lists and piece.lists.take(rows), piece.ties[rows])


def _groups(changes: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Where runs of equal keys begin and end, from where neighbours differ."""
    begins = np.concatenate([[0], np.flatnonzero(changes) + 1]) if length else np.empty(0, np.int64)
    return begins, np.append(begins[1:], length)[: len(begins)]


def _common(features: Sequence[Mapping[str, np.ndarray]]) -> list[str]:
    return [name for name in features[0] if all(name in each for each in features)]


def _reduced(name: str, values: np.ndarray, order: np.ndarray, begins: np.ndarray) -> np.ndarray:
    if name not in RULES and values.dtype.kind not in "iu":
        rule = f"must be among {', '.join(RULES)} to be united, or hold integers, which add up"
        raise InvalidInput(sentence("feature", rule, f"{name!r} of {values.dtype}"))
    return (
        RULES.get(name, np.add).reduceat(values[order], begins, axis=0).astype(values.dtype)
        if len(begins)
        else values[:0]
    )


def _joined(lists: Sequence[AffinityLists]) -> AffinityLists:
    """One after the other."""
    ends = np.cumsum([0, *(each.starts[-1] for each in lists)])
    starts = [each.starts[:-1] + end for each, end in zip(lists, ends, strict=False)]
    numbers, weights = (np.concatenate([each[k] for each in lists]) for k in (1, 2))
    return AffinityLists(np.concatenate([*starts, ends[-1:]]), numbers, weights)


MERGE = np.dtype([("score", "f8"), ("low", "u8"), ("high", "u8"), ("one", "u8"), ("other", "u8")])
"""Of a merge: its score; the edge that it goes by among equal scores; the lowest fragment on either side."""
WORTH_IT = 0.02
"""Another round is made if the last one merged at least this share of the complete nodes."""


@dataclass(frozen=True)
class Linkage:
    """An agglomerator as what clusters pieces. Raises InvalidParameter unless it is one that works on graphs."""

    agglomerator: RagAgglomerator

    def __post_init__(self) -> None:
        backend = self.agglomerator
        if not isinstance(backend, RagAgglomerator):
            rule, next_step = "must work on the region adjacency graph to be used by blocks", "use the backend 'python'"
            raise InvalidParameter(sentence("the agglomerator", rule, type(backend).__name__.lower(), next_step))

    @property
    def reducible(self) -> bool:
        """Whether pieces may be merged before they are united."""
        return self.agglomerator.reducible

    @property
    def largest(self) -> bool:
        """Whether a contact of two fragments counts as one affinity, its largest."""
        return self._with_lists is not None and self._with_lists.histogram_init == "max"

    @property
    def _with_lists(self) -> GreedyMerging | None:
        """The agglomerator if it clusters by quantiles: dense histograms would take a kilobyte an edge."""
        backend = self.agglomerator
        return backend if isinstance(backend, GreedyMerging) and backend.score in ("median", "quantile") else None

    def check_neighborhood(self, neighborhood: ArrayLike) -> None:
        """Raise InvalidInput if the agglomerator cannot do with these offsets, (C, 3), whatever the blocks hold."""
        with calls.blaming(self.agglomerator):
            self.agglomerator.check_neighborhood(np.asarray(neighborhood, np.int64))

    def piece(self, affinities: Affinities, fragments: Labels, inner: Box | None = None) -> Piece:
        """The graph of a volume, or of its box `inner`: see :func:`segkit.agglomerate.rag.region_adjacency_graph`."""
        features, backend = self.agglomerator.features, self._with_lists
        if backend is None:
            return Piece(calls.graph(self.agglomerator, affinities, fragments, inner))
        if self.largest:
            graph = region_adjacency_graph(affinities, fragments, features, inner=inner)
            starts, numbers, _ = backend.lists(graph)
        else:
            sizes = "size" in features
            graph, starts, numbers = contact_bins(affinities, fragments, backend.bins, sizes=sizes, inner=inner)
        bare = RegionAdjacencyGraph(graph.node_ids, graph.edges, {}, graph.node_features)
        return Piece(bare, AffinityLists.of_contacts(starts, numbers))

    def unite(self, pieces: Sequence[Piece]) -> Piece:
        """One piece of several; see :func:`segkit.agglomerate.pieces.unite`."""
        return unite(pieces, largest=self.largest)

    def scores(self, piece: Piece) -> np.ndarray:
        """The score of each edge as it is, float64 (E,)."""
        return calls.edge_scores(self.agglomerator, piece.graph, *self._lists(piece))

    def cluster(self, piece: Piece) -> MergeTree:
        """All merges of a piece."""
        return calls.cluster(self.agglomerator, piece.graph, *self._lists(piece))

    def _lists(self, piece: Piece) -> tuple:
        return () if piece.lists is None else (piece.lists,)


class Reduction(NamedTuple):
    """What is left of a piece, and the merges that were made, records of MERGE in order."""

    piece: Piece
    merges: np.ndarray


def reduce_piece(piece: Piece, complete: np.ndarray, linkage: Linkage) -> Reduction:
    """Make the merges that are certain, see above, where bool (N,) `complete` says which nodes are complete.

    If all are, the reduction makes all merges. Complete nodes that have no edge left are left out of the piece, for
    nothing can happen to them.
    """
    if complete.all():
        merges, _ = _merges_below(np.full(len(complete), np.inf), piece, linkage)
        return Reduction(part_of(piece, ~complete, np.empty(0, np.int64)), merges)
    found = []
    while True:
        merges, clusters = _round(piece, complete, linkage)
        found.append(merges)
        share = len(merges) / max(complete.sum(), 1)
        if len(merges):
            stays = clusters == np.arange(len(clusters))
            piece, complete = contract(piece, clusters), complete[stays]
        if share < WORTH_IT:
            break
    needed = ~complete
    needed[piece.graph.edges] = True
    return Reduction(part_of(piece, needed, np.arange(len(piece.graph.edges))), np.concatenate(found))


def tree_of(leaf_ids: np.ndarray, merges: np.ndarray) -> MergeTree:
    """The tree of all merges that were made anywhere, records of MERGE: those of each reduction in their order.

    Raises InvalidInput if two nodes are merged twice, or a merge is of what is no leaf.
    """
    merges = merges[np.lexsort([merges["high"], merges["low"], merges["score"]])]
    ends = np.stack([merges["one"], merges["other"]], axis=1)
    pairs = np.searchsorted(leaf_ids, ends)
    known = len(merges) == 0 or (pairs.max() < len(leaf_ids) and np.array_equal(leaf_ids[pairs], ends))
    joined = kernels.replay(len(leaf_ids), pairs) if known else pairs[:0]
    if len(joined) != len(merges):
        raise InvalidInput(sentence("merges", "must each join two clusters of the leaves", next_step="start anew"))
    return MergeTree.from_merges(leaf_ids, joined, merges["score"])


def _round(piece: Piece, complete: np.ndarray, linkage: Linkage) -> tuple[np.ndarray, np.ndarray]:
    """Certain merges, and for each node the lowest one of the cluster that it is in now."""
    edges = piece.graph.edges
    clusters = np.arange(len(complete))
    scores = linkage.scores(piece)
    leading = np.flatnonzero(complete[edges].any(axis=1))
    order = leading[np.argsort(scores[leading])]
    limits, near = kernels.certain_below(edges, order, scores, ~complete)
    rows = np.flatnonzero((near[edges[:, 0]] == near[edges[:, 1]]) & complete[edges[:, 0]])
    taken = np.zeros(len(complete), bool)
    taken[edges[rows]] = True
    merges, lowest = _merges_below(limits[taken], part_of(piece, taken, rows), linkage)
    nodes = np.flatnonzero(taken)
    clusters[nodes] = nodes[lowest]
    return merges, clusters


def _merges_below(limits: np.ndarray, piece: Piece, linkage: Linkage) -> tuple[np.ndarray, np.ndarray]:
    """Those of all merges of a piece that lie below the limits, and for each node the lowest one of its cluster."""
    tree = linkage.cluster(piece)
    scores, rows, sides, lowest = kernels.certain_merges(
        len(tree.leaf_ids), tree.parents, tree.altitudes, limits, piece.graph.edges
    )
    merges = np.empty(len(scores), MERGE)
    merges["score"] = scores
    ties = piece.graph.node_ids[piece.graph.edges[rows]] if piece.lowest is None else piece.lowest[rows]
    merges["low"], merges["high"] = ties.T
    merges["one"], merges["other"] = piece.graph.node_ids[sides].T
    return merges, lowest
