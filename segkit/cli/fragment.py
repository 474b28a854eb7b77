"""segkit fragment: Cut affinities, or ground truth, into fragments (supervoxels)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from segkit.cli.by_blocks import Blocks, blocks_of, blockwise_options, costs, costs_of, refuse_with_blocks
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
    set_option,
    taken,
)
from segkit.cli.types import AFFINITIES, MASK, TRUTH, ComponentName

if TYPE_CHECKING:
    from segkit.blockwise import ComponentSpec

EXAMPLES = examples(
    "segkit fragment affinities.h5 --out fragments.h5",
    "segkit fragment affinities.h5 --per-section --set threshold=0.4 --out f.h5",
)


@dataclass(frozen=True)
class Method:
    """What --method, --per-section and --set say."""

    method: str
    per_section: bool
    assignments: tuple[str, ...]

    def parameters(self) -> dict:
        """Return the parameters of the fragmenter that were given."""
        return component_parameters(self.assignments, per_section=self.per_section or None)

    def component(self) -> "ComponentSpec":
        """Return the fragmenter with its parameters, which was not loaded yet."""
        from segkit.blockwise import ComponentSpec

        return ComponentSpec("fragmenters", self.method, self.parameters())


def _check(params: Mapping[str, Any], _there: object) -> None:
    chosen = taken(Method, params)
    _refuse(params["affinities"], chosen, params["mask"], params["from_labels"], blocks_of(params))
    if params["from_labels"] is None:
        chosen.component().load()


def _refuse(affinities: str | None, chosen: Method, mask: str | None, labels: str | None, blocks: Blocks) -> None:
    """Refuse options that do not go together."""
    if (affinities is None) == (labels is None):
        raise click.UsageError("give either AFFINITIES or --from-labels TRUTH")
    refuse_with_blocks(blocks, from_labels=labels)
    if labels is not None and (chosen.assignments or mask):
        raise click.UsageError("--from-labels takes neither --mask nor --set")


def _makes(params: Mapping[str, Any]) -> Made:
    return Made({"out": params["out"], "fragments": 1} | costs_of(params), ("fragments",))


@click.command("fragment", cls=Verb, stage=True, check=_check, makes=_makes, epilog=EXAMPLES)
@click.argument("affinities", type=AFFINITIES, required=False)
@click.option(
    "--method",
    default="watershed",
    show_default=True,
    type=ComponentName("fragmenters"),
    help="Fragmenter; see `segkit plugins list fragmenters`.",
)
@click.option("--per-section", is_flag=True, help="Cut each section (z) on its own: for voxels much longer along z.")
@click.option("--mask", type=MASK, help="Volume that is 0 where no fragments are wanted.")
@click.option("--from-labels", type=TRUTH, metavar="TRUTH", help="Take these labels as fragments; no AFFINITIES.")
@set_option
@neighborhood_option
@out_option
@blockwise_options(halo=True)
@gathered("chosen", Method)
def command(
    affinities: str | None,
    chosen: Method,
    mask: str | None,
    from_labels: str | None,
    neighborhood: str | None,
    out: str,
    blocks: Blocks,
) -> dict:
    """Cut AFFINITIES into fragments (supervoxels), the pieces that `segkit agglomerate` merges.

    FILE receives volumes/fragments, uint64 of shape (Z, Y, X), 0 = background.
    """
    from segkit.fragment.stage import fragment_files, fragment_truth

    _refuse(affinities, chosen, mask, from_labels, blocks)
    fragmenter = chosen.component()
    offsets = parse_neighborhood(neighborhood)
    with blocks.work() as work:
        if from_labels is not None:
            count = fragment_truth(from_labels, out, per_section=chosen.per_section)
        else:
            assert affinities is not None  # or from_labels would be given
            count = fragment_files(affinities, out, fragmenter, mask=mask, neighborhood=offsets, work=work)
    note(f"{count} fragments -> {out}")
    return {"out": out, "fragments": count} | costs(work)
