"""What MONAI's padded 3-D networks have in common: sizes."""

from collections.abc import Sequence
from math import prod

import torch
from segkit.errors import InvalidParameter, InvalidShape, sentence
from torch import nn

Factors = tuple[int, int, int]
SMALLEST = 2
"""Voxels along each axis at the coarsest level: normalisation in training fails on one voxel."""


class PaddedNetwork(nn.Module):
    """A network whose output is as large as its input; see :class:`segkit.protocols.Model`.

    A valid size along an axis is a multiple of the product of all strides along it, at least two times that product.
    """

    ndim = 3
    sections = 1

    def __init__(self, network: nn.Module, strides: Sequence[Factors]) -> None:
        super().__init__()
        self.network = network
        self._stride = tuple(prod(factors[axis] for factors in strides) for axis in range(self.ndim))

    @property
    def segkit_claims(self) -> dict[str, object]:
        """Normalised over the tile, the output depends on all of it, and does not move with the input."""
        kinds = (nn.GroupNorm, nn.InstanceNorm3d)
        return {"shift_equivariant": not any(isinstance(module, kinds) for module in self.modules())}

    @property
    def stride(self) -> tuple[int, ...]:
        """The product of the strides along each axis: the output moves with the input by these steps."""
        return self._stride

    @property
    def context(self) -> tuple[int, ...]:
        """0: it pads."""
        return (0,) * self.ndim

    def output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """The same shape. Raises InvalidShape, naming the nearest valid sizes, for an invalid input."""
        shape = self._spatial("input shape", input_shape)
        if shape != self.input_shape(shape):
            nearest = ", ".join(_nearest(size, step) for size, step in zip(shape, self._stride, strict=True))
            rule = f"must be multiples of {self._stride}, at least twice that, for {type(self).__name__}"
            raise InvalidShape(sentence("input shape", rule, shape, f"the nearest valid sizes are ({nearest})"))
        return shape

    def input_shape(self, output_shape: Sequence[int]) -> tuple[int, ...]:
        """The smallest valid input whose output is at least `output_shape`."""
        shape = self._spatial("output shape", output_shape)
        return tuple(_enough(size, step) for size, step in zip(shape, self._stride, strict=True))

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        """Logits (B, C, Z, Y, X) of raw intensities in -1..1, (B, 1, Z, Y, X)."""
        if raw.ndim != self.ndim + 2 or raw.shape[1] != self.sections:
            rule = "must have shape (B, 1, Z, Y, X)"
            raise InvalidShape(sentence("the input of the network", rule, tuple(raw.shape)))
        self.output_shape(raw.shape[2:])
        return self.network(raw)

    def _spatial(self, name: str, shape: Sequence[int]) -> tuple[int, ...]:
        shape = tuple(int(size) for size in shape)
        if len(shape) != self.ndim or min(shape) < 1:
            raise InvalidShape(sentence(name, "must be 3 positive sizes, z, y, x", shape))
        return shape


def _enough(size: int, step: int) -> int:
    return max(-(-size // step), SMALLEST) * step


def _nearest(size: int, step: int) -> str:
    above = _enough(size, step)
    below = above - step
    return str(above) if above == size or below < SMALLEST * step else f"{below} or {above}"


def check_positive(**values: int) -> None:
    """Raise InvalidParameter unless all values are at least 1."""
    for name, value in values.items():
        if value < 1:
            raise InvalidParameter(sentence(f"parameter {name!r}", "must be at least 1", value))


def check_levels(features: Sequence[int], strides: Sequence[Factors]) -> None:
    """Raise InvalidParameter unless there is one level more than strides, and all numbers are positive."""
    check_positive(features=min(features, default=0), strides=min((min(factors) for factors in strides), default=0))
    if len(features) != len(strides) + 1:
        rule = f"must have one entry more than strides, {len(strides) + 1}"
        raise InvalidParameter(sentence("parameter 'features'", rule, list(features)))
