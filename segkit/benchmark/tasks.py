"""What each verb measures, and what it leaves for the comparison. Runs in the worker."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segkit import io
from segkit.benchmark.job import Job
from segkit.benchmark.measure import Steps
from segkit.data import Labels, MergeTree
from segkit.errors import BrokenComponent, sentence
from segkit.registry import find


@dataclass(frozen=True)
class Task:
    """A call to be timed."""

    call: Callable[[], object]
    finish: Callable[[object, Path], dict]
    """Writes the result to a folder for the comparison, and returns the columns that the result fills."""
    then: Steps = field(default_factory=dict)


def make_task(job: Job) -> Task:
    """The task of a job, with the component made and the inputs loaded."""
    return {"agglomerate": _agglomerate, "fragment": _fragment, "evaluate": _evaluate}[job.verb](job)


def _agglomerate(job: Job) -> Task:
    from segkit.segment import segment

    component = _component("agglomerators", job)
    affinities, fragments = _affinities(job), io.read_labels(job.inputs["fragments"], role="fragments")

    def relabel(tree: MergeTree) -> None:
        for threshold in job.thresholds:
            segment(tree, fragments, threshold)

    def finish(tree: MergeTree, folder: Path) -> dict:
        _check(isinstance(tree, MergeTree), job, "a MergeTree", type(tree).__name__)
        tree.check()
        _check(np.array_equal(tree.leaf_ids, fragments.ids()), job, "a tree over all fragments", "one over others")
        io.write(folder / "result.h5", tree, "merge_tree")
        return {"merges": len(tree.altitudes)}

    return Task(lambda: component.agglomerate(affinities, fragments), finish, {"relabelling": relabel})


def _fragment(job: Job) -> Task:
    component, affinities = _component("fragmenters", job), _affinities(job)

    def finish(fragments: Labels, folder: Path) -> dict:
        _check(isinstance(fragments, Labels), job, "Labels", type(fragments).__name__)
        io.write(folder / "result.h5", fragments, "fragments")
        return {"fragments": len(fragments.ids())}

    return Task(lambda: component.fragment(affinities), finish)


def _evaluate(job: Job) -> Task:
    component = _component("metrics", job)
    segmentation = io.read_labels(job.inputs["segmentation"], role="segmentation")
    truth = io.read_labels(job.inputs["truth"], role="truth")

    def finish(scores: object, folder: Path) -> dict:
        plain = {name: float(value) for name, value in dict(scores).items()}
        (folder / "result.json").write_text(json.dumps(plain))
        return plain

    return Task(lambda: component.score(segmentation, truth), finish)


def _component(kind: str, job: Job):
    return find(kind, job.contender.component).create(**job.contender.parameters)


def _affinities(job: Job):
    return io.read_affinities(job.inputs["affinities"], neighborhood=job.neighborhood)


def _check(holds: bool, job: Job, rule: str, value: str) -> None:
    if not holds:
        raise BrokenComponent(sentence(f"what {job.contender.component!r} returns", f"must be {rule}", value))
