"""Cut a merge tree at one threshold or several (`segkit segment`): a block looks up its own fragments."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segkit import io
from segkit.blockwise.blocks import Lattice
from segkit.blockwise.engine import Stage
from segkit.blockwise.job import BlockTask
from segkit.blockwise.store import Shelf, array_digest, fingerprint
from segkit.blockwise.work import WHOLE, Work
from segkit.data import Grid, Labels, MergeTree
from segkit.data.resample import resample_labels
from segkit.data.source import Held, Source
from segkit.errors import InvalidInput, sentence
from segkit.io.address import as_address
from segkit.io.lookup import AnyAddress
from segkit.io.writer import Form, Target
from segkit.segment.cut import renamed, segments_at

Place = tuple[Grid, tuple[int, int, int]]
"""A grid, and how many of its voxels."""


@dataclass(frozen=True)
class SegmentTask(BlockTask):
    """Gives the fragments of a block the names of their segments."""

    fragments: Source
    lattice: Lattice
    targets: tuple[Target, ...]
    """One for each threshold."""
    tables: Shelf
    """The ids of all fragments, and their segments at each threshold."""
    like: Place | None = None
    """The voxels of the result; None: those of the fragments."""

    def run(self, number: int) -> dict:
        """Look up only the fragments that are there; return how many these are, and of how many segments."""
        part = self.lattice[number].inner
        labels = Labels(self.fragments.read(part), self.fragments.grid)
        ids = labels.ids()
        places = _places(self.tables.get("leaf_ids"), ids)
        names = [self.tables.get(_table(k))[places] for k in range(len(self.targets))]
        made = renamed(labels, ids, names)
        if self.like is not None:
            place = self.like
            made = (resample_labels(segments, *place) for segments in made)
        box = part if self.like is None else tuple(slice(0, size) for size in self.like[1])
        for target in self.targets:  # the targets take what is made in turn, one volume at a time
            target.defer(box, lambda: next(made).array)
        return {"fragments": len(ids), "segments": [len(np.unique(each)) for each in names]}

    def digest(self, number: int) -> str | None:
        """Compute a checksum of the block in all segmentations."""
        found = [target.digest(self.lattice[number].inner) for target in self.targets]
        return None if None in found else "-".join(map(str, found))


@dataclass(frozen=True)
class Segmented:
    """Hold the numbers of segments and fragments that a tree was cut into."""

    rows: list[dict[str, float]]
    """For each threshold the number of segments: in a whole volume; by blocks, of all fragments of the tree."""
    fragments: int | None
    """How many fragments of the tree are in a whole volume."""
    leaves: int
    """How many fragments the tree has."""


def segment_files(
    merge_tree: AnyAddress | MergeTree,
    out: AnyAddress | io.Output,
    thresholds: Sequence[float],
    *,
    fragments: AnyAddress | io.RegionSource | Held | None = None,
    like: Place | None = None,
    work: Work = WHOLE,
) -> Segmented:
    """Cut a merge tree at one threshold or several; the result is that of :func:`segkit.segment.segment`.

    Memory: the driver holds the tree, a worker one block; of a whole volume, two segmentations at any time.

    Parameters
    ----------
    merge_tree
        The tree, or its address.
    out
        A file, or one that is being made; by blocks a .zarr. One threshold gives ``volumes/segmentation`` or the
        dataset that is named, several give ``volumes/segmentation_T`` each.
    thresholds
        All merges of lower altitude are done.
    fragments
        The fragments, or their address; those in the file of the tree if not given.
    like
        Grid and size of the result, of a whole volume; those of the fragments if not given.
    work
        Whole, or by blocks.

    Raises
    ------
    InvalidInput
        If a threshold is NaN or given twice, a fragment is no leaf of the tree, or the address cannot be written to.
    BlocksFailed
        By blocks, if one could not be computed, for that cause or another.
    """
    thresholds = _checked(thresholds)
    with work.output(out) as output:
        io.check_writable(output.address, dataset=len(thresholds) == 1)
        tree = merge_tree if isinstance(merge_tree, MergeTree) else io.read_merge_tree(merge_tree)
        if not isinstance(fragments, io.RegionSource | Held):
            fragments = work.source(fragments or as_address(merge_tree).path, "fragments")  # type: ignore[arg-type]
        cuts = [segments_at(tree, threshold) for threshold in thresholds]
        keys = ["" if work.whole else _key(fragments, tree, segments) for segments in cuts]
        names = [None if len(cuts) == 1 else f"volumes/segmentation_{t!r}" for t in thresholds]
        grid, shape = like or (fragments.grid, fragments.shape)
        form, places = Form("segmentation", shape, grid), zip(keys, names, strict=True)
        targets = tuple(output.volume(form, key=key, dataset=name) for key, name in places)
        key = fingerprint(stage="segment", parts=keys, block=work.block)
        tables = work.shelf(work.folder_for(output.address, "segment", key))
        tables.put("leaf_ids", tree.leaf_ids)
        for k, segments in enumerate(cuts):
            tables.put(_table(k), segments)
        lattice = work.lattice(fragments.shape)
        task = SegmentTask(fragments, lattice, targets, tables, like)
        results = work.run(Stage("segment", task, [each.voxels for each in lattice], targets[0].marks, key))
    tables.clear()
    counts = results[0]["segments"] if work.whole else [len(np.unique(segments)) for segments in cuts]
    rows = [{"threshold": t, "segments": count} for t, count in zip(thresholds, counts, strict=True)]
    return Segmented(rows, results[0]["fragments"] if work.whole else None, len(tree.leaf_ids))


def _checked(thresholds: Sequence[float]) -> list[float]:
    found = [float(threshold) for threshold in thresholds]
    if not found or np.isnan(found).any() or len(set(found)) < len(found):
        raise InvalidInput(sentence("thresholds", "must be numbers, at least one, each once", found))
    return found


def _key(fragments: io.RegionSource | Held, tree: MergeTree, segments: np.ndarray) -> str:
    found = array_digest([tree.leaf_ids, segments])
    return fingerprint(stage="segment", fragments=fragments.identity, segments=found)


def _table(k: int) -> str:
    return f"segments_{k}"


def _places(leaf_ids: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Where each of `ids` stands in `leaf_ids`. Raises InvalidInput if one does not."""
    places = np.searchsorted(leaf_ids, ids)
    unknown = places == len(leaf_ids)
    unknown[~unknown] = leaf_ids[places[~unknown]] != ids[~unknown]
    if unknown.any():
        next_step = "cut the tree with the fragments that it was made from"
        raise InvalidInput(sentence("fragments", "must be leaves of the tree", ids[unknown][0], next_step))
    return places
