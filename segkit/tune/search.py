"""Score every combination of a space: each fragmentation is made once, each merge tree swept once.

What a combination comes to on all volumes is kept in a JSON file of the folder, whose name says what decided it: the
same search goes on where it was stopped, and another one takes what it has in common with an earlier one.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from segkit import io
from segkit.blockwise import ComponentSpec
from segkit.blockwise.store import array_digest, fingerprint
from segkit.data import Affinities, Labels, MergeTree, check_aligned
from segkit.data.skeletons import Skeletons
from segkit.errors import SegkitError, StorageError, interrupt_in
from segkit.evaluate.bootstrap import BlockTables, block_tables, draws, scores_of_draws
from segkit.evaluate.contingency import Contingency, contingency
from segkit.evaluate.run_length import placed
from segkit.evaluate.run_length_sweep import sweep_run_lengths
from segkit.evaluate.sweep import SCORES, rows_at, shortest_at, sweep_of
from segkit.io.atomic import replacing, storage_errors
from segkit.io.json_file import read_json_if_whole
from segkit.io.lookup import AnyAddress
from segkit.registry import calls
from segkit.segment.cut import segments_at
from segkit.threads import share
from segkit.tune.choose import DRAWS, STEP, THRESHOLDS, TOLERANCE, WINDOW, Goal, threshold_of
from segkit.tune.space import Combination

FOLDER = "combinations"
Record = dict[str, Any]
"""What a combination came to; see :func:`search`."""
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, eq=False)
class Scene:
    """Hold a volume to choose by."""

    affinities: Affinities
    truth: Labels
    border: float = 0.0
    """Voxels within this distance (nm) of a boundary of the truth do not count."""
    skeletons: Skeletons | None = None
    """Of the truth, where NERL is wanted."""

    def digest(self) -> str:
        """Return a hash of all that scores depend on."""
        arrays: list[np.ndarray] = [self.affinities.array, self.affinities.neighborhood, self.truth.array]
        arrays += [] if self.skeletons is None else [self.skeletons.nodes, self.skeletons.edges]
        return fingerprint(arrays=array_digest(arrays), border=self.border, grid=repr(self.truth.grid))


def read_scene(
    affinities: AnyAddress,
    truth: AnyAddress,
    *,
    neighborhood: Sequence[Sequence[int]] | None = None,
    border: float = 0.0,
    skeletons: Skeletons | None = None,
) -> Scene:
    """Read a volume to choose by.

    Raises InvalidInput if affinities and truth are not aligned, or no voxel of the truth counts.
    """
    found = io.read_affinities(affinities, neighborhood=neighborhood)
    labels = io.read_labels(truth, role="truth")
    check_aligned(affinities=found, truth=labels)
    contingency(labels, labels, border=border)  # refuses a truth in which nothing counts
    return Scene(found, labels, border, skeletons)


def search(
    combinations: Sequence[Combination],
    scenes: Sequence[Scene],
    out: Path,
    goal: Goal,
    progress: Progress = lambda done, total, text: None,
) -> list[Record]:
    """Score combinations on all volumes, as many fragmentations at a time as there are threads.

    Parameters
    ----------
    combinations
        Those of one fragmentation stand one after the other; it is made once for all of them.
    scenes
        The volumes, at least one; all are in memory.
    out
        Folder in which the result of each is kept.
    goal
        What the threshold of each is chosen by, on the mean over the volumes.
    progress
        Called with how many are done, of how many, and the name of the last.

    Returns
    -------
    list
        A record for each, in order. `threshold`, and for each of `volumes` `fragments`, `merges`, the `curves` of each
        score at :data:`segkit.tune.choose.THRESHOLDS`, the scores of the `best` threshold, of the `oracle` and of the
        fragments (`unmerged`), and `draws`: what `goal` is about, of the segmentation at the threshold, on draws of
        blocks that are the same for all; none where a volume has a single block in which a voxel counts. One that
        failed has a `problem` instead, and is tried again the next time.
    """
    seen = [scene.digest() for scene in scenes]
    named = _named(combinations)
    keys = [_key(each, seen, goal, named) for each in combinations]
    records: list[Record] = [read_json_if_whole(_file(out, key)) for key in keys]
    todo: dict[str, list[int]] = {}
    for number, (each, record) in enumerate(zip(combinations, records, strict=True)):
        if "threshold" not in record:
            todo.setdefault(json.dumps(named[id(each.fragmenter)], sort_keys=True), []).append(number)
    with storage_errors("written", out):
        (out / FOLDER).mkdir(parents=True, exist_ok=True)
    groups, lock = list(todo.values()), Lock()
    done = len(combinations) - sum(map(len, groups))

    def work(start: int, stop: int) -> None:
        nonlocal done
        for group in groups[start:stop]:
            some = [combinations[number] for number in group]
            for number, record in zip(group, _tried(some, scenes, goal, named), strict=True):
                if "problem" not in record:
                    _keep(_file(out, keys[number]), record)
                with lock:
                    records[number], done = record, done + 1
                    progress(done, len(combinations), title(combinations[number]))

    if groups:
        share(work, len(groups))
    return records


def title(combination: Combination) -> str:
    """Name a combination, with the parameters that were chosen.

    >>> from segkit.tune import Choices, Space
    >>> python = Choices("agglomerators", "python", {"score": ["max"]})
    >>> title(Space((Choices("fragmenters", "threshold"),), (python,)).combinations[0])
    'threshold + python score=max'
    """
    return f"{_title(combination.fragmenter)} + {_title(combination.agglomerator)}"


def _title(spec: ComponentSpec) -> str:
    return " ".join([spec.name, *(f"{name}={value}" for name, value in spec.parameters.items())])


def _tried(
    combinations: Sequence[Combination], scenes: Sequence[Scene], goal: Goal, named: Mapping[int, list]
) -> list[Record]:
    """The records of combinations of one fragmentation."""
    spec, started = combinations[0].fragmenter, time.perf_counter()
    try:
        cuts = [_Cut.of(scene, spec) for scene in scenes]
    except Exception as error:
        return [_failed(error)] * len(combinations)
    each = (time.perf_counter() - started) / len(combinations)
    found = []
    for combination in combinations:
        started = time.perf_counter()
        try:
            record = _scored(combination.agglomerator, cuts, goal)
        except Exception as error:
            record = _failed(error)
        names = {"fragmenter": named[id(spec)][1], "agglomerator": named[id(combination.agglomerator)][1]}
        found.append(names | record | {"seconds": time.perf_counter() - started + each})
    return found


def _failed(error: Exception) -> Record:
    """What is known of a combination that could not be scored; a full disk ends the search, and an interrupt."""
    if isinstance(error, StorageError):
        raise error
    if interrupt := interrupt_in(error):
        raise interrupt
    return {"problem": str(error) if isinstance(error, SegkitError) else f"{type(error).__name__}: {error}"}


@dataclass(frozen=True, eq=False)
class _Cut:
    """A volume cut into fragments, and what was counted of them."""

    scene: Scene
    fragments: Labels
    blocks: BlockTables
    table: Contingency
    nodes: tuple[Skeletons, np.ndarray] | None
    """The nodes of the skeletons inside, and the fragment of each."""

    @classmethod
    def of(cls, scene: Scene, spec: ComponentSpec) -> "_Cut":
        fragments = calls.fragment(spec.load(), scene.affinities)
        blocks = block_tables(fragments, scene.truth, border=scene.border)
        nodes = None
        if scene.skeletons is not None:
            inside, voxels = placed(scene.skeletons, fragments.grid, fragments.shape)
            nodes = inside, fragments.array[tuple(voxels.T)]
        return cls(scene, fragments, blocks, blocks.whole(), nodes)


def _scored(spec: ComponentSpec, cuts: Sequence[_Cut], goal: Goal) -> Record:
    """Merge the fragments of all volumes, sweep the trees, and draw blocks at the threshold of the best mean."""
    trees = [calls.agglomerate(spec.load(), cut.scene.affinities, cut.fragments) for cut in cuts]
    volumes = [_swept(tree, cut, goal) for tree, cut in zip(trees, cuts, strict=True)]
    threshold = threshold_of(np.array([goal.costs(volume["curves"]) for volume in volumes]))
    told = goal.counts_voxels and all(len(cut.blocks.tables) > 1 for cut in cuts)  # one block is always drawn the same
    for number, (tree, cut) in enumerate(zip(trees, cuts, strict=True)):
        volumes[number]["draws"] = []
        if told:
            blocks = cut.blocks.renamed(tree.leaf_ids, segments_at(tree, threshold))
            drawn = scores_of_draws(blocks, draws(len(blocks.tables), DRAWS, seed=number))
            volumes[number]["draws"] = goal.costs(drawn).tolist()
    return {"threshold": threshold, "volumes": volumes}


def _swept(tree: MergeTree, cut: _Cut, goal: Goal) -> Record:
    """The scores of a merge tree on one volume."""
    found = sweep_of(tree, cut.table)
    curves, unmerged, oracle = {name: getattr(found, name) for name in SCORES}, found.fragments, found.oracle
    if cut.nodes is not None:
        lengths = sweep_run_lengths(tree, *cut.nodes, [TOLERANCE])
        curves, unmerged, oracle = curves | lengths.scores, unmerged | lengths.fragments, oracle | lengths.oracle
    least = int(np.argmin(goal.costs(curves)))
    best = {"threshold": shortest_at(found.thresholds, least)} | _at(curves, least)
    rows = [row for _, row in rows_at(found.thresholds, THRESHOLDS)]
    counted = {"fragments": len(tree.leaf_ids), "merges": len(tree.altitudes)}
    return counted | {"curves": _at(curves, rows), "best": best, "oracle": oracle, "unmerged": unmerged}


def _at(curves: Mapping[str, np.ndarray], rows: int | list[int]) -> dict[str, Any]:
    return {name: values[rows].tolist() for name, values in curves.items()}


def _named(combinations: Sequence[Combination]) -> dict[int, list]:
    """What decides the results of each component, by the id of the object that says it.

    Combinations share these, and to look a component up takes as long as to merge the fragments of a small volume.
    """
    specs = {id(spec): spec for each in combinations for spec in (each.fragmenter, each.agglomerator)}
    return {number: spec.identity() for number, spec in specs.items()}


def _key(combination: Combination, seen: Sequence[str], goal: Goal, named: Mapping[int, list]) -> str:
    both = named[id(combination.fragmenter)], named[id(combination.agglomerator)]
    return fingerprint(combination=both, volumes=seen, by=goal.by, rule=(STEP, WINDOW, DRAWS))


def _file(out: Path, key: str) -> Path:
    return out / FOLDER / f"{key}.json"


def _keep(path: Path, record: Record) -> None:
    with storage_errors("written", path), replacing(path) as temporary:
        temporary.write_text(json.dumps(record))
