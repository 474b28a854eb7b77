"""Normalised expected run length as a metric."""

from collections.abc import Sequence

import numpy as np

from segkit.data import Labels, check_aligned
from segkit.data.skeletons import Skeletons
from segkit.errors import InvalidParameter, sentence
from segkit.evaluate.run_length import placed, run_length_scores
from segkit.evaluate.skeletonize import skeletonize
from segkit.protocols import Metric
from segkit.timing import phase


class Nerl(Metric):
    """Expected run length (ERL) on skeletons, and normalised by that of the perfect segmentation (NERL); 1 is perfect.

    How far one follows a neuron, from a place chosen at random, before the segmentation errs (Januszewski et al. 2018,
    doi:10.1038/s41592-018-0049-4). nerl_T and erl_um_T are those at which a segment that holds more than T nodes of
    each of two skeletons is merging, and none of its edges is correct. At T = 0 one node in a foreign neuron is a
    merger, and scores fall where a segmentation gets better: state T, and look at several. T counts nodes, so scores
    depend on how far these are apart; those made here are one voxel apart.

    The skeletons are made of the truth (by kimimaro, the extra `skeletons`), or read from a file that `segkit evaluate
    --skeletons` names.

    Parameters
    ----------
    tolerances
        T: so many nodes of another skeleton in a segment are no merger. NISB and PyTorch Connectomics use 50.
    scale, const
        Of skeletons that are made: a path takes with it what is nearer than `scale` times the distance to the boundary
        plus `const` nm.
    dust
        Of skeletons that are made: connected parts of objects of fewer voxels have none.
    """

    def __init__(
        self,
        *,
        tolerances: tuple[int, ...] = (0, 2, 10, 50),
        scale: float = 1.5,
        const: float = 300.0,
        dust: int = 1000,
    ) -> None:
        if not tolerances or min(tolerances) < 0 or len(set(tolerances)) < len(tolerances):
            rule = "must be numbers of nodes from 0 on, at least one, each once"
            raise InvalidParameter(sentence("tolerances", rule, list(tolerances), "take [0, 50]"))
        for name, value in (("scale", scale), ("const", const), ("dust", dust)):
            if not 0 <= value < np.inf:
                raise InvalidParameter(sentence(name, "must be a number from 0 on", value))
        self.tolerances: Sequence[int] = tuple(tolerances)
        self.scale, self.const, self.dust = scale, const, dust

    def skeletons(self, truth: Labels) -> Skeletons:
        """Skeletons of the objects of the truth; see :func:`segkit.evaluate.skeletonize.skeletonize`."""
        return skeletonize(truth, scale=self.scale, const=self.const, dust=self.dust)

    def of(self, skeletons: Skeletons, segments: np.ndarray) -> dict[str, float]:
        """The scores of nodes that lie in these segments, uint64 (N,)."""
        with phase("scores"):
            return run_length_scores(skeletons, segments, self.tolerances)

    def score(self, segmentation: Labels, truth: Labels) -> dict[str, float]:
        """The scores. Raises InvalidInput unless both are aligned, and the truth holds something that has a course."""
        check_aligned(segmentation=segmentation, truth=truth)
        skeletons, voxels = placed(self.skeletons(truth), truth.grid, truth.shape)
        return self.of(skeletons, segmentation.array[tuple(voxels.T)])
