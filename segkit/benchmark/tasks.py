"""What each verb measures, and what it leaves for the comparison. Runs in the worker."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segkit import io
from segkit.benchmark.job import Job
from segkit.benchmark.loss_task import loss_calls
from segkit.benchmark.measure import Steps
from segkit.data import Labels, MergeTree, check_aligned
from segkit.errors import BrokenComponent, InvalidInput, sentence
from segkit.registry import find


@dataclass(frozen=True)
class Task:
    """A call to be timed."""

    call: Callable[[], Any]
    finish: Callable[[Any, Path], dict]
    """Writes the result to a folder for the comparison, and returns the columns that the result fills."""
    then: Steps = field(default_factory=dict)


def make_task(job: Job) -> Task:
    """The task of a job, with the component made and the inputs loaded."""
    tasks = {"agglomerate": _agglomerate, "fragment": _fragment, "evaluate": _evaluate, "loss": _loss}
    return tasks[job.verb](job)


def _agglomerate(job: Job) -> Task:
    from segkit.segment import segmentations

    component = _component("agglomerators", job)
    affinities, fragments = _affinities(job), io.read_labels(job.inputs["fragments"], role="fragments")

    def check_leaves(tree: MergeTree) -> None:
        _check(np.array_equal(tree.leaf_ids, fragments.ids()), job, "a tree over all fragments", "one over others")

    def relabel(tree: MergeTree) -> None:
        _check(isinstance(tree, MergeTree), job, "a MergeTree", type(tree).__name__)
        try:
            for segmentation in segmentations(tree, fragments, job.thresholds):
                del segmentation  # so that its memory serves for the next
        except InvalidInput:
            check_leaves(tree)  # not before: it takes time and memory
            raise

    def finish(tree: MergeTree, folder: Path) -> dict:
        tree.check()
        check_leaves(tree)
        io.write(folder / "result.h5", tree, "merge_tree")
        return {"merges": len(tree.altitudes)}

    return Task(lambda: component.agglomerate(affinities, fragments), finish, {"relabelling": relabel})


def _fragment(job: Job) -> Task:
    component, affinities = _component("fragmenters", job), _affinities(job)

    def finish(fragments: Labels, folder: Path) -> dict:
        _check(isinstance(fragments, Labels), job, "Labels", type(fragments).__name__)
        check_aligned(affinities=affinities, fragments=fragments)
        _check(bool(fragments.inside.all()), job, "fragments and 0", "labels of 2^64 - 2 or more")
        io.write(folder / "result.h5", fragments, "fragments")
        return {"fragments": len(fragments.ids())}

    return Task(lambda: component.fragment(affinities), finish)


def _evaluate(job: Job) -> Task:
    component = _component("metrics", job)
    segmentation = io.read_labels(job.inputs["segmentation"], role="segmentation")
    truth = io.read_labels(job.inputs["truth"], role="truth")

    def finish(scores: Any, folder: Path) -> dict:
        _check(isinstance(scores, Mapping), job, "a mapping of scores", type(scores).__name__)
        plain = {name: float(value) for name, value in scores.items()}
        (folder / "result.json").write_text(json.dumps(plain))
        return plain

    return Task(lambda: component.score(segmentation, truth), finish)


def _loss(job: Job) -> Task:
    return Task(*loss_calls(job))


def _component(kind: str, job: Job):
    return find(kind, job.contender.component).create(**job.contender.parameters)


def _affinities(job: Job):
    return io.read_affinities(job.inputs["affinities"], neighborhood=job.neighborhood)


def _check(holds: bool, job: Job, rule: str, value: str) -> None:
    if not holds:
        raise BrokenComponent(sentence(f"what {job.contender.component!r} returns", f"must be {rule}", value))
