"""The parts that all U-Nets of segkit share."""

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Literal

import torch
from torch import nn

from segkit.errors import InvalidParameter, sentence
from segkit.models._instance import InstanceNorm2d, InstanceNorm3d
from segkit.models._lattice import LatticeModel, padded_axis, valid_axis

Padding = Literal["valid", "same"]
Normalisation = Literal["none", "batch", "instance", "group"]
Upsampling = Literal["transposed", "constant", "bilinear"]
MAX_GROUPS = 8
CROPPED = {"transposed": 0, "constant": 0, "bilinear": 2}
"""Voxels that each upsampling loses in a valid network."""

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
BATCH = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE = {2: InstanceNorm2d, 3: InstanceNorm3d}


class UNet(LatticeModel):
    """A contracting path, an expanding path, and skips between them, in 2-D or 3-D.

    `widths` are the features of each level, from fine to coarse; `pooling` the factors between the levels. After each
    upsampling the skip of that level is cropped to the same size and concatenated; two convolutions follow.
    """

    def __init__(
        self,
        *,
        channels: int,
        widths: Sequence[int],
        pooling: Sequence[Sequence[int]],
        padding: Padding,
        normalisation: Normalisation,
        upsampling: Upsampling,
        merge_convolution: bool = False,
    ) -> None:
        at_least_one(channels=channels, features=min(widths), pooling=min((min(p) for p in pooling), default=1))
        along = [[factors[axis] for factors in pooling] for axis in range(self.ndim)]
        lost = CROPPED[upsampling]
        super().__init__([padded_axis(a) if padding == "same" else valid_axis(a, lost) for a in along])
        block = _Blocks(self.ndim, padding, normalisation)
        ins = [self.sections, *widths[:-1]]
        self.down = nn.ModuleList(block.double(i, o) for i, o in zip(ins, widths, strict=True))
        self.pool = nn.ModuleList(POOL[self.ndim](tuple(factors)) for factors in pooling)
        self.up, self.merge, self.across = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(len(pooling))):
            coarse, fine = widths[level + 1], widths[level]
            self.up.append(block.upsample(coarse, fine, tuple(pooling[level]), upsampling))
            joined = fine + (coarse if upsampling == "constant" else fine)
            self.merge.append(nn.Sequential(*block.single(joined, fine, 1)) if merge_convolution else nn.Identity())
            self.across.append(block.double(fine if merge_convolution else joined, fine))
        self.output = CONVOLUTION[self.ndim](widths[0], channels, 1)
        initialise(self)

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        """Logits (B, C, [Z,] Y, X) of raw intensities in -1..1, (B, S, [Z,] Y, X)."""
        self._check_input(raw)
        skips = []
        features = raw
        for convolutions, pool in zip(self.down, self.pool, strict=False):
            features = convolutions(features)
            skips.append(features)
            features = pool(features)
        features = self.down[-1](features)
        for up, merge, convolutions in zip(self.up, self.merge, self.across, strict=True):
            features = up(features)
            skip = centre_crop(skips.pop(), features.shape[2:])
            features = convolutions(merge(torch.cat([skip, features], 1)))
        return self.output(features)


class _Blocks:
    """Makes layers that share dimension, padding and normalisation."""

    def __init__(self, ndim: int, padding: Padding, normalisation: Normalisation) -> None:
        self.ndim, self.padding, self.normalisation = ndim, padding, normalisation

    def single(self, ins: int, outs: int, size: int) -> list[nn.Module]:
        """Convolution, normalisation, ReLU."""
        pad = size // 2 if self.padding == "same" else 0
        return [CONVOLUTION[self.ndim](ins, outs, size, padding=pad), *self._normalise(outs), nn.ReLU(inplace=True)]

    def double(self, ins: int, outs: int) -> nn.Sequential:
        """The two convolutions of a level."""
        return nn.Sequential(*self.single(ins, outs, 3), *self.single(outs, outs, 3))

    def upsample(self, ins: int, outs: int, factors: tuple[int, ...], kind: Upsampling) -> nn.Module:
        """From a coarse level to the next finer one; "constant" keeps the number of features."""
        if kind == "transposed":
            return TRANSPOSED[self.ndim](ins, outs, factors, stride=factors)
        if kind == "constant":
            return nn.Upsample(scale_factor=tuple(map(float, factors)), mode="nearest")
        # A 1x1 convolution commutes with interpolation; before it, it works on a quarter of the pixels.
        return nn.Sequential(CONVOLUTION[self.ndim](ins, outs, 1), _Bilinear(crop=self.padding == "valid"))

    def _normalise(self, features: int) -> list[nn.Module]:
        if self.normalisation == "batch":
            return [BATCH[self.ndim](features)]
        if self.normalisation == "instance":
            return [INSTANCE[self.ndim](features, affine=True)]
        if self.normalisation == "group":
            return [nn.GroupNorm(math.gcd(features, MAX_GROUPS), features)]
        return []


class _Bilinear(nn.Module):
    """Twice as many pixels along y and x.

    At the rim, interpolation lacks a neighbour and repeats the last pixel, which would make the output depend on
    where a tile ends; in valid networks that pixel is cropped, for the same reason as convolutions do not pad.
    """

    def __init__(self, *, crop: bool) -> None:
        super().__init__()
        self.crop = crop

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, C, Y, X) to (B, C, 2Y, 2X), or to (B, C, 2Y - 2, 2X - 2) if cropped."""
        larger = nn.functional.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
        return larger[..., 1:-1, 1:-1] if self.crop else larger


def centre_crop(features: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """The central part of `features` (B, C, ...), of spatial size `shape`."""
    starts = [(have - want) // 2 for have, want in zip(features.shape[2:], shape, strict=True)]
    return features[(..., *(slice(start, start + want) for start, want in zip(starts, shape, strict=True)))]


def initialise(module: nn.Module) -> None:
    """He initialisation (doi:10.1109/ICCV.2015.123) of all convolutions; biases are 0.

    Layers that no ReLU follows (transposed convolutions, 1x1 convolutions before interpolation, the output) get half
    the variance. Reproducible by torch.manual_seed.
    """
    for container in module.modules():
        children = list(container.children())
        for layer, following in zip_longest(children, children[1:]):
            if isinstance(layer, (nn.Conv2d, nn.Conv3d)):
                rectified = isinstance(container, nn.Sequential) and not isinstance(following, _Bilinear | None)
                fan = layer.weight[0].numel()
                _draw(layer, (2 if rectified else 1) / fan)
            elif isinstance(layer, (nn.ConvTranspose2d, nn.ConvTranspose3d)):
                _draw(layer, 1 / layer.in_channels)  # kernel = stride: one voxel of the input reaches one of the output


def _draw(layer: nn.Module, variance: float) -> None:
    if layer.weight.is_meta:  # has no values, and to draw some torch would import its compiler, for seconds
        return
    nn.init.normal_(layer.weight, std=math.sqrt(variance))
    nn.init.zeros_(layer.bias)


def widths(features: int, growth: int, levels: int) -> list[int]:
    """Features of each level.

    >>> widths(12, 5, 4)
    [12, 60, 300, 1500]
    """
    at_least_one(features=features, growth=growth, levels=levels)
    return [features * growth**level for level in range(levels)]


def at_least_one(**values: int) -> None:
    """Raise InvalidParameter unless all values are positive."""
    for name, value in values.items():
        if value < 1:
            raise InvalidParameter(sentence(f"parameter {name!r}", "must be at least 1", value))
