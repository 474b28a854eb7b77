"""segkit diagnose: Say what is wrong with affinities, in figures and words."""

from dataclasses import asdict

import click

from segkit.cli.common import (
    Verb,
    component_parameters,
    echo_json,
    echo_table,
    examples,
    json_option,
    neighborhood_option,
    parse_neighborhood,
    set_option,
)
from segkit.cli.types import ADDRESS, ComponentName
from segkit.errors import InvalidParameter, sentence

EXAMPLES = examples("segkit diagnose affinities.h5 --labels sample_C.hdf --stride 1,27,27")


@click.command("diagnose", cls=Verb, epilog=EXAMPLES)
@click.argument("affinities", type=ADDRESS)
@click.option("--labels", type=ADDRESS, help="Ground truth of the same region: score each channel by it.")
@click.option("--stride", metavar="Z,Y,X", help="Look for grid artefacts of these periods, in voxels.")
@click.option(
    "--method",
    default="watershed",
    show_default=True,
    type=ComponentName("fragmenters"),
    help="Fragmenter of a crop.",
)
@click.option("--crop", type=click.IntRange(min=8), default=96, show_default=True, help="Edge of that crop, in voxels.")
@neighborhood_option
@set_option
@json_option
def command(
    affinities: str,
    labels: str | None,
    stride: str | None,
    method: str,
    crop: int,
    neighborhood: str | None,
    assignments: tuple[str, ...],
    as_json: bool,
) -> dict:
    """Measure the health of AFFINITIES, and say in words what training, or the network, did wrong.

    For each channel how its values are spread; for each pair of channels how often they contradict each other (in a
    square of four voxels one edge is cut, and the path round it is not); for each channel and axis the strongest
    period; and what a fragmenter makes of a crop in the middle. --set gives its parameters.

    The columns. Channels: at_zero and at_one are the shares of values saturated there; auc is how often a true join has
    a higher affinity than a true split (1 best, 0.5 guessed). Agreements, of two channels: correlation of the two edges
    of a voxel; opposed, of opposite edges of a square (0 where a channel is noise); cut, the share of squares with an
    edge below 0.5; contradictions, of those the share in which only one edge is cut; chance, what that share would be
    if edges knew nothing of each other. Peaks: share of the variance that a period (voxels) holds; prominence, its
    power over that of its neighbors (about 1: no pattern); in_profile, the part that all lines have in common.
    """
    from segkit import io
    from segkit.health import examine, verdict

    periods = _periods(stride)
    values = io.read_affinities(affinities, neighborhood=parse_neighborhood(neighborhood))
    truth = io.read_labels(labels, role="truth") if labels else None
    parameters = component_parameters(assignments)
    report = examine(values, truth, stride=periods, crop=crop, fragmenter=method, parameters=parameters)
    findings = verdict(report)
    result = {"healthy": not findings, "verdict": [asdict(finding) for finding in findings], **asdict(report)}
    if as_json:
        echo_json(result)
        return result
    for title in ("channels", "agreements", "peaks", "at_stride"):
        if result[title]:
            echo_table(title.replace("_", " "), [_row(row) for row in result[title]])
    if report.objects is not None:
        echo_table(f"fragments by {method}", [_row(result["objects"])])
    for line in [f"{finding.kind}: {finding.sentence}" for finding in findings] or ["healthy"]:
        click.echo(line)
    return result


def _periods(text: str | None) -> tuple[int, int, int]:
    """The sizes of ``--stride``."""
    try:
        periods = tuple(int(part) for part in text.split(",")) if text else (1, 1, 1)
    except ValueError:
        periods = ()
    if len(periods) != 3 or min(periods) < 1:
        rule = "must be three positive sizes z,y,x, such as 1,27,27"
        raise InvalidParameter(sentence("--stride", rule, repr(text)))
    return periods


def _row(figures: dict) -> dict[str, object]:
    """Without what does not apply, and with small numbers as such."""
    return {
        name: f"{value:.3g}" if isinstance(value, float) else value
        for name, value in figures.items()
        if value is not None
    }
