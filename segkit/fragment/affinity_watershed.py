"""Watershed on the affinity graph, and merging of its small basins."""

import numpy as np

from segkit.data import Affinities, Labels, Volume
from segkit.errors import InvalidParameter, sentence
from segkit.fragment._kernels_affinity import steepest_edges
from segkit.fragment._kernels_basins import (
    drain_plateaus,
    find_exits,
    label_part,
    rename,
    unite,
    write_ids,
)
from segkit.fragment._shared import Edges, check_at_least, check_unit, checked_mask
from segkit.fragment._small import joined
from segkit.protocols import Fragmenter
from segkit.threads import share
from segkit.timing import phase


class AffinityWatershed(Fragmenter):
    """Watershed on the affinity graph, in linear time (Zlateski & Seung 2015, arXiv:1505.00249).

    Every voxel joins its neighbour across its edge of highest affinity; plateaus are divided between their exits,
    the nearest first. Then basins smaller than `size_threshold` merge with a neighbour, highest saddle first. No
    boundary is left between fragments, and there are many of them: food for agglomeration. Voxels stay 0 outside the
    mask, where all edges of a voxel are at most `low`, and in dust. Edges longer than one voxel are not used. Of equal
    choices that at the lowest voxel index is taken. Takes some 20 bytes a voxel beside the affinities, twice as many
    where they are noise.

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
        edges = Edges.of(affinities, checked_mask(affinities, mask), self.per_section)
        with phase("basins"):
            labels, sizes = basins(edges, np.float32(self.low), np.float32(self.high))
        with phase("merging"):
            least = max(np.float32(self.merge_threshold), np.nextafter(np.float32(self.low), np.float32(1)))
            regions = joined(edges, labels, sizes, self.size_threshold, np.float32(least), np.float32(self.high))
        with phase("relabelling"):
            fragments = np.empty(affinities.shape, np.uint64)
            ids = self._numbered(regions, sizes)
            share(write_ids, labels.size, labels.reshape(-1), ids, fragments.reshape(-1))
        return Labels(fragments, affinities.grid)

    def _numbered(self, regions: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """New id of each basin, uint64: regions without gaps in order of their first basin, dust and 0 as 0."""
        keep = (regions == np.arange(len(regions))) & (sizes >= max(self.dust, 1))
        keep[0] = False
        return (np.cumsum(keep) * keep).astype(np.uint64)[regions]


def basins(edges: Edges, low: np.float32, high: np.float32) -> tuple[np.ndarray, np.ndarray]:
    """-1 - label of each voxel's basin, int32 (Z, Y, X), and the voxels each label has; 0 for voxels without edges."""
    shape = edges.array.shape[1:]
    codes = np.empty(shape, np.uint8)
    share(steepest_edges, shape[0], edges.arguments(), low, high, codes)
    plane, width = shape[1] * shape[2], shape[2]
    steps = np.array([-plane, -width, -1, 1, width, plane])
    uphill = np.array([0, *(steps[(code & -code).bit_length() - 1] for code in range(1, 64))])
    targets = np.empty(shape, np.int32 if codes.size < 2**31 else np.int64)
    rows = shape[0] * shape[1]
    exits = np.concatenate(share(find_exits, rows, codes, uphill, targets))
    flat = codes.reshape(-1), steps, targets.reshape(-1)
    drain_plateaus(exits, *flat)
    parts = share(label_part, rows, width, *flat)
    return targets, parts[0][1] if len(parts) == 1 else _united(parts, targets.reshape(-1))


def _united(parts: list[tuple[int, np.ndarray, np.ndarray]], labels: np.ndarray) -> np.ndarray:
    """Make basins of what `label_part` found in parts of the volume, in `labels`, in place; the voxels each has."""
    starts = np.array([start for start, _, _ in parts])
    before = np.cumsum([0, *(len(sizes) - 1 for _, sizes, _ in parts)])
    pairs = np.concatenate([np.add(links, [before[k], 0]) for k, (_, _, links) in enumerate(parts)])
    outside = pairs[:, 1]
    pairs[:, 1] = before[np.searchsorted(starts, outside, "right") - 1] - 1 - labels[outside]
    without = sum(int(sizes[0]) for _, sizes, _ in parts)
    ids, united = unite(pairs, np.concatenate([[without], *(sizes[1:] for _, sizes, _ in parts)]))

    def rename_parts(first: int, last: int) -> None:
        for k in range(first, last):
            stop = starts[k + 1] if k + 1 < len(starts) else labels.size
            rename(labels[starts[k] : stop], ids[before[k] : before[k + 1] + 1])

    share(rename_parts, len(parts))
    return united
