"""The component `learned`."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from segkit.agglomerate.rag import Box
from segkit.data import Affinities, Labels, MergeTree, RegionAdjacencyGraph
from segkit.errors import InvalidInput, InvalidParameter, sentence
from segkit.protocols import Fitted, LearningAgglomerator, RagAgglomerator, Sample

from segkit_learned.merging import merge_in_rounds
from segkit_learned.model import Model, read_model

NEEDED = {"count": (), "sum": (4,), "histogram": (4, 12), "moments": (9,)}
"""Statistics of contacts and their shapes beside the contacts."""

RANGES = {
    "trees": (1, 2000),
    "leaves": (2, 255),
    "learning_rate": (0.001, 1),
    "forests": (1, 20),
    "walks": (0, 5),
    "weight": (0, 1),
    "seed": (0, 10**8),
}
"""The least and the largest value of each parameter; LightGBM counts seeds to 2^31, and each forest has its own."""


class Learned(RagAgglomerator, LearningAgglomerator):
    """Merge by what was learned from truth: gradient boosted trees judge each contact by its statistics.

    These are affinities by axis and as quantiles, long ones apart, size and shape of the contact, sizes of both sides,
    shares of their surfaces, and what else both touch. What is surely one is merged, its statistics are added, and all
    contacts are judged anew, in rounds: J. Nunez-Iglesias et al. 2013, doi:10.1371/journal.pone.0071715. A score is 1
    minus the probability that the merge lowers the variation of information, a decision counting by what it is worth;
    so large segments need more evidence.

    `segkit fit --backend learned` makes the file of a model. One made with a file only merges; the other parameters are
    for learning.

    Parameters
    ----------
    model
        A file of `segkit fit`. It is read when it is needed first.
    trees
        Trees of a forest, 1..2000.
    leaves
        Leaves of a tree at most, 2..255.
    learning_rate
        How much of what is left each tree learns, 0.001..1.
    forests
        Forests that are grown on other parts of the examples and averaged, 1..20: chance decides less.
    walks
        How often examples are taken from what a model makes of volumes that it has not seen, 0..5. 0: fragments alone.
    weight
        Power of the bits that a merge gains or loses, by which an example counts, 0..1. 1: a score is below 0.5 where
        the merge gains bits on average; 0: all examples alike.
    seed
        Of the examples and statistics that each tree is grown on, 0..100000000.
    """

    segkit_api = "1"
    segkit_claims: ClassVar[dict[str, object]] = {"ties_by_id": True, "any_voxels": False}
    segkit_example: ClassVar[dict[str, object]] = {"model": str(Path(__file__).with_name("example.json"))}

    def __init__(
        self,
        *,
        model: Path | None = None,
        trees: int = 100,
        leaves: int = 15,
        learning_rate: float = 0.05,
        forests: int = 4,
        walks: int = 1,
        weight: float = 1.0,
        seed: int = 0,
    ) -> None:
        given = locals()
        for name, (least, most) in RANGES.items():
            if not least <= given[name] <= most:
                raise InvalidParameter(sentence(name, f"must lie in {least}..{most}", given[name]))
        self.model = model
        self.trees = trees
        self.leaves = leaves
        self.learning_rate = learning_rate
        self.forests = forests
        self.walks = walks
        self.weight = weight
        self.seed = seed

    def fit(self, samples: Sequence[Sample]) -> Fitted:
        """Learn a model; its figures are the threshold to cut at, and the scores there of volumes left out in turn."""
        from segkit_learned.learning import Settings, learn

        chosen = Settings(self.trees, self.leaves, self.learning_rate, self.forests, self.walks, self.weight, self.seed)
        return learn(samples, chosen)

    @cached_property
    def learned(self) -> Model:
        """What the file says. Raises InvalidParameter if none is named, or it holds no model."""
        if self.model is None:
            next_step = "add --set model=FILE; `segkit fit --backend learned` makes one"
            raise InvalidParameter(
                sentence("parameter 'model' of agglomerator 'learned'", "must be given", None, next_step)
            )
        return read_model(self.model)

    def agglomerate(self, affinities: Affinities, fragments: Labels) -> MergeTree:
        """Build the graph, and merge it. Raises InvalidInput for affinities unlike those that it learned from."""
        self.check_neighborhood(affinities.neighborhood)
        return super().agglomerate(affinities, fragments)

    def check_neighborhood(self, neighborhood: np.ndarray) -> None:
        """Raise InvalidInput unless the offsets are all those that it learned from."""
        self.learned.check_offsets(neighborhood)

    def graph(self, affinities: Affinities, fragments: Labels, inner: Box | None = None) -> RegionAdjacencyGraph:
        """Build the graph with the statistics that the model speaks of; they add up."""
        from segkit_learned.statistics import contact_statistics

        self.learned.check(affinities)
        return contact_statistics(affinities, fragments, inner)

    def scores(self, rag: RegionAdjacencyGraph) -> np.ndarray:
        """Score each contact as it is."""
        _check(rag)
        return self.learned.scores(rag)

    def cluster(self, rag: RegionAdjacencyGraph) -> MergeTree:
        """Merge all that is joined, in rounds, from the statistics that `graph` gives; ties go by the lowest row."""
        _check(rag)
        return merge_in_rounds(rag, self.learned.scores)


def _check(rag: RegionAdjacencyGraph) -> None:
    for name, shape in NEEDED.items():
        if name not in rag.features or rag.features[name].shape[1:] != shape:
            raise InvalidInput(sentence("rag", f"must have the feature {name!r} as Learned.graph gives it"))
    for name in ("size", "positions"):
        if name not in rag.node_features:
            raise InvalidInput(sentence("rag", f"must have {name!r} of its nodes, as Learned.graph gives it"))
