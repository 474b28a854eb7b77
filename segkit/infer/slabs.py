"""Affinities while they come in, tile by tile: slabs of the volume, each given away once nothing more will be added."""

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

from segkit.infer.symmetry import Slices

Part = tuple[Slices, np.ndarray]
"""Where in the affinities, and what."""


class Slabs:
    """Sums of affinities, cut along one axis into slabs that are made when something is added to them.

    Edges that leave the volume, of `shape`, stay 0. Where only a `part` of it is wanted, what is added keeps its place
    in the volume, and what is given away has its place in the part.
    """

    def __init__(
        self,
        shape: Sequence[int],
        neighborhood: np.ndarray,
        axis: int,
        thickness: int,
        share: float,
        part: Slices | None = None,
    ) -> None:
        part = part or tuple(slice(0, size) for size in shape)
        self.origin = tuple(along.start for along in part)
        self.shape = tuple(along.stop - along.start for along in part)
        self.axis, self.thickness = axis, thickness
        self.share = np.float32(share)
        self.slabs: dict[int, np.ndarray] = {}
        self.given = 0
        self.edges = [
            [
                (max(-step, along.start) - along.start, min(size - max(step, 0), along.stop) - along.start)
                for step, size, along in zip(map(int, offset), shape, part, strict=True)
            ]
            for offset in neighborhood
        ]

    def most(self, rows: int) -> int:
        """Bytes that are held at most, where tiles have so many `rows` along the axis."""
        size = self.shape[self.axis]
        row = len(self.edges) * prod(self.shape) // size * np.dtype(np.float32).itemsize
        return row * min(rows + 2 * self.thickness, size)

    def add(self, channel: int, start: Sequence[int], values: np.ndarray) -> None:
        """Add `values` (Z, Y, X) to the voxels of a channel from `start` on; those outside its edges are left out."""
        start = [a - first for a, first in zip(start, self.origin, strict=True)]
        ends = [a + size for a, size in zip(start, values.shape, strict=True)]
        bounds = [
            (max(a, low), min(b, high)) for a, b, (low, high) in zip(start, ends, self.edges[channel], strict=True)
        ]
        if any(high <= low for low, high in bounds):
            return
        values = values[tuple(slice(low - a, high - a) for (low, high), a in zip(bounds, start, strict=True))]
        first, last = bounds[self.axis]
        for number in range(first // self.thickness, (last - 1) // self.thickness + 1):
            begin = number * self.thickness
            low, high = max(first, begin), min(last, begin + self.thickness)
            target = [slice(*each) for each in bounds]
            target[self.axis] = slice(low - begin, high - begin)
            source = [slice(None)] * 3
            source[self.axis] = slice(low - first, high - first)
            self._slab(number)[channel][tuple(target)] += values[tuple(source)]

    def complete(self, below: int) -> Iterator[Part]:
        """Give away the slabs all of whose voxels lie before `below` along the axis."""
        size, below = self.shape[self.axis], below - self.origin[self.axis]
        while self.given * self.thickness < size and min((self.given + 1) * self.thickness, size) <= below:
            slab = self._slab(self.given)
            if self.share != 1:
                slab *= self.share
            np.minimum(slab, 1, out=slab)  # weights that sum to 1 may exceed it by rounding
            part = [slice(0, length) for length in (len(self.edges), *self.shape)]
            part[1 + self.axis] = slice(*self._extent(self.given))
            del self.slabs[self.given]
            self.given += 1
            yield tuple(part), slab

    def _extent(self, number: int) -> tuple[int, int]:
        begin = number * self.thickness
        return begin, min(begin + self.thickness, self.shape[self.axis])

    def _slab(self, number: int) -> np.ndarray:
        if number not in self.slabs:
            shape = list(self.shape)
            begin, end = self._extent(number)
            shape[self.axis] = end - begin
            self.slabs[number] = np.zeros((len(self.edges), *shape), np.float32)
        return self.slabs[number]
