"""The quasi-linear loss of the pairs that edges decide, on the CPU: its value and its gradient in one pass each."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from segkit.losses import _kernels_errors
from segkit.threads import share


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

    def weights(self, balanced: bool) -> tuple[float, float]:
        """What one positive and one negative pair weigh: positive and negative ones alike in total, or each alike."""
        totals = int(self.positive.sum()), int(self.negative.sum())
        if balanced:
            return 0.5 / max(totals[0], 1), 0.5 / max(totals[1], 1)
        return (1 / max(sum(totals), 1),) * 2


class PairTerms(torch.autograd.Function):
    """What positive and negative pairs add to the loss of each item, (B, 2); differentiable by the affinities.

    ``count(affinities, labels, edges)`` gives the pairs of one item from arrays. Items are shared out among threads.
    """

    @staticmethod
    def forward(ctx, affinities: Tensor, labels: Tensor, edges: Tensor, count: Callable, balanced: bool) -> Tensor:
        arrays = [tensor.detach().cpu().numpy() for tensor in (affinities, labels, edges)]

        def work(start: int, stop: int) -> list:
            return [_counted(*(array[item] for array in arrays), count, balanced) for item in range(start, stop)]

        items = [item for items in share(work, len(labels)) for item in items]
        ctx.save_for_backward(affinities)
        ctx.items = [(pairs, weights) for pairs, weights, _ in items]
        return affinities.new_tensor([values for *_, values in items])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:
        affinities, factors = ctx.saved_tensors[0].detach().cpu().numpy(), upstream.cpu().double().numpy()
        gradient = np.empty(affinities.shape, np.float32)

        def work(start: int, stop: int) -> None:
            for item in range(start, stop):
                pairs, weights = ctx.items[item]
                flat, slopes = affinities[item].reshape(-1), gradient[item].reshape(-1)
                slopes.fill(0)
                for target, (edges, number), weight in _terms(pairs, weights * factors[item]):
                    _kernels_errors.add_slopes(flat, edges, number, target, weight, slopes)

        share(work, len(gradient))
        return torch.from_numpy(gradient).to(upstream.device), None, None, None, None


def _counted(affinities: np.ndarray, labels: np.ndarray, edges: np.ndarray, count: Callable, balanced: bool) -> tuple:
    """Pairs, their weights and the two values of one item."""
    pairs = count(affinities, labels, edges)
    weights = pairs.weights(balanced)
    flat = affinities.reshape(-1)
    values = [
        weight * _kernels_errors.squared_errors(flat, edges, number, target)
        for target, (edges, number), weight in _terms(pairs, weights)
    ]
    return pairs, weights, values


def _terms(pairs: Pairs, weights) -> list[tuple]:
    """(target, (edges, pairs), weight) of positive and of negative pairs."""
    positive, negative = weights
    return [(1.0, pairs[:2], float(positive)), (0.0, pairs[2:], float(negative))]
