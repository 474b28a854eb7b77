"""Merges to look at: how sure a merge is, where it happens, and what hangs on it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from segkit.data import Grid, MergeTree
from segkit.data.boxes import Slices
from segkit.data.labels import FIRST_OUTSIDE
from segkit.errors import InvalidInput, InvalidParameter, sentence
from segkit.segment._kernels_tree import fold_upwards, lowest_common

BOX = 64
"""Edge of the boxes in which fragments are read, in voxels; they share their first planes with those before."""
DOUBT = 0.05
"""Distance of an altitude from the threshold at which a merge counts 1/e of one that lies on it."""

Read = Callable[[Slices], np.ndarray]
"""The fragments of a box, uint64 (Z, Y, X)."""


@dataclass(frozen=True)
class UncertainMerge:
    """A merge whose altitude lies near the threshold."""

    merge: int
    """Number of the merge in the tree, from 0."""
    altitude: float
    """1 - affinity at which the tree merges."""
    done: bool
    """Whether it is done at the threshold."""
    weight: float
    """Voxels of the smaller side, times exp(-|altitude - threshold| / 0.05): what hangs on it."""
    sides: tuple[int, int]
    """The segments that it joins, each by its smallest fragment id, the larger segment first."""
    voxels: tuple[int, int]
    """Their sizes."""
    voxel: tuple[int, int, int] | None
    """z, y, x: a voxel of the contact, near its middle. None where the two sides do not touch."""
    position: tuple[float, float, float] | None
    """The centre of that voxel in the world, z, y, x, in nm."""


def uncertain(
    tree: MergeTree, read: Read, shape: tuple[int, int, int], grid: Grid, threshold: float, *, count: int = 20
) -> list[UncertainMerge]:
    """List the merges on whose decision most hangs, at most `count`, the heaviest first; ties: the first merge.

    The fragments are read box by box, twice: for the sizes of the segments, and for the places of the merges.

    Parameters
    ----------
    tree
        Its leaves are the fragments.
    read
        Callable(slices z, y, x) -> fragments of a box, uint64; 0 and voxels outside the annotation count nothing.
    shape, grid
        Of the fragments.
    threshold
        Merges of a lower altitude are done, 0..1.
    count
        How many at most, 1 or more.

    Raises
    ------
    InvalidParameter
        If `count` is less than 1.
    InvalidInput
        If the threshold is no number, or a fragment is no leaf of the tree.

    Examples
    --------
    >>> fragments = np.array([[[1, 1, 1, 2, 2, 3]]], np.uint64)
    >>> tree = MergeTree.from_merges([1, 2, 3], [[0, 1], [2, 3]], [0.3, 0.52])
    >>> first, second = uncertain(tree, lambda box: fragments[box], (1, 1, 6), Grid(), 0.5)
    >>> first.sides, first.voxels, first.done, first.voxel
    ((1, 3), (5, 1), False, (0, 0, 5))
    >>> second.sides, second.voxels, second.done, second.voxel
    ((1, 2), (3, 2), True, (0, 0, 3))
    """
    if count < 1:
        raise InvalidParameter(sentence("count", "must be 1 or more", count))
    if np.isnan(threshold):
        raise InvalidInput(sentence("threshold", "must be a number", threshold))
    sizes, names = described_nodes(tree, read, shape)
    children = tree.merges
    lesser = sizes[children].min(axis=1, initial=np.iinfo(np.int64).max)
    weights = lesser * np.exp(-np.abs(tree.altitudes - threshold) / DOUBT)
    chosen = np.argsort(-weights, kind="stable")[:count]
    chosen = chosen[weights[chosen] > 0]
    found = []
    for merge, voxel in zip(chosen.tolist(), contacts(tree, read, shape, chosen), strict=True):
        one, other = sorted(children[merge].tolist(), key=lambda node: (-sizes[node], names[node]))
        altitude, position = float(tree.altitudes[merge]), None if voxel is None else grid.centre(voxel)
        sides, voxels = (int(names[one]), int(names[other])), (int(sizes[one]), int(sizes[other]))
        decided = merge, altitude, altitude < threshold, float(weights[merge])
        found.append(UncertainMerge(*decided, sides, voxels, voxel, position))
    return found


def described_nodes(tree: MergeTree, read: Read, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Count the voxels of every node of the tree, int64 (L + M,), and find its smallest fragment id, uint64 (L + M,).

    The id is what a cut calls that segment. The fragments are read box by box.
    """
    sizes = np.zeros(len(tree.parents), np.int64)
    for box in boxes(shape, overlap=0):
        ids, counts = np.unique(read(box), return_counts=True)
        leaves, known = own_leaves(tree, ids)
        sizes[leaves[known]] += counts[known]
    names = np.full(len(tree.parents), np.iinfo(np.uint64).max)
    names[: len(tree.leaf_ids)] = tree.leaf_ids
    fold_upwards(tree.parents, sizes, names)
    return sizes, names


def contacts(
    tree: MergeTree, read: Read, shape: tuple[int, int, int], merges: Sequence[int] | np.ndarray
) -> list[tuple[int, int, int] | None]:
    """Find for each of these merges a voxel at which its two sides touch, near the middle of the contact.

    None where they do not touch: long-range affinities join what lies apart. The fragments are read box by box.
    """
    rank = np.full(len(tree.parents), -1, np.int64)
    rank[len(tree.leaf_ids) + np.asarray(merges, np.int64)] = np.arange(len(merges))
    places: list[list[np.ndarray]] = [[] for _ in merges]
    for box in boxes(shape, overlap=1):
        leaves, known = own_leaves(tree, read(box))
        leaves[~known] = -1
        start = np.array([along.start for along in box])
        for axis in range(3):
            own = tuple(slice(int(low > 0 and other != axis), None) for other, low in enumerate(start))
            first = start + [part.start for part in own]
            for number, voxels in _joined_along(tree, leaves[own], axis, rank):
                places[number].append(voxels + first)
    return [_middle(np.concatenate(each)) if each else None for each in places]


def joining_merge(tree: MergeTree, first: int, second: int) -> int | None:
    """Return the merge that puts two fragments into one segment; None if none does, or an id is no fragment's.

    >>> tree = MergeTree.from_merges([1, 2, 3], [[0, 1], [2, 3]], [0.3, 0.52])
    >>> joining_merge(tree, 1, 2), joining_merge(tree, 3, 1), joining_merge(tree, 1, 1)
    (0, 1, None)
    """
    leaves, known = leaves_of(tree, np.array([first, second], np.uint64))
    if not known.all() or first == second:
        return None
    node = int(lowest_common(tree.parents, leaves[:1], leaves[1:])[0])
    return None if node < 0 else node - len(tree.leaf_ids)


def own_leaves(tree: MergeTree, fragments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what :func:`leaves_of` does. Raises InvalidInput for an id, but 0 and outside, that is of no leaf."""
    leaves, known = leaves_of(tree, fragments)
    strange = ~known & (fragments != 0) & (fragments < FIRST_OUTSIDE)
    if strange.any():
        rule, next_step = "must be leaves of the merge tree", "use the fragments that were agglomerated"
        raise InvalidInput(sentence("fragments", rule, int(fragments[strange][0]), next_step))
    return leaves, known


def leaves_of(tree: MergeTree, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the leaf of each fragment id, int64, and whether there is one, bool; both in the shape of `ids`."""
    if not len(tree.leaf_ids):
        return np.zeros(ids.shape, np.int64), np.zeros(ids.shape, bool)
    leaves = np.searchsorted(tree.leaf_ids, ids).clip(max=len(tree.leaf_ids) - 1)
    return leaves, tree.leaf_ids[leaves] == ids


def boxes(shape: tuple[int, int, int], overlap: int) -> Iterator[Slices]:
    """Yield the boxes that cover a volume; each but the first along an axis reaches `overlap` voxels back."""
    starts = [range(0, size, BOX) for size in shape]
    for corner in product(*starts):
        z, y, x = (
            slice(max(start - overlap, 0), min(start + BOX, size)) for start, size in zip(corner, shape, strict=True)
        )
        yield z, y, x


def _joined_along(tree: MergeTree, leaves: np.ndarray, axis: int, rank: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """For each wanted merge, the voxels (K, 3) whose neighbour before them along `axis` lies on its other side."""
    after = [slice(None)] * 3
    before = [slice(None)] * 3
    after[axis], before[axis] = slice(1, None), slice(None, -1)
    first, second = leaves[tuple(before)], leaves[tuple(after)]
    voxels = np.argwhere((first != second) & (first >= 0) & (second >= 0))
    if not len(voxels):
        return
    ends = first[tuple(voxels.T)], second[tuple(voxels.T)]
    pairs, which = np.unique(np.stack(ends), axis=1, return_inverse=True)
    nodes = lowest_common(tree.parents, pairs[0].copy(), pairs[1].copy())
    numbers = np.where(nodes < 0, -1, rank[nodes])[which.reshape(-1)]
    voxels[:, axis] += 1
    for number in np.unique(numbers[numbers >= 0]).tolist():
        yield number, voxels[numbers == number]


def _middle(voxels: np.ndarray) -> tuple[int, int, int]:
    """The voxel nearest to the mean of all; ties: the first in order of z, y, x."""
    ordered = voxels[np.lexsort(voxels.T[::-1])]
    distances = ((ordered - ordered.mean(axis=0)) ** 2).sum(axis=1)
    z, y, x = ordered[int(np.argmin(distances))].tolist()
    return z, y, x
