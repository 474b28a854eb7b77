"""Connected components of the voxels whose mean affinity is high."""

import cc3d
import numpy as np

from segkit.data import Affinities, Labels, Volume
from segkit.fragment._shared import (
    Statistic,
    check_at_least,
    check_unit,
    checked_mask,
    slabs,
    stacked,
    voxels_above,
)
from segkit.protocols import Fragmenter


class Threshold(Fragmenter):
    """Connected components of the voxels whose mean affinity exceeds a threshold: the simplest fragments.

    Components are 6-connected, 4-connected in sections. The mean is over a voxel's edges to both sides. All other
    voxels, those of boundaries above all, stay 0.

    Parameters
    ----------
    threshold
        Affinity in 0..1 that must be exceeded; a higher one gives fewer mergers and more background.
    per_section
        Treat each section apart, by the edges in its plane only.
    min_size
        Components of fewer voxels than this become 0.
    statistic
        What is compared with the threshold: the "mean" of a voxel's affinities, or the "min".
    """

    def __init__(
        self,
        *,
        threshold: float = 0.5,
        per_section: bool = False,
        min_size: int = 0,
        statistic: Statistic = "mean",
    ) -> None:
        check_unit("threshold", threshold)
        check_at_least("min_size", min_size, 0)
        self.threshold = threshold
        self.per_section = per_section
        self.min_size = min_size
        self.statistic = statistic

    def fragment(self, affinities: Affinities, mask: Volume | None = None) -> Labels:
        """Fragments, numbered from 1 without gaps; 0 outside the mask, on boundaries and in small components.

        Raises InvalidInput if a neighbour's edge is missing from the neighborhood or the mask is not aligned.
        """
        allowed = checked_mask(affinities, mask)
        inside = voxels_above(affinities, allowed, self.per_section, self.statistic, self.threshold)
        parts = (self._components(inside[slab]) for slab in slabs(affinities.shape, self.per_section))
        return Labels(stacked(parts, affinities.shape, self.per_section), affinities.grid)

    def _components(self, inside: np.ndarray) -> tuple[np.ndarray, int]:
        components, count = cc3d.connected_components(inside, connectivity=6, return_N=True, out_dtype=np.uint32)
        if self.min_size <= 1:
            return components, count
        keep = np.bincount(components.ravel(), minlength=count + 1) >= self.min_size
        keep[0] = False
        return (np.cumsum(keep) * keep)[components], int(keep.sum())
