"""segkit evaluate: Score a segmentation against the truth."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from segkit.cli.by_blocks import Blocks, blocks_of, blockwise_options, refuse_with_blocks
from segkit.cli.common import (
    Made,
    Verb,
    component_parameters,
    echo_json,
    echo_table,
    examples,
    json_option,
    parse_thresholds,
    set_option,
)
from segkit.cli.types import ADDRESS, FRAGMENTS, TRUTH, ComponentName, Number
from segkit.errors import InvalidParameter, sentence

if TYPE_CHECKING:
    import numpy as np

    from segkit.evaluate import Sweep
    from segkit.evaluate.worst import Mistake
    from segkit.io.lookup import AnyAddress

ROWS = 10
"""Thresholds in the table of a sweep, if none are given."""
EXAMPLES = examples(
    "segkit evaluate segmentation.h5 sample_C.hdf --border 25",
    "segkit evaluate tree.h5 sample_C.hdf --sweep",
)


def _check_call(params: Mapping[str, Any], there: Callable[[str], bool]) -> None:
    from segkit import io

    sweeps = params["sweeps"]
    _check(params["metrics"], sweeps, params)
    parameters = component_parameters(params["assignments"], border=params["border"])
    if sweeps:
        _only(params["truth"])
        _counting(parameters)
    else:
        refuse_with_blocks(blocks_of(params), worst=params["worst"])
        _made(params["metrics"], parameters)
    if there(params["segmentation"]):
        role = "merge_tree" if sweeps else "segmentation"
        io.read_notes(params["segmentation"], role)


def _makes(params: Mapping[str, Any]) -> Made:
    """The scores of the metrics of segkit; those of others are known when they are counted."""
    from segkit.evaluate.sweep import SCORES

    names = {"cremi": SCORES, "rand": SCORES[:2], "voi": SCORES[2:4]}
    if params["sweeps"]:
        return Made(dict.fromkeys(("threshold", *SCORES), 0.5), reads=((params["segmentation"], "merge_tree"),))
    known = all(metric in names for metric in params["metrics"])
    found = dict.fromkeys((score for metric in params["metrics"] for score in names.get(metric, ())), 0.5)
    return Made(found if known else None, reads=((params["segmentation"], "segmentation"),))


@click.command("evaluate", cls=Verb, stage=True, check=_check_call, makes=_makes, epilog=EXAMPLES)
@click.argument("segmentation", type=ADDRESS)
@click.argument("truth", type=TRUTH, nargs=-1, required=True)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    default=("cremi",),
    type=ComponentName("metrics"),
    help="Metric; see `segkit plugins list metrics`; repeatable.  [default: cremi]",
)
@click.option("--per-section", is_flag=True, help="Score each section (z) on its own, and average.")
@click.option(
    "--border",
    type=Number(min=0),
    metavar="NM",
    help="Leave out voxels within this distance of a true boundary, in nm, in the section; the CREMI challenge: 25.  "
    "[default: count all]",
)
@click.option("--worst", type=click.IntRange(min=1), metavar="N", help="List the N worst splits and merges too.")
@click.option("--sweep", "sweeps", is_flag=True, help="SEGMENTATION is a merge tree: score it at all thresholds.")
@click.option(
    "--threshold",
    "thresholds",
    type=float,
    multiple=True,
    metavar="NUMBER",
    help="Threshold in the table of --sweep, 0..1; repeatable.  [default: ten of them]",
)
@click.option("--fragments", type=FRAGMENTS, help="Fragments of --sweep.  [default: those of the merge tree]")
@set_option
@json_option
@blockwise_options()
def command(
    segmentation: str,
    truth: tuple[str, ...],
    metrics: tuple[str, ...],
    assignments: tuple[str, ...],
    as_json: bool,
    sweeps: bool,
    blocks: Blocks,
    **options: Any,
) -> dict:
    """Score SEGMENTATION against TRUTH, or with --sweep a merge tree at all its thresholds.

    Voxels where TRUTH is 0 do not count. Of several TRUTHs (or FILE:volumes/labels/annotator_*) the scores are the
    mean over the annotators.

    voi_split (false splits) and voi_merge (false merges) are in bits; rand_index = 1 - adapted_rand_error; cremi_score
    = sqrt((voi_split + voi_merge) * adapted_rand_error), smaller is better. --sweep shows the fragments, the threshold
    of the best CREMI score, and the oracle, which merges every fragment into the object that it overlaps most: the
    best that agglomeration can come to.
    """
    _check(metrics, sweeps, options)
    parameters = component_parameters(assignments, border=options["border"])
    if sweeps:
        found = _swept(segmentation, options["fragments"], _only(truth), _counting(parameters), blocks)
        return _show_sweep(f"{segmentation} against {truth[0]}", found, options["thresholds"], as_json)
    refuse_with_blocks(blocks, worst=options["worst"])
    return _score(segmentation, truth, parameters, metrics, options, blocks, as_json)


def _check(metrics: tuple[str, ...], sweeps: bool, options: Mapping[str, Any]) -> None:
    """Refuse options that the other way of evaluating knows."""
    for name in ("thresholds", "fragments") if not sweeps else ("per_section", "worst"):
        if options[name]:
            rule = "needs --sweep and a merge tree" if not sweeps else "needs a segmentation, not --sweep"
            next_step = "add --sweep" if not sweeps else "cut the tree by 'segkit segment' at the best threshold first"
            option = "threshold" if name == "thresholds" else name.replace("_", "-")
            raise InvalidParameter(sentence(f"--{option}", rule, next_step=next_step))
    parse_thresholds(options["thresholds"])  # what is no altitude is refused first
    if sweeps and set(metrics) - {"cremi"}:
        rule, next_step = "must be cremi with --sweep", "its scores are those of rand and voi too"
        raise InvalidParameter(sentence("--metric", rule, ", ".join(metrics), next_step))


def _only(truths: "Sequence[AnyAddress]") -> "AnyAddress":
    """The one truth. Raises InvalidParameter if there are several."""
    if len(truths) > 1:
        rule, next_step = "must be one with --sweep or --worst", "name one annotator"
        raise InvalidParameter(sentence("TRUTH", rule, len(truths), next_step))
    return truths[0]


def _score(
    segmentation: str,
    truths: tuple[str, ...],
    parameters: dict[str, object],
    metrics: tuple[str, ...],
    options: dict[str, Any],
    blocks: Blocks,
    as_json: bool,
) -> dict:
    from segkit import io
    from segkit.evaluate.stage import Worst, evaluate_files

    chosen = _made(metrics, parameters)
    addresses = [address for truth in truths for address in io.matching(truth, role="truth")]
    worst = None
    if options["worst"]:
        _only(addresses)
        worst = Worst(options["worst"], **_counting(_known(parameters)))
    with blocks.work() as work:
        wanted = {"per_section": options["per_section"], "mistakes": worst, "work": work}
        found = evaluate_files(segmentation, addresses, chosen, **wanted)
    mistakes = {}
    if worst is not None:
        mistakes["worst_splits"] = [_record(mistake, "object") for mistake in found.splits]
        mistakes["worst_merges"] = [_record(mistake, "segment") for mistake in found.merges]
    if as_json:
        echo_json(found.scores | mistakes)
        return found.scores
    echo_table(f"{segmentation} against {', '.join(truths)}", [found.scores])
    for name, rows in mistakes.items():
        echo_table(name.replace("_", " "), [_mistake_row(row) for row in rows])
    return found.scores


def _made(names: tuple[str, ...], parameters: dict) -> dict[str, Any]:
    """The metrics, by name."""
    from segkit.registry import load

    return {name: load("metrics", name, **parameters) for name in names}


def _record(mistake: "Mistake", what: str) -> dict:
    values = asdict(mistake)
    parts = [{"id": part, "voxels": voxels} for part, voxels in mistake.parts]
    return {what: values.pop("id")} | values | {"parts": parts}


def _mistake_row(record: dict) -> dict[str, object]:
    parts = " + ".join(f"{part['id']} ({part['voxels']})" for part in record["parts"])
    places = {name: ", ".join(f"{value:g}" for value in record[name]) for name in ("voxel", "position")}
    return record | {"parts": parts} | places


def _swept(tree: str, fragments: "AnyAddress | None", truth: "AnyAddress", options: dict, blocks: Blocks) -> "Sweep":
    """The scores of a merge tree at all thresholds."""
    from segkit import io
    from segkit.evaluate.stage import sweep_files

    fragments = fragments or io.fragments_of(tree, io.read_notes(tree, "merge_tree"))
    with blocks.work() as work:
        return sweep_files(tree, fragments, truth, **options, work=work)


def _show_sweep(title: str, found: "Sweep", thresholds: tuple[float, ...], as_json: bool) -> dict:
    rows = found.at(thresholds or _spread(found.thresholds))
    bounds = {"fragments": found.fragments, "best": found.best(), "oracle": found.oracle}
    if as_json:
        echo_json(bounds | {"thresholds": rows})
        return found.best()
    echo_table(title, [_titled(name, scores) for name, scores in bounds.items()])
    echo_table("at a threshold", [_exact(row) for row in rows])
    return found.best()


def _titled(name: str, scores: dict[str, float]) -> dict[str, object]:
    return {"what": name, "threshold": ""} | _exact(scores)


def _exact(scores: dict[str, float]) -> dict[str, object]:
    """With all digits of the threshold that make a difference, and no more."""
    return scores | ({"threshold": repr(scores["threshold"])} if "threshold" in scores else {})


def _spread(thresholds: "np.ndarray") -> list[float]:
    """Round thresholds between the lowest and the highest."""
    low, high = float(thresholds[0]), float(thresholds[-1])
    return sorted({round(low + (high - low) * k / ROWS, 3) for k in range(1, ROWS + 1)})


def _known(parameters: dict) -> dict[str, object]:
    """Those that `cremi` knows; the metrics, which were made before, refused those that nobody knows."""
    from segkit.registry import find

    known = find("metrics", "cremi").parameters()
    return {name: value for name, value in parameters.items() if name in known}


def _counting(parameters: dict) -> dict[str, Any]:
    """What counts, checked as the parameters of the metric `cremi`."""
    from segkit.registry import load

    metric = load("metrics", "cremi", **parameters)
    return {"ignore_background": metric.ignore_background, "border": metric.border}
