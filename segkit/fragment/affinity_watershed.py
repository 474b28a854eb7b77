"""Watershed on the affinity graph, and merging of its small basins."""

import numpy as np

from segkit.data import Affinities, Labels, Volume, edge_slices
from segkit.errors import InvalidParameter, sentence
from segkit.fragment._kernels import basins, contacts, merge_small
from segkit.fragment._shared import check_at_least, check_unit, checked_mask, nearest_channels
from segkit.protocols import Fragmenter


class AffinityWatershed(Fragmenter):
    """Watershed on the affinity graph, in linear time (Zlateski & Seung 2015, arXiv:1505.00249).

    Every voxel joins its neighbour across its edge of highest affinity; plateaus are divided between their exits,
    the nearest first. Then basins smaller than `size_threshold` merge with a neighbour, highest saddle first. No
    boundary is left between fragments, and there are many of them: food for agglomeration. Voxels stay 0 outside the
    mask, where all edges of a voxel are at most `low`, and in dust. Edges longer than one voxel are not used. Of equal
    choices that at the lowest voxel index is taken.

    Parameters
    ----------
    low
        Edges of affinity at most this are cut.
    high
        Edges of affinity at least this are always joined.
    size_threshold
        Regions of fewer voxels merge with a neighbour; 0 leaves all basins as they are.
    merge_threshold
        Least affinity across which a small region merges.
    dust
        Regions of fewer voxels that are left after merging become 0.
    per_section
        Treat each section apart, by the edges in its plane only.
    """

    def __init__(
        self,
        *,
        low: float = 0.0001,
        high: float = 0.9999,
        size_threshold: int = 25,
        merge_threshold: float = 0.5,
        dust: int = 0,
        per_section: bool = False,
    ) -> None:
        for name, value in (("low", low), ("high", high), ("merge_threshold", merge_threshold)):
            check_unit(name, value)
        check_at_least("size_threshold", size_threshold, 0)
        check_at_least("dust", dust, 0)
        if low >= high:
            raise InvalidParameter(sentence("low", f"must be below high, {high}", low))
        self.low = low
        self.high = high
        self.size_threshold = size_threshold
        self.merge_threshold = merge_threshold
        self.dust = dust
        self.per_section = per_section

    def fragment(self, affinities: Affinities, mask: Volume | None = None) -> Labels:
        """Fragments, numbered from 1 without gaps in the order of their first voxel; see the class for the 0s.

        Raises InvalidInput if a neighbour's edge is missing from the neighborhood or the mask is not aligned.
        """
        edges = self._edges(affinities, checked_mask(affinities, mask))
        _, height, width = affinities.shape
        strides = np.array([height * width, width, 1])
        labels, count = basins(edges, strides)
        sizes = np.bincount(labels, minlength=count + 1)
        regions = np.arange(count + 1)
        if self.size_threshold > 1:
            saddles, pairs = contacts(
                edges, strides, labels, sizes, self.size_threshold, np.float32(self.merge_threshold)
            )
            regions = merge_small(np.argsort(-saddles, kind="stable"), pairs, sizes, self.size_threshold)
        fragments = self._numbered(regions, sizes)[labels].reshape(affinities.shape)
        return Labels(fragments, affinities.grid)

    def _edges(self, affinities: Affinities, mask: np.ndarray | None) -> np.ndarray:
        """Affinity between each voxel and its predecessor along z, y and x, float32 (3, N); -1 where it is cut."""
        edges = np.full((3, *affinities.shape), -1, np.float32)
        for channel in nearest_channels(affinities, self.per_section):
            offset = affinities.neighborhood[channel]
            source, target = edge_slices(affinities.shape, offset)
            values = affinities.array[channel][source]
            joined = values > np.float32(self.low)
            if mask is not None:
                joined &= mask[source] & mask[target]
            later = source if offset.sum() < 0 else target
            edges[int(np.flatnonzero(offset)[0])][later] = np.where(
                joined, np.minimum(values, np.float32(self.high)), np.float32(-1)
            )
        return edges.reshape(3, -1)

    def _numbered(self, regions: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """New id of each basin, uint64: regions without gaps in order of their first basin, dust and 0 as 0."""
        keep = (regions == np.arange(len(regions))) & (sizes >= max(self.dust, 1))
        keep[0] = False
        return (np.cumsum(keep) * keep).astype(np.uint64)[regions]
