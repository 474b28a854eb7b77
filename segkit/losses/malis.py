"""MALIS: what each edge does to the segmentation, instead of how far it is from its target.

Affinities make a graph. Its nodes are the voxels inside the annotation, its edges those of the neighborhood, whatever
their affinity. Raise a threshold from 0 to 1: two voxels stay connected until their maximin edge goes, the weakest
edge on the path between them in the maximum spanning forest. Edges rank by affinity in float32, equal ones by their
flat index in (C, Z, Y, X), lower first. Background (label 0) makes no pairs, but is part of the graph and
carries paths, so that two objects that meet through it only are still decided by some edge there.
"""

from abc import abstractmethod
from typing import NamedTuple

import fastremap
import numpy as np
import torch
from torch import Tensor

from segkit.data import edge_mask
from segkit.data.affinities import as_neighborhood
from segkit.errors import InvalidInput, InvalidShape, sentence
from segkit.losses import _kernels
from segkit.protocols import Loss, Prediction

MOST_EDGES = 2**32


class Pairs(NamedTuple):
    """Edges and the number of pairs that each decides, of one item; edges that decide none are left out."""

    positive_edges: np.ndarray
    """Flat indices in (C, Z, Y, X), int64."""
    positive: np.ndarray
    """Pairs of voxels of one object whose maximin edge it is, int64."""
    negative_edges: np.ndarray
    """Flat indices, int64."""
    negative: np.ndarray
    """Pairs of voxels of different objects, int64."""


class PairLoss(Loss):
    """What the MALIS losses share: the quasi-linear loss, given the pairs that each edge decides.

    For an edge of affinity a that decides P positive and N negative pairs it adds P * (1 - a)^2 and N * a^2. The counts
    are constants to the gradient. Each item of a batch is divided by its own number of pairs; the loss is their mean.
    """

    def __init__(self, *, balanced: bool = True) -> None:
        self.balanced = balanced

    @abstractmethod
    def pairs(self, affinities: np.ndarray, labels: np.ndarray, edges: np.ndarray, neighborhood: np.ndarray) -> Pairs:
        """The pairs that each edge of one item decides."""

    def __call__(self, prediction: Prediction) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, in 0..1, and its parts: "positive" counts wrong splits, "negative" wrong merges; they add up."""
        items = [self._item(prediction, item) for item in range(len(prediction.labels))]
        positive, negative = torch.stack(items).mean(0)
        return positive + negative, {"positive": positive.detach(), "negative": negative.detach()}

    def _item(self, prediction: Prediction, item: int) -> Tensor:
        affinities = prediction.affinities[item]
        arrays = (affinities.detach(), prediction.labels[item], prediction.edges[item])
        pairs = self.pairs(*(array.cpu().numpy() for array in arrays), prediction.neighborhood)
        totals = [int(pairs.positive.sum()), int(pairs.negative.sum())]
        divisors = [2 * max(total, 1) for total in totals] if self.balanced else [max(sum(totals), 1)] * 2
        flat = affinities.reshape(-1)
        positive = _weighted_errors(flat, pairs.positive_edges, pairs.positive / divisors[0], target=1.0)
        negative = _weighted_errors(flat, pairs.negative_edges, pairs.negative / divisors[1], target=0.0)
        return torch.stack([positive, negative])


class Malis(PairLoss):
    """MALIS in one pass, over all pairs: Turaga et al. 2009 (arXiv:0911.5372), quasi-linear (Funke et al. 2018).

    Pairs of voxels of one object are positive, of two objects negative; each is decided by its maximin edge in the
    graph of the predicted affinities. DOI of the quasi-linear form: 10.1109/TPAMI.2018.2835450.

    Parameters
    ----------
    balanced
        Give positive and negative pairs equal total weight; otherwise each pair has weight 1.
    """

    def pairs(self, affinities: np.ndarray, labels: np.ndarray, edges: np.ndarray, neighborhood: np.ndarray) -> Pairs:
        """The pairs that each edge of one item decides."""
        return decided_pairs(affinities, labels, edges, neighborhood, constrained=False)


class ConstrainedMalis(PairLoss):
    """Constrained MALIS in two passes: Funke et al. 2018 (DOI 10.1109/TPAMI.2018.2835450).

    The positive pass sees only edges inside objects, so that no path leaves an object to come back to it; pieces of an
    object that no edge inside it connects make no positive pairs with each other. The negative pass takes each edge
    inside an object as perfect and joins along it first, so that two objects are decided by an edge between them.

    Parameters
    ----------
    balanced
        Give positive and negative pairs equal total weight; otherwise each pair has weight 1.
    """

    def pairs(self, affinities: np.ndarray, labels: np.ndarray, edges: np.ndarray, neighborhood: np.ndarray) -> Pairs:
        """The pairs that each edge of one item decides."""
        return decided_pairs(affinities, labels, edges, neighborhood, constrained=True)


def pair_counts(affinities, labels, edges, neighborhood, *, constrained: bool) -> tuple[np.ndarray, np.ndarray]:
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


def decided_pairs(affinities, labels, edges, neighborhood, *, constrained: bool) -> Pairs:
    """What :func:`pair_counts` counts, for the edges that decide any pair; the same arguments and errors.

    Pairs come in the order in which the edges join components, strongest first.
    """
    affinities, labels, edges, neighborhood = checked(affinities, labels, edges, neighborhood)
    count = _constrained if constrained else _unconstrained
    return count(_Graph(affinities, labels, edges, neighborhood))


def dense(pairs: Pairs, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The counts as two int64 arrays of `shape`, (C, Z, Y, X)."""
    positive, negative = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    positive.reshape(-1)[pairs.positive_edges] = pairs.positive
    negative.reshape(-1)[pairs.negative_edges] = pairs.negative
    return positive, negative


def checked(affinities, labels, edges, neighborhood) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Affinities as float32, labels as int32 in 0..K, edges as bool, the neighborhood; raises unless they fit."""
    affinities = np.ascontiguousarray(affinities, np.float32)
    labels, edges = np.asarray(labels), np.ascontiguousarray(edges)
    neighborhood = as_neighborhood(neighborhood)
    shape = (len(neighborhood), *labels.shape)
    if labels.ndim != 3 or affinities.shape != shape or edges.shape != shape:
        value = f"{affinities.shape}, {edges.shape}, {labels.shape} and {len(neighborhood)} offsets"
        rule = "must have shapes (C, Z, Y, X), (C, Z, Y, X), (Z, Y, X) and C offsets"
        raise InvalidShape(sentence("affinities, edges, labels and neighborhood", rule, value))
    if affinities.size >= MOST_EDGES:
        raise InvalidShape(sentence("affinities", "must have fewer than 2^32 values", affinities.size, "crop them"))
    if edges.dtype != bool or labels.dtype.kind not in "iu":
        raise InvalidInput(
            sentence("edges and labels", "must be bool and integers", f"{edges.dtype} and {labels.dtype}")
        )
    if np.any(edges & ~edge_mask(labels.shape, neighborhood)):
        raise InvalidInput(
            sentence("edges", "must be False where an edge leaves the volume", next_step="use edge_mask")
        )
    compact, _ = fastremap.renumber(labels, preserve_zero=True, in_place=False)
    return affinities, np.ascontiguousarray(compact, np.int32), edges, neighborhood


def bad_affinity(affinities: np.ndarray, index: int) -> InvalidInput:
    """The error for the affinity at a flat index."""
    where = tuple(int(i) for i in np.unravel_index(index, affinities.shape))
    value = f"{affinities[where]} at (channel, z, y, x) {where}"
    return InvalidInput(sentence("affinities", "must lie in 0..1 and not be NaN", value))


class _Graph:
    """Flat arrays for the kernels, and edges in the order of the forest."""

    def __init__(self, affinities: np.ndarray, labels: np.ndarray, edges: np.ndarray, neighborhood: np.ndarray) -> None:
        self.shape = affinities.shape
        self.bits = affinities.reshape(-1).view(np.uint32)
        self.labels = labels.reshape(-1)
        self.edges = edges.reshape(-1)
        _, height, width = labels.shape
        self.offsets = neighborhood @ np.array([height * width, width, 1])

    def order(self, inside: int) -> np.ndarray:
        """The edges inside objects (1), the others (0) or all (-1), strongest first."""
        keys, indices = np.empty(self.bits.size, np.uint32), np.empty(self.bits.size, np.uint32)
        number = _kernels.collect_edges(self.bits, self.edges, self.labels, self.offsets, inside, keys, indices)
        if number < 0:
            raise bad_affinity(self.bits.view(np.float32).reshape(self.shape), -1 - number)
        return _kernels.sort_edges(keys[:number], indices[:number])

    def join_components(self, order: np.ndarray, parent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        end = int(self.labels.max(initial=0)) + 1
        return _kernels.join_components(order, self.offsets, parent, self.labels, end)


def _unconstrained(graph: _Graph) -> Pairs:
    parent = np.full(graph.labels.size, -1, np.int32)
    found, (same, different) = graph.join_components(graph.order(-1), parent)
    return Pairs(found[same > 0], same[same > 0], found[different > 0], different[different > 0])


def _constrained(graph: _Graph) -> Pairs:
    parent = np.full(graph.labels.size, -1, np.int32)
    inside, positive = _kernels.join_objects(graph.order(1), graph.offsets, parent)
    between, (_, negative) = graph.join_components(graph.order(0), parent)
    return Pairs(inside, positive, between[negative > 0], negative[negative > 0])


def _weighted_errors(affinities: Tensor, edges: np.ndarray, weights: np.ndarray, *, target: float) -> Tensor:
    chosen = affinities[torch.from_numpy(edges).to(affinities.device)]
    weights = torch.from_numpy(weights).to(chosen)
    return (weights * (target - chosen).square()).sum()
