"""segkit benchmark infer: a network from a run or a new one, and the table."""

from pathlib import Path

import click

from segkit.cli.common import (
    Verb,
    chosen_precision,
    component_parameters,
    device_option,
    echo_json,
    echo_table,
    examples,
    json_option,
    network_options,
    note,
)
from segkit.cli.completion import complete_component
from segkit.cli.runs import model_file

EXAMPLES = examples(
    "segkit benchmark infer sample_C.hdf --run run",
    "segkit benchmark infer sample_C.hdf --model unet3d --set features=8",
)


@click.command("infer", cls=Verb, epilog=EXAMPLES)
@click.argument("raw")
@click.option("--run", "run_folder", metavar="RUN", help="Folder of a training run.")
@click.option(
    "--model",
    metavar="NAME",
    shell_complete=complete_component("models"),
    help="Network with random weights instead.",
)
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Parameter of --model; repeatable.")
@network_options
@click.option(
    "--format",
    "suffix",
    type=click.Choice(["h5", "zarr"]),
    default="h5",
    show_default=True,
    help="Format of the affinities that are written.",
)
@click.option("--repeat", type=click.IntRange(min=1), default=3, show_default=True, help="Timed runs.")
@click.option("--out", metavar="FILE.json", help="Write the report, as --json prints it.")
@json_option
@device_option
def command(raw, run_folder, model, assignments, tile, suffix, repeat, out, as_json, **options) -> dict:
    """Time inference of RAW, part by part: do reading, tiling and writing keep up with the network?

    The first row is the network on tiles that lie on the device; the second adds cutting and blending of tiles, the
    third reading RAW from its file and writing affinities.
    """
    from segkit.benchmark.infer import benchmark_inference
    from segkit.cli.benchmark_report import check_outputs, write_report

    if (run_folder is None) == (model is None):
        raise click.UsageError("give one of --run and --model")
    if assignments and model is None:
        raise click.UsageError("--set is for --model: the network of a run has its parameters")
    check_outputs(out)
    module, neighborhood = _network(run_folder, model, assignments)
    options |= {"tile_shape": tile or None, "suffix": f".{suffix}", "repeat": repeat}
    options["precision"] = chosen_precision(options["precision"], options["device"])
    report = benchmark_inference(raw, module, neighborhood, **options)
    write_report(out, report)
    echo_json(report) if as_json else _echo(report)
    return report


def _network(run_folder: str | None, model: str | None, assignments):
    """The network of a run, or a new one, and its neighborhood."""
    if model is None:
        assert run_folder is not None  # one of both is given
        from segkit.models.checkpoint import load_model

        trained = load_model(model_file(Path(run_folder)))
        return trained.module, trained.neighborhood
    from segkit.data import NEAREST
    from segkit.registry import find

    component = find("models", model)
    neighborhood = NEAREST[3 - component.load().ndim :]
    return component.create(channels=len(neighborhood), **component_parameters(assignments)), neighborhood


def _echo(report: dict) -> None:
    shape, tile = (" x ".join(map(str, report[name])) for name in ("shape", "input_tile"))
    title = f"inference of {shape} voxels, {report['precision']}, {report['device']}, {report['repeat']} timed runs"
    cells = [
        {
            "part": row["title"],
            "seconds": row["seconds"],
            "% of the network": 100 * row["over_network"],
            "megavoxels/s": row["megavoxels_per_second"],
        }
        for row in report["rows"]
    ]
    echo_table(title, cells)
    note(f"tiles of {tile} voxels: {report['tiles']}; all but the network adds {100 * report['added']:.1f} %")
