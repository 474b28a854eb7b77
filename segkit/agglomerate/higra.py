"""Linkages of the region adjacency graph by Higra's binary partition trees."""

from typing import Literal

import numpy as np

from segkit.agglomerate.rag import mean_affinity
from segkit.data import MergeTree, RegionAdjacencyGraph
from segkit.errors import InvalidInput, InvalidParameter, sentence
from segkit.protocols import RagAgglomerator

APART = 2.0
"""Weight of the edges that join components, for Higra takes connected graphs only: above every real score."""


class Higra(RagAgglomerator):
    """Binary partition trees of Higra on the region adjacency graph.

    B. Perret et al. 2019, doi:10.1016/j.softx.2019.100335. Ties are broken as Higra does: the same way each time, but
    not as `python` and `reference` do. Where there are none, "average" gives the tree of their score "mean", "single"
    that of "max" and "complete" that of "min".

    Parameters
    ----------
    linkage
        The score of two clusters. "average": 1 - mean of the affinities of their contact. "single": 1 - the largest.
        "complete": 1 - the smallest. "exponential": the mean of the contacts of the fragments, a contact of score s
        and n affinities weighing n * exp(alpha * s) (N. Yadav et al. 2019,
        https://proceedings.mlr.press/v97/yadav19a.html).
    alpha
        For "exponential": 0 is "average"; high values weigh bad contacts more, and merge less (fewer false merges).
        -100..100.
    """

    def __init__(
        self, *, linkage: Literal["average", "single", "complete", "exponential"] = "average", alpha: float = 1.0
    ) -> None:
        if linkage not in ("average", "single", "complete", "exponential"):
            rule = "must be 'average', 'single', 'complete' or 'exponential'"
            raise InvalidParameter(sentence("linkage", rule, repr(linkage)))
        if not -100 <= alpha <= 100:
            raise InvalidParameter(sentence("alpha", "must lie in -100..100", alpha))
        self.linkage = linkage
        self.alpha = alpha

    @property
    def features(self) -> tuple[str, ...]:
        """The statistics that the linkage is made of."""
        return {"single": ("max",), "complete": ("min",)}.get(self.linkage, ("count", "sum"))

    def cluster(self, rag: RegionAdjacencyGraph) -> MergeTree:
        """All merges of the nodes of `rag`, which must have the statistics in `features`."""
        for feature in self.features:
            if feature not in rag.features:
                next_step = "build it with region_adjacency_graph"
                raise InvalidInput(sentence("rag", f"must have the feature {feature!r}", next_step=next_step))
        nodes = len(rag.node_ids)
        joints = _joints(nodes, rag.edges)
        if nodes == 0 or len(joints) == nodes - 1:
            return MergeTree(rag.node_ids.copy(), np.arange(nodes), np.empty(0))
        scores, counts = self._weights(rag)
        joint_weights = np.full(len(joints), APART)
        parents, altitudes = self._link(
            nodes,
            np.concatenate([rag.edges, joints]),
            np.concatenate([scores, joint_weights]),
            np.concatenate([counts, np.ones(len(joints))]),
        )
        kept = len(parents) - len(joints)  # joints are merged last
        parents, altitudes = parents[:kept], altitudes[nodes:kept]
        parents = np.where(parents < kept, parents, np.arange(kept))
        return MergeTree(rag.node_ids.copy(), parents, np.maximum.accumulate(np.clip(altitudes, 0, 1)))

    def _weights(self, rag: RegionAdjacencyGraph) -> tuple[np.ndarray, np.ndarray]:
        """Score and weight of each edge, float64."""
        if self.linkage in ("single", "complete"):
            return 1.0 - rag.features[self.features[0]].astype(np.float64), np.ones(len(rag.edges))
        return 1.0 - mean_affinity(rag), rag.features["count"].astype(np.float64)

    def _link(self, nodes: int, edges: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> tuple:
        """Parents and altitudes of all nodes of Higra's tree, the merges in order."""
        import higra

        graph = higra.UndirectedGraph(nodes)
        graph.add_edges(edges[:, 0], edges[:, 1])
        if self.linkage == "single":
            tree, altitudes = higra.binary_partition_tree_single_linkage(graph, scores)
        elif self.linkage == "complete":
            tree, altitudes = higra.binary_partition_tree_complete_linkage(graph, scores)
        elif self.linkage == "average":
            tree, altitudes = higra.binary_partition_tree_average_linkage(graph, scores, counts)
        else:
            tree, altitudes = higra.binary_partition_tree_exponential_linkage(graph, scores, self.alpha, counts)
        return tree.parents(), altitudes


def _joints(nodes: int, edges: np.ndarray) -> np.ndarray:
    """Edges that join the first nodes of successive components, int64 (components - 1, 2)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(edges), bool), edges.T), shape=(nodes, nodes))
    _, component = connected_components(graph, directed=False) if nodes else (0, np.empty(0, np.int64))
    _, first = np.unique(component, return_index=True)
    return np.stack([first[:-1], first[1:]], axis=1).astype(np.int64)
