"""The mutex watershed on fragments."""

from typing import ClassVar

import numpy as np
from segkit.agglomerate.rag import mean_affinity, region_adjacency_graph
from segkit.data import Affinities, Labels, MergeTree, RegionAdjacencyGraph, check_aligned
from segkit.protocols import Agglomerator

from segkit_bioimage.channels import check_channels, divided
from segkit_bioimage.levels import Contraction, tree_of_edges


class MutexWatershedOfFragments(Agglomerator):
    """Mutex watershed of the region graph by bioimage-cpp (Wolf et al. 2020, doi:10.1109/TPAMI.2020.2980827).

    Two fragments attract each other by the mean of their short-range affinities and repel each other by 1 - the mean
    of their long-range ones. All these weights are taken in decreasing order: what attracts is united, unless
    something that repelled more keeps it apart. The tree is exact: a merge has the altitude 1 - mean affinity, and a
    cut at t is the segmentation after all weights above 1 - t. Fragments that are kept apart end in different trees.

    Parameters
    ----------
    attractive
        The channels that attract; the others repel. By default those of direct neighbours attract.
    """

    segkit_api = "1"
    segkit_claims: ClassVar[dict[str, object]] = {"merges_all": False}

    def __init__(self, *, attractive: tuple[int, ...] | None = None) -> None:
        self.attractive = check_channels(attractive)

    def agglomerate(self, affinities: Affinities, fragments: Labels) -> MergeTree:
        """All merges that nothing forbids. Raises InvalidInput unless some channels attract and others repel."""
        from bioimage_cpp.graph.mutex_watershed import mutex_watershed_clustering

        check_aligned(affinities=affinities, fragments=fragments)
        pulling, pushing = (_graph(affinities, fragments, c) for c in divided(affinities, self.attractive))
        strength = mean_affinity(pulling)
        labels = mutex_watershed_clustering(
            Contraction.of(pulling.edges, np.arange(len(pulling.node_ids))).graph(),
            strength,
            pushing.edges.astype(np.uint64),
            1 - mean_affinity(pushing),
        )
        order = np.argsort(-strength, kind="stable")
        united = labels[pulling.edges[order, 0]] == labels[pulling.edges[order, 1]]
        # An edge inside a segment was never forbidden: of these each that joins two parts was a merge.
        order = order[united]
        return tree_of_edges(pulling, order, 1 - strength[order])


def _graph(affinities: Affinities, fragments: Labels, channels: list[int]) -> RegionAdjacencyGraph:
    chosen = Affinities(affinities.array[channels], affinities.neighborhood[channels], affinities.grid)
    return region_adjacency_graph(chosen, fragments, ("count", "sum"))
