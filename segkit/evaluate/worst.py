"""Where the errors are: the objects that are split worst, the segments that merge worst, and a voxel to look at."""

from dataclasses import dataclass

import numpy as np

from segkit.data import Labels
from segkit.data.labels import FIRST_OUTSIDE
from segkit.errors import InvalidParameter, sentence
from segkit.evaluate._kernels_look import find_voxels
from segkit.evaluate.contingency import Contingency, contingency

MOST_PARTS = 5


@dataclass(frozen=True)
class Mistake:
    """An object of the truth cut into several segments, or a segment that joins several objects."""

    id: int
    """The object (of a split) or the segment (of a merge)."""
    bits: float
    """What it adds to voi_split, or to voi_merge."""
    voxels: int
    """Counted voxels of it."""
    parts: tuple[tuple[int, int], ...]
    """The segments in the object, or the objects in the segment: (id, voxels), the largest first, at most 5."""
    voxel: tuple[int, int, int]
    """z, y, x: a voxel of the second largest part, where it touches the largest if it does."""
    position: tuple[float, float, float]
    """The centre of that voxel in the world, z, y, x, in the unit of the grid (nm)."""


def worst(
    segmentation: Labels,
    truth: Labels,
    *,
    count: int = 10,
    ignore_background: bool = True,
    border: float = 0.0,
) -> tuple[list[Mistake], list[Mistake]]:
    """The worst splits and the worst merges, at most `count` each, the worst first; ties: the lowest id.

    The bits of all objects sum to voi_split, those of all segments to voi_merge. Segment 0, where nothing is segmented,
    is one segment here, as in VOI. Raises InvalidInput if the two are not aligned, or if no voxel counts.

    Parameters
    ----------
    segmentation, truth
        uint64 (Z, Y, X), aligned.
    count
        How many splits and how many merges, 1 or more.
    ignore_background
        Voxels where the truth is 0 do not count.
    border
        Voxels within this distance (nm, in the section plane) of a boundary of the truth do not count; CREMI: 25.

    Examples
    --------
    >>> from segkit import Grid
    >>> segmentation, truth = (Labels.convert([[ids]], Grid((9, 9, 9))) for ids in ([7, 7, 7, 8], [1, 1, 2, 2]))
    >>> (split,), (merge,) = worst(segmentation, truth)
    >>> split.id, split.bits, split.parts, split.voxel, split.position
    (2, 0.5, ((7, 1), (8, 1)), (0, 0, 3), (4.5, 4.5, 31.5))
    >>> merge.id, merge.parts, merge.voxel
    (7, ((1, 2), (2, 1)), (0, 0, 2))
    """
    if count < 1:
        raise InvalidParameter(sentence("count", "must be 1 or more", count))
    table = contingency(segmentation, truth, ignore_background=ignore_background, border=border)
    splits = _largest(table.cols, table.rows, table, table.object_sizes, count)
    merges = _largest(table.rows, table.cols, table, table.segment_sizes, count)
    pieces = [
        [(table.segments[table.rows[k]], table.objects[table.cols[k]]) for k in parts[:2]]
        for _, _, parts in splits + merges
    ]
    voxels = _voxels(segmentation, truth, np.array(pieces, np.uint64).reshape(-1, 2, 2))
    described = [_mistake(table.objects, table.segments, table.rows, table, found) for found in splits]
    described += [_mistake(table.segments, table.objects, table.cols, table, found) for found in merges]
    pairs = zip(described, voxels.tolist(), strict=True)
    fields = ((*what, tuple(voxel), truth.grid.centre(voxel)) for what, voxel in pairs)
    placed = [Mistake(*each) for each in fields]
    return placed[: len(splits)], placed[len(splits) :]


def _largest(groups: np.ndarray, others: np.ndarray, table: Contingency, sizes: np.ndarray, count: int) -> list:
    """(group, its bits, its entries from the largest on) of the groups of most bits, if they have any."""
    terms = table.counts * np.log2(sizes[groups] / table.counts)
    bits = np.bincount(groups, weights=terms, minlength=len(sizes)) / table.total
    chosen = [int(group) for group in np.argsort(-bits, kind="stable")[:count] if bits[group] > 0]
    entries = np.lexsort((others, -table.counts, groups))
    starts = np.searchsorted(groups[entries], np.arange(len(sizes) + 1))
    return [(group, float(bits[group]), entries[starts[group] : starts[group + 1]]) for group in chosen]


def _voxels(segmentation: Labels, truth: Labels, pieces: np.ndarray) -> np.ndarray:
    """A voxel of pieces[k, 1], near pieces[k, 0]; the same piece may be asked for twice."""
    result = np.empty((len(pieces), 3), np.int64)
    asked = np.arange(len(pieces))
    while len(asked):  # every round finds the first of those that ask for the same piece
        now = asked[np.unique(pieces[asked, 1], axis=0, return_index=True)[1]]
        pair = np.ascontiguousarray(segmentation.array), np.ascontiguousarray(truth.array)
        for array in pair:
            array.flags.writeable = False  # always the same type, so that the kernel is compiled once
        result[now] = find_voxels(*pair, pieces[now, 1].copy(), pieces[now, 0].copy(), FIRST_OUTSIDE)
        asked = np.setdiff1d(asked, now)
    return result


def _mistake(
    ids: np.ndarray, other_ids: np.ndarray, others: np.ndarray, table: Contingency, found: tuple[int, float, np.ndarray]
) -> tuple:
    group, bits, entries = found
    parts = tuple((int(other_ids[others[k]]), int(table.counts[k])) for k in entries[:MOST_PARTS])
    return int(ids[group]), bits, int(table.counts[entries].sum()), parts
