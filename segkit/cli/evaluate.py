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
    note,
    parse_thresholds,
    set_option,
)
from segkit.cli.types import ADDRESS, FRAGMENTS, SKELETONS, TRUTH, ComponentName, Number
from segkit.errors import InvalidParameter, sentence

if TYPE_CHECKING:
    import numpy as np

    from segkit.data.skeletons import Skeletons
    from segkit.evaluate import Sweep
    from segkit.evaluate.nerl import Nerl
    from segkit.evaluate.run_length_sweep import RunLengthSweep
    from segkit.evaluate.worst import Mistake
    from segkit.io.lookup import AnyAddress

ROWS = 10
"""Thresholds in the table of a sweep, if none are given."""
EXAMPLES = examples(
    "segkit evaluate segmentation.h5 sample_C.hdf --border 25",
    "segkit evaluate tree.h5 sample_C.hdf --sweep",
    "segkit evaluate segmentation.h5 --metric nerl --skeletons skeletons.npz",
)


def _check_call(params: Mapping[str, Any], there: Callable[[str], bool]) -> None:
    from segkit import io

    sweeps = params["sweeps"]
    _check(params["metrics"], sweeps, params)
    parameters = component_parameters(params["assignments"], border=params["border"])
    if sweeps:
        _only(params["truth"])
        _swept_metric(params["metrics"], parameters)
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
        if params["metrics"] != ("cremi",):
            return Made(None, reads=((params["segmentation"], "merge_tree"),))
        return Made(dict.fromkeys(("threshold", *SCORES), 0.5), reads=((params["segmentation"], "merge_tree"),))
    known = all(metric in names for metric in params["metrics"])
    found = dict.fromkeys((score for metric in params["metrics"] for score in names.get(metric, ())), 0.5)
    return Made(found if known else None, reads=((params["segmentation"], "segmentation"),))


@click.command("evaluate", cls=Verb, stage=True, check=_check_call, makes=_makes, epilog=EXAMPLES)
@click.argument("segmentation", type=ADDRESS)
@click.argument("truth", type=TRUTH, nargs=-1)
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
@click.option(
    "--skeletons",
    type=SKELETONS,
    help="Skeletons that --metric nerl goes by: .npz, .swc, or a folder of .swc or of a precomputed layer.  [default: "
    "made of TRUTH]",
)
@click.option(
    "--skeletons-unit",
    type=click.Choice(["nm", "um"]),
    help="Unit of lengths in --skeletons; needed for .swc, which do not state it.",
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
    mean over the annotators. TRUTH may be left out where all is scored on --skeletons.

    voi_split (false splits) and voi_merge (false merges) are in bits; rand_index = 1 - adapted_rand_error; cremi_score
    = sqrt((voi_split + voi_merge) * adapted_rand_error), smaller is better. --sweep shows the fragments, the threshold
    of the best CREMI score, and the oracle, which merges every fragment into the object that it overlaps most: the
    best that agglomeration can come to.

    --metric nerl gives the expected run length on skeletons, in um (erl_um_T) and of that of the perfect segmentation
    (nerl_T), where a segment that holds more than T nodes of each of two skeletons is merging. State T with a score.
    Its oracle merges every fragment into the skeleton that has most nodes in it.
    """
    _check(metrics, sweeps, {"truth": truth, **options})
    if truth and options["skeletons"] and set(metrics) == {"nerl"} and not options["worst"]:
        note("TRUTH is not read, for all is scored on --skeletons")
    parameters = component_parameters(assignments, border=options["border"])
    if sweeps:
        metric = _swept_metric(metrics, parameters)
        found = _swept(segmentation, truth, metric, options, blocks)
        title = f"{segmentation} against {options['skeletons'] or truth[0]}"
        return _show_sweep(title, found, options["thresholds"], as_json)
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
    if sweeps and set(metrics) not in ({"cremi"}, {"nerl"}):
        rule, next_step = "must be cremi or nerl with --sweep", "the scores of cremi are those of rand and voi too"
        raise InvalidParameter(sentence("--metric", rule, ", ".join(metrics), next_step))
    _check_skeletons(metrics, options)


def _check_skeletons(metrics: tuple[str, ...], options: Mapping[str, Any]) -> None:
    """Refuse skeletons that nothing goes by, and a truth that is missing."""
    if options["skeletons"] and "nerl" not in metrics:
        raise InvalidParameter(sentence("--skeletons", "needs --metric nerl", next_step="add it"))
    if options["skeletons_unit"] and not options["skeletons"]:
        raise InvalidParameter(sentence("--skeletons-unit", "needs --skeletons", next_step="name their file"))
    if options["per_section"] and "nerl" in metrics:
        next_step = "leave one of both out"
        raise InvalidParameter(sentence("--per-section", "cannot be had with --metric nerl", next_step=next_step))
    if not options["truth"] and (not options["skeletons"] or set(metrics) != {"nerl"} or options["worst"]):
        rule = "must be given, where not all is scored on --skeletons"
        raise InvalidParameter(sentence("TRUTH", rule, next_step="name the annotation after the segmentation"))


def _only(truths: "Sequence[AnyAddress]") -> "AnyAddress | None":
    """The one truth, if there is one. Raises InvalidParameter if there are several."""
    if len(truths) > 1:
        rule, next_step = "must be one with --sweep or --worst", "name one annotator"
        raise InvalidParameter(sentence("TRUTH", rule, len(truths), next_step))
    return truths[0] if truths else None


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
    skeletons = _skeletons(options)
    with blocks.work() as work:
        wanted = {"per_section": options["per_section"], "mistakes": worst, "skeletons": skeletons, "work": work}
        found = evaluate_files(segmentation, addresses, chosen, **wanted)
    mistakes = {}
    if worst is not None:
        mistakes["worst_splits"] = [_record(mistake, "object") for mistake in found.splits]
        mistakes["worst_merges"] = [_record(mistake, "segment") for mistake in found.merges]
    if as_json:
        echo_json(found.scores | mistakes)
        return found.scores
    echo_table(f"{segmentation} against {', '.join(truths) or options['skeletons']}", [found.scores])
    for name, rows in mistakes.items():
        echo_table(name.replace("_", " "), [_mistake_row(row) for row in rows])
    return found.scores


def _made(names: tuple[str, ...], parameters: dict) -> dict[str, Any]:
    """The metrics, by name: each with the parameters that it knows. What none knows is refused by the first."""
    from segkit.registry import find, load

    if len(names) == 1:
        return {names[0]: load("metrics", names[0], **parameters)}
    known = {name: find("metrics", name).parameters() for name in names}
    given = {name: {key: value for key, value in parameters.items() if key in known[name]} for name in names}
    given[names[0]] |= {
        key: value for key, value in parameters.items() if not any(key in each for each in known.values())
    }
    return {name: load("metrics", name, **values) for name, values in given.items()}


def _skeletons(options: Mapping[str, Any]) -> "Skeletons | None":
    """The skeletons of the file that is named, if one is."""
    from segkit.io.skeletons import read_skeletons

    return _told(read_skeletons(options["skeletons"], options["skeletons_unit"])) if options["skeletons"] else None


def _told(skeletons: "Skeletons") -> "Skeletons":
    """Say how many there are."""
    length = skeletons.lengths.sum() / 1000
    note(f"{len(skeletons.skeleton_ids)} skeletons of {len(skeletons.nodes)} nodes, {length:.1f} um")
    return skeletons


def _record(mistake: "Mistake", what: str) -> dict:
    values = asdict(mistake)
    parts = [{"id": part, "voxels": voxels} for part, voxels in mistake.parts]
    return {what: values.pop("id")} | values | {"parts": parts}


def _mistake_row(record: dict) -> dict[str, object]:
    parts = " + ".join(f"{part['id']} ({part['voxels']})" for part in record["parts"])
    places = {name: ", ".join(f"{value:g}" for value in record[name]) for name in ("voxel", "position")}
    return record | {"parts": parts} | places


def _swept_metric(names: tuple[str, ...], parameters: dict) -> "Nerl | dict[str, Any]":
    """The metric nerl, or what counts for the metric cremi."""
    return _made(("nerl",), parameters)["nerl"] if "nerl" in names else _counting(parameters)


def _swept(
    tree: str, truths: "Sequence[AnyAddress]", metric: "Nerl | dict[str, Any]", options: Mapping, blocks: Blocks
) -> "Sweep | RunLengthSweep":
    """The scores of a merge tree at all thresholds."""
    from segkit import io
    from segkit.evaluate.stage import skeletons_of, sweep_files, sweep_skeletons

    truth = _only(truths)
    fragments = options["fragments"] or io.fragments_of(tree, io.read_notes(tree, "merge_tree"))
    if isinstance(metric, dict):
        assert truth is not None  # else it was refused
        with blocks.work() as work:
            return sweep_files(tree, fragments, truth, **metric, work=work)
    skeletons = _skeletons(options)
    if skeletons is None:
        if blocks.wanted:
            rule, next_step = "needs --skeletons with --blockwise", "name a file of them"
            raise InvalidParameter(sentence("--metric nerl", rule, next_step=next_step))
        assert truth is not None
        skeletons = _told(skeletons_of(truth, metric))
    with blocks.work() as work:
        return sweep_skeletons(tree, fragments, skeletons, metric, work=work)


def _show_sweep(title: str, found: "Sweep | RunLengthSweep", thresholds: tuple[float, ...], as_json: bool) -> dict:
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
