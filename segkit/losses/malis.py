"""MALIS: what each edge does to the segmentation, instead of how far it is from its target.

Affinities make a graph. Its nodes are the voxels inside the annotation, its edges those of the neighborhood, whatever
their affinity. Raise a threshold from 0 to 1: two voxels stay connected until their maximin edge goes, the weakest
edge on the path between them in the maximum spanning forest. Edges rank by affinity in float32, equal ones by their
flat index in (C, Z, Y, X), lower first. Background (label 0) makes no pairs, but is part of the graph and
carries paths, so that two objects that meet through it only are still decided by some edge there.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from segkit.data.affinities import as_neighborhood
from segkit.errors import InvalidInput, InvalidParameter, InvalidShape, sentence
from segkit.losses._forest import grow, pairs_by_label, pairs_inside
from segkit.losses._kernels_forest import PARTS
from segkit.losses._quasilinear import Pairs, counted_terms
from segkit.protocols import Loss, Prediction

MOST_EDGES = 2**31

Backend = Literal["auto", "cpu", "gpu", "higra"]
"""Which code counts the pairs; all give the same counts. "auto" is "gpu" on an accelerator and "cpu" elsewhere."""


class PairLoss(Loss):
    """What the MALIS losses share: the quasi-linear loss, given the pairs that each edge decides.

    For an edge of affinity a that decides P positive and N negative pairs it adds P * (1 - a)^2 and N * a^2. The counts
    are constants to the gradient. Each item of a batch is divided by its own number of pairs; the loss is their mean.
    """

    constrained: bool
    """Whether to count in two passes, as :class:`ConstrainedMalis` does, or in one."""

    def __init__(self, *, balanced: bool = True, backend: Backend = "auto") -> None:
        if backend not in get_args(Backend):
            raise InvalidParameter(sentence("backend", f"must be one of {', '.join(get_args(Backend))}", repr(backend)))
        self.balanced, self.backend = balanced, backend

    def __call__(self, prediction: Prediction) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, in 0..1, and its parts: "positive" counts wrong splits, "negative" wrong merges; they add up."""
        positive, negative = self._terms(prediction).mean(0)
        return positive + negative, {"positive": positive.detach(), "negative": negative.detach()}

    def _terms(self, prediction: Prediction) -> Tensor:
        """What positive and negative pairs add to the loss of each item, float32 (B, 2)."""
        arrays = prediction.affinities, prediction.labels, prediction.edges
        on_device = prediction.logits.device.type != "cpu" if self.backend == "auto" else self.backend == "gpu"
        if not on_device:
            return counted_terms(*arrays, self._counter(prediction.neighborhood), self.balanced)
        from segkit.losses.malis_device import pair_terms

        return pair_terms(*arrays, prediction.neighborhood, constrained=self.constrained, balanced=self.balanced)

    def _counter(self, neighborhood: np.ndarray) -> Callable[..., Pairs]:
        """What gives the pairs of one item from its affinities, labels and edges."""
        count = decided_pairs
        if self.backend == "higra":
            from segkit.losses.malis_higra import decided_pairs as count
        return partial(count, neighborhood=neighborhood, constrained=self.constrained)


class Malis(PairLoss):
    """MALIS in one pass, over all pairs: Turaga et al. 2009 (arXiv:0911.5372), quasi-linear (Funke et al. 2018).

    Pairs of voxels of one object are positive, of two objects negative; each is decided by its maximin edge in the
    graph of the predicted affinities. DOI of the quasi-linear form: 10.1109/TPAMI.2018.2835450.

    Parameters
    ----------
    balanced
        Give positive and negative pairs equal total weight; otherwise each pair has weight 1.
    backend
        What counts the pairs: "cpu", "gpu" (where the logits are), "higra" (slow, to check the others), or "auto":
        "gpu" for logits on an accelerator, "cpu" for others. All count alike.
    """

    constrained = False


class ConstrainedMalis(PairLoss):
    """Constrained MALIS in two passes: Funke et al. 2018 (DOI 10.1109/TPAMI.2018.2835450).

    The positive pass sees only edges inside objects, so that no path leaves an object to come back to it; pieces of an
    object that no edge inside it connects make no positive pairs with each other. The negative pass takes each edge
    inside an object as perfect and joins along it first, so that two objects are decided by an edge between them.

    Parameters
    ----------
    balanced
        Give positive and negative pairs equal total weight; otherwise each pair has weight 1.
    backend
        What counts the pairs: "cpu", "gpu" (where the logits are), "higra" (slow, to check the others), or "auto":
        "gpu" for logits on an accelerator, "cpu" for others. All count alike.
    """

    constrained = True


def pair_counts(
    affinities: ArrayLike, labels: ArrayLike, edges: ArrayLike, neighborhood: ArrayLike, *, constrained: bool
) -> tuple[np.ndarray, np.ndarray]:
    """For each edge the number of positive and of negative pairs of voxels whose maximin edge it is.

    `affinities`, in 0..1, and `edges`, bool, have shape (C, Z, Y, X); `labels`, integers, (Z, Y, X); `neighborhood`
    holds C offsets. `constrained` chooses the definition of :class:`ConstrainedMalis` instead of :class:`Malis`.
    Returns (positive, negative), both int64 (C, Z, Y, X). Raises InvalidInput if an affinity of an edge is not in 0..1
    (NaN, say), if an edge leaves the volume, or if shapes disagree.

    Four voxels in a row: two of object 1, one of background, one of object 2. The edge inside object 1 decides one
    positive pair; of the edges across the background the weaker one decides both negative pairs.

    >>> labels = np.array([[[1, 1, 0, 2]]])
    >>> affinities = np.array([[[[0, 0.9, 0.7, 0.4]]]])
    >>> edges = np.array([[[[False, True, True, True]]]])
    >>> positive, negative = pair_counts(affinities, labels, edges, [(0, 0, -1)], constrained=True)
    >>> positive.ravel().tolist(), negative.ravel().tolist()
    ([0, 1, 0, 0], [0, 0, 0, 2])
    """
    return dense(decided_pairs(affinities, labels, edges, neighborhood, constrained=constrained), np.shape(affinities))


def decided_pairs(
    affinities: ArrayLike, labels: ArrayLike, edges: ArrayLike, neighborhood: ArrayLike, *, constrained: bool
) -> Pairs:
    """What :func:`pair_counts` counts, for the edges that decide any pair; the same arguments and errors.

    The edges of each object come in the order in which they join components, strongest first, and so do those between
    objects; without `constrained` all do.
    """
    affinities, labels, edges, neighborhood = checked(affinities, labels, edges, neighborhood)
    _, height, width = labels.shape
    steps = neighborhood @ np.array([height * width, width, 1])
    labels = labels.reshape(-1)
    forest = grow(affinities.reshape(-1).view(np.int32), edges.reshape(-1), labels, steps, constrained)
    if forest is None:
        raise bad_affinity(affinities, _first_bad(affinities, edges))
    parent = np.full(len(forest.roots), -1, np.int32)
    if not constrained:
        return Pairs(*pairs_by_label(forest, forest.sorted(0), steps, labels, parent))
    positive = pairs_inside(forest, steps, parent)
    _, negative = pairs_by_label(forest, forest.sorted(PARTS), steps, labels, parent)
    return Pairs(positive, negative)


def dense(pairs: Pairs, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The counts as two int64 arrays of `shape`, (C, Z, Y, X)."""
    counts = np.zeros((2, *shape), np.int64)
    for flat, decided in zip(counts.reshape(2, -1), pairs, strict=True):
        some = decided.pairs > 0
        flat[decided.edges[some]] = decided.pairs[some]
    return counts[0], counts[1]


def checked(
    affinities: ArrayLike, labels: ArrayLike, edges: ArrayLike, neighborhood: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Affinities as float32, labels as int64, edges as bool, the neighborhood; read-only; raises unless they fit."""
    affinities = np.ascontiguousarray(affinities, np.float32)
    labels, edges = np.asarray(labels), np.ascontiguousarray(edges)
    neighborhood = as_neighborhood(neighborhood)
    shape = (len(neighborhood), *labels.shape)
    if labels.ndim != 3 or affinities.shape != shape or edges.shape != shape:
        value = f"{affinities.shape}, {edges.shape}, {labels.shape} and {len(neighborhood)} offsets"
        rule = "must have shapes (C, Z, Y, X), (C, Z, Y, X), (Z, Y, X) and C offsets"
        raise InvalidShape(sentence("affinities, edges, labels and neighborhood", rule, value))
    if affinities.size >= MOST_EDGES:
        raise InvalidShape(sentence("affinities", "must have fewer than 2^31 values", affinities.size, "crop them"))
    if edges.dtype != bool or labels.dtype.kind not in "iu":
        raise InvalidInput(
            sentence("edges and labels", "must be bool and integers", f"{edges.dtype} and {labels.dtype}")
        )
    if _any_leaves(edges, neighborhood):
        raise InvalidInput(
            sentence("edges", "must be False where an edge leaves the volume", next_step="use edge_mask")
        )
    labels = np.ascontiguousarray(labels).astype(np.int64, copy=False)
    return _read_only(affinities), _read_only(labels), _read_only(edges), neighborhood


def _any_leaves(edges: np.ndarray, neighborhood: np.ndarray) -> bool:
    for channel, offset in zip(edges, neighborhood, strict=True):
        for axis in np.flatnonzero(offset):
            planes, step = np.moveaxis(channel, axis, 0), offset[axis]
            if (planes[-step:] if step > 0 else planes[:-step]).any():
                return True
    return False


def _read_only(array: np.ndarray) -> np.ndarray:
    """A read-only view, so that kernels are compiled for one type only."""
    view = array.view()
    view.flags.writeable = False
    return view


def bad_affinity(affinities: np.ndarray, index: int) -> InvalidInput:
    """The error for the affinity at a flat index."""
    where = tuple(int(i) for i in np.unravel_index(index, affinities.shape))
    value = f"{affinities[where]} at (channel, z, y, x) {where}"
    return InvalidInput(sentence("affinities", "must lie in 0..1 and not be NaN", value))


def _first_bad(affinities: np.ndarray, edges: np.ndarray) -> int:
    return int(np.flatnonzero(edges & ~((affinities >= 0) & (affinities <= 1)))[0])
