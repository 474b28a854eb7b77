"""Merging in rounds: what most surely belongs together becomes one, its statistics are added, and all is judged anew.

J. Nunez-Iglesias et al. 2013, doi:10.1371/journal.pone.0071715, judge each contact anew whenever one of its sides has
grown. Here the pairs that are each other's best are merged all at once, below one level after the other, so that a
round of judging serves many merges.
"""

from collections.abc import Callable

import numpy as np
from segkit.agglomerate.pieces import Piece, contract
from segkit.data import MergeTree, RegionAdjacencyGraph

LEVELS = np.append(np.arange(1, 51) / 50, np.inf)
"""Scores: all merges below one are made before any above it."""
Judge = Callable[[RegionAdjacencyGraph], np.ndarray]
"""Scores of contacts, float64 (E,), in 0..1: 0 = surely the same neuron."""
Watcher = Callable[[RegionAdjacencyGraph, np.ndarray], None]
"""Called with each graph, and int64 (N,), the cluster that each node of the first graph is in."""


def merge_in_rounds(graph: RegionAdjacencyGraph, judge: Judge, watch: Watcher | None = None) -> MergeTree:
    """Merge all that is joined, directly or through others; ties go by the lowest row.

    Scores may rise and fall as clusters grow: the altitude of a merge is the highest score until then, and lies below
    the level at which it was made.
    """
    leaves = len(graph.node_ids)
    piece, names, clusters = Piece(graph), np.arange(leaves), np.arange(leaves)
    merges: list[np.ndarray] = []
    altitudes: list[np.ndarray] = []
    scores = judge(graph)
    if watch is not None:
        watch(graph, clusters)
    for level in LEVELS:
        while len(scores):
            rows = best_pairs(piece.graph.edges, scores, level)
            if not len(rows):
                break
            rows = rows[np.argsort(scores[rows], kind="stable")]
            edges = piece.graph.edges[rows]
            merges.append(names[edges])
            altitudes.append(scores[rows])
            into = np.arange(len(names))
            into[edges[:, 1]] = edges[:, 0]
            new = leaves + sum(map(len, altitudes[:-1])) + np.arange(len(rows))
            names = names.copy()
            names[edges[:, 0]] = new
            stays = into == np.arange(len(into))
            clusters = (np.cumsum(stays) - 1)[into[clusters]]
            piece, names = contract(piece, into), names[stays]
            scores = judge(piece.graph)
            if watch is not None:
                watch(piece.graph, clusters)
    joined = np.concatenate(merges) if merges else np.empty((0, 2), np.int64)
    return MergeTree.from_merges(graph.node_ids.copy(), joined, np.concatenate([np.empty(0), *altitudes]))


def best_pairs(edges: np.ndarray, scores: np.ndarray, level: float) -> np.ndarray:
    """The rows below `level` that are the best of both of their ends; of equal scores the lowest row is the best."""
    rank = np.empty(len(scores), np.int64)
    rank[np.argsort(scores, kind="stable")] = np.arange(len(scores))
    best = np.full(int(edges.max(initial=-1)) + 1, len(scores))
    np.minimum.at(best, edges.reshape(-1), np.repeat(rank, 2))
    return np.flatnonzero((best[edges] == rank[:, None]).all(axis=1) & (scores < level))
