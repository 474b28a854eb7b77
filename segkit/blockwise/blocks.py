"""Cutting a volume into blocks. Blocks are numbered in the order of z, y, x, whoever computes them, and when."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from segkit.data.boxes import Slices, counted_from
from segkit.errors import InvalidParameter, InvalidShape, sentence

Triple = tuple[int, int, int]

BLOCK: Triple = (256, 256, 256)
"""Size of a block, unless somebody says another."""


@dataclass(frozen=True)
class Block:
    """A part of a volume that is computed at once."""

    number: int
    """Its place among all blocks, from 0."""
    index: Triple
    """Its place along z, y, x, from 0."""
    inner: Slices
    """The voxels that it owns; every voxel of the volume has one owner."""
    outer: Slices
    """The voxels that it sees: the inner ones and a halo around them, as far as the volume goes."""

    @property
    def within(self) -> Slices:
        """The inner voxels as a part of the outer ones."""
        return counted_from(self.outer, self.inner)

    @property
    def shape(self) -> Triple:
        """Size of the inner part."""
        z, y, x = (along.stop - along.start for along in self.inner)
        return z, y, x

    @property
    def voxels(self) -> int:
        """How many it owns."""
        z, y, x = self.shape
        return z * y * x


@dataclass(frozen=True)
class Lattice:
    """All blocks of a volume; those at its end may be smaller.

    >>> lattice = Lattice((1, 100, 60), (1, 64, 64), (0, 8, 8))
    >>> [block.outer[1] for block in lattice]
    [slice(0, 72, None), slice(56, 100, None)]
    >>> lattice.neighbour(0, 1), lattice.neighbour(1, 1)
    (1, None)
    """

    shape: Triple
    """Size of the volume in voxels, z, y, x."""
    block: Triple
    """Size of a block in voxels."""
    halo: Triple = (0, 0, 0)
    """How far a block sees beyond its own voxels, along z, y, x, to both sides."""

    def __post_init__(self) -> None:
        for name, least in (("shape", 1), ("block", 1), ("halo", 0)):
            value = tuple(int(size) for size in getattr(self, name))
            if len(value) != 3 or min(value) < least:
                error = InvalidShape if name == "shape" else InvalidParameter
                raise error(sentence(name, f"must be three numbers of voxels, z, y, x, from {least} on", value))
            object.__setattr__(self, name, value)

    @property
    def counts(self) -> Triple:
        """How many blocks there are along z, y, x."""
        z, y, x = (-(-size // step) for size, step in zip(self.shape, self.block, strict=True))
        return z, y, x

    def __len__(self) -> int:
        z, y, x = self.counts
        return z * y * x

    def __getitem__(self, number: int) -> Block:
        if not 0 <= number < len(self):
            raise IndexError(f"there are {len(self)} blocks, from 0, and no {number}")
        _, ny, nx = self.counts
        index = (number // (ny * nx), number // nx % ny, number % nx)
        inner = [
            slice(i * step, min((i + 1) * step, size))
            for i, step, size in zip(index, self.block, self.shape, strict=True)
        ]
        outer = [
            slice(max(along.start - halo, 0), min(along.stop + halo, size))
            for along, halo, size in zip(inner, self.halo, self.shape, strict=True)
        ]
        return Block(number, index, tuple(inner), tuple(outer))  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Block]:
        return map(self.__getitem__, range(len(self)))

    def number(self, index: Sequence[int]) -> int:
        """The number of the block at this place along z, y, x."""
        _, ny, nx = self.counts
        return (index[0] * ny + index[1]) * nx + index[2]

    def neighbour(self, number: int, axis: int) -> int | None:
        """The block that comes next along `axis`, if there is one."""
        index = list(self[number].index)
        index[axis] += 1
        return self.number(index) if index[axis] < self.counts[axis] else None

    def touching(self, part: Slices) -> list[int]:
        """The numbers of all blocks that own voxels of a box, in order."""
        along = [range(each.start // step, -(-each.stop // step)) for each, step in zip(part, self.block, strict=True)]
        return [self.number(index) for index in product(*along)]
