"""Fragments as runs of voxels that carry one id: found once, written with the ids of any segmentation."""

from dataclasses import dataclass

import numpy as np

from segkit.data import Labels
from segkit.data.labels import FIRST_OUTSIDE
from segkit.errors import InvalidInput, sentence
from segkit.kernels.runs import count_runs
from segkit.segment import _kernels
from segkit.threads import share

CHUNK = 1 << 18
"""Voxels whose runs are counted from one begin; so int32 is enough, and a chunk begins a line of the cache."""
FIXED_IDS = np.array([0, FIRST_OUTSIDE, FIRST_OUTSIDE + np.uint64(1)], np.uint64)
"""What is no fragment, by number; the leaves follow."""


@dataclass(frozen=True, eq=False)
class Runs:
    """The runs of a volume along x, on over the ends of lines but not of chunks: 8 bytes a run."""

    starts: np.ndarray
    """The runs of chunk k, its CHUNK voxels, are starts[k] to starts[k + 1], int64."""
    ends: np.ndarray
    """Where each run ends, counted from the first voxel of its chunk, int32."""
    numbers: np.ndarray
    """What each run is: 0 to 2 as in FIXED_IDS, 3 + leaf; int32, or int64 where there are too many leaves."""

    @classmethod
    def of(cls, fragments: Labels, leaf_ids: np.ndarray) -> "Runs":
        """Two passes over the voxels. Raises InvalidInput if a fragment is none of `leaf_ids`, which increase."""
        flat = np.ascontiguousarray(fragments.array).reshape(-1)
        flat.flags.writeable = False  # always the same type, so that the kernels are compiled once
        chunks = -(-flat.size // CHUNK)
        counts = [count for part in share(_count, chunks, flat) for count in part]
        starts = np.append(0, np.cumsum(counts))
        numbers = _table(leaf_ids, flat.size)
        runs = cls(starts, np.empty(starts[-1], np.int32), np.empty(starts[-1], numbers[0].dtype))
        unknown = [position for position in share(_find, chunks, flat, numbers, runs) if position >= 0]
        if unknown:
            next_step = "cut the tree with the fragments that it was made from"
            raise InvalidInput(sentence("fragments", "must be leaves of the tree", flat[unknown[0]], next_step))
        return runs

    def write(self, segments: np.ndarray, result: np.ndarray) -> None:
        """Write the segment of each leaf, uint64 (L,), to all its voxels in `result`, flat, where a cache line begins.

        What is no fragment stays what it is.
        """
        share(_fill, len(self.starts) - 1, self, np.concatenate([FIXED_IDS, segments]), result)

    def chunk(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Ends and numbers of the runs of a chunk."""
        part = slice(self.starts[k], self.starts[k + 1])
        return self.ends[part], self.numbers[part]


def _table(leaf_ids: np.ndarray, voxels: int) -> tuple[np.ndarray, np.ndarray, np.uint64]:
    """The table of numbers, its keys (none unless it is hashed), and the lowest id."""
    leaves = len(leaf_ids)
    low, high = (leaf_ids[0], leaf_ids[-1]) if leaves else (np.uint64(1), np.uint64(1))
    size = int(high) - int(low) + 2
    hashing = size > max(voxels // 4, 16 * leaves, 16)
    if hashing:
        size = 1 << (2 * leaves).bit_length()
    table = np.zeros(size, np.int32 if leaves < 2**31 - _kernels.FIXED else np.int64)
    keys = np.zeros(size if hashing else 0, np.uint64)
    _kernels.number_leaves(leaf_ids, table, keys)
    return table, keys, low


def _count(start: int, stop: int, flat: np.ndarray) -> list[int]:
    return [count_runs(flat[chunk * CHUNK : (chunk + 1) * CHUNK]) for chunk in range(start, stop)]


def _find(
    start: int, stop: int, flat: np.ndarray, numbers: tuple[np.ndarray, np.ndarray, np.uint64], runs: Runs
) -> int:
    """The position of a voxel that carries no leaf, or -1."""
    for chunk in range(start, stop):
        bounds = chunk * CHUNK, min((chunk + 1) * CHUNK, flat.size)
        position = _kernels.find_runs(flat, *bounds, numbers, FIRST_OUTSIDE, *runs.chunk(chunk))
        if position >= 0:
            return position
    return -1


def _fill(start: int, stop: int, runs: Runs, segments: np.ndarray, result: np.ndarray) -> None:
    for chunk in range(start, stop):
        _kernels.fill(result, chunk * CHUNK, *runs.chunk(chunk), segments)
