"""Several metrics at once, in 3-D or section by section."""

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from segkit.data import Labels, check_aligned
from segkit.data.labels import FIRST_OUTSIDE
from segkit.errors import InvalidInput, SegkitWarning, sentence
from segkit.evaluate.border import near_boundary
from segkit.evaluate.contingency import Contingency, contingency
from segkit.evaluate.counting import CountingMetric
from segkit.protocols import Metric
from segkit.registry import calls
from segkit.timing import phase

if TYPE_CHECKING:
    from segkit.evaluate.count import Tables

Rule = tuple[bool, float]
"""What counts: `ignore_background`, and the `border` in nm, as of a CountingMetric."""


class Pair:
    """A segmentation and a truth in memory; `z` is a section, or None for all. `role` is what messages call the first.

    :class:`segkit.evaluate.count.Tables` is the same of what was counted by blocks.
    """

    def __init__(self, segmentation: Labels, truth: Labels, role: str = "segmentation") -> None:
        self.segmentation, self.truth, self._role = segmentation, truth, role

    def check(self) -> None:
        """Raise InvalidInput unless the two are aligned."""
        check_aligned(**{self._role: self.segmentation, "truth": self.truth})

    def sections(self) -> Iterator[int]:
        """The sections in which the truth holds an object."""
        return (z for z, section in enumerate(self.truth.array) if _has_object(section))

    def counts(self, rule: Rule, z: int) -> bool:
        """Whether any voxel of a section counts."""
        ignore_background, border = rule
        section = _section(self.truth, z)
        counted = section.inside & ~near_boundary(section, border)
        return bool((counted & (section.array != 0)).any() if ignore_background else counted.any())

    def table(self, rule: Rule, z: int | None) -> Contingency:
        """The contingency table. Raises InvalidInput if no voxel counts."""
        return contingency(*self._at(z), ignore_background=rule[0], border=rule[1])

    def score(self, metric: Metric, z: int | None) -> Mapping[str, float]:
        """What a metric says that is not of the contingency table."""
        return metric.score(*self._at(z))

    def _at(self, z: int | None) -> tuple[Labels, Labels]:
        if z is None:
            return self.segmentation, self.truth
        return _section(self.segmentation, z), _section(self.truth, z)


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
    return evaluate_many(segmentation, [truth], metrics, per_section)


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
    return scores_of([Pair(segmentation, truth) for truth in truths], metrics, per_section)


def scores_of(pairs: "Sequence[Pair | Tables]", metrics: Mapping[str, Metric], per_section: bool) -> dict[str, float]:
    """What :func:`evaluate_many` gives, of pairs that may have been counted block by block."""
    if not pairs:
        raise InvalidInput(sentence("truths", "must be at least one"))
    sections: dict[int, list[Mapping[str, float]]] = {}
    for pair in [pair for pair in pairs if _any(pair)] or pairs[:1]:  # which is refused
        for z, row in _rows(pair, metrics, per_section).items():
            sections.setdefault(z, []).append(row)
    return mean_scores([mean_scores(rows) for rows in sections.values()])


def mean_scores(rows: Collection[Mapping[str, float]]) -> dict[str, float]:
    """The plain mean of each score; a single row as it is."""
    first, *others = rows
    return {name: float(np.mean([row[name] for row in rows])) for name in first} if others else dict(first)


def _rows(pair: "Pair | Tables", metrics: Mapping[str, Metric], per_section: bool) -> dict[int, dict[str, float]]:
    """The scores by section; or of the volume, under 0."""
    pair.check()
    if not _any(pair):
        next_step = "check that it is the annotation of this region"
        raise InvalidInput(sentence("truth", "must hold at least one object", next_step=next_step))
    if not per_section:
        return {0: _scores(pair, metrics, None)}
    found = {}
    for z in _outside_border(pair, metrics):
        try:
            found[z] = _scores(pair, metrics, z)
        except InvalidInput as error:
            raise InvalidInput(f"section {z}: {error}") from error
    return found


def _outside_border(pair: "Pair | Tables", metrics: Mapping[str, Metric]) -> Sequence[int]:
    """The sections in which every metric finds a voxel that counts; a warning names the others. All if none is left."""
    rules = {metric.rule for metric in metrics.values() if isinstance(metric, CountingMetric) and metric.border}
    sections = list(pair.sections())
    left = [z for z in sections if all(pair.counts(rule, z) for rule in rules)]
    if 0 < len(left) < len(sections):
        names = ", ".join(str(z) for z in sections if z not in set(left))
        message = f"sections {names} are left out: all that would count in them lies within the border"
        warnings.warn(SegkitWarning(message), stacklevel=5)
    return left or sections  # the first of which refuses in its own words


def _any(pair: "Pair | Tables") -> bool:
    """Whether the truth holds an object."""
    return next(iter(pair.sections()), None) is not None


def _section(labels: Labels, z: int) -> Labels:
    return Labels(labels.array[z : z + 1], labels.grid.crop((z, 0, 0)))


def _has_object(section: np.ndarray) -> bool:
    return bool(((section != 0) & (section < FIRST_OUTSIDE)).any())


def _scores(pair: "Pair | Tables", metrics: Mapping[str, Metric], z: int | None) -> dict[str, float]:
    tables: dict[Rule, Contingency] = {}

    def score(metric: Metric) -> Mapping[str, float]:
        if not isinstance(metric, CountingMetric):
            return pair.score(metric, z)
        if metric.rule not in tables:
            tables[metric.rule] = pair.table(metric.rule, z)
        with phase("scores"):
            return metric.of(tables[metric.rule])

    return collect(metrics, score)


def collect(metrics: Mapping[str, Metric], score: Callable[[Metric], Mapping[str, float]]) -> dict[str, float]:
    """What `score` gives for each metric, in one dictionary; see :func:`evaluate` for what is refused."""
    scores: dict[str, float] = {}
    for metric_name, metric in metrics.items():
        for name, value in calls.score(metric, partial(score, metric)).items():
            if name in scores and not same_score(scores[name], value):
                rule = f"must not return {name} = {value} beside the {scores[name]} of another"
                raise InvalidInput(sentence(f"metric {metric_name!r}", rule, next_step="evaluate them one by one"))
            scores.setdefault(name, value)
    return scores


def same_score(first: float, second: float) -> bool:
    """Whether two scores are one number, or both none (NaN)."""
    return first == second or (first != first and second != second)
