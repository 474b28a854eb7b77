"""waterz' watershed."""

import numpy as np
from segkit.data import Affinities, Labels, Volume, check_aligned, edge_slices
from segkit.errors import InvalidInput, InvalidParameter, sentence
from segkit.protocols import Fragmenter
from segkit.timing import phase

from segkit_waterz.adapter import call, to_waterz

BELOW_ALL_SCORES = -1.0


class WaterzWatershed(Fragmenter):
    """Watershed on the affinity graph as in waterz (Zlateski and Seung 2015, arXiv:1505.00249).

    Every voxel joins the neighbour to which it has its highest affinity; basins are numbered in scan order of their
    first voxel. Affinities must be those of nearest neighbours. waterz also builds the graph of the basins, which
    takes most of the time.

    Parameters
    ----------
    low
        A voxel none of whose affinities is above this is background.
    high
        Voxels joined by an affinity of at least this are in one fragment, whatever the rest.
    """

    segkit_api = "1"

    def __init__(self, *, low: float = 0.0001, high: float = 0.9999) -> None:
        if not 0 <= low < high:
            value = f"{low} and {high}"
            raise InvalidParameter(sentence("low and high", "must be 0 or more, low below high", value))
        self.low = low
        self.high = high

    def fragment(self, affinities: Affinities, mask: Volume | None = None) -> Labels:
        """Fragments, numbered from 1 without gaps; 0 where `mask` is False and where all affinities are low.

        Edges into the masked region do not exist, so fragments do not meet through it.
        """
        check_aligned(affinities=affinities, mask=mask)
        if mask is not None and mask.array.dtype.kind == "f":
            raise InvalidInput(sentence("mask", "must hold booleans", mask.array.dtype, "compare it with a threshold"))
        with phase("converting"):
            converted = to_waterz(affinities)
            if mask is not None:
                converted = _without_edges_into(converted, mask.array == 0)
        options = {"aff_threshold_low": self.low, "aff_threshold_high": self.high}
        with phase("waterz"):
            return Labels(call(converted, BELOW_ALL_SCORES, **options), affinities.grid)


def _without_edges_into(affinities: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """A copy in which no edge (to the predecessor along z, y, x) touches a hidden voxel."""
    visible = np.where(hidden, np.float32(0), affinities)
    for channel, step in zip(visible, -np.eye(3, dtype=int), strict=True):
        here, there = edge_slices(hidden.shape, step)
        channel[here][hidden[there]] = 0
    return visible
