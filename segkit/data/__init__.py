"""The containers: frozen dataclasses that cannot exist invalid. All axes are z, y, x."""

from segkit.data.affinities import NEAREST, Affinities, edge_mask, edge_slices
from segkit.data.grid import Grid, check_aligned
from segkit.data.labels import Labels
from segkit.data.merge_tree import MergeTree
from segkit.data.rag import RegionAdjacencyGraph
from segkit.data.volume import Volume

__all__ = [
    "NEAREST",
    "Affinities",
    "Grid",
    "Labels",
    "MergeTree",
    "RegionAdjacencyGraph",
    "Volume",
    "check_aligned",
    "edge_mask",
    "edge_slices",
]
