"""Scores by blocks: contingency tables add up, so the scores are those of the whole volume, to the last bit."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from segkit import io
from segkit.blockwise.blocks import BLOCK
from segkit.blockwise.engine import Executor, Report, StageReport
from segkit.errors import InvalidInput, sentence
from segkit.evaluate import Sweep
from segkit.evaluate.contingency import check_border, check_counted
from segkit.evaluate.count import Rule, Tables, count_files
from segkit.evaluate.counting import CountingMetric
from segkit.evaluate.report import collect, mean_scores, no_object, without_empty
from segkit.evaluate.sweep import sweep_of
from segkit.io.address import as_address
from segkit.io.lookup import AnyAddress
from segkit.protocols import Metric


def evaluate_files(
    segmentation: AnyAddress,
    truths: Sequence[AnyAddress],
    metrics: Mapping[str, Metric],
    *,
    per_section: bool = False,
    block: Sequence[int] = BLOCK,
    executor: Executor | None = None,
    report: Report | None = None,
    work: Path | None = None,
) -> tuple[dict[str, float], list[StageReport]]:
    """What :func:`segkit.evaluate.evaluate_many` gives, without the volumes: equal scores, whatever the block.

    Memory: the driver holds the tables, a worker one block.

    Parameters
    ----------
    segmentation, truths
        Addresses; the truths are those of one annotator or more, aligned with the segmentation.
    metrics
        By name. All must be metrics of the contingency table (CountingMetric), as the built-in ones are.
    per_section
        Score every section on its own, and average.
    block
        Size of a block in voxels.
    executor, report
        As of :func:`segkit.blockwise.engine.run_stage`.
    work
        Where the tables of blocks lie meanwhile; if not given, in the store of the segmentation or beside its file.

    Returns
    -------
    The scores, and the reports of the stages, one a truth.

    Raises
    ------
    InvalidInput
        What evaluate_many raises, and for a metric that needs the voxels.
    """
    rules = tuple(dict.fromkeys(_rule(name, metric) for name, metric in metrics.items()))
    if not truths:
        raise InvalidInput(sentence("truths", "must be at least one"))
    options = {"per_section": per_section, "block": block, "executor": executor, "report": report, "work": work}
    done = [count_files(segmentation, truth, rules, **options) for truth in truths]  # type: ignore[arg-type]
    rows: dict[int, list[Mapping[str, float]]] = {}
    for found in [tables for tables, _ in done if tables.sections] or [done[0][0]]:  # the first of which is refused
        for z, row in _scores(found, metrics, per_section).items():
            rows.setdefault(z, []).append(row)
    return mean_scores([mean_scores(each) for each in rows.values()]), [each for _, each in done]


def sweep_files(
    merge_tree: AnyAddress,
    fragments: AnyAddress | None,
    truth: AnyAddress,
    *,
    ignore_background: bool = True,
    border: float = 0.0,
    block: Sequence[int] = BLOCK,
    executor: Executor | None = None,
    report: Report | None = None,
    work: Path | None = None,
) -> tuple[Sweep, list[StageReport]]:
    """What :func:`segkit.evaluate.sweep` gives, without the volumes: equal scores, whatever the block.

    `fragments` are those in the file of the merge tree if they are None; for the others see
    :func:`evaluate_files`.
    """
    rule = (ignore_background, check_border(border))
    tree = io.read_merge_tree(merge_tree)
    labels = fragments or as_address(merge_tree).path
    options = {"role": "fragments", "block": block, "executor": executor, "report": report, "work": work}
    tables, found = count_files(labels, truth, (rule,), **options)  # type: ignore[arg-type]
    return sweep_of(tree, check_counted(tables.counted[rule, 0], border)), [found]


def _rule(name: str, metric: Metric) -> Rule:
    if not isinstance(metric, CountingMetric):
        rule = "must be one of the contingency table, by blocks"
        next_step = "evaluate it on the whole volume, or a crop"
        raise InvalidInput(sentence("metric", rule, repr(name), next_step))
    return metric.ignore_background, metric.border


def _scores(tables: Tables, metrics: Mapping[str, Metric], per_section: bool) -> dict[int, dict[str, float]]:
    """The scores by section; or of the volume, under 0. The same refusals as those of whole volumes."""
    if not tables.sections:
        raise no_object()
    if not per_section:
        return {0: _row(tables, metrics, 0)}
    found = {}
    for z in _outside_border(tables):
        try:
            found[z] = _row(tables, metrics, z)
        except InvalidInput as error:
            raise InvalidInput(f"section {z}: {error}") from error
    return found


def _outside_border(tables: Tables) -> Sequence[int]:
    """The sections in which every rule finds a voxel that counts; all of them if there is none."""
    rules = {rule for rule, _ in tables.counted if rule[1]}
    left = [z for z in tables.sections if all(len(tables.counted[rule, z].counts) for rule in rules)]
    return without_empty(tables.sections, left)


def _row(tables: Tables, metrics: Mapping[str, Metric], z: int) -> dict[str, float]:
    def score(metric: Metric) -> Mapping[str, float]:
        rule = _rule("", metric)
        return metric.of(check_counted(tables.counted[rule, z], rule[1]))  # type: ignore[attr-defined]

    return collect(metrics, score)
