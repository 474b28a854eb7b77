"""bioimage-cpp's seeded watershed."""

from typing import Literal

import numpy as np
from scipy import ndimage
from segkit.data import Affinities, Labels, Volume, check_aligned, edge_slices
from segkit.errors import InvalidInput, InvalidParameter, sentence
from segkit.protocols import Fragmenter
from segkit.threads import thread_count


class BioimageWatershed(Fragmenter):
    """Seeded watershed by bioimage-cpp, with seeds as in Funke et al. 2018 (doi:10.1109/TPAMI.2018.2835450).

    A voxel is inside if the mean affinity of its edges to direct neighbours exceeds a threshold; maxima of the
    distance to the nearest voxel that is not inside are seeds. They flood the mask. Heights are rounded to 65,536
    levels, and within a level the order is the library's: segkit's own `watershed` is exact. Voxels stay 0 outside
    the mask, where no seed reaches, and everywhere if no voxel is inside; a volume without boundary is one fragment.

    Parameters
    ----------
    threshold
        Affinity in 0..1 above which a voxel is inside; a higher one gives more and smaller fragments.
    seed_distance
        Edge of the window, in voxels, in which a seed is a maximum; even sizes count as the next odd one.
    height
        What is flooded: "distance" takes the places farthest from boundaries first, "affinity" those of the highest
        mean affinity.
    per_section
        Treat each section apart, by the edges in its plane only.
    """

    segkit_api = "1"

    def __init__(
        self,
        *,
        threshold: float = 0.5,
        seed_distance: int = 10,
        height: Literal["distance", "affinity"] = "distance",
        per_section: bool = False,
    ) -> None:
        if not 0 <= threshold <= 1:
            raise InvalidParameter(sentence("threshold", "must lie in 0..1", threshold))
        if seed_distance < 1:
            raise InvalidParameter(sentence("seed_distance", "must be at least 1", seed_distance))
        self.threshold = threshold
        self.seed_distance = seed_distance
        self.height = height
        self.per_section = per_section

    def fragment(self, affinities: Affinities, mask: Volume | None = None) -> Labels:
        """Fragments, numbered from 1 without gaps; 0 where `mask` is False. Edges into the masked region do not count.

        Raises InvalidInput if the edges to a neighbour are missing from the neighborhood.
        """
        check_aligned(affinities=affinities, mask=mask)
        if mask is not None and mask.array.dtype.kind == "f":
            raise InvalidInput(sentence("mask", "must hold booleans", mask.array.dtype, "compare it with a threshold"))
        affinities.check()
        allowed = np.ones(affinities.shape, bool) if mask is None else np.ascontiguousarray(mask.array != 0)
        mean = _mean_affinity(affinities, allowed, self.per_section)
        labels, last = np.zeros(affinities.shape, np.uint64), 0
        for z in range(len(labels)) if self.per_section else [slice(None)]:
            part = self._flooded(mean[z], allowed[z])
            labels[z] = np.where(part, part + np.uint64(last), np.uint64(0))
            last += int(part.max())
        return Labels(labels, affinities.grid)

    def _flooded(self, mean: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        """The fragments of a section or of a volume, uint64."""
        from bioimage_cpp.segmentation import watershed

        inside = allowed & (mean > self.threshold)
        if not inside.any():
            return np.zeros(mean.shape, np.uint64)
        distance = _distance(inside)
        window = self.seed_distance // 2 * 2 + 1
        highest = ndimage.maximum_filter(distance, window, mode="nearest")
        seeds = ndimage.label(inside & (distance == highest), output=np.int32)[0]
        heights = distance.max() - distance if self.height == "distance" else 1 - mean
        return watershed(heights, seeds.astype(np.uint64), mask=allowed)


def _distance(inside: np.ndarray) -> np.ndarray:
    """Distance to the nearest voxel that is not inside, float32; 1 all over if there is none."""
    from bioimage_cpp.distance import distance_transform

    if inside.all():  # the library would measure from a row of voxels before the first
        return np.ones(inside.shape, np.float32)
    return distance_transform(inside, number_of_threads=thread_count())


def _mean_affinity(affinities: Affinities, allowed: np.ndarray, per_section: bool) -> np.ndarray:
    """Of the edges of each voxel to both sides, float32 (Z, Y, X); 1 where a voxel has none."""
    total, number = np.zeros(affinities.shape, np.float32), np.zeros(affinities.shape, np.uint8)
    for channel in _nearest_channels(affinities, per_section):
        source, target = edge_slices(affinities.shape, affinities.neighborhood[channel])
        exists = allowed[source] & allowed[target]
        values = np.where(exists, affinities.array[channel][source], np.float32(0))
        for end in (source, target):
            total[end] += values
            number[end] += exists
    return np.divide(total, number, out=np.ones_like(total), where=number > 0)


def _nearest_channels(affinities: Affinities, per_section: bool) -> list[int]:
    steps = np.abs(affinities.neighborhood).tolist()
    found = []
    for axis, name in list(enumerate("zyx"))[per_section:]:
        unit = [int(axis == a) for a in range(3)]
        if unit in steps:
            found.append(steps.index(unit))
        elif affinities.shape[axis] > 1:
            rule = f"must have the edge to the next voxel along {name}"
            raise InvalidInput(sentence("neighborhood", rule, affinities.neighborhood.tolist()))
    return found
