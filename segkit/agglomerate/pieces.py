"""Pieces of a region graph: what disjoint sets of affinity edges say, put together, and nodes that became one.

All statistics are integers or extremes, so a graph made of pieces is the graph of the whole, bit for bit, whatever the
pieces are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from segkit.agglomerate import _kernels_pieces as kernels
from segkit.data import RegionAdjacencyGraph
from segkit.errors import InvalidInput, sentence

RULES = {"count": np.add, "sum": np.add, "histogram": np.add, "min": np.minimum, "max": np.maximum}
"""How a statistic of two contacts becomes that of both."""


class AffinityLists(NamedTuple):
    """Histograms in little memory: the bins of an edge's affinities, sorted, and how often each counts."""

    starts: np.ndarray
    """Those of edge e lie at starts[e] to starts[e + 1]; int64 (E + 1,)."""
    numbers: np.ndarray
    """int32: the bin, or the bits of the float32 where there are no bins."""
    weights: np.ndarray
    """int64; empty if each counts once."""

    @classmethod
    def of_contacts(cls, starts: np.ndarray, numbers: np.ndarray) -> "AffinityLists":
        """From what :func:`segkit.agglomerate.rag.contact_bins` gives; equal numbers become one."""
        return cls(*kernels.runs_of(starts, numbers))

    def take(self, rows: np.ndarray) -> "AffinityLists":
        """The lists of these edges, in this order."""
        begins = np.arange(len(rows))
        return AffinityLists(*kernels.unite_runs(rows, begins, begins + 1, *self, False))


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
        node_features[name] = np.zeros(len(ids), graphs[0].node_features[name].dtype)
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


def contract(piece: Piece, clusters: np.ndarray) -> Piece:
    """The graph of clusters: node n goes into the node clusters[n], int64 (N,), the lowest of its cluster."""
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
        lists = AffinityLists(*kernels.unite_runs(order, begins[by_ties], ends[by_ties], *piece.lists, False))
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
    if name not in RULES:
        raise InvalidInput(sentence("feature", f"must be among {', '.join(RULES)} to be united", repr(name)))
    return RULES[name].reduceat(values[order], begins, axis=0).astype(values.dtype) if len(begins) else values[:0]


def _joined(lists: Sequence[AffinityLists]) -> AffinityLists:
    """One after the other."""
    ends = np.cumsum([0, *(each.starts[-1] for each in lists)])
    starts = [each.starts[:-1] + end for each, end in zip(lists, ends, strict=False)]
    numbers, weights = (np.concatenate([each[k] for each in lists]) for k in (1, 2))
    return AffinityLists(np.concatenate([*starts, ends[-1:]]), numbers, weights)
