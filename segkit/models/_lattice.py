"""Which sizes a network takes, and which it gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from math import prod

from torch import Tensor, nn

from segkit.errors import InvalidShape, sentence

LOST = 4
"""Voxels that two valid convolutions of size 3 lose along an axis."""


@dataclass(frozen=True)
class Axis:
    """Sizes along one axis: valid inputs are first, first + stride, ...; the output is smaller by context."""

    first: int
    context: int
    stride: int

    def accepts(self, size: int) -> bool:
        """Whether a network takes this many voxels."""
        return size >= self.first and (size - self.first) % self.stride == 0

    def enough(self, size: int) -> int:
        """The smallest valid input of at least `size` voxels."""
        return self.first + max(-(-(size - self.first) // self.stride), 0) * self.stride

    def nearest(self, size: int) -> str:
        """The valid inputs around `size`, in words."""
        above = self.enough(size)
        below = above - self.stride
        return f"{below} or {above}" if below >= self.first else str(above)


def padded_axis(pooling: Sequence[int] = ()) -> Axis:
    """A network that pads: the output is as large as the input, which all poolings must divide."""
    stride = prod(pooling)
    return Axis(stride, 0, stride)


def valid_axis(pooling: Sequence[int], cropped: int = 0) -> Axis:
    """A U-Net of valid convolutions that loses `cropped` voxels at each upsampling.

    Each pooling must divide what reaches it, which fixes the input modulo the product of all: hence one first size
    and one step.
    """
    outputs = ((size, _valid_output(size, pooling, cropped)) for size in count(1))
    first, output = next((size, output) for size, output in outputs if output is not None)
    return Axis(first, first - output, prod(pooling))


def _valid_output(size: int, pooling: Sequence[int], cropped: int) -> int | None:
    for factor in pooling:
        size -= LOST
        if size <= 0 or size % factor:
            return None
        size //= factor
    size -= LOST
    for factor in reversed(pooling):
        if size <= 0:
            return None
        size = size * factor - cropped - LOST
    return size if size > 0 else None


class LatticeModel(nn.Module):
    """What segkit's networks say about their sizes; see :class:`segkit.protocols.Model`."""

    ndim = 2
    sections = 1

    def __init__(self, axes: Sequence[Axis]) -> None:
        super().__init__()
        self._axes = tuple(axes)

    @property
    def stride(self) -> tuple[int, ...]:
        """The product of all poolings along each axis: the network's output moves with its input by these steps."""
        return tuple(axis.stride for axis in self._axes)

    @property
    def context(self) -> tuple[int, ...]:
        """Input minus output size along each axis, an even number; 0 where the network pads."""
        return tuple(axis.context for axis in self._axes)

    def output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """Spatial shape of the output. Raises InvalidShape, naming the nearest valid sizes, for an invalid input."""
        shape = self._spatial("input shape", input_shape)
        pairs = list(zip(shape, self._axes, strict=True))
        if not all(axis.accepts(size) for size, axis in pairs):
            nearest = ", ".join(str(size) if axis.accepts(size) else axis.nearest(size) for size, axis in pairs)
            rule = f"must fit the poolings of {type(self).__name__}"
            raise InvalidShape(sentence("input shape", rule, shape, f"the nearest valid sizes are ({nearest})"))
        return tuple(size - axis.context for size, axis in pairs)

    def input_shape(self, output_shape: Sequence[int]) -> tuple[int, ...]:
        """The smallest valid input whose output is at least `output_shape`."""
        shape = self._spatial("output shape", output_shape)
        return tuple(axis.enough(size + axis.context) for size, axis in zip(shape, self._axes, strict=True))

    def _spatial(self, name: str, shape: Sequence[int]) -> tuple[int, ...]:
        shape = tuple(int(size) for size in shape)
        if len(shape) != self.ndim or min(shape) < 1:
            names = "z, y, x" if self.ndim == 3 else "y, x"
            raise InvalidShape(sentence(name, f"must be {self.ndim} positive sizes, {names}", shape))
        return shape

    def _check_input(self, raw: Tensor) -> None:
        if raw.ndim != self.ndim + 2 or raw.shape[1] != self.sections:
            names = "Z, Y, X" if self.ndim == 3 else "Y, X"
            rule = f"must have shape (B, {self.sections}, {names})"
            raise InvalidShape(sentence("the input of the network", rule, tuple(raw.shape)))
        self.output_shape(raw.shape[2:])
