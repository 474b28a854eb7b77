"""What is kept of the affinities of a block, and the region graph that is made of it later.

While a block is cut into fragments its affinities are at hand, but its fragments have no ids yet, and those of others
are not known. So two things are kept: the graph of the edges inside the block, by numbers of the block's own, and the
affinities of the edges that lead out of it, planes at its faces. Once fragments have ids, the nodes of the first get
them, and the graph of the second is made. Both together are the graph that all affinities give, bit for bit, for all
statistics are integers or extremes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segkit.agglomerate.pieces import Linkage, Piece, renamed
from segkit.agglomerate.stage import load_piece, piece_path, save_piece
from segkit.blockwise.blocks import Lattice, Slices, Triple
from segkit.blockwise.component import ComponentSpec
from segkit.blockwise.passing import PassingAffinities
from segkit.blockwise.store import load_array, save_array
from segkit.data import Affinities, Grid, Labels
from segkit.data.boxes import counted_from, reached, within
from segkit.errors import StorageError
from segkit.fragment.block_labels import BlockLabels
from segkit.fragment.tasks import FragmentTask
from segkit.infer.stage import Predicted
from segkit.io import RegionSource


class Kept(NamedTuple):
    """What is kept of a block."""

    piece: Piece
    """The graph of the edges inside it; node k is the fragment of the label k + 1."""
    seats: np.ndarray
    """Of each node the first voxel in the block, as an index in the order z, y, x, int64 (N,)."""
    leaving: np.ndarray
    """The affinities of the edges that lead out, float32, one box of :func:`leaving_boxes` after the other."""


@dataclass(frozen=True)
class FusedAffinities(PassingAffinities):
    """Affinities that a network gives, of which the graphs of blocks are kept, and no more."""

    predicted: Predicted
    lattice: Lattice
    """The blocks, with the halo of the fragments."""
    agglomerator: ComponentSpec
    fragmenter: ComponentSpec
    mask: RegionSource | None
    folder: Path
    """Where it is kept."""

    @property
    def neighborhood(self) -> np.ndarray:  # type: ignore[override]
        """Return the offsets of the channels, (C, 3)."""
        return self.predicted.neighborhood

    @property
    def shape(self) -> Triple:
        """Return the size in voxels, (Z, Y, X)."""
        return self.predicted.shape

    @property
    def grid(self) -> Grid:
        """Return where the voxels lie."""
        return self.predicted.grid

    @property
    def identity(self) -> str:
        """Return what differs once the values may be others: those of a box depend on where it ends."""
        return f"{self.predicted.identity} {self.lattice.block} {self.lattice.halo}"

    def read(self, part: Slices, /) -> np.ndarray:
        """Compute the affinities of a box, float32 (C, Z, Y, X)."""
        return self.predicted.read(part)

    def keep(self, number: int, affinities: np.ndarray, labels: BlockLabels) -> None:
        """Keep what the region graph needs of the affinities that begin in a block."""
        inner = self.lattice[number].inner
        grid = self.grid.crop([part.start for part in inner])
        own = labels.named(np.arange(labels.count + 1, dtype=np.uint64), self.lattice[number].shape)
        piece = Linkage(self.agglomerator.load()).piece(
            Affinities(affinities, self.neighborhood, grid), Labels(own, grid)
        )
        begins = np.cumsum(labels.lengths, dtype=np.int64) - labels.lengths
        seats = np.zeros(labels.count + 1, np.int64)
        seats[labels.labels[::-1]] = begins[::-1]  # the first run of a label is written last
        parts = [affinities[channel][box].reshape(-1) for channel, box in self._leaving(number)]
        save_array(self._file("leaving", number), np.concatenate([np.empty(0, np.float32), *parts]))
        save_array(self._file("seats", number), seats[1:])
        save_piece(piece_path(self.folder / "inside", number), piece)

    def piece(self, number: int, fragments: RegionSource, linkage: Linkage) -> Piece:
        """Make the graph of the affinities that begin in a block."""
        inner = self.lattice[number].inner
        outer = reached(inner, self.shape, self.neighborhood)
        ids = fragments.read(outer)
        own = ids[counted_from(outer, inner)]
        if not own.any():
            nothing = Affinities(np.zeros((1, *own.shape), np.float32), self.neighborhood[:1], self.grid)
            return linkage.piece(nothing, Labels(own, self.grid))
        kept = self._kept(number)
        pieces, done = [renamed(kept.piece, own.reshape(-1)[kept.seats], largest=linkage.largest)], 0
        for channel, box in self._leaving(number):
            size = [part.stop - part.start for part in box]
            values = kept.leaving[done : done + int(np.prod(size))].reshape(size)
            done += values.size
            pieces.append(self._of_box(values, channel, within(inner, box), (ids, outer), linkage))
        return linkage.unite(pieces)

    def _of_box(
        self, values: np.ndarray, channel: int, place: Slices, ids: tuple[np.ndarray, Slices], linkage: Linkage
    ) -> Piece:
        """The graph of the edges of one channel that begin in a box; its voxels are counted elsewhere."""
        offsets = self.neighborhood[channel : channel + 1]
        around = reached(place, self.shape, offsets)
        labels = ids[0][counted_from(ids[1], around)]
        begin, wider = (self.grid.crop([part.start for part in box]) for box in (place, around))
        piece = linkage.piece(
            Affinities(values[None], offsets, begin), Labels(labels, wider), counted_from(around, place)
        )
        none = {name: np.zeros_like(counts) for name, counts in piece.graph.node_features.items()}
        return replace(piece, graph=replace(piece.graph, node_features=none))

    def _kept(self, number: int) -> Kept:
        """What was kept of a block; what is missing or damaged is made again."""
        try:
            return self._loaded(number)
        except (StorageError, ValueError, EOFError, OSError):
            FragmentTask(self, self.mask, self.fragmenter, self.lattice, self.folder).block_labels(number)
            return self._loaded(number)

    def _loaded(self, number: int) -> Kept:
        piece = load_piece(piece_path(self.folder / "inside", number))
        return Kept(piece, load_array(self._file("seats", number)), load_array(self._file("leaving", number)))

    def _leaving(self, number: int) -> Iterator[tuple[int, Slices]]:
        for channel, offset in enumerate(self.neighborhood):
            for box in leaving_boxes(self.lattice[number].inner, self.shape, offset):
                yield channel, box

    def _file(self, name: str, number: int) -> Path:
        return piece_path(self.folder / name, number).with_suffix(".npy")


def leaving_boxes(inner: Slices, shape: Triple, offset: np.ndarray) -> Iterator[Slices]:
    """Boxes, counted from where a block begins, of its voxels whose edge leads out of it, but not out of the volume.

    >>> list(leaving_boxes((slice(2, 6), slice(0, 4), slice(0, 4)), (6, 4, 4), np.array([-1, -1, 0])))
    [(slice(0, 1, None), slice(1, 4, None), slice(0, 4, None))]
    """
    left = [
        slice(max(0, -step - part.start), min(part.stop, size - step) - part.start)
        for part, size, step in zip(inner, shape, map(int, offset), strict=True)
    ]
    for axis, step in enumerate(map(int, offset)):
        begin, end = left[axis].start, left[axis].stop
        length = inner[axis].stop - inner[axis].start
        cut = min(max(-step if step < 0 else length - step, begin), end)
        out, rest = (slice(begin, cut), slice(cut, end)) if step < 0 else (slice(cut, end), slice(begin, cut))
        box = [*left[:axis], out, *left[axis + 1 :]]
        if step and all(part.start < part.stop for part in box):
            yield box[0], box[1], box[2]
        if step:
            left[axis] = rest
