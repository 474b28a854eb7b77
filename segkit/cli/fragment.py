"""segkit fragment: affinities -> fragments."""

from typing import Any

import click

from segkit.cli.by_blocks import Blocks, blockwise_options, refuse_with_blocks
from segkit.cli.common import (
    Verb,
    component_parameters,
    examples,
    neighborhood_option,
    note,
    out_option,
    parse_neighborhood,
    set_option,
)
from segkit.cli.completion import complete_component

EXAMPLES = examples(
    "segkit fragment affinities.h5 --out fragments.h5",
    "segkit fragment affinities.h5 --per-section --set threshold=0.4 --out f.h5",
)


@click.command("fragment", cls=Verb, epilog=EXAMPLES)
@click.argument("affinities", required=False)
@click.option(
    "--method",
    default="watershed",
    show_default=True,
    metavar="NAME",
    shell_complete=complete_component("fragmenters"),
    help="Fragmenter; see `segkit plugins list fragmenters`.",
)
@click.option("--per-section", is_flag=True, help="Cut each section (z) on its own: for voxels much longer along z.")
@click.option("--mask", metavar="ADDRESS", help="Volume that is 0 where no fragments are wanted.")
@click.option("--from-labels", metavar="TRUTH", help="Take these labels as fragments; no AFFINITIES.")
@set_option
@neighborhood_option
@out_option
@blockwise_options(halo=True)
def command(affinities, method, per_section, mask, from_labels, assignments, neighborhood, out, blocks) -> dict:
    """Cut AFFINITIES into fragments (supervoxels), the pieces that `segkit agglomerate` merges.

    FILE receives volumes/fragments, uint64 of shape (Z, Y, X), 0 = background.
    """
    from segkit import io

    if (affinities is None) == (from_labels is None):
        raise click.UsageError("give either AFFINITIES or --from-labels TRUTH")
    refuse_with_blocks(blocks, from_labels=from_labels)
    if blocks.wanted:
        parameters = component_parameters(assignments, per_section=per_section or None)
        return _by_blocks(affinities, method, parameters, mask, parse_neighborhood(neighborhood), out, blocks)
    io.check_writable(out)
    notes = {}
    if from_labels is not None:
        if assignments or mask:
            raise click.UsageError("--from-labels takes neither --mask nor --set")
        from segkit.fragment.from_labels import fragments_from_labels

        fragments = fragments_from_labels(io.read_labels(from_labels), per_section=per_section)
    else:
        from segkit.registry import load
        from segkit.registry.settings import settings

        parameters = component_parameters(assignments, per_section=per_section or None)
        fragmenter = load("fragmenters", method, **parameters)
        notes = {"fragmenter": settings("fragmenters", method, parameters)}
        volume = io.read_affinities(affinities, neighborhood=parse_neighborhood(neighborhood))
        fragments = fragmenter.fragment(volume, io.read_mask(mask) if mask else None)
    io.write(out, fragments, "fragments", notes=notes)
    count = len(fragments.ids())
    note(f"{count} fragments -> {out}")
    return {"out": out, "fragments": count}


def _by_blocks(affinities, method: str, parameters: dict, mask, neighborhood, out, blocks: Blocks) -> dict:
    from segkit.blockwise import ComponentSpec
    from segkit.fragment.stage import fragment_files

    fragmenter = ComponentSpec("fragmenters", method, parameters)
    with blocks.session() as session:
        options: dict[str, Any] = {
            "block": blocks.block,
            "halo": blocks.halo,
            "executor": session.executor,
            "report": session.report,
        }
        options |= {"mask": mask, "neighborhood": neighborhood}
        stages = session.ended(fragment_files(affinities, out, fragmenter, **options))
    count = sum(result["fragments"] for result in stages[-1].results)  # of each, those that begin in a block
    note(f"{count} fragments -> {out}")
    return {"out": out, "fragments": count, "stages": session.rows()}
