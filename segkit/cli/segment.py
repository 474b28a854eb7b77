"""segkit segment: Cut a merge tree at a threshold into a segmentation."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from segkit.cli.by_blocks import Blocks, blocks_of, blockwise_options, costs, costs_of, refuse_with_blocks
from segkit.cli.chosen import ThresholdType, choice_of
from segkit.cli.common import Made, Verb, echo_json, echo_table, examples, json_option, note, parse_thresholds
from segkit.cli.types import FRAGMENTS, RAW, TARGET, TREE
from segkit.cli.voxels import check_stated
from segkit.errors import InvalidParameter, sentence

if TYPE_CHECKING:
    from segkit.data import Grid
    from segkit.io.lookup import AnyAddress

EXAMPLES = examples(
    "segkit segment tree.h5 --threshold 0.4 --out segmentation.h5",
    "segkit segment tree.h5 --threshold 0.3 --threshold 0.5 --out two.h5",
    "segkit segment tree.h5 --threshold 0.4 --uncertain 20",
)


def _check(params: Mapping[str, Any], _there: object) -> None:
    refuse_with_blocks(blocks_of(params), like=params["like"], uncertain=params["count"])
    parse_thresholds(params["thresholds"])
    if params["out"] is None and not params["count"]:
        raise click.MissingParameter(param_type="option", param_hint="'--out'")


def _makes(params: Mapping[str, Any]) -> Made:
    if params["out"] is None:
        return Made({"threshold": 0.5, "merges": []})
    several = len(params["thresholds"]) > 1
    rows: dict[str, object] = {"thresholds": []} if several else {"threshold": 0.5, "segments": 1}
    return Made({"out": params["out"]} | rows | costs_of(params), () if several else ("segmentation",))


@click.command("segment", cls=Verb, stage=True, check=_check, makes=_makes, epilog=EXAMPLES)
@click.argument("merge_tree", type=TREE)
@click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    type=ThresholdType(),
    metavar="NUMBER|run",
    help="Do all merges whose altitude (1 - affinity of the fragments) is below this, 0..1; a higher one merges more; "
    "repeatable.  [default: run, the threshold that training chose]",
)
@click.option("--fragments", type=FRAGMENTS, help="Fragments.  [default: those of MERGE_TREE]")
@click.option("--like", type=RAW, metavar="RAW", help="Resample the segmentation to the voxels of this volume.")
@click.option("--out", type=TARGET, help="File to write, .h5 or .zarr.  [required, but for --uncertain]")
@click.option(
    "--uncertain",
    "count",
    type=click.IntRange(min=1),
    metavar="N",
    help="List the N merges on whose decision most hangs, with places to look at; --out may be left away.",
)
@json_option
@blockwise_options()
def command(
    merge_tree: str,
    thresholds: tuple[float | str, ...],
    fragments: "AnyAddress | None",
    like: str | None,
    out: str | None,
    count: int | None,
    as_json: bool,
    blocks: Blocks,
) -> dict:
    """Cut MERGE_TREE at a threshold, or at several, into segmentations.

    FILE receives volumes/segmentation for one threshold, volumes/segmentation_T for each of several; uint64 of shape
    (Z, Y, X), 0 = background.

    --uncertain N lists merges for proofreaders, done at the threshold or not, the heaviest first: the voxels of the
    smaller side, times exp(-|altitude - threshold| / 0.05). Each is given with the segments that it joins, their voxels
    and a voxel where they touch (z, y, x, from 0); --json adds its position in nm.
    """
    from segkit import io
    from segkit.segment.stage import segment_files

    notes = io.read_notes(merge_tree, "merge_tree")
    chosen = choice_of(notes).thresholds(thresholds, required=True)
    fragments = fragments or io.fragments_of(merge_tree, notes)
    refuse_with_blocks(blocks, like=like, uncertain=count)
    if count:
        listed = _uncertain(merge_tree, fragments, chosen, count, as_json)
        if out is None:
            return listed
    if out is None:
        raise click.MissingParameter(param_type="option", param_hint="'--out'")
    with blocks.work() as work:
        place = None if like is None else _place_of(like)
        found = segment_files(merge_tree, out, chosen, fragments=fragments, like=place, work=work)
    if found.fragments is not None and found.fragments < found.leaves:
        note(f"only {found.fragments} of the {found.leaves} fragments of the merge tree are in {fragments}")
    note("; ".join(f"{row['segments']} segments at {row['threshold']:g}" for row in found.rows) + f" -> {out}")
    return {"out": out} | (found.rows[0] if len(chosen) == 1 else {"thresholds": found.rows}) | costs(work)


def _uncertain(merge_tree: str, fragments: "AnyAddress", thresholds: list[float], count: int, as_json: bool) -> dict:
    """Print the merges on which most hangs."""
    from segkit import io
    from segkit.segment import uncertain

    if len(thresholds) != 1:
        rule, next_step = "must be one for --uncertain", "give one of them"
        raise InvalidParameter(sentence("--threshold", rule, ", ".join(f"{t:g}" for t in thresholds), next_step))
    source = io.RegionSource(fragments, "fragments")
    tree = io.read_merge_tree(merge_tree)
    merges = uncertain(tree, source.read, source.shape, source.grid, thresholds[0], count=count)
    result = {"threshold": thresholds[0], "merges": [asdict(merge) for merge in merges]}
    if as_json:
        echo_json(result)
        return result
    rows = [
        {
            "altitude": merge.altitude,
            "done": "yes" if merge.done else "no",
            "segments": " + ".join(map(str, merge.sides)),
            "voxels": " + ".join(map(str, merge.voxels)),
            "at z, y, x": ", ".join(map(str, merge.voxel)) if merge.voxel else "they do not touch",
        }
        for merge in merges
    ]
    echo_table(f"Merges to look at, threshold {thresholds[0]:g}", rows)
    return result


def _place_of(address: str) -> "tuple[Grid, tuple[int, int, int]]":
    """The grid of the volume at `address`, and its size."""
    from segkit import io

    check_stated(address, "raw", "--like")
    with io.open_volume(address) as volume:
        return volume.grid, volume.shape
