"""Seeded watershed on the distance to the nearest boundary, as the Funke lab does it."""

import numpy as np

from segkit.data import Affinities, Labels, Volume
from segkit.fragment._distance import depths_of, maxima, squared_distance
from segkit.fragment._flood import flooded, numbered_seeds
from segkit.fragment._kernels_basins import write_ids
from segkit.fragment._shared import Edges, Statistic, check_at_least, check_unit, checked_mask, voxels_above
from segkit.fragment._small import joined
from segkit.protocols import Fragmenter
from segkit.threads import share
from segkit.timing import phase


class Watershed(Fragmenter):
    """Seeded watershed on the distance to the nearest boundary (Funke et al. 2018, doi:10.1109/TPAMI.2018.2835450).

    A voxel is inside if the mean affinity of its edges exceeds a threshold. Maxima of the Euclidean distance to the
    nearest voxel that is not inside are seeds (maxima in touch are one, by a corner only where inside voxels lead round
    it), and the seeds flood everything in the mask, deepest places first.
    The border of the volume is no boundary; that of the mask is one. A volume without any boundary is one fragment.
    Of equally deep voxels that reached first is flooded first, and none counts as deeper than the pass before it.
    Voxels stay 0 outside the mask, in pieces of the mask without any inside voxel, and everywhere if no voxel is
    inside. At last fragments smaller than `size_threshold` merge with a neighbour, across the edge of highest affinity
    first.

    Unlike the original, the mean is over a voxel's edges to both sides (its predecessors and its successors), so
    that fragments do not lean half a voxel to one side, and edges that leave the volume do not count as 0 in it.
    Takes 17 bytes a voxel beside the affinities, the fragments' 8 included.

    Parameters
    ----------
    threshold
        Affinity in 0..1 above which a voxel is inside; a higher one gives more and smaller fragments.
    per_section
        Treat each section apart, by the edges in its plane only: right for voxels much longer along z.
    seed_distance
        Edge of the window, in voxels, in which a seed is a maximum; even sizes count as the next odd one. A larger
        window gives fewer and larger fragments.
    statistic
        What decides whether a voxel is inside: the "mean" of its affinities, or the "min", which also sees
        boundaries that are one edge thin (networks trained on labels without membranes).
    anisotropic
        Measure distances in units of the grid, not in voxels; `seed_distance` is then in voxels of the finest axis.
    fill
        Flood the boundaries too; without it they stay 0.
    size_threshold
        Fragments of fewer voxels merge with a neighbour; 0 leaves all as they are.
    merge_threshold
        Least affinity across which a small fragment merges.
    """

    def __init__(
        self,
        *,
        threshold: float = 0.5,
        per_section: bool = False,
        seed_distance: int = 10,
        statistic: Statistic = "mean",
        anisotropic: bool = False,
        fill: bool = True,
        size_threshold: int = 0,
        merge_threshold: float = 0.5,
    ) -> None:
        check_unit("threshold", threshold)
        check_unit("merge_threshold", merge_threshold)
        check_at_least("seed_distance", seed_distance, 1)
        check_at_least("size_threshold", size_threshold, 0)
        self.threshold = threshold
        self.per_section = per_section
        self.seed_distance = seed_distance
        self.statistic = statistic
        self.anisotropic = anisotropic
        self.fill = fill
        self.size_threshold = size_threshold
        self.merge_threshold = merge_threshold

    def fragment(self, affinities: Affinities, mask: Volume | None = None) -> Labels:
        """Fragments, numbered from 1 without gaps; see the class for the voxels that stay 0.

        Raises InvalidInput if a neighbour's edge is missing from the neighborhood or the mask is not aligned.
        """
        allowed = checked_mask(affinities, mask)
        sampling = self._sampling(affinities)
        with phase("distance transform"):
            inside = voxels_above(affinities, allowed, self.per_section, self.statistic, self.threshold)
            depths = depths_of(squared_distance(inside, sampling, self.per_section), sampling)
        with phase("seeds"):
            reach = [int(self.seed_distance / step / 2) for step in sampling]
            places = maxima(depths, reach, self.per_section)
            seeds = numbered_seeds(places, depths, self.per_section)
        with phase("flooding"):
            labels = flooded(depths, places, seeds, allowed if self.fill else inside)
        if self.size_threshold > 1:
            with phase("merging"):
                self._merge_small(affinities, labels)
        return Labels(labels, affinities.grid)

    def _merge_small(self, affinities: Affinities, labels: np.ndarray) -> None:
        """Merge the small of the fragments `labels`, in place; they are numbered anew, in the order of their seeds."""
        codes = -1 - labels.astype(np.int32 if labels.size < 2**31 else np.int64)
        sizes = np.bincount(labels.reshape(-1).view(np.int64))
        edges = Edges.of(affinities, labels != 0, self.per_section)
        roots = joined(edges, codes, sizes, self.size_threshold, np.float32(self.merge_threshold), np.float32(1))
        first = roots == np.arange(len(roots))
        first[0] = False
        ids = (np.cumsum(first) * first).astype(np.uint64)[roots]
        share(write_ids, labels.size, codes.reshape(-1), ids, labels.reshape(-1))

    def _sampling(self, affinities: Affinities) -> np.ndarray:
        """Lengths of a voxel along z, y and x, in the unit of distances; in sections that along z plays no part."""
        if not self.anisotropic:
            return np.ones(3)
        voxel_size = np.array(affinities.grid.voxel_size)
        sampling = voxel_size / voxel_size.min()
        return np.array([1, *sampling[1:]]) if self.per_section else sampling
