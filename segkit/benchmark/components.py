"""Agglomerators, fragmenters and metrics on one input, a fresh process each, and the report.

The first part runs in this process; the functions `time_...` at the end are called in the fresh ones.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from segkit import io
from segkit.benchmark.compare import compare_labels, compare_scores, compare_trees
from segkit.benchmark.contenders import Contender, Measurement
from segkit.benchmark.measure import Row, machine, measure
from segkit.benchmark.process import Limits, in_fresh_process
from segkit.data import Labels, MergeTree, check_aligned
from segkit.errors import BrokenComponent, InvalidInput, InvalidParameter, InvalidShape, sentence

VERBS = {
    "agglomerate": ("affinities", "fragments"),
    "fragment": ("affinities",),
    "evaluate": ("segmentation", "truth"),
}
"""Verb -> the roles of its inputs. For the first two a "truth" may be given too."""
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

Report = dict[str, object]


def benchmark(
    verb: str,
    contenders: Sequence[Contender],
    inputs: Mapping[str, str],
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    limits: Limits = Limits(),  # noqa: B008  # it cannot change
    neighborhood: list | None = None,
    progress: Callable[..., None] = lambda done, total, text="": None,
) -> Report:
    """Measure all contenders on the files `inputs` (role -> address), and compare their results.

    Returns {"verb", "inputs", "shape", "thresholds", "repeat", "threads", "machine", "rows"}. A row has the keys
    `backend` (its label), `component`, `parameters`; what :mod:`segkit.benchmark` says is measured; and the columns of
    :mod:`segkit.benchmark.compare`. One that failed has `error` instead, in a sentence, and stops nobody else.
    """
    _check(contenders, inputs, thresholds, limits.repeat)
    _check_places(inputs, neighborhood)
    rows: list[Row] = []
    with TemporaryDirectory(prefix="segkit-benchmark-") as temporary:
        folders = {contender.label: Path(temporary) / str(k) for k, contender in enumerate(contenders)}
        for done, contender in enumerate(contenders):
            progress(done, len(contenders), contender.label)
            folders[contender.label].mkdir()
            named = {"component": contender.component, "parameters": dict(contender.parameters)}
            given = {"inputs": dict(inputs), "repeat": limits.repeat, "neighborhood": neighborhood}
            options = named | given | {"folder": str(folders[contender.label])}
            options |= {"thresholds": list(thresholds)} if verb == "agglomerate" else {}
            row = in_fresh_process(f"{__name__}:time_{verb}", options, limits)
            rows.append({"backend": contender.label} | named | row)
        progress(len(contenders), len(contenders), "comparing")
        finished = {row["backend"]: folders[row["backend"]] for row in rows if "error" not in row}
        columns = COMPARE[verb](finished, inputs, thresholds)
    return {
        "verb": verb,
        "inputs": dict(inputs),
        "shape": list(io.shape_of(inputs[VERBS[verb][0]], VERBS[verb][0])),
        "thresholds": list(thresholds) if verb == "agglomerate" else [],
        "repeat": limits.repeat,
        "threads": limits.threads,
        "machine": machine(),
        "rows": [row | columns.get(row["backend"], {}) for row in rows],
    }


def _check(
    contenders: Sequence[Contender], inputs: Mapping[str, str], thresholds: Sequence[float], repeat: int
) -> None:
    if not contenders:
        raise InvalidParameter(sentence("a benchmark", "must have at least one component"))
    if repeat < 1:
        raise InvalidParameter(sentence("repeat", "must be at least 1", repeat))
    for threshold in thresholds:
        if not 0 <= threshold <= 1:
            raise InvalidParameter(sentence("threshold", "must lie in 0..1", threshold, "choose a value such as 0.5"))
    # Reading shapes raises what is to be said of a file or a dataset that is not there.
    (first, shape), *others = [(role, io.shape_of(address, role)) for role, address in inputs.items()]
    for role, other in others:
        if other != shape:
            pair = f"{first} and {role}"
            raise InvalidShape(sentence(pair, "must have the same shape (z, y, x)", f"{shape} and {other}", "crop one"))


def _check_places(inputs: Mapping[str, str], neighborhood: list | None) -> None:
    """Raise unless all inputs have one voxel size and lie at one place: their first voxels are read, and no more."""
    first = {}
    for role, text in inputs.items():
        address = io.parse_address(text)
        z, y, x = (slice(along.start or 0, (along.start or 0) + 1) for along in address.crop or (slice(0, 1),) * 3)
        voxel = replace(address, crop=(z, y, x))
        labels = role != "affinities"
        first[role] = io.read_labels(voxel, role) if labels else io.read_affinities(voxel, neighborhood)
    check_aligned(**first)


def _trees(folders: Mapping[str, Path], inputs: Mapping[str, str], thresholds: Sequence[float]) -> dict[str, dict]:
    trees = {label: io.read_merge_tree(folder / "result.h5") for label, folder in folders.items()}
    fragments = io.read_labels(inputs["fragments"], role="fragments")
    return compare_trees(trees, fragments, _truth(inputs), thresholds)


def _labels(folders: Mapping[str, Path], inputs: Mapping[str, str], _: Sequence[float]) -> dict[str, dict]:
    results = {label: io.read_labels(folder / "result.h5", role="fragments") for label, folder in folders.items()}
    return compare_labels(results, _truth(inputs))


def _scores(folders: Mapping[str, Path], _: Mapping[str, str], __: Sequence[float]) -> dict[str, dict]:
    return compare_scores(
        {label: json.loads((folder / "result.json").read_text()) for label, folder in folders.items()}
    )


def _truth(inputs: Mapping[str, str]) -> Labels | None:
    return io.read_labels(inputs["truth"], role="truth") if "truth" in inputs else None


COMPARE = {"agglomerate": _trees, "fragment": _labels, "evaluate": _scores}


def time_agglomerate(*, thresholds: list[float], **asked: Any) -> Row:
    """Time an agglomerator, its tree and a segmentation at each threshold; leaves the tree as a result."""
    from segkit.segment import segmentations

    wanted = Measurement(**asked)
    agglomerator, affinities, fragments = wanted.load("agglomerators"), wanted.affinities(), wanted.labels("fragments")

    def check_leaves(tree: MergeTree) -> None:
        same = np.array_equal(tree.leaf_ids, fragments.ids())
        _require(same, wanted, "a tree over all fragments", "one over others")

    def relabel(tree: MergeTree) -> None:
        _require(isinstance(tree, MergeTree), wanted, "a MergeTree", type(tree).__name__)
        try:
            for segmentation in segmentations(tree, fragments, thresholds):
                del segmentation  # so that its memory serves for the next
        except InvalidInput:
            check_leaves(tree)  # not before: it takes time and memory
            raise

    steps = {"relabelling": relabel}
    costs, tree = measure(lambda: agglomerator.agglomerate(affinities, fragments), wanted.repeat, then=steps)
    tree.check()
    check_leaves(tree)
    io.write(wanted.result("result.h5"), tree, "merge_tree")
    return {"merges": len(tree.altitudes)} | costs


def time_fragment(**asked: Any) -> Row:
    """Time a fragmenter; leaves the fragments as a result."""
    wanted = Measurement(**asked)
    fragmenter, affinities = wanted.load("fragmenters"), wanted.affinities()
    costs, fragments = measure(lambda: fragmenter.fragment(affinities), wanted.repeat)
    _require(isinstance(fragments, Labels), wanted, "Labels", type(fragments).__name__)
    check_aligned(affinities=affinities, fragments=fragments)
    _require(bool(fragments.inside.all()), wanted, "fragments and 0", "labels of 2^64 - 2 or more")
    io.write(wanted.result("result.h5"), fragments, "fragments")
    return {"fragments": len(fragments.ids())} | costs


def time_evaluate(**asked: Any) -> Row:
    """Time a metric; leaves the scores as a result."""
    wanted = Measurement(**asked)
    metric, segmentation, truth = wanted.load("metrics"), wanted.labels("segmentation"), wanted.labels("truth")
    costs, found = measure(lambda: metric.score(segmentation, truth), wanted.repeat)
    _require(isinstance(found, Mapping), wanted, "a mapping of scores", type(found).__name__)
    scores = {name: float(value) for name, value in found.items()}
    wanted.result("result.json").write_text(json.dumps(scores))
    return scores | costs  # a metric may call a score as it likes


def _require(holds: bool, wanted: Measurement, rule: str, value: str) -> None:
    if not holds:
        raise BrokenComponent(sentence(f"what {wanted.component!r} returns", f"must be {rule}", value))
