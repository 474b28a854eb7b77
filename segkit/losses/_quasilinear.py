"""The quasi-linear loss of the pairs that edges decide, on the CPU: its value and its gradient in one pass each."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from segkit.losses import _kernels_errors
from segkit.losses._forest import Decided
from segkit.losses._kernels_errors import CHUNK
from segkit.threads import share

LEAST = 4
"""Chunks of edges that are worth a thread."""
TARGETS = 1.0, 0.0
"""Of positive and of negative pairs."""


class Pairs(NamedTuple):
    """What the edges of one item decide."""

    positive: Decided
    """Pairs of voxels of one object, by their maximin edge."""
    negative: Decided
    """Pairs of voxels of different objects."""


@torch.compiler.disable
def counted_terms(affinities: Tensor, labels: Tensor, edges: Tensor, count: Callable, balanced: bool) -> Tensor:
    """What positive and negative pairs add to the loss of each item, (B, 2); differentiable by the affinities.

    ``count(affinities, labels, edges)`` gives the pairs of one item from arrays. Items are shared out among threads,
    and each item among those that are left. A compiled step calls this as it is: there is nothing to trace in it.
    """
    return _PairTerms.apply(affinities, labels, edges, count, balanced)


class _PairTerms(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, affinities: Tensor, labels: Tensor, edges: Tensor, count: Callable, balanced: bool
    ) -> Tensor:
        values, objects, exist = (tensor.detach().cpu().numpy() for tensor in (affinities, labels, edges))

        def work(start: int, stop: int) -> list:
            return [_counted(values[item], objects[item], exist[item], count, balanced) for item in range(start, stop)]

        items = [item for items in share(work, len(labels)) for item in items]
        ctx.shape = affinities.shape
        ctx.items = [(pairs, weights) for pairs, weights, _ in items]
        return affinities.new_tensor([terms for *_, terms in items])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:
        factors = upstream.cpu().double().numpy()
        gradient = np.empty(ctx.shape, np.float32)

        def work(start: int, stop: int) -> None:
            for item in range(start, stop):
                pairs, weights = ctx.items[item]
                _slopes(pairs, weights, factors[item], gradient[item].reshape(-1))

        share(work, len(gradient))
        return torch.from_numpy(gradient).to(upstream.device), None, None, None, None


def _counted(affinities: np.ndarray, labels: np.ndarray, edges: np.ndarray, count: Callable, balanced: bool) -> tuple:
    """Pairs, their weights and the two values of one item."""
    pairs = count(affinities, labels, edges)
    sums = [_sums(decided, target) for decided, target in zip(pairs, TARGETS, strict=True)]
    weights = _weights([number for number, _ in sums], balanced)
    return pairs, weights, [weight * error for weight, (_, error) in zip(weights, sums, strict=True)]


def _sums(decided: Decided, target: float) -> tuple[int, float]:
    """How many pairs there are, and their squared errors."""
    chunks = -(-len(decided.pairs) // CHUNK)
    totals, sums = np.zeros(chunks, np.int64), np.zeros(chunks)
    share(_kernels_errors.squared_errors, chunks, decided.affinities, decided.pairs, target, totals, sums, least=LEAST)
    return int(totals.sum()), float(sums.sum())


def _weights(totals: list[int], balanced: bool) -> tuple[float, float]:
    """What one positive and one negative pair weigh: positive and negative ones alike in total, or each alike."""
    if balanced:
        return 0.5 / max(totals[0], 1), 0.5 / max(totals[1], 1)
    return (1 / max(sum(totals), 1),) * 2


def _slopes(pairs: Pairs, weights: tuple[float, float], factors: np.ndarray, gradient: np.ndarray) -> None:
    """Write the gradient of one item."""
    chunks = -(-len(gradient) // CHUNK)
    share(lambda start, stop: gradient[start * CHUNK : stop * CHUNK].fill(0), chunks, least=LEAST)
    for decided, target, weight in zip(pairs, TARGETS, weights * factors, strict=True):
        chunks = -(-len(decided.pairs) // CHUNK)
        share(_kernels_errors.add_slopes, chunks, *decided, target, float(weight), gradient, least=LEAST)
