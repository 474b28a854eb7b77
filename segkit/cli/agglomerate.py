"""segkit agglomerate: affinities and fragments -> merge tree."""

from dataclasses import replace
from typing import Any

import click

from segkit.cli.by_blocks import Blocks, blockwise_options
from segkit.cli.chosen import RUN, ThresholdType, choice_for
from segkit.cli.common import (
    Verb,
    component_parameters,
    examples,
    neighborhood_option,
    note,
    out_option,
    parse_neighborhood,
    parse_thresholds,
    set_option,
)
from segkit.cli.completion import complete_component

EXAMPLES = examples(
    "segkit agglomerate affinities.h5 --fragments fragments.h5 --out tree.h5",
    "segkit agglomerate affinities.h5 --fragments fragments.h5 --backend waterz \\\n"
    "    --score mean --threshold 0.4 --out tree.h5",
)


@click.command("agglomerate", cls=Verb, epilog=EXAMPLES)
@click.argument("affinities")
@click.option("--fragments", metavar="ADDRESS", help="Fragments.  [default: those in the file of AFFINITIES]")
@click.option(
    "--backend",
    default="python",
    show_default=True,
    metavar="NAME",
    shell_complete=complete_component("agglomerators"),
    help="Agglomerator; see `segkit plugins list agglomerators`.",
)
@click.option(
    "--score",
    metavar="NAME",
    help="What the affinities between two fragments are summed up by: mean, max, min, median or quantile; the same as "
    "--set score=NAME.  [default: the backend's]",
)
@click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    type=ThresholdType(),
    metavar="NUMBER|run",
    help="Write the segmentation at this threshold too, 0..1; a higher one merges more; repeatable.  "
    "[default: run, the one that training chose, if it did]",
)
@set_option
@neighborhood_option
@out_option
@blockwise_options()
def command(affinities, fragments, backend, score, thresholds, assignments, neighborhood, out, blocks) -> dict:
    """Merge fragments (supervoxels) by AFFINITIES into a merge tree.

    The tree holds all merges in order, so that it can be cut at any threshold. FILE also receives the fragments, so
    that `segkit segment FILE --threshold T` needs nothing else, and for each --threshold a segmentation:
    volumes/segmentation for one, volumes/segmentation_T for several. With --blockwise the fragments are not copied:
    FILE says where they are.

    --threshold run is the one that the training run of AFFINITIES chose on its validation volumes (`segkit train
    --val`). It is the default if fragments and backend are those that it was chosen with.
    """
    from segkit import io
    from segkit.registry import load
    from segkit.registry.settings import settings
    from segkit.segment import segmentations

    parse_thresholds(tuple(each for each in thresholds if each != RUN))  # what is no number is refused first
    io.check_writable(out, dataset=False)
    parameters = component_parameters(assignments, score=score)
    agglomerator = load("agglomerators", backend, **parameters)
    fragments = fragments or _beside(io.parse_address(affinities))
    notes = io.read_notes(affinities, "affinities"), io.read_notes(fragments, "fragments")
    choice = choice_for(*notes, settings("agglomerators", backend, parameters))
    thresholds = choice.thresholds(thresholds)
    if blocks.wanted:
        inputs = {"affinities": affinities, "fragments": fragments, "neighborhood": parse_neighborhood(neighborhood)}
        return _by_blocks(inputs, backend, parameters, thresholds, choice.notes, out, blocks)
    labels = io.read_labels(fragments, role="fragments")
    tree = agglomerator.agglomerate(
        io.read_affinities(affinities, neighborhood=parse_neighborhood(neighborhood)), labels
    )
    results = {"merge_tree": tree, "fragments": labels}
    for threshold, segmentation in zip(thresholds, segmentations(tree, labels, thresholds), strict=True):
        name = "segmentation" if len(thresholds) == 1 else f"segmentation:volumes/segmentation_{threshold!r}"
        results[name] = segmentation
    io.write_all(out, results, drop="volumes/segmentation", notes={"merge_tree": choice.notes})
    return _told(len(tree.leaf_ids), len(tree.altitudes), backend, out)


def _by_blocks(inputs: dict, backend: str, parameters: dict, thresholds, notes, out, blocks: Blocks) -> dict:
    from segkit.agglomerate.stage import agglomerate_files
    from segkit.blockwise import ComponentSpec
    from segkit.segment.stage import segment_files

    agglomerator = ComponentSpec("agglomerators", backend, parameters)
    with blocks.session() as session:
        options: dict[str, Any] = {"block": blocks.block, "executor": session.executor, "report": session.report}
        stages, found = agglomerate_files(**inputs, out=out, agglomerator=agglomerator, notes=notes, **options)
        session.ended(stages)
        if thresholds:
            stages, _ = segment_files(out, out, thresholds, fragments=inputs["fragments"], **options)
            session.ended(stages)
    return _told(found["fragments"], found["merges"], backend, out) | {"stages": session.rows()}


def _told(fragments: int, merges: int, backend: str, out) -> dict:
    note(f"{fragments} fragments, {merges} merges -> {out}")
    return {"out": out, "backend": backend, "merges": merges}


def _beside(address):
    """The fragments in the file of the affinities, with the same crop."""
    return replace(address, dataset=None)
