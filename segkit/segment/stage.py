"""Segmentations by blocks: the tree is cut once, and each block looks up its own fragments."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segkit import io
from segkit.blockwise.blocks import BLOCK, Lattice
from segkit.blockwise.engine import BlockTask, Executor, Report, Stage, StageReport, run_stage
from segkit.blockwise.store import array_digest, clear, fingerprint, load_array, save_array, work_folder
from segkit.data import Labels, MergeTree
from segkit.errors import InvalidInput, sentence
from segkit.io.address import as_address
from segkit.io.lookup import AnyAddress
from segkit.io.reader import RegionSource
from segkit.io.zarr_target import Target
from segkit.segment import renamed, segments_at


@dataclass(frozen=True)
class SegmentTask(BlockTask):
    """Gives the fragments of a block the names of their segments."""

    fragments: RegionSource
    lattice: Lattice
    targets: tuple[Target, ...]
    """One for each threshold."""
    tables: Path
    """The folder of the ids of all fragments, and of their segments at each threshold."""

    def run(self, number: int) -> dict:
        """Look up only the fragments that are there, in tables that are mapped, not read."""
        part = self.lattice[number].inner
        labels = Labels(self.fragments.read(part), self.fragments.grid)
        ids = labels.ids()
        places = _places(load_array(self.tables / "leaf_ids.npy", mapped=True), ids)
        names = (load_array(_table(self.tables, k), mapped=True)[places] for k in range(len(self.targets)))
        for target, segments in zip(self.targets, renamed(labels, ids, names), strict=True):
            target.write(part, segments.array)
        return {"fragments": len(ids)}

    def digest(self, number: int) -> str | None:
        """Of the block in all segmentations."""
        found = [target.digest(self.lattice[number].inner) for target in self.targets]
        return None if None in found else "-".join(map(str, found))


def segment_files(
    merge_tree: AnyAddress,
    out: AnyAddress,
    thresholds: Sequence[float],
    *,
    fragments: AnyAddress | None = None,
    block: Sequence[int] = BLOCK,
    executor: Executor | None = None,
    report: Report | None = None,
    work: Path | None = None,
) -> tuple[list[StageReport], list[dict[str, float]]]:
    """Cut a merge tree at one threshold or several; the result is that of :func:`segkit.segment.segment`.

    Memory: the driver holds the tree, a worker one block.

    Parameters
    ----------
    merge_tree
        Address of the tree.
    out
        A .zarr. One threshold gives ``volumes/segmentation`` or the dataset that is named, several give
        ``volumes/segmentation_T`` each.
    thresholds
        All merges of lower altitude are done.
    fragments
        Address of the fragments; those in the file of the tree if not given.
    block
        Size of a block in voxels, and of a shard of the result.
    executor, report
        As of :func:`segkit.blockwise.engine.run_stage`.
    work
        Where the tables lie meanwhile; in `out` if not given.

    Returns
    -------
    The report of the stage, and for each threshold the number of segments of all fragments of the tree.

    Raises
    ------
    InvalidInput
        If a threshold is NaN or given twice, or the address cannot be written to.
    BlocksFailed
        If a fragment is no leaf of the tree, or a block could not be computed for another cause.
    """
    thresholds = _checked(thresholds)
    io.check_writable(out, dataset=len(thresholds) == 1)
    tree = io.read_merge_tree(merge_tree)
    source = RegionSource(fragments or as_address(merge_tree).path, "fragments")
    cuts = [segments_at(tree, threshold) for threshold in thresholds]
    targets = _targets(out, thresholds, source, tree, cuts, block)
    key = fingerprint(stage="segment", parts=[_key(source, tree, segments) for segments in cuts], block=block)
    tables = (work or work_folder(as_address(out), "segment")) / key
    save_array(tables / "leaf_ids.npy", tree.leaf_ids)
    for k, segments in enumerate(cuts):
        save_array(_table(tables, k), segments)
    lattice = Lattice(source.shape, block)  # type: ignore[arg-type]
    task = SegmentTask(source, lattice, targets, tables)
    stage = Stage("segment", task, [each.voxels for each in lattice], targets[0].marks, key)
    found = run_stage(stage, executor, report)
    for target in targets:
        target.finish()
    clear(tables)
    return [found], [{"threshold": t, "segments": len(np.unique(c))} for t, c in zip(thresholds, cuts, strict=True)]


def _checked(thresholds: Sequence[float]) -> list[float]:
    found = [float(threshold) for threshold in thresholds]
    if not found or np.isnan(found).any() or len(set(found)) < len(found):
        raise InvalidInput(sentence("thresholds", "must be numbers, at least one, each once", found))
    return found


def _targets(out, thresholds, source, tree, cuts, block) -> tuple[Target, ...]:
    address = as_address(out)
    single = len(thresholds) == 1
    names = [address] if single else [io.Address(address.path, f"volumes/segmentation_{t!r}") for t in thresholds]
    place = ("segmentation", source.shape, source.grid, np.uint64, block)
    return tuple(
        Target.create(name, *place, key=_key(source, tree, segments))
        for name, segments in zip(names, cuts, strict=True)
    )


def _key(source: RegionSource, tree: MergeTree, segments: np.ndarray) -> str:
    return fingerprint(stage="segment", fragments=source.identity, segments=array_digest([tree.leaf_ids, segments]))


def _table(folder: Path, k: int) -> Path:
    return folder / f"segments_{k}.npy"


def _places(leaf_ids: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Where each of `ids` stands in `leaf_ids`. Raises InvalidInput if one does not."""
    places = np.searchsorted(leaf_ids, ids)
    unknown = places == len(leaf_ids)
    unknown[~unknown] = leaf_ids[places[~unknown]] != ids[~unknown]
    if unknown.any():
        next_step = "cut the tree with the fragments that it was made from"
        raise InvalidInput(sentence("fragments", "must be leaves of the tree", ids[unknown][0], next_step))
    return places
