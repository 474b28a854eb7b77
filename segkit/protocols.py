"""Every plug point of segkit on one page: what a plugin author reads first.

A component is a class. Its constructor takes explicit, typed keyword parameters with defaults and nothing else
(no ``*args``, no ``**kwargs``), because the command line reads them from the signature. A distribution offers it by
an entry point in one of the groups of :data:`GROUPS`; the name of the entry point is the name users type::

    [project.entry-points."segkit.agglomerators"]
    my-agglomerator = "my_package:MyAgglomerator"

What every component promises:

- It changes no input and returns nothing that shares memory with an input or with an earlier result.
- Equal inputs give equal outputs, at any number of threads; ties go by the lowest index.
- It keeps no global state, prints nothing, writes no file, and reads none but those that parameters of the type
  ``Path`` name (what was learned, say), when it is used first and not when it is made.
- Bad input raises an error from :mod:`segkit.errors` whose one sentence names the argument, the rule, the value and
  the next step. It never gives a silent wrong answer.

It may state ``segkit_api = "1"``, the version of this page that it was written for; a mismatch is reported by name.
It may also state ``segkit_claims``, a mapping of attributes of its suite in :mod:`segkit.testing`, such as
``{"merges_all": False}``: what it claims beyond this page, or does not; ``segkit plugins check`` goes by it. Where that
shall try it with other parameters than the defaults, ``segkit_example`` states them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from segkit.data import Affinities, Labels, MergeTree, RegionAdjacencyGraph, Volume

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

API_VERSION = "1"

GROUPS = {
    "models": "segkit.models",
    "losses": "segkit.losses",
    "fragmenters": "segkit.fragmenters",
    "agglomerators": "segkit.agglomerators",
    "metrics": "segkit.metrics",
}
"""Kind of component -> entry-point group."""


@runtime_checkable
class Model(Protocol):
    """A torch.nn.Module that maps raw data to logits of affinities.

    Its constructor takes `channels`, the number of output channels C (one an offset of the neighborhood; channels that
    are only learned beside affinities come after these), beside parameters of its own. One of them may be `voxel_size`,
    which training fills in from the data where another one is "auto". forward maps float (B, S, [Z,] Y, X) to logits
    (B, C, [Z,] Y, X): S is `sections` for 2-D networks and 1 for 3-D ones. All shapes below have `ndim` entries.
    """

    ndim: int
    """2 or 3: the number of spatial axes of forward's input."""
    sections: int
    """Input sections for one output section; the output belongs to the central one. 1 for 3-D models."""

    @property
    def stride(self) -> tuple[int, ...]:
        """Tilings agree if tiles step by multiples of this many voxels along each axis."""

    def output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """Spatial shape of the output. Raises InvalidShape, naming the nearest valid sizes, for an invalid input."""

    def input_shape(self, output_shape: Sequence[int]) -> tuple[int, ...]:
        """The smallest valid input whose output is at least `output_shape`."""

    @property
    def context(self) -> tuple[int, ...]:
        """Voxels that a valid network loses along each axis, both sides together; 0 where it pads."""

    def forward(self, raw: "Tensor") -> "Tensor":
        """Logits, not affinities: losses and inference apply the sigmoid."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a loss sees. 2-D networks have Z = 1, so that a loss knows one layout only."""

    logits: "Tensor"
    """Output of the model, any float dtype, (B, C, Z, Y, X)."""
    target: "Tensor"
    """True affinities, float32 (B, C, Z, Y, X): 1 = same object."""
    labels: "Tensor"
    """Objects, int64 (B, Z, Y, X); 0 = background. Ids are unique within one item of the batch."""
    mask: "Tensor"
    """bool (B, Z, Y, X): False outside the annotation. Such voxels are in no edge and in no pair."""
    edges: "Tensor"
    """bool (B, C, Z, Y, X): which edges exist: both ends inside the patch and inside the mask."""
    neighborhood: "NDArray[np.int64]"
    """Offset of each channel, int64 (C, 3), z, y, x."""

    @cached_property
    def affinities(self) -> "Tensor":
        """The sigmoid of the logits, in float32."""
        return self.logits.float().sigmoid()


class Loss(ABC):
    """A number to be made small.

    Deterministic; differentiable by torch with respect to `prediction.logits`; finite for every valid prediction,
    those without any edge or object included (then 0, with a gradient of 0). One that learns parameters of its own is a
    torch.nn.Module as well: they are optimised with the network.
    """

    @abstractmethod
    def __call__(self, prediction: Prediction) -> "tuple[Tensor, dict[str, Tensor]]":
        """A scalar float32 tensor, and its named parts, detached, for the log."""


class Fragmenter(ABC):
    """Cuts a volume into fragments, each inside one neuron if all goes well."""

    @abstractmethod
    def fragment(self, affinities: Affinities, mask: Volume | None = None) -> Labels:
        """Fragments, numbered from 1 without gaps, on the grid of `affinities`; 0 where `mask` is False."""


class Agglomerator(ABC):
    """Merges fragments into segments.

    It takes affinities and fragments, not their region adjacency graph, because some implementations build their
    own; :class:`RagAgglomerator` is for those that want the graph.
    """

    @abstractmethod
    def agglomerate(self, affinities: Affinities, fragments: Labels) -> MergeTree:
        """All merges, best first, with scores in 0..1: 0 = surely the same neuron, 1 = surely not.

        Every fragment id except 0 (and "outside") is a leaf. Fragments that share no affinity edge, directly or
        through others, stay in separate trees. Raises unless both inputs are aligned.
        """


class RagAgglomerator(Agglomerator):
    """An agglomerator that works on the region adjacency graph, which segkit builds for it."""

    @property
    def features(self) -> tuple[str, ...]:
        """The statistics it wants for each edge: see :func:`segkit.agglomerate.rag.region_adjacency_graph`.

        A subclass may define it as a plain attribute of the class.
        """
        return ("count", "sum")

    def agglomerate(self, affinities: Affinities, fragments: Labels) -> MergeTree:
        """Build the graph, and cluster it."""
        return self.cluster(self.graph(affinities, fragments))

    def graph(
        self, affinities: Affinities, fragments: Labels, inner: tuple[slice, slice, slice] | None = None
    ) -> RegionAdjacencyGraph:
        """Build the graph that :meth:`cluster` takes, with the statistics in `features`.

        Arguments and errors are those of :func:`segkit.agglomerate.rag.region_adjacency_graph`. An agglomerator that
        wants statistics of its own overrides it. By blocks, graphs of parts are put together, and `affinities` may
        have some of the channels only: nodes and edges must be those of that function, and statistics integers, of
        edges and of nodes, that add up (of "min" and "max", the extreme counts).
        """
        from segkit.agglomerate.rag import region_adjacency_graph

        return region_adjacency_graph(affinities, fragments, features=self.features, inner=inner)

    def check_neighborhood(self, neighborhood: "NDArray[np.int64]") -> None:
        """Raise InvalidInput for affinities of offsets, int64 (C, 3), that it cannot do with: here there are none.

        By blocks this is asked first, since parts of the graph are made of some of the channels.
        """

    @property
    def reducible(self) -> bool:
        """Whether parts of a graph may be merged before the rest is known, as volumes larger than memory are.

        True promises that the pair of lowest score merges, of equal scores that of the lowest row of `rag`, whatever
        order the rows are in; that nothing but the scores decides; that the statistics of a united contact are those
        of its parts added up (of "min" and "max", the extreme); and that its score, which `scores` must give, is never
        below the lower of theirs. Where it is False, the graph of the whole volume is clustered at once.
        """
        return False

    def scores(self, rag: RegionAdjacencyGraph) -> "NDArray[np.float64]":
        """The score of each edge of `rag` as it is, float64 (E,). To be given by those that are `reducible`."""
        raise NotImplementedError(f"{type(self).__name__} gives no scores of contacts")

    @abstractmethod
    def cluster(self, rag: RegionAdjacencyGraph) -> MergeTree:
        """All merges of the nodes of `rag`, which become the leaves, in the same order."""


@dataclass(frozen=True, eq=False)
class Sample:
    """What an agglomerator learns from; all three on one grid."""

    affinities: Affinities
    """Of a network that was trained on other volumes: those that it knows are better than any it will see."""
    fragments: Labels
    """What the affinities were cut into, as later volumes will be."""
    truth: Labels
    """Objects; 0 and voxels outside the annotation say nothing."""


@dataclass(frozen=True)
class Fitted:
    """What was learned."""

    model: str
    """The content of a file, text, that the parameter `model` of the agglomerator takes the name of."""
    figures: Mapping[str, float]
    """What learning came to, for people and recipes: "threshold" is the one to cut at."""


class LearningAgglomerator(Agglomerator):
    """An agglomerator that learns from truth how to merge.

    Its constructor has a parameter `model`, of the type ``Path | None``: the file to merge by. Without one it can only
    learn; its other parameters say how.
    """

    @abstractmethod
    def fit(self, samples: Sequence[Sample]) -> Fitted:
        """Learn from all samples, at least one; equal samples give an equal model.

        The threshold holds for new volumes: it is found on samples, or parts of them, that what is tried has not seen.
        Raises InvalidInput where samples do not fit together, or nothing can be learned of them.
        """


class Metric(ABC):
    """Compares a segmentation with the truth."""

    @abstractmethod
    def score(self, segmentation: Labels, truth: Labels) -> Mapping[str, float]:
        """Scores by name. Voxels outside the annotation of the truth do not count; aligned inputs only."""
