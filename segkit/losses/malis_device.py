"""MALIS on the device: the counts of :mod:`segkit.losses.malis`, from affinities to gradient in torch operations.

Made for a GPU: no volume and no number is copied to the host, nothing waits for the device, and all shapes are known
beforehand, so that a step can be captured in a CUDA graph. On CPU tensors it gives the same, slowly; take
:mod:`segkit.losses.malis` there. Counts are integers and exact: the same on every device and in every run.

Both definitions need one maximum spanning forest. `malis` ranks edges by affinity, then index. In `constrained-malis`
the edges inside objects come first: the forest then begins with that of the positive pass, and goes on with that of
the graph in which the pieces of objects are contracted. :mod:`segkit.losses._device_tree` numbers the voxels so that
every edge joins two neighbouring intervals: it decides (labelled voxels in one) * (those in the other) pairs. How many
of them are of one label follows from sorting voxels by label and number. Two voxels of a label that follow each other,
x before y, are joined by the edge of the last ancestor of y that comes after x, an edge that joins no other such two
of this label. So each of them adds (voxels of the label in one interval) * (those in the other) pairs to its edge, and
whatever joins voxels of the label is found.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from segkit.data.affinities import as_neighborhood, edge_slices
from segkit.errors import InvalidInput, InvalidShape, TrainingFailed, sentence
from segkit.losses._device_forest import doublings, take
from segkit.losses._device_tree import Preorder, ancestors, preorder

MOST_EDGES = 2**31 - 2**16
ONE = 0x3F800000
"""The bits of float32 1.0. Among 0..1 the order of the bits is the order of the numbers."""
OUTSIDE = 1 << 30
"""Added to the sort keys of edges that are not inside an object."""
NO_EDGE = 2**31 - 1
WIDEST = {"mps": torch.float32}
"""The widest floats of devices that have no float64."""


class _Decided(NamedTuple):
    """Edges, one for each voxel of an item, and the pairs that they decide; all (B, voxels), int64."""

    edges: Tensor
    """Flat indices in (C, Z, Y, X), each once, but for some without pairs."""
    positive: Tensor
    negative: Tensor


@torch.compiler.disable
def pair_terms(
    affinities: Tensor, labels: Tensor, edges: Tensor, neighborhood: ArrayLike, *, constrained: bool, balanced: bool
) -> Tensor:
    """The loss of each item, (B, 2): wrong splits and wrong merges; differentiable by the affinities.

    `affinities`, any float dtype, and `edges`, bool, have shape (B, C, Z, Y, X); `labels`, any integers, (B, Z, Y, X);
    `neighborhood` holds C offsets. An edge of affinity a that decides P positive and N negative pairs adds
    P * (1 - a)^2 and N * a^2; the sums are divided by twice the number of positive and of negative pairs if `balanced`,
    otherwise by that of all pairs. Float32, whatever the affinities are. On MPS, which has no float64, the weight of
    each edge may differ by 2e-7 of it.

    What depends on values cannot be refused without waiting for the device: an item in which an edge has an affinity
    that is not in 0..1 (NaN, say), or leaves the volume, gets a loss of NaN. Raises InvalidShape or InvalidInput for
    wrong shapes and dtypes, and TrainingFailed if the memory of the device does not suffice.
    """
    neighborhood = _checked(affinities, labels, edges, neighborhood)
    try:
        return _terms(affinities.float(), labels, edges, neighborhood, constrained, balanced)
    except torch.cuda.OutOfMemoryError as error:
        rule = f"needs more than the GPU's free memory for {affinities.numel()} affinities"
        next_step = "make the patch or the batch smaller, or take --loss-backend cpu"
        raise TrainingFailed(sentence("the loss", rule, next_step=next_step)) from error


def pair_counts(
    affinities: Tensor, labels: Tensor, edges: Tensor, neighborhood: ArrayLike, *, constrained: bool
) -> tuple[Tensor, Tensor]:
    """For each edge the positive and the negative pairs that it decides: two int64 (B, C, Z, Y, X).

    The arguments are those of :func:`pair_terms`; the counts those of :func:`segkit.losses.malis.pair_counts`. Those
    of an item with an affinity that is not in 0..1 mean nothing.

    >>> labels = torch.tensor([[[[1, 1, 0, 2]]]])
    >>> affinities = torch.tensor([[[[[0, 0.9, 0.7, 0.4]]]]])
    >>> edges = torch.tensor([[[[[False, True, True, True]]]]])
    >>> positive, negative = pair_counts(affinities, labels, edges, [(0, 0, -1)], constrained=True)
    >>> positive.flatten().tolist(), negative.flatten().tolist()
    ([0, 1, 0, 0], [0, 0, 0, 2])
    """
    neighborhood = _checked(affinities, labels, edges, neighborhood)
    decided, _ = _decided(affinities.float(), labels, edges, neighborhood, constrained)
    zeros = torch.zeros_like(affinities, dtype=torch.int64).flatten(1)
    counts = [zeros.scatter_add(1, decided.edges, pairs) for pairs in (decided.positive, decided.negative)]
    return counts[0].view(affinities.shape), counts[1].view(affinities.shape)


def _checked(affinities: Tensor, labels: Tensor, edges: Tensor, neighborhood: ArrayLike) -> np.ndarray:
    """The neighborhood; raises unless shapes and dtypes fit."""
    neighborhood = as_neighborhood(neighborhood)
    shape = (len(labels), len(neighborhood), *labels.shape[1:])
    if labels.ndim != 4 or affinities.shape != shape or edges.shape != shape or 0 in shape:
        value = f"{tuple(affinities.shape)}, {tuple(edges.shape)}, {tuple(labels.shape)}, {len(neighborhood)} offsets"
        rule = "must have shapes (B, C, Z, Y, X), (B, C, Z, Y, X), (B, Z, Y, X), none empty, and C offsets"
        raise InvalidShape(sentence("affinities, edges, labels and neighborhood", rule, value))
    if affinities.numel() > MOST_EDGES:
        next_step = "make the patch or the batch smaller"
        raise InvalidShape(sentence("affinities", "must have fewer than 2^31 values", affinities.numel(), next_step))
    floats = (torch.float16, torch.bfloat16, torch.float32)
    integers = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if affinities.dtype not in floats or edges.dtype != torch.bool or not integers:
        value = f"{affinities.dtype}, {edges.dtype} and {labels.dtype}"
        rule = "must be float32, float16 or bfloat16, bool and integers"
        raise InvalidInput(sentence("affinities, edges and labels", rule, value))
    return neighborhood


def _terms(
    affinities: Tensor, labels: Tensor, edges: Tensor, neighborhood: np.ndarray, constrained: bool, balanced: bool
) -> Tensor:
    decided, bad = _decided(affinities.detach(), labels, edges, neighborhood, constrained)
    chosen = affinities.flatten(1).gather(1, decided.edges)
    # Where no pairs are decided the edge may be none, and its affinity anything.
    chosen = torch.where(decided.positive + decided.negative > 0, chosen, 0.0)
    totals = torch.stack([decided.positive.sum(1), decided.negative.sum(1)])
    divisors = 2 * totals.clamp(min=1) if balanced else totals.sum(0).clamp(min=1).expand(2, -1)
    terms = []
    for pairs, divisor, target in ((decided.positive, divisors[0], 1.0), (decided.negative, divisors[1], 0.0)):
        widest = WIDEST.get(pairs.device.type, torch.float64)
        weights = (pairs.to(widest) / divisor[:, None].to(widest)).float()
        terms.append((weights * (target - chosen).square()).sum(1))
    spoilt = torch.ones_like(terms[0]).masked_fill_(bad, torch.nan)
    return torch.stack(terms, 1) * spoilt[:, None]


@torch.no_grad()
def _decided(
    affinities: Tensor, labels: Tensor, edges: Tensor, neighborhood: np.ndarray, constrained: bool
) -> tuple[_Decided, Tensor]:
    """What each edge of the forest decides, and which items, (B,), hold an affinity that cannot be."""
    items = len(labels)
    labels = labels.long()
    ranks, order, inside, bad = _ranked(affinities, labels, edges, neighborhood, constrained)
    steps = doublings(ranks)
    tree = preorder(ranks, order, neighborhood)
    del ranks
    labels = take(labels.reshape(-1), tree.node)
    positive = _pairs_of_one_label(tree, labels, steps)
    negative = _pairs(tree, labels != 0).sub_(positive)
    if constrained:
        positive *= tree.edge < inside  # the others are decided between pieces of an object
    # Roots own no edge and decide nothing; each names a place of its own, so that none is contended for.
    none = len(order)
    flat = torch.where(tree.edge < none, take(order, tree.edge.clamp(max=none - 1)).long(), tree.node)
    voxels = len(labels) // items
    index = flat.div(len(labels), rounding_mode="floor").mul_(voxels).add_(flat.remainder_(voxels))
    return _Decided(index.view(items, -1), positive.view(items, -1), negative.view(items, -1)), bad


def _ranked(
    affinities: Tensor, labels: Tensor, edges: Tensor, neighborhood: np.ndarray, constrained: bool
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Ranks (C, B, Z, Y, X), their inverse, the number of edges inside objects if `constrained`, and the bad items.

    The channel comes first, so that the same voxel number serves in all of them; within an item the order is the same.
    """
    keys = ONE - affinities.abs().view(torch.int32)  # abs: -0.0 is 0.0
    exist = torch.zeros_like(edges)
    for channel, offset in enumerate(neighborhood):
        source, target = edge_slices(labels.shape[1:], offset)
        exist[:, channel, *source] = edges[:, channel, *source]
        if constrained:
            label = labels[:, *source]
            outside = (label != labels[:, *target]).logical_or_(label == 0)
            keys[:, channel, *source].add_(outside, alpha=OUTSIDE)
    bad = (edges & ~(exist & (affinities.clamp(0, 1) == affinities))).flatten(1).any(1)
    keys.masked_fill_(exist.logical_not_(), NO_EDGE)
    keys = keys.transpose(0, 1).contiguous()
    sorted_keys, order = torch.sort(keys.view(-1), stable=True)
    inside = (sorted_keys < OUTSIDE).sum() if constrained else None
    del sorted_keys
    ranks = torch.empty_like(keys)
    ranks.view(-1).scatter_(0, order, torch.arange(len(order), dtype=torch.int32, device=order.device))
    return ranks.masked_fill_(keys == NO_EDGE, len(order)), order.int(), inside, bad


def _pairs(tree: Preorder, counted: Tensor) -> Tensor:
    """Pairs of the nodes that count, one from each of the intervals that an edge joins."""
    before = torch.zeros(len(counted) + 1, dtype=torch.int64, device=counted.device)
    torch.cumsum(counted, 0, dtype=torch.int64, out=before[1:])
    here = before[:-1]
    ends = torch.arange(len(counted), device=counted.device).add_(tree.size)
    return (here - take(here, tree.parent)).mul_(take(before, ends).sub_(here))


def _pairs_of_one_label(tree: Preorder, labels: Tensor, steps: int) -> Tensor:
    """Of these pairs those whose nodes have the same label, which is not 0."""
    values, nodes = torch.sort(labels, stable=True)
    change = values[1:] != values[:-1]
    keys = torch.zeros_like(nodes)
    torch.cumsum(change, 0, dtype=torch.int64, out=keys[1:])
    keys.bitwise_left_shift_(31)
    row = keys[1:].clone()
    keys += nodes
    first, found = nodes[:-1].int(), nodes[1:].int()
    for table in reversed(ancestors(tree.parent, steps)):
        higher = take(table, found)
        found = torch.where(higher > first, higher, found)
    parent = take(tree.parent, found)
    counts = (values[1:] != 0).logical_and_(change.logical_not_()).logical_and_(parent != found)
    here = torch.arange(1, len(nodes), device=nodes.device)
    left = here - torch.searchsorted(keys, row + parent)
    right = torch.searchsorted(keys, row + found + take(tree.size, found)).sub_(here)
    place = torch.where(counts, found, first)  # each its own place where nothing counts
    return torch.zeros_like(nodes).index_add_(0, place, left.mul_(right).mul_(counts))
