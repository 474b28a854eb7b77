"""segkit benchmark train and infer: where the time of a stage goes, part by part."""

from pathlib import Path
from typing import Any

import click

from segkit.cli.benchmark_common import Report, check_outputs, write_report
from segkit.cli.common import (
    DEVICES,
    NetworkUse,
    Verb,
    component_parameters,
    device_option,
    echo_json,
    echo_table,
    examples,
    gathered,
    json_option,
    network_options,
    note,
    progress,
    seed_option,
    setting_options,
)
from segkit.cli.runs import merged_settings, model_file, read_settings, training_volumes
from segkit.cli.types import COMPONENT_SETTING, FILE, RAW, RUN_FOLDER, VOLUMES, ComponentName
from segkit.errors import InvalidInput, sentence

TRY_INFER = examples(
    "segkit benchmark infer sample_C.hdf --run run",
    "segkit benchmark infer sample_C.hdf --model unet3d --set features=8",
)
TRY_TRAIN = examples("segkit benchmark train sample_A.hdf --model unet3d --set model.features=8")


@click.command("infer", cls=Verb, network=True, epilog=TRY_INFER)
@click.argument("raw", type=RAW)
@click.option("--run", "run_folder", type=RUN_FOLDER, help="Folder of a training run.")
@click.option("--model", type=ComponentName("models"), help="Network with random weights instead.")
@click.option("--set", "assignments", multiple=True, type=COMPONENT_SETTING, help="Parameter of --model; repeatable.")
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
@click.option("--out", type=FILE, metavar="FILE.json", help="Write the report, as --json prints it.")
@json_option
@device_option
@gathered("use", NetworkUse)
def infer(
    raw: str, run_folder: str | None, model: str | None, assignments: tuple[str, ...], use: NetworkUse, **options: Any
) -> Report:
    """Time inference of RAW, part by part: do reading, tiling and writing keep up with the network?

    The first row is the network on tiles that lie on the device; the second adds cutting and blending of tiles, the
    third reading RAW from its file and writing affinities.
    """
    from segkit.benchmark.infer import benchmark_inference
    from segkit.infer.settings import Settings

    if (run_folder is None) == (model is None):
        raise click.UsageError("give one of --run and --model")
    if assignments and model is None:
        raise click.UsageError("--set is for --model: the network of a run has its parameters")
    out, suffix = options["out"], f".{options['suffix']}"
    check_outputs(out)
    module, neighborhood = _network(run_folder, model, assignments)
    how = Settings(**use.keywords())
    report = benchmark_inference(raw, module, neighborhood, how, suffix=suffix, repeat=options["repeat"])
    write_report(out, report)
    echo_json(report) if options["as_json"] else _show_inference(report)
    return report


def _network(run_folder: str | None, model: str | None, assignments: tuple[str, ...]) -> tuple[Any, Any]:
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


def _show_inference(report: Report) -> None:
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


@click.command("train", cls=Verb, network=True, epilog=TRY_TRAIN)
@click.argument("data", type=VOLUMES, nargs=-1, required=True)
@setting_options
@click.option("--repeat", type=click.IntRange(min=2), default=10, show_default=True, help="Timed steps of each part.")
@click.option("--out", type=FILE, metavar="FILE.json", help="Write the report, as --json prints it.")
@json_option
@seed_option
@click.option("--device", metavar="NAME", help=f"{DEVICES}  [default: auto]")
def train(
    data: tuple[str, ...],
    config: str | None,
    assignments: tuple[str, ...],
    repeat: int,
    out: str | None,
    as_json: bool,
    **options: Any,
) -> Report:
    """Time a step of training on DATA, part by part: does the supply of patches keep up with the network?

    DATA are those of `segkit train`, and at most one folder of a run, whose settings are taken. The first row is the
    bare network, forward and backward on one batch; each other row has one part more, and the last are the whole loop.
    """
    from segkit.benchmark.train import benchmark_training
    from segkit.train import TrainConfig

    check_outputs(out)
    runs = [text for text in data if (Path(text) / "config.json").is_file()]
    files = [text for text in data if text not in runs]
    if len(runs) > 1 or not files:
        rule = "must be files to train on, and at most one folder of a run"
        raise InvalidInput(sentence("DATA", rule, repr(" ".join(data)), "name a file with raw data and labels"))
    base = read_settings(Path(runs[0])) if runs else {}
    settings = TrainConfig(**merged_settings(base, config, options, assignments))
    volumes, _ = training_volumes(files, (), (None, None), settings)
    with progress("benchmark train") as bar:
        report = benchmark_training(settings, volumes, repeat=repeat, progress=bar)
    report["inputs"] = list(data)
    write_report(out, report)
    echo_json(report) if as_json else _show_training(report)
    return report


def _show_training(report: Report) -> None:
    title = f"a step of {report['model']} with {report['loss']}, {report['precision']}, {report['device']}, "
    title += f"{report['voxels'] / 1e6:.2f} megavoxels, {report['repeat']} timed steps"
    cells = [
        {
            "part": row["title"],
            "ms": 1e3 * row["seconds"],
            "CPU ms": 1e3 * row["cpu_seconds"],
            "% of the network": 100 * row["over_network"],
        }
        for row in report["rows"]
    ]
    echo_table(title, cells)
    speed = f"{report['steps_per_second']:.2f} steps/s, {report['megavoxels_per_second']:.2f} megavoxels/s"
    used = "" if report["utilisation"] is None else f", the device computed {100 * report['utilisation']:.0f} % of it"
    note(f"all but network and optimiser add {100 * report['feed']:.1f} % to the network; {speed}{used}")
    waits = f"{1e3 * report['waiting']:.1f} ms, {100 * report['waiting_share']:.1f} % of it"
    note(f"a step of the loop waits {waits}, for patches that are being read")
