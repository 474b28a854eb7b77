"""Score a segmentation in a file against the truth, or a merge tree at all thresholds (`segkit evaluate`).

By blocks the contingency tables of the blocks are added (:mod:`segkit.evaluate.count`): the scores are those of the
whole volume, to the last bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from segkit import io
from segkit.blockwise.work import WHOLE, Work
from segkit.data.skeletons import Skeletons
from segkit.errors import InvalidInput, sentence
from segkit.evaluate.contingency import check_border
from segkit.evaluate.count import Tables, count_files
from segkit.evaluate.counting import CountingMetric
from segkit.evaluate.look_up import look_up_files
from segkit.evaluate.nerl import Nerl
from segkit.evaluate.run_length_sweep import RunLengthSweep, sweep_run_lengths
from segkit.evaluate.scores import Pair, Rule, collect, scores_of
from segkit.evaluate.sweep import Sweep, sweep_of
from segkit.evaluate.worst import Mistake, worst
from segkit.io.address import as_address
from segkit.io.lookup import AnyAddress
from segkit.protocols import Metric
from segkit.timing import phase


@dataclass(frozen=True)
class Worst:
    """Which mistakes are listed."""

    count: int
    """So many splits, and so many merges."""
    ignore_background: bool = True
    """Voxels where the truth is 0 do not count."""
    border: float = 0.0
    """Voxels within this distance (nm) of a boundary of the truth do not count."""


@dataclass(frozen=True)
class Evaluated:
    """Hold the scores of a segmentation, and its worst mistakes."""

    scores: dict[str, float]
    splits: list[Mistake]
    """The worst, if they were wanted."""
    merges: list[Mistake]


def evaluate_files(
    segmentation: AnyAddress,
    truths: Sequence[AnyAddress],
    metrics: Mapping[str, Metric],
    *,
    per_section: bool = False,
    mistakes: Worst | None = None,
    skeletons: Skeletons | None = None,
    work: Work = WHOLE,
) -> Evaluated:
    """Score a segmentation: what :func:`segkit.evaluate.evaluate_many` gives, by blocks without the volumes in memory.

    The scores do not depend on the blocks. Memory: by blocks the driver holds the tables, a worker one block.

    Parameters
    ----------
    segmentation, truths
        Addresses; the truths are those of one annotator or more, aligned with the segmentation. There need be none
        where all metrics are of `skeletons`.
    metrics
        By name. By blocks all must be metrics of the contingency table (CountingMetric) or of `skeletons`.
    per_section
        Score every section on its own, and average.
    mistakes
        List the worst mistakes against the first truth as well; of a whole volume.
    skeletons
        What :class:`segkit.evaluate.nerl.Nerl` goes by, in place of skeletons that it makes of the truth.
    work
        Whole, or by blocks: then the tables lie in the store of the segmentation or beside its file meanwhile, unless
        there is a folder for them.

    Raises
    ------
    InvalidInput
        What evaluate_many raises, and by blocks for a metric that needs the voxels.
    """
    traced = {name: each for name, each in metrics.items() if skeletons is not None and isinstance(each, Nerl)}
    metrics = {name: each for name, each in metrics.items() if name not in traced}
    _check_metrics(metrics, per_section, traced, work)
    followed: dict[str, float] = {}
    if skeletons is not None and traced:
        inside, segments = look_up_files(segmentation, "segmentation", skeletons, work)
        followed = collect(traced, lambda metric: metric.of(inside, segments))  # type: ignore[attr-defined]
    if traced and not metrics and mistakes is None:
        return Evaluated(followed, [], [])
    if not truths:
        raise InvalidInput(sentence("truths", "must be at least one"))
    rules = tuple(dict.fromkeys(each.rule for each in metrics.values() if isinstance(each, CountingMetric)))
    pairs = _pairs(segmentation, truths, rules, "segmentation", per_section, work)
    scores = scores_of(pairs, metrics, per_section) | followed
    found: tuple[list[Mistake], list[Mistake]] = [], []
    if mistakes is not None and isinstance(pairs[0], Pair):
        found = worst(pairs[0].segmentation, pairs[0].truth, **vars(mistakes))
    return Evaluated(scores, *found)


def sweep_files(
    merge_tree: AnyAddress,
    fragments: AnyAddress | None,
    truth: AnyAddress,
    *,
    ignore_background: bool = True,
    border: float = 0.0,
    work: Work = WHOLE,
) -> Sweep:
    """Score a merge tree at all thresholds: what :func:`segkit.evaluate.sweep` gives, whatever the blocks.

    `fragments` are those in the file of the merge tree if they are None; for the others see :func:`evaluate_files`.
    """
    rule = (ignore_background, check_border(border))
    tree = io.read_merge_tree(merge_tree)
    (pair,) = _pairs(fragments or as_address(merge_tree).path, [truth], (rule,), "fragments", False, work)
    pair.check()
    table = pair.table(rule, None)
    with phase("scores"):
        return sweep_of(tree, table)


def sweep_skeletons(
    merge_tree: AnyAddress,
    fragments: AnyAddress | None,
    skeletons: Skeletons,
    metric: Nerl,
    *,
    work: Work = WHOLE,
) -> RunLengthSweep:
    """Score a merge tree on skeletons at all thresholds: what `sweep_run_lengths` gives, whatever the blocks.

    `fragments` are those in the file of the merge tree if they are None. Only blocks that hold a node are read.
    """
    tree = io.read_merge_tree(merge_tree)
    inside, found = look_up_files(fragments or as_address(merge_tree).path, "fragments", skeletons, work)
    with phase("scores"):
        return sweep_run_lengths(tree, inside, found, metric.tolerances)


def skeletons_of(truth: AnyAddress, metric: Nerl) -> Skeletons:
    """Make skeletons of a truth in a file, which is read whole."""
    return metric.skeletons(io.read_labels(truth, role="truth"))


def _pairs(
    segmentation: AnyAddress,
    truths: Sequence[AnyAddress],
    rules: Sequence[Rule],
    role: str,
    per_section: bool,
    work: Work,
) -> Sequence[Pair | Tables]:
    """The segmentation with each truth: read as they are, or counted by blocks."""
    if not work.whole:
        return [
            count_files(segmentation, truth, rules, role=role, per_section=per_section, work=work) for truth in truths
        ]
    labels = io.read_labels(segmentation, role=role)
    return [Pair(labels, io.read_labels(truth, role="truth"), role) for truth in truths]


def _check_metrics(metrics: Mapping[str, Metric], per_section: bool, traced: Mapping[str, Metric], work: Work) -> None:
    """Refuse what `metrics` cannot do; those that are `traced` go by skeletons, which are given."""
    if per_section and (traced or any(isinstance(metric, Nerl) for metric in metrics.values())):
        rule, next_step = "must not be scored section by section: neurons run through them", "leave one of both out"
        raise InvalidInput(sentence("metric 'nerl'", rule, next_step=next_step))
    for name, metric in metrics.items():
        if not work.whole and not isinstance(metric, CountingMetric):
            rule = "must be one of the contingency table, by blocks"
            next_step = "evaluate it on the whole volume, or a crop"
            if isinstance(metric, Nerl):
                rule, next_step = "must have skeletons, by blocks", "give a file of them (--skeletons)"
            raise InvalidInput(sentence("metric", rule, repr(name), next_step))
