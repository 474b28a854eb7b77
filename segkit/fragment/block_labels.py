"""Keep the labels of a block, and of its seams, on disk until its fragments have their final ids."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from segkit.blockwise.blocks import Lattice, Slices
from segkit.data.boxes import counted_from
from segkit.errors import InvalidInput, StorageError, sentence
from segkit.fragment.stitch import seam
from segkit.io.atomic import replacing, storage_errors

BEFORE, AFTER = "before", "after"
"""A seam at the beginning of a block along an axis, and one at its end."""


@dataclass(frozen=True, eq=False)
class BlockLabels:
    """Labels of a block, from 1, as runs: several times smaller than the voxels, and quick to write and to rename."""

    count: int
    """Fragments that own voxels: 1..count. Higher ones are in seams only."""
    labels: np.ndarray
    """The label of each run of the block's own voxels in the order z, y, x, uint32 (R,)."""
    lengths: np.ndarray
    """Voxels of each run, uint32 (R,)."""
    seams: dict[str, np.ndarray]
    """By name (:func:`seam_name`): the labels of a seam, uint32 (z, y, x)."""

    @classmethod
    def of(cls, outer: np.ndarray, lattice: Lattice, number: int) -> "BlockLabels":
        """Take them from the labels of all that a block sees, uint64 (z, y, x), numbered from 1 without gaps.

        Fragments that own voxels are numbered anew, in the same order, and then the others.
        """
        highest = int(outer.max())
        if highest > outer.size or highest >= 2**32:
            rule = "must number its fragments from 1 without gaps, and fewer than 2^32 in a block"
            raise InvalidInput(sentence("the fragmenter", rule, f"up to {highest} in {outer.size} voxels"))
        block = lattice[number]
        labels, lengths = _runs(outer[block.within])
        owned = np.zeros(highest + 1, bool)
        owned[labels] = True
        owned[0] = False
        names = np.where(owned, np.cumsum(owned), owned.sum() + np.cumsum(~owned) - 1).astype(np.uint32)
        names[0] = 0
        seams = {}
        for name, part in seams_of(lattice, number).items():
            seams[name] = names[outer[counted_from(block.outer, part)]]
        return cls(int(owned.sum()), names[labels], lengths, seams)

    @classmethod
    def none(cls, lattice: Lattice, number: int) -> "BlockLabels":
        """Make those of a block without fragments."""
        nothing = {
            name: np.zeros([along.stop - along.start for along in part], np.uint32)
            for name, part in seams_of(lattice, number).items()
        }
        return cls(0, np.zeros(1, np.uint32), np.array([lattice[number].voxels], np.uint32), nothing)

    def named(self, ids: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """Make the volume of a block of this shape, with each label k replaced by `ids[k]`."""
        return np.repeat(ids[self.labels], self.lengths).reshape(shape)

    def save(self, path: Path) -> None:
        """Write them to one file, whole or not at all. Raises StorageError."""
        arrays = {"count": np.uint32(self.count), "labels": self.labels, "lengths": self.lengths}
        with storage_errors("written", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary, open(temporary, "wb") as file:
                np.savez(file, **arrays, **{f"seam {name}": seam for name, seam in self.seams.items()})  # type: ignore[arg-type]


class BlockLabelsFile:
    """Reads from disk what is asked for of the labels of a block. Raises StorageError for what is gone or damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = self._tried(lambda: np.load(path))

    @property
    def count(self) -> int:
        """Read how many fragments own voxels of the block."""
        return int(self._array("count"))

    def seam(self, name: str) -> np.ndarray:
        """Read the labels of the seam of this name."""
        return self._array(f"seam {name}")

    def without_seams(self) -> BlockLabels:
        """Read all but the seams."""
        return BlockLabels(self.count, self._array("labels"), self._array("lengths"), {})

    def _array(self, name: str) -> np.ndarray:
        return self._tried(lambda: self._file[name])  # its checksum is compared by the library

    def _tried(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, BadZipFile) as error:
            next_step = "give the same command again"
            raise StorageError(sentence(f"{self.path}", f"cannot be read ({error})", next_step=next_step)) from error

    def __enter__(self) -> "BlockLabelsFile":
        return self

    def __exit__(self, *problem: object) -> None:
        self._file.close()


def seam_name(axis: int, side: str) -> str:
    """The name of the seam at one side of a block."""
    return f"{'zyx'[axis]} {side}"


def seams_of(lattice: Lattice, number: int) -> dict[str, Slices]:
    """The seams of a block by name, as parts of the volume."""
    found = {}
    for axis in range(3):
        for side, other in ((BEFORE, _before(lattice, number, axis)), (AFTER, number)):
            part = None if other is None else seam(lattice, other, axis)
            if part is not None:
                found[seam_name(axis, side)] = part
    return found


def _before(lattice: Lattice, number: int, axis: int) -> int | None:
    index = list(lattice[number].index)
    index[axis] -= 1
    return lattice.number(index) if index[axis] >= 0 else None


def _runs(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The label of each run, and its voxels, uint32."""
    flat = array.reshape(-1)
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    return flat[starts], np.diff(starts, append=flat.size).astype(np.uint32)
