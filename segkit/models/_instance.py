"""Instance normalisation that leaves channels last on a CPU."""

import math
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from segkit.models.device import LAYOUT
from segkit.threads import share

LEAST = 2**14
"""Numbers that are worth a thread."""


def instance_norm(features: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise each channel of each item of `features` (B, C, [Z,] Y, X), as torch's function of that name.

    torch puts channels first for it, and the next convolution puts them last again, which together take longer than
    all else that it does. Here they stay where they are if they are last. Differs from torch by rounding; values and
    gradients are the same at any number of threads. A single voxel, which has no spread, is refused as torch does:
    ValueError.
    """
    if features.device.type != "cpu" or torch.compiler.is_compiling() or not _kept_last(features):
        return nn.functional.instance_norm(features, weight=weight, bias=bias, eps=eps)
    items = [_Normalised.apply(item, weight, bias, eps) for item in features.split(1)]
    return items[0] if len(items) == 1 else torch.cat(items)


class InstanceNorm2d(nn.InstanceNorm2d):
    """torch's layer, with :func:`instance_norm`."""

    def forward(self, features: Tensor) -> Tensor:
        if not _alone(self, features, 4):
            return super().forward(features)
        return instance_norm(features, self.weight, self.bias, self.eps)


class InstanceNorm3d(nn.InstanceNorm3d):
    """torch's layer, with :func:`instance_norm`."""

    def forward(self, features: Tensor) -> Tensor:
        if not _alone(self, features, 5):
            return super().forward(features)
        return instance_norm(features, self.weight, self.bias, self.eps)


def _alone(layer: nn.InstanceNorm2d | nn.InstanceNorm3d, features: Tensor, ndim: int) -> bool:
    """Whether a layer does what :func:`instance_norm` does: weigh each channel, keep no statistics, of a batch."""
    return layer.affine and not layer.track_running_stats and features.ndim == ndim


class _Normalised(torch.autograd.Function):
    """Of one item: batch normalisation is the same then."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        mean, variance = _statistics(features)
        ctx.save_for_backward(features, weight, mean, variance)
        ctx.eps = eps
        whole = mean.float(), variance.float(), weight.float(), bias.float()  # of one dtype, as torch asks
        return nn.functional.batch_norm(features, *whole, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, mean, variance = ctx.saved_tensors
        gradient = gradient.to(features.dtype).contiguous(memory_format=LAYOUT[features.ndim])
        voxels, inverse = features[0, 0].numel(), (variance + ctx.eps).rsqrt()
        slope, product = _summed(features, gradient, mean)
        common = weight.double() * inverse
        along = -common * inverse**2 * product / voxels  # of each feature's distance from the mean
        factors = torch.stack([common, along, -common * slope / voxels - along * mean]).float()
        found = torch.empty_like(features)
        rows = [_rows(each) for each in (features, gradient, found)]
        share(kernels().combine, voxels, *rows[:2], factors.numpy(), rows[2], least=-(-LEAST // len(weight)))
        return found, (product * inverse).to(weight.dtype), slope.to(weight.dtype), None


def _statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel of one item, float64 (C,)."""
    nothing = torch.zeros(features.shape[1], dtype=torch.float64)
    total, squares = _summed(features, features, nothing) / features[0, 0].numel()
    return total, (squares - total**2).clamp_(min=0)


def _summed(features: Tensor, factors: Tensor, mean: Tensor) -> Tensor:
    """The sums of each channel's factors, and of these times feature less mean, float64 (2, C)."""
    rows, other = _rows(features), _rows(factors)
    found = np.empty((-(-len(rows) // kernels().ROWS), 2, rows.shape[1]))
    share(kernels().products, len(found), rows, other, mean.numpy(), found)
    return torch.from_numpy(found.sum(0))


def _rows(features: Tensor) -> np.ndarray:
    """The numbers of one item where they lie, voxels by channels; of bfloat16 their bits."""
    rows = features.detach().movedim(1, -1).reshape(-1, features.shape[1])
    return (rows.view(torch.uint16) if features.dtype == torch.bfloat16 else rows).numpy()


@cache
def kernels() -> ModuleType:
    """Import what is compiled once a network is used; to size one nothing is."""
    return import_module("segkit.models._kernels_instance")


def _kept_last(features: Tensor) -> bool:
    return (
        features.ndim in LAYOUT
        and features.shape[1] > 1
        and math.prod(features.shape[2:]) > 1
        and features.is_contiguous(memory_format=LAYOUT[features.ndim])
        and features.dtype in (torch.float32, torch.bfloat16)
    )
