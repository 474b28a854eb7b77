"""All contenders on one input, one process after the other, and the report."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from segkit import io
from segkit.benchmark.compare import compare_labels, compare_scores, compare_trees
from segkit.benchmark.job import Contender, Job
from segkit.benchmark.machine import machine
from segkit.benchmark.process import run_worker
from segkit.data import check_aligned
from segkit.errors import InvalidParameter, InvalidShape, sentence

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
    repeat: int = 3,
    timeout: float | None = None,
    threads: int | None = None,
    neighborhood: list | None = None,
    progress: Callable[..., None] = lambda done, total, text="": None,
) -> Report:
    """Measure all contenders on the files `inputs` (role -> address), and compare their results.

    Returns {"verb", "inputs", "shape", "thresholds", "repeat", "threads", "machine", "rows"}. A row has the keys
    `backend` (its label), `component`, `parameters`; what :mod:`segkit.benchmark` says is measured; and the columns of
    :mod:`segkit.benchmark.compare`. One that failed has `error` instead, in a sentence, and stops nobody else.
    """
    _check(contenders, inputs, thresholds, repeat)
    _check_places(inputs, neighborhood)
    rows = []
    with TemporaryDirectory(prefix="segkit-benchmark-") as temporary:
        folders = {contender.label: Path(temporary) / str(k) for k, contender in enumerate(contenders)}
        for done, contender in enumerate(contenders):
            progress(done, len(contenders), contender.label)
            folder = folders[contender.label]
            folder.mkdir()
            Job(verb, contender, inputs, tuple(thresholds), repeat, neighborhood).save(folder)
            rows.append(_head(contender) | run_worker(folder, timeout=timeout, threads=threads))
        progress(len(contenders), len(contenders), "comparing")
        finished = {row["backend"]: folders[row["backend"]] for row in rows if "error" not in row}
        columns = COMPARE[verb](finished, inputs, thresholds)
    return {
        "verb": verb,
        "inputs": dict(inputs),
        "shape": list(io.shape_of(inputs[VERBS[verb][0]], VERBS[verb][0])),
        "thresholds": list(thresholds) if verb == "agglomerate" else [],
        "repeat": repeat,
        "threads": threads,
        "machine": machine(),
        "rows": [row | columns.get(row["backend"], {}) for row in rows],
    }


def _head(contender: Contender) -> dict:
    component = {"component": contender.component, "parameters": dict(contender.parameters)}
    return {"backend": contender.label} | component


def _check(contenders: Sequence[Contender], inputs: Mapping[str, str], thresholds: Sequence[float], repeat: int):
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


def _truth(inputs: Mapping[str, str]):
    return io.read_labels(inputs["truth"], role="truth") if "truth" in inputs else None


COMPARE = {"agglomerate": _trees, "fragment": _labels, "evaluate": _scores}
