"""segkit evaluate: segmentation and truth -> scores."""

import click

from segkit.cli.common import Verb, component_parameters, echo_json, echo_table, json_option, set_option


@click.command("evaluate", cls=Verb)
@click.argument("segmentation")
@click.argument("truth")
@click.option("--metric", "metrics", multiple=True, default=["cremi"], show_default=True, help="Repeatable.")
@click.option("--per-section", is_flag=True, help="Score every section on its own, and average.")
@click.option(
    "--border", type=float, help="Ignore voxels this near (nm, in the section) to a true boundary; CREMI: 25."
)
@set_option
@json_option
def command(segmentation, truth, metrics, per_section, border, assignments, as_json) -> dict:
    """Score SEGMENTATION against TRUTH.

    voi_split and voi_merge are in bits; rand_index = 1 - adapted_rand_error; cremi_score = sqrt((voi_split +
    voi_merge) * adapted_rand_error), smaller is better.
    """
    from segkit import io
    from segkit.evaluate import evaluate
    from segkit.registry import load

    parameters = component_parameters(assignments, border=border)
    chosen = {name: load("metrics", name, **parameters) for name in metrics}
    labels = io.read_labels(segmentation, role="segmentation")
    scores = evaluate(labels, io.read_labels(truth, role="truth"), chosen, per_section=per_section)
    if as_json:
        echo_json(scores)
    else:
        echo_table(f"{segmentation} against {truth}", [scores])
    return dict(scores)
