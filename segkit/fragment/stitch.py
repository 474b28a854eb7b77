"""Fragments of neighbouring blocks that are one, and the ids that all fragments have in the end.

Both blocks at a face label a few planes on both sides of it (:func:`seam`): each its own, and some of its halo. Two
fragments are one where they are each other's best overlap there and cover more than :data:`SHARE` of their union.

Faces are enough: a fragment is connected by faces of voxels, so that on its way to a diagonal block it passes through
a block that shares a face with both. A fragment that a block sees in its halo alone joins nothing, since what it would
join is not there; two pieces of a fragment in one block, connected through the halo alone, keep one id.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segkit.blockwise.blocks import Lattice, Slices
from segkit.io.atomic import replacing, storage_errors

WIDTH = 2
"""Planes on each side of a face that are compared. More do not help: labels are worse towards the end of a halo."""
SHARE = 0.3
"""Of the union of two fragments, in these planes, that they must share to be one.

Above one half, best overlaps would be mutual of themselves; but where a halo is small, blocks often disagree on the
extent of a fragment while they agree that it goes on. Measured on 256^3 voxels (watershed, blocks of 64, halo 8),
a share of 0.3 joins 90 % of the voxel pairs across faces that the whole volume joins, 0.5 joins 88 %, and both
join wrongly 0.6 %.
"""


def seam(lattice: Lattice, number: int, axis: int) -> Slices | None:
    """The voxels that are compared at the face between a block and the next one along `axis`, as a part of the volume.

    None where nothing comes next, and where the halo is 0: then no voxel is seen by both.
    """
    width = min(WIDTH, lattice.halo[axis])
    if lattice.neighbour(number, axis) is None or not width:
        return None
    z, y, x = lattice[number].inner
    face = (z, y, x)[axis].stop
    along = slice(max(face - width, 0), min(face + width, lattice.shape[axis]))
    return (along, y, x) if axis == 0 else (z, along, x) if axis == 1 else (z, y, along)


def same_fragments(first: np.ndarray, second: np.ndarray, owned: tuple[int, int]) -> np.ndarray:
    """Which fragments of two blocks are one, by their labels of the same voxels: uint32 (N, 2), lexicographic.

    Labels are uint32 arrays of one shape; those above `owned[0]` (of the first block) and `owned[1]` lie in the halo
    alone. No fragment is in two pairs. Of equal overlaps that with the lowest label counts.

    >>> first = np.array([4, 4, 4, 4, 5, 0], np.uint32)
    >>> second = np.array([1, 1, 1, 2, 3, 3], np.uint32)
    >>> same_fragments(first, second, (5, 3)).tolist()
    [[4, 1], [5, 3]]
    """
    keys = first.reshape(-1).astype(np.uint64) << np.uint64(32) | second.reshape(-1)
    pairs, overlaps = np.unique(keys, return_counts=True)
    rows, cols = (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(2**32 - 1)).astype(np.int64)
    union = _sizes(rows, overlaps) + _sizes(cols, overlaps) - overlaps
    both = (rows > 0) & (cols > 0)
    rows, cols, overlaps, union = rows[both], cols[both], overlaps[both], union[both]
    joined = _best(rows, overlaps) & _best(cols, overlaps) & (overlaps > SHARE * union)
    joined &= (rows <= owned[0]) & (cols <= owned[1])
    return np.stack([rows[joined], cols[joined]], axis=1).astype(np.uint32)


def _sizes(labels: np.ndarray, overlaps: np.ndarray) -> np.ndarray:
    """Voxels of the fragment of each entry."""
    _, inverse = np.unique(labels, return_inverse=True)
    sizes = np.zeros(len(labels), np.int64)
    np.add.at(sizes, inverse, overlaps)
    return sizes[inverse]


def _best(labels: np.ndarray, overlaps: np.ndarray) -> np.ndarray:
    """Which entries are the largest of their label; of equal ones the first."""
    order = np.lexsort((-overlaps, labels))
    best = np.zeros(len(labels), bool)
    best[order[np.flatnonzero(np.diff(labels[order], prepend=-1))]] = True
    return best


@dataclass(frozen=True, eq=False)
class Renaming:
    """From the fragments of each block, numbered from 1, to ids of the whole volume, numbered from 1 without gaps.

    All fragments of all blocks stand in one row, in the order of blocks. Of fragments that are one the first gives the
    id; ids follow the order of the row. So ids depend on nothing but the fragments.
    """

    starts: np.ndarray
    """Place in the row of the first fragment of each block, and its length at the end, int64 (B + 1,)."""
    gone: np.ndarray
    """Places of fragments that are part of an earlier one, int64 (G,), increasing."""
    into: np.ndarray
    """Place of the first fragment that each of these is part of, int64 (G,)."""

    @classmethod
    def joining(cls, counts: Sequence[int] | np.ndarray, pairs: np.ndarray) -> "Renaming":
        """From the number of fragments of each block, and pairs of places in the row that are one, int64 (P, 2)."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        places, ends = np.unique(pairs, return_inverse=True)
        ends = ends.reshape(-1, 2)
        graph = coo_array((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), shape=(len(places),) * 2)
        parts = connected_components(graph, directed=False)[1] if len(places) else np.zeros(0, np.int64)
        _, first = np.unique(parts, return_index=True)  # places increase: the first of a part is its lowest
        roots = places[first[parts]]
        gone = places != roots
        return cls(starts, places[gone].astype(np.int64), roots[gone].astype(np.int64))

    @property
    def count(self) -> int:
        """How many fragments there are in the end."""
        return int(self.starts[-1]) - len(self.gone)

    def rooted(self, block: int) -> int:
        """How many fragments have their first piece in this block."""
        start, stop = (int(place) for place in self.starts[block : block + 2])
        return stop - start - int(np.diff(np.searchsorted(self.gone, (start, stop)))[0])

    def ids(self, block: int) -> np.ndarray:
        """The id of each fragment of a block, uint64 (n + 1,), by its number in the block; 0 stays 0.

        >>> renaming = Renaming.joining([2, 2], np.array([[1, 2]]))
        >>> renaming.ids(0).tolist(), renaming.ids(1).tolist()
        ([0, 1, 2], [0, 2, 3])
        """
        start, stop = (int(place) for place in self.starts[block : block + 2])
        places = np.arange(start, stop)
        low, high = np.searchsorted(self.gone, (start, stop))
        places[self.gone[low:high] - start] = self.into[low:high]
        ids = places + 1 - np.searchsorted(self.gone, places)
        return np.concatenate([[0], ids]).astype(np.uint64)

    def save(self, folder: Path) -> None:
        """Write it to a folder, whole or not at all. Raises StorageError."""
        with storage_errors("written", folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with replacing(folder) as temporary:
                temporary.mkdir()
                for name in self.files():
                    np.save(temporary / name, getattr(self, name.removesuffix(".npy")))

    @classmethod
    def load(cls, folder: Path) -> "Renaming":
        """What :meth:`save` wrote, mapped: a worker reads what belongs to its block, and no more."""
        with storage_errors("read", folder):
            return cls(*(np.load(folder / name, mmap_mode="r") for name in cls.files()))

    @staticmethod
    def files() -> tuple[str, ...]:
        """Names of the files in a folder."""
        return "starts.npy", "gone.npy", "into.npy"
