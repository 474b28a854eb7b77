"""The tasks that make fragments, of a whole volume or by blocks; :mod:`segkit.fragment.stage` has the order of them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from segkit.blockwise.blocks import Lattice
from segkit.blockwise.component import ComponentSpec
from segkit.blockwise.job import BlockTask, WholeTask
from segkit.blockwise.passing import PassingAffinities
from segkit.blockwise.store import file_digest, load_array, save_array
from segkit.data import Affinities, Volume
from segkit.data.affinities import cut_leaving
from segkit.errors import StorageError
from segkit.fragment.block_labels import AFTER, BEFORE, BlockLabels, BlockLabelsFile, seam_name
from segkit.fragment.stitch import Renaming, same_fragments, seam
from segkit.io import RegionSource, Target
from segkit.registry import calls

Taken = TypeVar("Taken")
GROUP = 64
"""Blocks whose faces are compared by one task."""


@dataclass(frozen=True)
class FragmentWholeTask(WholeTask):
    """Runs the fragmenter on all there is, and writes what it finds."""

    affinities: RegionSource
    mask: RegionSource | None
    fragmenter: ComponentSpec
    target: Target

    def run(self, number: int) -> dict:
        """Cut the volume into fragments and write them; returns how many there are."""
        mask = None if self.mask is None else self.mask.whole()
        found = calls.fragment(self.fragmenter.load(), self.affinities.whole(), mask)
        self.target.write(tuple(slice(0, size) for size in found.shape), found.array)
        return {"fragments": len(found.ids())}


@dataclass(frozen=True)
class FragmentTask(BlockTask):
    """Runs the fragmenter on what a block sees, and keeps what is in the block and in its seams."""

    affinities: RegionSource | PassingAffinities
    mask: RegionSource | None
    fragmenter: ComponentSpec
    lattice: Lattice
    folder: Path

    def run(self, number: int) -> dict:
        """Cut what the block sees into fragments and store them; returns how many have voxels in the block."""
        found = self.block_labels(number)
        found.save(self.path(number))
        return {"fragments": found.count}

    def digest(self, number: int) -> str | None:
        """Compute a checksum of the file of the block."""
        return file_digest(self.path(number))

    def path(self, number: int) -> Path:
        """Where the labels of the block lie."""
        return _file(self.folder, number, "npz")

    def read(self, number: int, take: Callable[[BlockLabelsFile], Taken]) -> Taken:
        """Return what `take` takes from the labels on disk, which are made again if they are missing or damaged."""
        try:
            return self._taken(number, take)
        except StorageError:
            self.run(number)
            return self._taken(number, take)

    def _taken(self, number: int, take: Callable[[BlockLabelsFile], Taken]) -> Taken:
        with BlockLabelsFile(self.path(number)) as file:
            return take(file)

    def block_labels(self, number: int) -> BlockLabels:
        """Cut what the block sees into fragments; of affinities that pass by, what the graph needs is kept."""
        block = self.lattice[number]
        grid = self.affinities.grid.crop([along.start for along in block.outer])
        mask = None if self.mask is None else Volume(self.mask.read(block.outer), grid)
        if mask is not None and not mask.array.any():
            return BlockLabels.none(self.lattice, number)
        array, neighborhood = self.affinities.read(block.outer), self.affinities.neighborhood
        assert neighborhood is not None  # only volumes of one channel have none
        passing = self.affinities if isinstance(self.affinities, PassingAffinities) else None
        own = None if passing is None else array[(slice(None), *block.within)].copy()
        cut_leaving(array, neighborhood)  # for fragmenters, an edge that leaves the box is none
        labels = calls.fragment(self.fragmenter.load(), Affinities(array, neighborhood, grid), mask)
        found = BlockLabels.of(labels.array, self.lattice, number)
        if passing is not None and own is not None:
            passing.keep(number, own, found)
        return found


def _seam(file: BlockLabelsFile, name: str) -> tuple[np.ndarray, int]:
    return file.seam(name), file.count


@dataclass(frozen=True)
class FaceTask(BlockTask):
    """Finds which fragments of a block are one with those of the next blocks along z, y and x.

    It does so for some blocks at once, that follow each other: one takes less time than to send it to a worker.
    """

    fragments: FragmentTask
    lattice: Lattice
    folder: Path
    group: int = GROUP
    """Blocks that one task compares; the last one may have fewer."""

    def __len__(self) -> int:
        return -(-len(self.lattice) // self.group)

    def run(self, number: int) -> dict:
        """Find the pairs of fragments that are one, and store them; returns how many there are."""
        blocks = range(number * self.group, min((number + 1) * self.group, len(self.lattice)))
        pairs = np.concatenate([np.zeros((0, 4), np.int64), *(each for block in blocks for each in self._pairs(block))])
        counts = [self.fragments.read(block, lambda file: file.count) for block in blocks]
        for path, array in zip(self.paths(number), (pairs, np.array(counts)), strict=True):
            save_array(path, array)
        return {"pairs": len(pairs)}

    def digest(self, number: int) -> str | None:
        """Compute a checksum of the files of pairs and counts."""
        return _digest(self.paths(number))

    def place(self, number: int) -> str:
        """Name the first of the blocks."""
        return f"of blocks from {number * self.group} on"

    def paths(self, number: int) -> tuple[Path, Path]:
        """Where the pairs lie: (block, label, block, label), int64 (N, 4); and how many fragments each block has."""
        return _file(self.folder, number, "pairs.npy"), _file(self.folder, number, "counts.npy")

    def _pairs(self, number: int) -> Iterator[np.ndarray]:
        for axis in range(3):
            other = self.lattice.neighbour(number, axis)
            if other is None or seam(self.lattice, number, axis) is None:
                continue
            here, there = seam_name(axis, AFTER), seam_name(axis, BEFORE)
            first, count = self.fragments.read(number, partial(_seam, name=here))
            second, others = self.fragments.read(other, partial(_seam, name=there))
            same = same_fragments(first, second, (count, others)).astype(np.int64)
            blocks = np.broadcast_to([number, other], same.shape)
            yield np.stack([blocks[:, 0], same[:, 0], blocks[:, 1], same[:, 1]], axis=1)


@dataclass(frozen=True)
class IdTask(BlockTask):
    """Finds the ids of all fragments of all blocks, from the pairs at faces: one task for the whole volume.

    Takes some hundred bytes for each pair, and the time to read two small files for each group of blocks.
    """

    faces: FaceTask
    folder: Path

    def run(self, number: int) -> dict:
        """Number all fragments and store the ids; returns how many there are, and of how many pieces in blocks."""
        found, counts = (
            np.concatenate([load_array(self.faces.paths(group)[which]) for group in range(len(self.faces))])
            for which in (0, 1)
        )
        starts = np.concatenate([[0], np.cumsum(counts)])
        pairs = np.stack([starts[found[:, side]] + found[:, side + 1] - 1 for side in (0, 2)], axis=1)
        renaming = Renaming.joining(counts, pairs)
        renaming.save(self.folder)
        return {"fragments": renaming.count, "pieces": int(starts[-1])}

    def digest(self, number: int) -> str | None:
        """Compute a checksum of the files of the table."""
        return _digest([self.folder / name for name in Renaming.files()])


@dataclass(frozen=True)
class WriteTask(BlockTask):
    """Writes a block with its final ids."""

    fragments: FragmentTask
    lattice: Lattice
    ids: Path
    target: Target

    def run(self, number: int) -> dict:
        """Write the block; returns how many fragments begin in it, which over all blocks are all fragments."""
        renaming = Renaming.load(self.ids)
        block = self.lattice[number]
        found = self.fragments.read(number, BlockLabelsFile.without_seams)
        self.target.write(block.inner, found.named(renaming.ids(number), block.shape))
        return {"fragments": renaming.rooted(number)}

    def digest(self, number: int) -> str | None:
        """Compute a checksum of the block as it is stored."""
        return self.target.digest(self.lattice[number].inner)


def _digest(paths: Iterable[Path]) -> str | None:
    """Compute a checksum of several files; None unless all can be read."""
    found = [file_digest(path) for path in paths]
    return None if None in found else "-".join(map(str, found))


def _file(folder: Path, number: int, suffix: str) -> Path:
    return folder / f"{number // 1000:06d}" / f"{number}.{suffix}"
