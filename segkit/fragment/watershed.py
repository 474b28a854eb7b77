"""Seeded watershed on the distance to the nearest boundary, as the Funke lab does it."""

import cc3d
import edt
import numpy as np

from segkit.data import Affinities, Labels, Volume
from segkit.fragment._shared import (
    Statistic,
    check_at_least,
    check_unit,
    checked_mask,
    slabs,
    stacked,
    voxel_affinity,
)
from segkit.protocols import Fragmenter


class Watershed(Fragmenter):
    """Seeded watershed on the distance to the nearest boundary (Funke et al. 2018, doi:10.1109/TPAMI.2018.2835450).

    A voxel is inside if the mean affinity of its edges exceeds a threshold. Maxima of the Euclidean distance to the
    nearest voxel that is not inside are seeds, and the seeds flood everything in the mask, deepest places first.
    The border of the volume is no boundary; that of the mask is one. A volume without any boundary is one fragment.
    Voxels stay 0 outside the mask, in pieces of the mask without any inside voxel, and everywhere if no voxel is
    inside.

    Unlike the original, the mean is over a voxel's edges to both sides (its predecessors and its successors), so
    that fragments do not lean half a voxel to one side, and edges that leave the volume do not count as 0 in it.

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
    ) -> None:
        check_unit("threshold", threshold)
        check_at_least("seed_distance", seed_distance, 1)
        self.threshold = threshold
        self.per_section = per_section
        self.seed_distance = seed_distance
        self.statistic = statistic
        self.anisotropic = anisotropic
        self.fill = fill

    def fragment(self, affinities: Affinities, mask: Volume | None = None) -> Labels:
        """Fragments, numbered from 1 without gaps; see the class for the voxels that stay 0.

        Raises InvalidInput if a neighbour's edge is missing from the neighborhood or the mask is not aligned.
        """
        allowed = checked_mask(affinities, mask)
        inside = voxel_affinity(affinities, allowed, self.per_section, self.statistic) > self.threshold
        if allowed is not None:
            inside &= allowed
        voxel_size = np.array(affinities.grid.voxel_size) if self.anisotropic else np.ones(3)
        sampling = voxel_size / voxel_size.min()
        parts = (
            self._flood(inside[slab], None if allowed is None else allowed[slab], sampling)
            for slab in slabs(affinities.shape, self.per_section)
        )
        return Labels(stacked(parts, affinities.shape, self.per_section), affinities.grid)

    def _flood(self, inside: np.ndarray, allowed: np.ndarray | None, sampling: np.ndarray) -> tuple[np.ndarray, int]:
        """Fragments of one slab, numbered from 1, and their number."""
        distance = boundary_distance(inside, sampling)
        seeds, count = maxima(distance, inside, self.seed_distance, sampling)
        if count == 0:
            return seeds, 0
        return seeded_watershed(distance, seeds, allowed if self.fill else inside), count


def boundary_distance(inside: np.ndarray, sampling: np.ndarray) -> np.ndarray:
    """Distance from each inside voxel to the nearest that is not, float32; 0 there; constant if there is none."""
    if inside.all():
        return np.ones(inside.shape, np.float32)
    return edt.edt(np.ascontiguousarray(inside), anisotropy=tuple(sampling), black_border=False)


def maxima(distance: np.ndarray, inside: np.ndarray, window: int, sampling: np.ndarray) -> tuple[np.ndarray, int]:
    """Seeds, numbered from 1, and their number: inside voxels that no other in the window around them exceeds.

    Adjacent maxima (a plateau, corners included) are one seed.
    """
    from scipy.ndimage import maximum_filter

    size = [2 * int(window / step / 2) + 1 for step in sampling]
    peaks = inside & (maximum_filter(distance, size=size, mode="nearest") == distance)
    return cc3d.connected_components(peaks, connectivity=26, return_N=True, out_dtype=np.uint32)


def seeded_watershed(distance: np.ndarray, seeds: np.ndarray, allowed: np.ndarray | None) -> np.ndarray:
    """Flood from the seeds through `allowed` (6-connected; None: everywhere), largest distance first.

    Voxels that no seed reaches stay 0. Of equal distances, that reached first is flooded first.
    """
    from skimage.segmentation import watershed

    return watershed(-distance, markers=seeds.astype(np.int32), mask=allowed, connectivity=1)
