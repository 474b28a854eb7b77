"""segkit fit: Learn from truth how to merge fragments."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segkit.cli.common import (
    Made,
    Verb,
    component_parameters,
    echo_json,
    echo_table,
    examples,
    json_option,
    neighborhood_option,
    note,
    parse_neighborhood,
    set_option,
)
from segkit.cli.types import AFFINITIES, FRAGMENTS, NEW_FILE, TRUTH, ComponentName
from segkit.errors import InvalidParameter, sentence

if TYPE_CHECKING:
    from segkit.blockwise import ComponentSpec
    from segkit.fit.stage import Addresses

EXAMPLES = examples(
    "segkit fit affinities.h5 --fragments fragments.h5 \\\n    --truth sample_A.hdf --out model.json",
    "segkit fit a.h5 b.h5 --fragments fa.h5 --fragments fb.h5 \\\n"
    "    --truth sample_A.hdf --truth sample_B.hdf --out model.json",
)


def _component(backend: str, assignments: tuple[str, ...]) -> "ComponentSpec":
    from segkit.blockwise import ComponentSpec

    return ComponentSpec("agglomerators", backend, component_parameters(assignments))


def _check(params: Mapping[str, Any], there: Callable[[str], bool]) -> None:
    from segkit.fit.stage import learner

    _samples(params["affinities"], params["fragments"], params["truth"])
    learner(_component(params["backend"], params["assignments"]))


def _makes(params: Mapping[str, Any]) -> Made:
    return Made({"out": params["out"], "backend": params["backend"], "threshold": 0.5})


@click.command("fit", cls=Verb, stage=True, check=_check, makes=_makes, epilog=EXAMPLES)
@click.argument("affinities", nargs=-1, required=True, type=AFFINITIES)
@click.option("--fragments", multiple=True, required=True, type=FRAGMENTS, help="Fragments; one for each AFFINITIES.")
@click.option("--truth", multiple=True, required=True, type=TRUTH, help="Ground truth; one for each AFFINITIES.")
@click.option(
    "--backend",
    default="learned",
    show_default=True,
    type=ComponentName("agglomerators"),
    help="Agglomerator that learns; see `segkit plugins list agglomerators`.",
)
@set_option
@neighborhood_option
@click.option("--out", required=True, type=NEW_FILE, help="File to write the model to.")
@json_option
def command(
    affinities: tuple[str, ...],
    fragments: tuple[str, ...],
    truth: tuple[str, ...],
    backend: str,
    assignments: tuple[str, ...],
    neighborhood: str | None,
    out: str,
    as_json: bool,
) -> dict:
    """Learn how to merge the fragments of AFFINITIES (one volume or several) from the truth.

    FILE is for `segkit agglomerate --backend BACKEND --set model=FILE`. The figures are those of volumes, or parts of
    them, that were left out in turn; the threshold is the one to cut the trees of new volumes at. The network that
    made AFFINITIES must not have been trained on these volumes: what it knows it predicts too well.
    """
    from segkit.fit.stage import fit_files

    samples = _samples(affinities, fragments, truth)
    component = _component(backend, assignments)
    fitted = fit_files(samples, Path(out), component, neighborhood=parse_neighborhood(neighborhood))
    figures = dict(fitted.figures)
    if as_json:
        echo_json(figures)
    else:
        echo_table(f"{backend}: volumes left out in turn", [figures])
    note(f"{len(samples)} volume{'s' if len(samples) > 1 else ''} -> {out}")
    return {"out": out, "backend": backend} | figures


def _samples(affinities: tuple[str, ...], fragments: tuple[str, ...], truth: tuple[str, ...]) -> "list[Addresses]":
    """The addresses of each volume. Raises InvalidParameter unless there are equally many."""
    for name, given in (("--fragments", fragments), ("--truth", truth)):
        if len(given) != len(affinities):
            rule = f"must be given once for each AFFINITIES, {len(affinities)} times"
            raise InvalidParameter(sentence(name, rule, f"{len(given)} times"))
    return list(zip(affinities, fragments, truth, strict=True))
