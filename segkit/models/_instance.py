"""Instance normalisation that leaves channels last on a CPU."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from segkit.models.device import LAYOUT

ATEN = torch.ops.aten
PIECE = 2**14
"""Voxels whose statistics are summed at once, from a copy with channels first that stays in the cache. With channels
last torch would add them up one by one in float32, and each thread a part: sums would depend on the number of threads.
Those of pieces are put together in float64."""


def instance_norm(features: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise each channel of each item of `features` (B, C, [Z,] Y, X), as torch's function of that name.

    torch puts channels first for it, and the next convolution puts them last again, which together take longer than
    all else that it does. Here they stay where they are if they are last. Differs from torch by rounding, and is the
    same at any number of threads. A single voxel, which has no spread, is refused as torch does: ValueError.
    """
    if features.device.type != "cpu" or torch.compiler.is_compiling() or not _kept_last(features):
        return nn.functional.instance_norm(features, weight=weight, bias=bias, eps=eps)
    items = [_Normalised.apply(item, weight, bias, eps) for item in features.split(1)]
    return items[0] if len(items) == 1 else torch.cat(items)


class InstanceNorm2d(nn.InstanceNorm2d):
    """torch's layer, with :func:`instance_norm`."""

    def forward(self, features: Tensor) -> Tensor:
        return instance_norm(features, self.weight, self.bias, self.eps)


class InstanceNorm3d(nn.InstanceNorm3d):
    """torch's layer, with :func:`instance_norm`."""

    def forward(self, features: Tensor) -> Tensor:
        return instance_norm(features, self.weight, self.bias, self.eps)


class _Normalised(torch.autograd.Function):
    """Of one item: batch normalisation is the same then."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        mean, variance = _statistics(features)
        ctx.save_for_backward(features, weight, mean, (variance + eps).rsqrt())
        ctx.eps = eps
        return nn.functional.batch_norm(features, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, mean, inverse = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=LAYOUT[features.ndim])
        found = ATEN.native_batch_norm_backward(
            gradient, features, weight, None, None, mean, inverse, True, ctx.eps, list(ctx.needs_input_grad[:3])
        )
        return *found, None


def _statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel of one item, float32 (C,)."""
    found = [ATEN.batch_norm_update_stats(piece.contiguous(), None, None, 0.0) for piece in _pieces(features)]
    sizes = [piece[0, 0].numel() for piece in _pieces(features)]
    shares = torch.tensor(sizes, dtype=torch.float64)[:, None] / sum(sizes)
    means, variances = (torch.stack(each).double() for each in zip(*found, strict=True))
    mean = (shares * means).sum(0)
    variance = (shares * (variances + (means - mean) ** 2)).sum(0)
    return mean.float(), variance.float()


def _pieces(features: Tensor) -> Iterator[Tensor]:
    """Slabs across the first axis, or strips across the second where these are too large."""
    plane = math.prod(features.shape[3:])
    for slab in features.split(max(PIECE // plane, 1), 2):
        yield from slab.split(max(PIECE // features.shape[-1], 1), 3) if plane > PIECE else (slab,)


def _kept_last(features: Tensor) -> bool:
    return (
        features.ndim in LAYOUT
        and features.shape[1] > 1
        and math.prod(features.shape[2:]) > 1
        and features.is_contiguous(memory_format=LAYOUT[features.ndim])
        and features.dtype in (torch.float32, torch.bfloat16)
    )
