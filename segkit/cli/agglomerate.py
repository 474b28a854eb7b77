"""segkit agglomerate: Merge fragments into a merge tree."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from segkit.cli.by_blocks import Blocks, blockwise_options, costs, costs_of
from segkit.cli.chosen import ThresholdType, choice_for
from segkit.cli.common import (
    Made,
    Verb,
    component_parameters,
    examples,
    gathered,
    neighborhood_option,
    note,
    out_option,
    parse_neighborhood,
    parse_thresholds,
    set_option,
    taken,
)
from segkit.cli.types import AFFINITIES, FRAGMENTS, ComponentName

if TYPE_CHECKING:
    from segkit.blockwise import ComponentSpec
    from segkit.io import Address
    from segkit.io.lookup import AnyAddress

EXAMPLES = examples(
    "segkit agglomerate affinities.h5 --fragments fragments.h5 --out tree.h5",
    "segkit agglomerate affinities.h5 --fragments fragments.h5 --backend waterz \\\n"
    "    --score mean --threshold 0.4 --out tree.h5",
)


@dataclass(frozen=True)
class Backend:
    """What --backend, --score and --set say."""

    backend: str
    score: str | None
    assignments: tuple[str, ...]

    def parameters(self) -> dict:
        """Return the parameters of the agglomerator that were given."""
        return component_parameters(self.assignments, score=self.score)

    def component(self) -> "ComponentSpec":
        """Return the agglomerator with its parameters, which was not loaded yet."""
        from segkit.blockwise import ComponentSpec

        return ComponentSpec("agglomerators", self.backend, self.parameters())


def _check(params: Mapping[str, Any], there: Callable[[str], bool]) -> None:
    from segkit import io

    parse_thresholds(params["thresholds"])
    taken(Backend, params).component().load()
    if params["fragments"] is None and there(params["affinities"]):
        io.shape_of(_fragments_of_same_file(io.parse_address(params["affinities"])), "fragments")


def _makes(params: Mapping[str, Any]) -> Made:
    """Several thresholds give segmentations of names of their own; by blocks, fragments are not copied."""
    roles = ["merge_tree"]
    roles += [] if params["blockwise"] else ["fragments"]
    roles += ["segmentation"] if len(params["thresholds"]) < 2 else []
    found = {"out": params["out"], "backend": params["backend"], "merges": 1} | costs_of(params)
    return Made(found, tuple(roles), () if params["fragments"] else ((_beside(params["affinities"]), "fragments"),))


@click.command("agglomerate", cls=Verb, stage=True, check=_check, makes=_makes, epilog=EXAMPLES)
@click.argument("affinities", type=AFFINITIES)
@click.option("--fragments", type=FRAGMENTS, help="Fragments.  [default: those in the file of AFFINITIES]")
@click.option(
    "--backend",
    default="python",
    show_default=True,
    type=ComponentName("agglomerators"),
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
@gathered("chosen", Backend)
def command(
    affinities: str,
    fragments: "AnyAddress | None",
    chosen: Backend,
    thresholds: tuple[float | str, ...],
    neighborhood: str | None,
    out: str,
    blocks: Blocks,
) -> dict:
    """Merge fragments (supervoxels) by AFFINITIES into a merge tree.

    The tree holds all merges in order, so that it can be cut at any threshold. FILE also receives the fragments, so
    that `segkit segment FILE --threshold T` needs nothing else, and for each --threshold a segmentation:
    volumes/segmentation for one, volumes/segmentation_T for several. With --blockwise the fragments are not copied:
    FILE says where they are.

    --threshold run is the one that the training run of AFFINITIES chose on its validation volumes (`segkit train
    --val`). It is the default if fragments and backend are those that it was chosen with.
    """
    from segkit import io
    from segkit.agglomerate.stage import agglomerate_files
    from segkit.segment.stage import segment_files

    numbers = tuple(each for each in thresholds if not isinstance(each, str))
    parse_thresholds(numbers)  # what is no number is refused first
    io.check_writable(out, dataset=False)
    agglomerator = chosen.component()
    agglomerator.load()  # what is wrong with it is said before anything is read
    agglomerator.check_files()
    fragments = fragments or _fragments_of_same_file(io.parse_address(affinities))
    notes = io.read_notes(affinities, "affinities"), io.read_notes(fragments, "fragments")
    choice = choice_for(*notes, agglomerator.settings())
    cuts = choice.thresholds(thresholds)
    offsets = parse_neighborhood(neighborhood)
    with blocks.work() as work, work.output(out) as output:
        merged = agglomerate_files(
            affinities, fragments, output, agglomerator, neighborhood=offsets, notes=choice.notes, work=work
        )
        if cuts:
            segment_files(merged.tree, output, cuts, fragments=merged.fragments, work=work)
    count = len(merged.tree.altitudes)
    note(f"{len(merged.tree.leaf_ids)} fragments, {count} merges -> {out}")
    return {"out": out, "backend": chosen.backend, "merges": count} | costs(work)


def _beside(affinities: str) -> str:
    from segkit.io import parse_address

    return str(_fragments_of_same_file(parse_address(affinities)))


def _fragments_of_same_file(address: "Address") -> "Address":
    """The fragments in the file of the affinities, with the same crop."""
    return replace(address, dataset=None)
