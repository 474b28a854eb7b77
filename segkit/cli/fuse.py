"""segkit fuse: Make fragments and a merge tree of raw data by blocks, without affinities on disk."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segkit.cli import agglomerate, fragment, infer
from segkit.cli.by_blocks import NEEDS, Blocks, blocks_of, blockwise_options, costs, costs_of
from segkit.cli.chosen import choice_for, chosen_by, unlike
from segkit.cli.common import (
    Made,
    NetworkUse,
    Verb,
    checked_range,
    examples,
    gathered,
    note,
    out_option,
    parse_thresholds,
    taken,
)
from segkit.cli.runs import model_file
from segkit.cli.types import COMPONENT_SETTING, TARGET
from segkit.errors import InvalidParameter, sentence

if TYPE_CHECKING:
    from segkit.blockwise import ComponentSpec
    from segkit.cli.steps import Step
    from segkit.io import Address

EXAMPLES = examples(
    "segkit fuse raw.zarr --run run --fragments fragments.zarr --out tree.zarr \\\n    --blockwise",
)
OF_INFER = (
    *("raw", "run_folder", "checkpoint", "tile", "memory", "margin", "batch_size", "precision", "augment", "compiled"),
    *("intensity_range", "mask", "roi", "skip_empty", "dtype", "device"),
)
OF_FRAGMENT = ("method", "per_section")
OF_AGGLOMERATE = ("backend", "score", "thresholds", "assignments")
BORROWED = [
    param
    for verb, names in ((infer, OF_INFER), (fragment, OF_FRAGMENT), (agglomerate, OF_AGGLOMERATE))
    for param in verb.command.params
    if param.name in names
]
"""What it takes as these three verbs do."""


@dataclass(frozen=True)
class Network:
    """What RAW, --run, --checkpoint and --intensity-range say."""

    raw: str
    run_folder: str
    checkpoint: str | None
    intensity_range: tuple[float, float] | None


@dataclass(frozen=True)
class Cut:
    """What --method, --per-section, --fragment-set and --fragments say."""

    method: str
    per_section: bool
    fragment_assignments: tuple[str, ...]
    fragments: str

    def fragmenter(self) -> "ComponentSpec":
        """Return the fragmenter with its parameters. Raises InvalidParameter for those that it has not."""
        spec = fragment.Method(self.method, self.per_section, self.fragment_assignments).component()
        spec.load()
        return spec


def _agglomerator(chosen: agglomerate.Backend) -> "ComponentSpec":
    """The agglomerator with its parameters. Raises InvalidParameter for one that does not work on graphs."""
    from segkit.agglomerate.pieces import Linkage

    spec = chosen.component()
    Linkage(spec.load())
    return spec


def _check(params: Mapping[str, Any], there: Callable[[str], bool]) -> None:
    if not blocks_of(params).wanted:
        raise InvalidParameter(sentence("segkit fuse", "works by blocks", next_step=f"add {NEEDS}"))
    infer.check(dict(params) | {"voxel_size": None, "keep_grid": False}, there)
    parse_thresholds(params["thresholds"])
    taken(Cut, params).fragmenter()
    _agglomerator(taken(agglomerate.Backend, params))
    _inside(params["mask"], taken(infer.Kept, params).wanted().roi)


def _makes(params: Mapping[str, Any]) -> Made:
    roles = ("merge_tree", "fragments", *(["segmentation"] if len(params["thresholds"]) < 2 else []))
    found = {"out": params["out"], "fragments": params["fragments"], "backend": params["backend"], "merges": 1}
    return Made(found | costs_of(params), roles)


@click.command("fuse", cls=Verb, stage=True, network=True, check=_check, makes=_makes, epilog=EXAMPLES, params=BORROWED)
@click.option(
    "--fragment-set",
    "fragment_assignments",
    multiple=True,
    type=COMPONENT_SETTING,
    help="Parameter of the fragmenter; repeatable. --set is for the agglomerator.",
)
@click.option("--fragments", required=True, type=TARGET, help="File to write the fragments to, .zarr.")
@out_option
@blockwise_options(halo=True)
@gathered("network", Network)
@gathered("use", NetworkUse)
@gathered("kept", infer.Kept)
@gathered("cut", Cut)
@gathered("chosen", agglomerate.Backend)
def command(
    network: Network,
    use: NetworkUse,
    kept: infer.Kept,
    cut: Cut,
    chosen: agglomerate.Backend,
    thresholds: tuple[float | str, ...],
    out: str,
    blocks: Blocks,
) -> dict:
    """Do what infer, fragment and agglomerate do, block by block, without writing affinities.

    The affinities of a block are made in memory, cut into fragments, and summed up as a graph. FILE and the file of
    the fragments are what the three verbs write one after the other; a network that pads sees other tiles near the
    faces of blocks than `segkit infer` shows it, and its results differ there. --mask is that of infer and of
    fragment; --halo is the halo of both. Needs --blockwise.
    """
    from segkit import io
    from segkit.fuse.stage import fuse_files
    from segkit.infer.settings import Settings
    from segkit.infer.stage import Voxels, predicted
    from segkit.models.checkpoint import load_model
    from segkit.segment.stage import segment_files

    if not blocks.wanted:
        raise InvalidParameter(sentence("segkit fuse", "works by blocks", next_step=f"add {NEEDS}"))
    values, wanted = checked_range(network.intensity_range), kept.wanted()
    mask = _inside(kept.mask, wanted.roi)
    for address in (cut.fragments, out):
        io.check_writable(address)
    fragmenter, agglomerator = cut.fragmenter(), _agglomerator(chosen)
    trained = load_model(model_file(Path(network.run_folder), network.checkpoint), device="cpu")
    settings = Settings(**use.keywords(), intensity_range=values, skip_empty=kept.skip_empty)
    other = unlike(trained.extra, use.augment, *infer.lengths(network.raw, Voxels()))
    made = chosen_by(network.run_folder, trained.extra, other), {"fragmenter": fragmenter.settings()}
    choice = choice_for(*made, agglomerator.settings())
    cuts = choice.thresholds(thresholds)
    with blocks.work() as work, work.output(out) as output:
        affinities = predicted(network.raw, trained, settings, Voxels(), wanted, work)
        places = affinities, cut.fragments, output, fragmenter, agglomerator
        merged = fuse_files(*places, mask=mask, notes=choice.notes, work=work)
        if cuts:
            segment_files(merged.tree, output, cuts, fragments=merged.fragments, work=work)
    count = len(merged.tree.altitudes)
    note(f"{len(merged.tree.leaf_ids)} fragments, {count} merges -> {out}")
    return {"out": out, "fragments": cut.fragments, "backend": chosen.backend, "merges": count} | costs(work)


def _inside(mask: str | None, roi: Any) -> "Address | None":
    """The mask of the region, for the fragments."""
    from segkit.io import parse_address

    if mask is None:
        return None
    address = parse_address(mask)
    if roi is None:
        return address
    if address.crop:
        rule = "must have no crop where --roi is given"
        raise InvalidParameter(sentence("--mask", rule, mask, "name a mask of all of RAW"))
    return replace(address, crop=roi)


def fused_steps(steps: "Sequence[Step]") -> "list[Step]":
    """Make one step of each infer, the fragment of its affinities, and the agglomerate of both.

    Raises InvalidParameter where there are no such three, or one has an option that cannot be had so.
    """
    left = list(steps)
    for cutting in [step for step in steps if step.verb.name == "fragment"]:
        three = _with_others(cutting, steps)
        if three is not None:
            left[left.index(three[2])] = _one_of(*three)
            left = [step for step in left if step not in three]
    if len(left) == len(steps):
        rule = "needs an infer, a fragment of its affinities, and an agglomerate of both, in the recipe"
        raise InvalidParameter(sentence("--fused", rule, next_step="leave it out"))
    return left


def _with_others(cutting: "Step", steps: "Sequence[Step]") -> "tuple[Step, Step, Step] | None":
    affinities, fragments = cutting.options.get("affinities"), cutting.options.get("out")

    def one(verb: str, **options: object) -> "Step | None":
        found = (step for step in steps if step.verb.name == verb)
        return next((step for step in found if all(step.options.get(k) == v for k, v in options.items())), None)

    making, merging = one("infer", out=affinities), one("agglomerate", affinities=affinities, fragments=fragments)
    return (making, cutting, merging) if making and merging else None


def _one_of(making: "Step", cutting: "Step", merging: "Step") -> "Step":
    options: dict[str, object] = {"fragments": cutting.options["out"], "out": merging.options["out"]}
    if making.options.get("mask") != cutting.options.get("mask"):
        rule = "must be the same of infer and fragment for --fused"
        values = f"{making.options.get('mask')} and {cutting.options.get('mask')}"
        raise InvalidParameter(sentence("mask", rule, values, f"correct it at {making.name} or {cutting.name}"))
    parts = (making, OF_INFER, ()), (cutting, OF_FRAGMENT, ("mask",)), (merging, OF_AGGLOMERATE, ("fragments",))
    for step, names, others in parts:
        for name, value in step.options.items():
            if name in names:
                options[name] = value
            elif (name, step) == ("assignments", cutting):
                options["fragment_assignments"] = value
            elif name not in ("affinities", "out", *others):
                rule = "cannot be had with --fused"
                raise InvalidParameter(sentence(f"{name} of stage {step.name!r}", rule, next_step="leave one out"))
    from segkit.cli.main import verb_named

    verb: Any = verb_named("fuse")
    return replace(merging, verb=verb, options=options)
