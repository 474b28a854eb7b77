"""Watershed hierarchies of Higra on the affinity graph, cut at a level."""

from typing import Literal

import higra as hg
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from segkit.data import Affinities, Labels, Volume, edge_slices
from segkit.errors import InvalidParameter, sentence
from segkit.fragment._shared import check_at_least, checked_mask, nearest_channels, slabs, stacked
from segkit.protocols import Fragmenter

HIERARCHIES = {
    "area": hg.watershed_hierarchy_by_area,
    "dynamics": hg.watershed_hierarchy_by_dynamics,
    "volume": hg.watershed_hierarchy_by_volume,
}
LEVELS = {"area": 100.0, "dynamics": 0.1, "volume": 10.0}
"""What `level` is unless given."""


class HigraWatershed(Fragmenter):
    """Watershed on the affinity graph by Higra, with basins merged by their importance.

    Voxels are vertices, an edge weighs 1 - affinity, and every regional minimum of the weights is the bottom of a
    basin: the watershed cut of Cousty et al. 2009 (doi:10.1109/TPAMI.2008.173). A hierarchy merges basins in order of
    a measure (Cousty & Najman 2011, doi:10.1007/978-3-642-21569-8_24), and is cut at `level`. Every voxel in the mask
    belongs to a fragment; parts of the mask that do not touch are never merged. Takes some hundred bytes a voxel:
    for large volumes take blocks or `affinity-watershed`. Edges longer than one voxel are not used.

    Parameters
    ----------
    hierarchy
        Which measure of a basin counts: "area" (its voxels), "dynamics" (how far its bottom lies below the lowest
        place where it would overflow, in units of affinity), "volume" (the water it holds then, in voxels times
        affinity), or "none": all basins as they are.
    level
        Basins of at most this measure are merged; a higher one gives fewer and larger fragments. Unless given it is
        100 for area, 0.1 for dynamics, 10 for volume; "none" takes no level.
    per_section
        Treat each section apart, by the edges in its plane only.
    """

    def __init__(
        self,
        *,
        hierarchy: Literal["none", "area", "dynamics", "volume"] = "area",
        level: float | None = None,
        per_section: bool = False,
    ) -> None:
        if level is not None:
            check_at_least("level", level, 0)
            if hierarchy == "none":
                raise InvalidParameter(sentence("level", "must not be given with hierarchy 'none'", level, "omit it"))
        self.hierarchy = hierarchy
        self.level = LEVELS.get(hierarchy) if level is None else level
        self.per_section = per_section

    def fragment(self, affinities: Affinities, mask: Volume | None = None) -> Labels:
        """Fragments, numbered from 1 without gaps in the order of their first voxel; 0 outside the mask only.

        Raises InvalidInput if a neighbour's edge is missing from the neighborhood or the mask is not aligned.
        """
        allowed = checked_mask(affinities, mask)
        allowed = np.ones(affinities.shape, bool) if allowed is None else allowed
        channels = nearest_channels(affinities, self.per_section)
        parts = (
            self._cut(affinities.array[channels, slab], affinities.neighborhood[channels], allowed[slab])
            for slab in slabs(affinities.shape, self.per_section)
        )
        return Labels(stacked(parts, affinities.shape, self.per_section), affinities.grid)

    def _cut(self, array: np.ndarray, neighborhood: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, int]:
        """Fragments of one slab, numbered from 1, and their number."""
        labels = np.zeros(allowed.shape, np.int64)
        size = int(allowed.sum())
        if size == 0:
            return labels, 0
        pairs, weights = _mask_graph(array, neighborhood, allowed)
        pieces = connected_components(coo_array((np.ones(len(pairs)), pairs.T), shape=(size, size)), directed=False)[1]
        merged = self._labels(size, *_joined(pairs, weights, pieces))
        labels[allowed] = _numbered(merged, pieces)
        return labels, int(labels.max())

    def _labels(self, size: int, pairs: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Labels of the vertices of a connected graph."""
        if size == 1:
            return np.ones(1, np.int64)
        graph = hg.UndirectedGraph(size)
        graph.add_edges(pairs[:, 0], pairs[:, 1])
        if self.hierarchy == "none":
            return hg.labelisation_watershed(graph, weights)
        tree, altitudes = HIERARCHIES[self.hierarchy](graph, weights)
        return hg.labelisation_horizontal_cut_from_threshold(tree, altitudes, self.level)


def _mask_graph(array: np.ndarray, neighborhood: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges between voxels of the mask, which are numbered in order: int64 (E, 2), and weights 1 - affinity, (E,)."""
    numbers = np.cumsum(allowed).reshape(allowed.shape) - 1
    pairs, weights = [], []
    for affinity, offset in zip(array, neighborhood, strict=True):
        source, target = edge_slices(allowed.shape, offset)
        exists = allowed[source] & allowed[target]
        pairs.append(np.stack([numbers[source][exists], numbers[target][exists]], axis=1))
        weights.append(1 - affinity[source][exists].astype(np.float64))
    return np.concatenate(pairs), np.concatenate(weights)


def _joined(pairs: np.ndarray, weights: np.ndarray, pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges heavier than all others chain the pieces: Higra's hierarchies take connected graphs only."""
    first = np.unique(pieces, return_index=True)[1]
    chain = np.stack([first[:-1], first[1:]], axis=1)
    return np.concatenate([pairs, chain]), np.concatenate([weights, np.full(len(chain), 2.0)])


def _numbered(merged: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """Ids from 1 in the order of first voxels, one for each label and piece: what the chain joined is undone."""
    key = pieces.astype(np.int64) * (int(merged.max()) + 1) + merged
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(1, len(first) + 1)
    return rank[inverse]
