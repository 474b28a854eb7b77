"""Instance normalisation that leaves channels last on a CPU."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from segkit.models.device import LAYOUT

ATEN = torch.ops.aten
PIECE = 2**15 - 1
"""Numbers whose statistics are summed at once. So few torch leaves to one thread, and they stay in its cache; of more,
each thread would sum a part, and the sums would depend on how many there are."""


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
    """Mean and variance of each channel of one item, float32 (C,); those of pieces are put together in float64."""
    channels = features.shape[1]
    pieces = features.movedim(1, -1).reshape(-1, channels).split(max(PIECE // channels, 1))
    means = [piece.sum(0, dtype=torch.float32) / len(piece) for piece in pieces]
    spreads = [(piece - mean).square_().sum(0) / len(piece) for piece, mean in zip(pieces, means, strict=True)]
    sizes = torch.tensor([len(piece) for piece in pieces], dtype=torch.float64)
    shares = (sizes / sizes.sum())[:, None]
    each, variances = torch.stack(means).double(), torch.stack(spreads).double()
    mean = (shares * each).sum(0)
    variance = (shares * (variances + (each - mean) ** 2)).sum(0)
    return mean.float(), variance.float()


def _kept_last(features: Tensor) -> bool:
    return (
        features.ndim in LAYOUT
        and features.shape[1] > 1
        and math.prod(features.shape[2:]) > 1
        and features.is_contiguous(memory_format=LAYOUT[features.ndim])
        and features.dtype in (torch.float32, torch.bfloat16)
    )
