"""The mutex watershed on voxels."""

import numpy as np
from segkit.data import Affinities, Labels, Volume, check_aligned, edge_slices
from segkit.errors import InvalidInput, InvalidParameter, sentence
from segkit.protocols import Fragmenter

from segkit_bioimage.channels import check_channels, divided, predecessors

NEVER = -1.0
"""Below all weights: an edge that repels and comes last changes nothing, for everything is decided by then."""


class MutexWatershed(Fragmenter):
    """Mutex watershed of bioimage-cpp (Wolf et al. 2020, doi:10.1109/TPAMI.2020.2980827).

    Edges are taken in the order of their weight: an attractive edge unites what its ends belong to, unless an edge
    taken before keeps the two apart; a repulsive edge keeps them apart from then on. An attractive edge weighs its
    affinity, a repulsive one 1 - its affinity. No threshold is needed, and there is no background: every voxel of the
    mask is in a fragment, of one voxel where nothing attracts it in time. Takes some 30 bytes an edge.

    Parameters
    ----------
    attractive
        The channels that attract; the others repel. By default those of direct neighbours attract.
    strides
        Of the repulsive edges use those whose later end lies at multiples of these steps along z, y and x only.
    randomised
        Instead keep each repulsive edge with the probability 1 / product of `strides`.
    seed
        Of that choice.
    smallest
        Fragments of fewer voxels become background, 0.
    """

    segkit_api = "1"

    def __init__(
        self,
        *,
        attractive: tuple[int, ...] | None = None,
        strides: tuple[int, int, int] = (1, 1, 1),
        randomised: bool = False,
        seed: int = 0,
        smallest: int = 1,
    ) -> None:
        for name, value, least in (("strides", min(strides), 1), ("seed", seed, 0), ("smallest", smallest, 1)):
            if value < least:
                raise InvalidParameter(sentence(name, f"must be at least {least}", value))
        self.attractive = check_channels(attractive)
        self.strides = strides
        self.randomised = randomised
        self.seed = seed
        self.smallest = smallest

    def fragment(self, affinities: Affinities, mask: Volume | None = None) -> Labels:
        """Fragments, numbered from 1 without gaps in the order of their first voxel; 0 where `mask` is False.

        Edges into the masked region do not exist. Raises InvalidInput unless some channels attract and others repel.
        """
        from bioimage_cpp.segmentation import mutex_watershed

        check_aligned(affinities=affinities, mask=mask)
        if mask is not None and mask.array.dtype.kind == "f":
            raise InvalidInput(sentence("mask", "must hold booleans", mask.array.dtype, "compare it with a threshold"))
        affinities.check()
        pulling, pushing = divided(affinities, self.attractive)
        labels = mutex_watershed(
            self._weights(affinities, pulling, pushing),
            predecessors(affinities.neighborhood[pulling + pushing]).tolist(),
            len(pulling),
            strides=None if self.randomised else self.strides,
            mask=None if mask is None else np.ascontiguousarray(mask.array != 0),
        )
        return Labels(self._numbered(labels), affinities.grid)

    def _weights(self, affinities: Affinities, pulling: list[int], pushing: list[int]) -> np.ndarray:
        """float32 (C, Z, Y, X): attractive channels first, as the library wants them, edges at their later end."""
        weights = np.zeros((len(pulling) + len(pushing), *affinities.shape), np.float32)
        for weight, channel in zip(weights, pulling + pushing, strict=True):
            offset = affinities.neighborhood[channel]
            source, target = edge_slices(affinities.shape, offset)
            later = source if (predecessors(offset) == offset).all() else target
            values = affinities.array[channel][source]
            weight[later] = 1 - values if channel in pushing else values
        if self.randomised:
            chosen = np.random.default_rng(self.seed).random((len(pushing), *affinities.shape), np.float32)
            weights[len(pulling) :][chosen * np.prod(self.strides) >= 1] = NEVER
        return weights

    def _numbered(self, labels: np.ndarray) -> np.ndarray:
        """Small fragments out, the others in the order of their first voxel."""
        import fastremap

        sizes = np.bincount(labels.reshape(-1))
        small = sizes < self.smallest
        kept = np.where(small[labels], np.uint64(0), labels) if small.any() else labels
        return fastremap.renumber(np.ascontiguousarray(kept), start=1, preserve_zero=True)[0].astype(np.uint64)
