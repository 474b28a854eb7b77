"""Merge trees from partitions, which are all that bioimage-cpp gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree
from segkit.data import MergeTree, RegionAdjacencyGraph
from segkit.errors import InvalidParameter, sentence

if TYPE_CHECKING:
    from bioimage_cpp.graph import UndirectedGraph


def check_thresholds(thresholds: Sequence[float]) -> tuple[float, ...]:
    """The thresholds; raises InvalidParameter unless they increase and lie between 0 and 1."""
    increasing = all(a < b for a, b in pairwise(thresholds))
    if not thresholds or not increasing or not all(0 < threshold < 1 for threshold in thresholds):
        rule, next_step = "must increase and lie between 0 and 1", "choose [0.5], say"
        raise InvalidParameter(sentence("thresholds", rule, list(thresholds), next_step))
    return tuple(thresholds)


@dataclass(frozen=True, eq=False)
class Contraction:
    """A region graph after its nodes were united: parallel edges are one pair."""

    nodes: int
    pairs: np.ndarray
    """uint64 (P, 2), u < v, unique, in lexicographic order: the one order that bioimage-cpp takes."""
    kept: np.ndarray
    """bool (E,): the edges of the graph whose ends are still apart."""
    pair: np.ndarray
    """int64: the pair of each kept edge."""

    @classmethod
    def of(cls, edges: np.ndarray, labels: np.ndarray) -> "Contraction":
        """`labels` int64 (N,) numbers what the nodes were united to, from 0 without gaps."""
        nodes = int(labels.max()) + 1 if len(labels) else 0
        ends = np.sort(labels[edges], axis=1)
        kept = ends[:, 0] != ends[:, 1]
        codes, pair = np.unique(ends[kept, 0] * nodes + ends[kept, 1], return_inverse=True)
        pairs = np.stack(np.divmod(codes, max(nodes, 1)), axis=1).astype(np.uint64)
        return cls(nodes, pairs, kept, pair.reshape(-1))

    def total(self, values: np.ndarray) -> np.ndarray:
        """The sum over the edges of each pair, float64."""
        return np.bincount(self.pair, values[self.kept], minlength=len(self.pairs))

    def extreme(self, ufunc: np.ufunc, values: np.ndarray) -> np.ndarray:
        """The np.minimum or np.maximum over the edges of each pair, float64."""
        found = np.full(len(self.pairs), -ufunc.reduce([-np.inf, np.inf]))
        ufunc.at(found, self.pair, values[self.kept].astype(np.float64))
        return found

    def graph(self) -> "UndirectedGraph":
        """The pairs as a graph of bioimage-cpp, edges in the same order."""
        from bioimage_cpp.graph import UndirectedGraph

        return UndirectedGraph.from_unique_edges(self.nodes, self.pairs)


def nested_levels(
    rag: RegionAdjacencyGraph, thresholds: Sequence[float], solve: Callable[[Contraction, float], np.ndarray]
) -> np.ndarray:
    """For each edge the first of the thresholds at which `solve` puts its ends together, int64; their number if none.

    Each threshold starts from the segments of the one before, so that partitions are nested.
    """
    level = np.full(len(rag.edges), len(thresholds))
    labels = np.arange(len(rag.node_ids))
    for number, threshold in enumerate(thresholds):
        contraction = Contraction.of(rag.edges, labels)
        if not len(contraction.pairs):
            break
        labels = solve(contraction, threshold).astype(np.int64)[labels]
        together = labels[rag.edges[:, 0]] == labels[rag.edges[:, 1]]
        level[together & (level == len(thresholds))] = number
    return level


def tree_of_levels(
    rag: RegionAdjacencyGraph, level: np.ndarray, thresholds: Sequence[float], affinity: np.ndarray
) -> MergeTree:
    """A cut at t gives the partition of the first threshold that is at least t.

    So merges of the first threshold have altitude 0, those of each other the threshold before it. Within a threshold
    contacts of high `affinity` come first.
    """
    order = np.lexsort((np.arange(len(level)), -affinity, level))
    order = order[level[order] < len(thresholds)]
    return tree_of_edges(rag, order, np.array([0.0, *thresholds])[level[order]])


def tree_of_edges(rag: RegionAdjacencyGraph, order: np.ndarray, altitudes: np.ndarray) -> MergeTree:
    """The edges of `order` unite what their ends belong to, one after the other, at these altitudes."""
    used = _spanning(len(rag.node_ids), rag.edges[order])
    merges = _merges(len(rag.node_ids), rag.edges[order[used]])
    return MergeTree.from_merges(rag.node_ids.copy(), merges, altitudes[used])


def _spanning(nodes: int, edges: np.ndarray) -> np.ndarray:
    """The positions, increasing, of the edges whose ends no earlier ones join."""
    if not len(edges):
        return np.empty(0, np.int64)
    rank = np.arange(1, len(edges) + 1, dtype=np.float64)
    graph = coo_array((rank, tuple(edges.T)), shape=(nodes, nodes)).tocsr()
    return np.sort(minimum_spanning_tree(graph).data.astype(np.int64)) - 1


def _merges(nodes: int, edges: np.ndarray) -> np.ndarray:
    """The two nodes of the tree that each edge unites, int64 (M, 2), by union-find with path halving."""
    above = list(range(nodes + len(edges)))
    merges = []
    for number, edge in enumerate(edges.tolist(), nodes):
        pair = []
        for node in edge:
            while above[node] != node:
                above[node] = node = above[above[node]]
            pair.append(node)
        for node in pair:
            above[node] = number
        merges.append(pair)
    return np.array(merges, np.int64).reshape(-1, 2)
