"""Contingency tables by blocks: those of all blocks add up to that of the volume, exactly."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segkit.blockwise.blocks import Block, Lattice
from segkit.blockwise.engine import Stage
from segkit.blockwise.job import BlockTask
from segkit.blockwise.store import clear, file_digest, fingerprint, load_array, save_array
from segkit.blockwise.work import Work
from segkit.data import Labels, check_aligned
from segkit.data.labels import FIRST_OUTSIDE
from segkit.evaluate.border import near_boundary
from segkit.evaluate.contingency import Contingency, check_counted, count, unite
from segkit.evaluate.scores import Rule
from segkit.io import RegionSource
from segkit.io.lookup import AnyAddress
from segkit.protocols import Metric

AT_ONCE = 64
"""So many tables are united at once."""
COLUMNS = 5
"""Of the table of a block: rule, section, segment, object, voxels."""


@dataclass(frozen=True)
class CountTask(BlockTask):
    """Counts the voxels of a block, by each rule; of the volume, or section by section."""

    segmentation: RegionSource
    truth: RegionSource
    lattice: Lattice
    rules: tuple[Rule, ...]
    per_section: bool
    folder: Path
    """Where the tables lie."""

    def run(self, number: int) -> dict:
        """Store the entries of all tables; return the sections that hold an object."""
        block = self.lattice[number]
        segments, outer = self.segmentation.read(block.inner), self.truth.read(block.outer)
        objects = outer[block.within]
        found = [np.empty((0, COLUMNS), np.uint64)]
        for k, (ignore_background, border) in enumerate(self.rules):
            ignored = self._ignored(outer, block, border)
            for z, part in self._sections(block):
                left = None if ignored is None else ignored[part]
                table = count(segments[part], objects[part], left, ignore_background=ignore_background)
                found.append(_entries(table, k, z))
        save_array(table_path(self.folder, number), np.concatenate(found))
        holding = ((objects != 0) & (objects < FIRST_OUTSIDE)).any(axis=(1, 2))
        return {"sections": (np.flatnonzero(holding) + block.inner[0].start).tolist()}

    def digest(self, number: int) -> str | None:
        """Compute a checksum of the file of the tables."""
        return file_digest(table_path(self.folder, number))

    def _ignored(self, outer: np.ndarray, block: Block, border: float) -> np.ndarray | None:
        return near_boundary(Labels(outer, self.truth.grid), border)[block.within] if border else None

    def _sections(self, block: Block) -> Iterator[tuple[int, slice]]:
        if not self.per_section:
            yield 0, slice(None)
            return
        for k in range(block.shape[0]):
            yield block.inner[0].start + k, slice(k, k + 1)


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables of a segmentation and a truth: what :class:`segkit.evaluate.scores.Pair` is, without the voxels."""

    counted: Mapping[tuple[Rule, int], Contingency]
    """By rule and section; the section is 0 where the volume was counted as one."""
    holding: Sequence[int]
    """The sections in which the truth holds an object."""

    def check(self) -> None:
        """Do nothing: both were found aligned before they were counted."""

    def sections(self) -> Iterator[int]:
        """List the sections in which the truth holds an object."""
        return iter(self.holding)

    def counts(self, rule: Rule, z: int) -> bool:
        """Whether any voxel of a section counts."""
        return len(self.counted[rule, z].counts) > 0

    def table(self, rule: Rule, z: int | None) -> Contingency:
        """The table of a section, or of all. Raises InvalidInput if no voxel counts."""
        return check_counted(self.counted[rule, z or 0], rule[1])

    def score(self, metric: Metric, z: int | None) -> Mapping[str, float]:
        """Refuse a metric that needs voxels; :func:`segkit.evaluate.stage.evaluate_files` does so before."""
        raise NotImplementedError(f"{type(metric).__name__} needs the voxels")


def count_files(
    segmentation: AnyAddress,
    truth: AnyAddress,
    rules: Sequence[Rule],
    *,
    role: str = "segmentation",
    per_section: bool = False,
    work: Work,
) -> Tables:
    """Count by blocks: the contingency tables by `rules` of a segmentation (by their `role`, fragments) and a truth.

    Each equals that of :func:`segkit.evaluate.contingency`, and may be empty. For the others see
    :func:`segkit.evaluate.stage.evaluate_files`.
    """
    source, objects = work.source(segmentation, role), work.source(truth, "truth")
    check_aligned(**{role: source, "truth": objects})
    lattice = work.lattice(source.shape, _halo(objects, rules))
    inputs = {"segmentation": source.identity, "truth": objects.identity, "at": [str(source), str(objects)]}
    key = fingerprint(stage="evaluate", **inputs, rules=rules, per_section=per_section, block=lattice.block)
    folder = work.folder_for(source.address, "evaluate", key)
    task = CountTask(source, objects, lattice, tuple(rules), per_section, folder)
    results = work.run(Stage("evaluate", task, [each.voxels for each in lattice], folder / "marks", key))
    sections = sorted({z for result in results for z in result["sections"]})
    tables = Tables(_united(folder, len(lattice), rules, sections if per_section else [0]), sections)
    clear(folder)
    return tables


def table_path(folder: Path, number: int) -> Path:
    """The file of the table of a block: rows of COLUMNS, uint64."""
    return folder / f"{number // 1000:06d}" / f"{number}.npy"


def _halo(truth: RegionSource, rules: Sequence[Rule]) -> tuple[int, int, int]:
    """What has to be seen around a block for the boundaries within the widest border; one voxel more shows those."""
    border = max((border for _, border in rules), default=0.0)
    if not border:
        return 0, 0, 0
    y, x = (
        min(math.floor(border / edge * (1 + 1e-6)) + 2, size)
        for edge, size in zip(truth.grid.voxel_size[1:], truth.shape[1:], strict=True)
    )
    return 0, y, x


def _entries(table: Contingency, rule: int, section: int) -> np.ndarray:
    columns = (table.segments[table.rows], table.objects[table.cols], table.counts.astype(np.uint64))
    head = [np.full(len(table.counts), value, np.uint64) for value in (rule, section)]
    return np.stack([*head, *columns], axis=1)


def _united(folder: Path, blocks: int, rules: Sequence[Rule], sections: Sequence[int]) -> dict:
    """The tables by rule and section, from those of all blocks."""
    waiting: dict[tuple[Rule, int], list[Contingency]] = {
        (rule, z): [_table(np.empty((0, COLUMNS)))] for rule in rules for z in sections
    }
    for number in range(blocks):
        for where, table in _split(load_array(table_path(folder, number))):
            tables = waiting.setdefault((rules[where[0]], where[1]), [])
            tables.append(table)
            if len(tables) == AT_ONCE:
                tables[:] = [unite(tables)]
    return {where: unite(tables) for where, tables in waiting.items()}


def _split(entries: np.ndarray) -> Iterator[tuple[tuple[int, int], Contingency]]:
    """The tables in the entries of a block, each of one rule and section."""
    if not len(entries):
        return
    changes = np.flatnonzero((entries[1:, :2] != entries[:-1, :2]).any(axis=1)) + 1
    for part in np.split(entries, changes):
        yield (int(part[0, 0]), int(part[0, 1])), _table(part)


def _table(entries: np.ndarray) -> Contingency:
    """The entries of one table, in order, as it was."""
    segments, objects, counts = entries[:, 2:].T.astype(np.uint64)
    ids, rows = np.unique(segments, return_inverse=True)
    known, cols = np.unique(objects, return_inverse=True)
    return Contingency(ids, known, rows, cols, counts.astype(np.int64))
