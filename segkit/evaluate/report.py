"""Several metrics at once, in 3-D or section by section."""

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from segkit.data import Labels, check_aligned
from segkit.data.labels import FIRST_OUTSIDE
from segkit.errors import BrokenComponent, InvalidInput, SegkitWarning, sentence
from segkit.evaluate.border import near_boundary
from segkit.evaluate.contingency import Contingency
from segkit.evaluate.counting import CountingMetric
from segkit.protocols import Metric
from segkit.timing import phase


def evaluate(
    segmentation: Labels, truth: Labels, metrics: Mapping[str, Metric], per_section: bool = False
) -> dict[str, float]:
    """The scores of all `metrics` (by name), in their order, in one dictionary; metrics of one table share it.

    With `per_section` each section is scored on its own, with the ids it has (two pieces of one neuron in a section
    are one object), and every score is the plain mean over the sections in which the truth holds an object; mind that
    then cremi_score is a mean of scores, not the score of the means. Sections that lie wholly within the `border` of a
    metric are left out, and a SegkitWarning names them. Raises InvalidInput if the two are not aligned, if the truth
    holds no object or no voxel that counts, or if two metrics return different values under one name.

    >>> from segkit import Grid, load
    >>> labels = Labels.convert([[[1, 1, 2]]], Grid())
    >>> evaluate(labels, labels, {"voi": load("metrics", "voi")})
    {'voi_split': 0.0, 'voi_merge': 0.0}
    """
    return mean_scores(_rows(segmentation, truth, metrics, per_section).values())


def evaluate_many(
    segmentation: Labels, truths: Sequence[Labels], metrics: Mapping[str, Metric], per_section: bool = False
) -> dict[str, float]:
    """As :func:`evaluate`, against what several annotators made of the same: each score is the mean over them.

    Annotators who annotated nothing here do not count. With `per_section` a section is scored against the annotators
    who annotated it, and each section weighs the same.

    >>> from segkit import Grid, load
    >>> coarse, fine = (Labels.convert([[ids]], Grid()) for ids in ([1, 1], [1, 2]))
    >>> evaluate_many(coarse, [coarse, fine], {"voi": load("metrics", "voi")})
    {'voi_split': 0.0, 'voi_merge': 0.5}
    """
    if not truths:
        raise InvalidInput(sentence("truths", "must be at least one"))
    sections: dict[int, list[Mapping[str, float]]] = {}
    for truth in [truth for truth in truths if _has_object(truth.array)] or truths:  # the first of which is refused
        for z, row in _rows(segmentation, truth, metrics, per_section).items():
            sections.setdefault(z, []).append(row)
    return mean_scores([mean_scores(rows) for rows in sections.values()])


def mean_scores(rows: Collection[Mapping[str, float]]) -> dict[str, float]:
    """The plain mean of each score; a single row as it is."""
    first, *others = rows
    return {name: float(np.mean([row[name] for row in rows])) for name in first} if others else dict(first)


def _rows(
    segmentation: Labels, truth: Labels, metrics: Mapping[str, Metric], per_section: bool
) -> dict[int, dict[str, float]]:
    """The scores by section; or of the volume, under 0."""
    check_aligned(segmentation=segmentation, truth=truth)
    found = (z for z, section in enumerate(truth.array) if _has_object(section))
    first = next(found, None)
    if first is None:
        raise no_object()
    if not per_section:
        return {0: _scores(segmentation, truth, metrics)}
    sections = _outside_border(truth, metrics, [first, *found])
    return {z: _section_scores(segmentation, truth, metrics, z) for z in sections}


def _outside_border(truth: Labels, metrics: Mapping[str, Metric], sections: list[int]) -> Sequence[int]:
    """The sections in which every metric finds a voxel that counts; all of them if there is none."""
    rules = {(m.ignore_background, m.border) for m in metrics.values() if isinstance(m, CountingMetric) and m.border}
    left = [z for z in sections if all(_counts(_section(truth, z), *rule) for rule in rules)]
    return without_empty(sections, left)


def without_empty(sections: Sequence[int], left: Sequence[int]) -> Sequence[int]:
    """Those of `sections` that are `left` once a border is taken off; a SegkitWarning names the others."""
    if 0 < len(left) < len(sections):
        names = ", ".join(str(z) for z in sections if z not in set(left))
        message = f"sections {names} are left out: all that would count in them lies within the border"
        warnings.warn(SegkitWarning(message), stacklevel=5)
    return left or sections  # the first of which refuses in its own words


def no_object() -> InvalidInput:
    """The error for a truth without any."""
    rule = "must hold at least one object"
    return InvalidInput(sentence("truth", rule, next_step="check that it is the annotation of this region"))


def _counts(section: Labels, ignore_background: bool, border: float) -> bool:
    counted = section.inside & ~near_boundary(section, border)
    return bool((counted & (section.array != 0)).any() if ignore_background else counted.any())


def _section(labels: Labels, z: int) -> Labels:
    return Labels(labels.array[z : z + 1], labels.grid.crop((z, 0, 0)))


def _has_object(section: np.ndarray) -> bool:
    return bool(((section != 0) & (section < FIRST_OUTSIDE)).any())


def _section_scores(segmentation: Labels, truth: Labels, metrics: Mapping[str, Metric], z: int) -> dict[str, float]:
    try:
        return _scores(_section(segmentation, z), _section(truth, z), metrics)
    except InvalidInput as error:
        raise InvalidInput(f"section {z}: {error}") from error


def _scores(segmentation: Labels, truth: Labels, metrics: Mapping[str, Metric]) -> dict[str, float]:
    tables: dict[tuple, Contingency] = {}
    return collect(metrics, lambda metric: _score(segmentation, truth, metric, tables))


def collect(metrics: Mapping[str, Metric], score: Callable[[Metric], Mapping[str, float]]) -> dict[str, float]:
    """What `score` gives for each metric, in one dictionary; see :func:`evaluate` for what is refused."""
    scores: dict[str, float] = {}
    for metric_name, metric in metrics.items():
        found = score(metric)
        if not isinstance(found, Mapping):
            raise BrokenComponent(sentence(f"what metric {metric_name!r} returns", "must be a mapping", repr(found)))
        for name, value in found.items():
            if name in scores and not same_score(scores[name], value):
                rule = f"must not return {name} = {value} beside the {scores[name]} of another"
                raise InvalidInput(sentence(f"metric {metric_name!r}", rule, next_step="evaluate them one by one"))
            scores.setdefault(name, value)
    return scores


def same_score(first: float, second: float) -> bool:
    """Whether two scores are one number, or both none (NaN)."""
    return first == second or (first != first and second != second)


def _score(
    segmentation: Labels, truth: Labels, metric: Metric, tables: dict[tuple, Contingency]
) -> Mapping[str, float]:
    if not isinstance(metric, CountingMetric):
        return metric.score(segmentation, truth)
    options = (metric.ignore_background, metric.border)
    if options not in tables:
        tables[options] = metric.count(segmentation, truth)
    with phase("scores"):
        return metric.of(tables[options])
