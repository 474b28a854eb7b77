"""How far scores depend on which parts of a volume were looked at: a bootstrap over its blocks.

The contingency tables of blocks add up to that of the volume. A draw takes as many blocks as there are, with
replacement, and adds their tables up: its scores are those of a volume put together of the blocks that were drawn, in
which segments and objects keep their ids, so that a neuron that runs through several blocks stays one object, and pairs
of voxels of different blocks count as well.

What the spread over the draws means, and what not: it says how much the scores of *this* segmentation would differ if
other parts of this volume had been annotated. The segmentation is not made again, and blocks of one volume are less
different than volumes: between volumes scores differ by more. VOI and Rand are no means over blocks: a draw holds some
63 % of the different blocks, so neurons in it are shorter, and its scores lie to one side of those of the volume; take
the spread of the draws and the differences between two segmentations on the same draws, not their mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np

from segkit.data import Labels, check_aligned
from segkit.errors import InvalidInput, InvalidParameter, sentence
from segkit.evaluate.border import near_boundary
from segkit.evaluate.contingency import Contingency, check_border, check_counted, count, unite
from segkit.evaluate.sweep import SCORES

PARTS = (4, 4, 4)
"""Parts of a volume along z, y and x."""
AT_ONCE = 1 << 22
"""Numbers of a table of draws that are computed at once: 32 MB."""


@dataclass(frozen=True, eq=False)
class BlockTables:
    """Hold the contingency tables of the blocks of a volume in which a voxel counts."""

    tables: tuple[Contingency, ...]
    """At least one."""

    def whole(self) -> Contingency:
        """Return the table of the volume, exactly."""
        return unite(self.tables)

    def renamed(self, ids: np.ndarray, names: np.ndarray) -> "BlockTables":
        """Return the tables after the segments `ids`, uint64 (S,), increasing, got the `names`, uint64 (S,).

        Segment 0 stays 0. Raises InvalidInput for any other segment that is not among `ids`.
        """
        return BlockTables(tuple(table.merged(_names_of(table.segments, ids, names)) for table in self.tables))


def block_tables(
    segmentation: Labels,
    truth: Labels,
    parts: Sequence[int] = PARTS,
    *,
    ignore_background: bool = True,
    border: float = 0.0,
) -> BlockTables:
    """Count each block of a volume on its own; see :func:`segkit.evaluate.contingency` for what counts.

    Parameters
    ----------
    segmentation, truth
        uint64 (Z, Y, X), aligned.
    parts
        So many blocks along z, y and x; fewer along an axis that has fewer voxels.
    ignore_background, border
        As for the metric `cremi`; what is near a boundary is decided in the whole volume.

    Raises
    ------
    InvalidInput
        If the two are not aligned, or no voxel counts.
    InvalidParameter
        If `parts` are not three numbers from 1 on.

    Examples
    --------
    >>> from segkit import Grid
    >>> labels = Labels.convert([[[1, 1, 2, 2, 2, 2]]], Grid())
    >>> found = block_tables(labels, labels, (1, 1, 2))
    >>> [table.counts.tolist() for table in found.tables], found.whole().counts.tolist()
    ([[2, 1], [3]], [2, 4])
    """
    check_aligned(segmentation=segmentation, truth=truth)
    if len(parts) != 3 or min(parts) < 1:
        raise InvalidParameter(sentence("parts", "must be three numbers of blocks, z, y, x, from 1 on", list(parts)))
    ignored = near_boundary(truth, check_border(border)) if border else None
    found = []
    for box in _boxes(truth.shape, parts):
        left_out = None if ignored is None else np.ascontiguousarray(ignored[box])
        one, other = (np.ascontiguousarray(each.array[box]) for each in (segmentation, truth))
        found.append(count(one, other, left_out, ignore_background=ignore_background))
    counted = tuple(table for table in found if len(table.counts))
    check_counted(unite(found), border)
    return BlockTables(counted)


def draws(blocks: int, number: int = 200, seed: int = 0) -> np.ndarray:
    """Draw blocks with replacement: how often each is in each draw, int64 (number, blocks); each draw has `blocks`."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(blocks, np.full(blocks, 1 / blocks), number)


def scores_of_draws(blocks: BlockTables, drawn: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the scores of the metric `cremi` for draws of blocks, float64 (R,) each; exact to some 1e-12.

    Parameters
    ----------
    blocks
        The tables of a segmentation.
    drawn
        How often each block is in each draw, int64 (R, B): see :func:`draws`.

    Examples
    --------
    >>> from segkit import Grid
    >>> halves, whole = (Labels.convert([[ids]], Grid()) for ids in ([1, 2], [5, 5]))
    >>> tables = block_tables(halves, whole, (1, 1, 2))
    >>> scores_of_draws(tables, np.array([[1, 1], [2, 0]]))["voi_split"].tolist()
    [1.0, 0.0]
    """
    if drawn.ndim != 2 or drawn.shape[1] != len(blocks.tables):
        raise InvalidInput(sentence("drawn", f"must be of shape (R, {len(blocks.tables)})", drawn.shape))
    from scipy.sparse import csr_array

    table = blocks.whole()
    keys, columns, counts = [], [], []
    for number, each in enumerate(blocks.tables):
        rows = np.searchsorted(table.segments, each.segments)[each.rows]
        cols = np.searchsorted(table.objects, each.objects)[each.cols]
        keys.append(np.searchsorted(table.rows * len(table.objects) + table.cols, rows * len(table.objects) + cols))
        columns.append(np.full(len(each.counts), number))
        counts.append(each.counts)
    entries = np.concatenate(counts), (np.concatenate(keys), np.concatenate(columns))
    by_block = csr_array(entries, shape=(len(table.counts), len(blocks.tables)))
    ones = np.ones(len(table.counts), np.int64), (table.cols, np.arange(len(table.counts)))
    of_objects = csr_array(ones, shape=(len(table.objects), len(table.counts)))
    step = max(1, AT_ONCE // len(table.counts))
    parts = [_scores(table, by_block @ some.T, of_objects) for some in np.split(drawn, range(step, len(drawn), step))]
    return {name: np.concatenate([part[name] for part in parts]) for name in SCORES}


def _scores(table: Contingency, counts: np.ndarray, of_objects: Any) -> dict[str, np.ndarray]:
    """Scores of draws from the voxels that each entry of the table has in them, int64 (N, R)."""
    segments = np.add.reduceat(counts, table.row_starts[:-1], axis=0)
    objects = of_objects @ counts
    total, both = counts.sum(axis=0), _bits(counts)
    split, merge = np.maximum([_bits(objects) - both, _bits(segments) - both], 0) / total
    known = table.segments != 0
    alone = segments[~known].sum(axis=0)  # voxels of no segment are segments of their own
    pairs, segment_pairs = (_squares(each) + alone for each in (counts[known[table.rows]], segments[known]))
    either = segment_pairs + _squares(objects)
    error = np.maximum(either - 2 * pairs, 0) / either
    names = (1 - error, error, split, merge, np.sqrt((split + merge) * error))
    return dict(zip(SCORES, names, strict=True))


def _bits(counts: np.ndarray) -> np.ndarray:
    """The sums of n log2 n over the first axis."""
    return np.sum(counts * np.log2(np.maximum(counts, 1)), axis=0)


def _squares(counts: np.ndarray) -> np.ndarray:
    return np.sum(counts.astype(np.float64) ** 2, axis=0)


def _boxes(shape: Sequence[int], parts: Sequence[int]) -> list[tuple[slice, ...]]:
    """The boxes that a volume is cut into, as equal as whole voxels allow."""
    cuts = [np.arange(min(part, size) + 1) * size // min(part, size) for size, part in zip(shape, parts, strict=True)]
    axes = [[slice(int(a), int(b)) for a, b in pairwise(along)] for along in cuts]
    return list(product(*axes))


def _names_of(segments: np.ndarray, ids: np.ndarray, names: np.ndarray) -> np.ndarray:
    """The name of each segment."""
    places = np.minimum(np.searchsorted(ids, segments), max(len(ids) - 1, 0))
    known = (ids[places] == segments) if len(ids) else np.zeros(len(segments), bool)
    if lost := segments[~known & (segments != 0)].tolist():
        raise InvalidInput(sentence("segments", "must be among the ids that are renamed", lost[0]))
    return np.where(segments == 0, np.uint64(0), names[places] if len(ids) else segments)
