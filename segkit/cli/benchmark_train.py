"""segkit benchmark train: settings, data, and the table."""

from pathlib import Path

import click

from segkit.cli.common import (
    DEVICES,
    Verb,
    echo_json,
    echo_table,
    examples,
    json_option,
    note,
    progress,
    seed_option,
    setting_options,
)
from segkit.cli.runs import merged_settings, read_settings, read_volumes
from segkit.errors import InvalidInput, sentence

EXAMPLES = examples("segkit benchmark train sample_A.hdf --model unet3d --set model.features=8")


@click.command("train", cls=Verb, epilog=EXAMPLES)
@click.argument("data", nargs=-1, required=True)
@setting_options
@click.option("--repeat", type=click.IntRange(min=2), default=10, show_default=True, help="Timed steps of each part.")
@click.option("--out", metavar="FILE.json", help="Write the report, as --json prints it.")
@json_option
@seed_option
@click.option("--device", metavar="NAME", help=f"{DEVICES}  [default: auto]")
def command(data, config, assignments, repeat, out, as_json, **options) -> dict:
    """Time a step of training on DATA, part by part: does the supply of patches keep up with the network?

    DATA are those of `segkit train`, and at most one folder of a run, whose settings are taken. The first row is the
    bare network, forward and backward on one batch; each other row has one part more, and the last are the whole loop.
    """
    from segkit.benchmark.train import benchmark_training
    from segkit.cli.benchmark_report import check_outputs, write_report
    from segkit.train import TrainConfig

    check_outputs(out)
    runs = [text for text in data if (Path(text) / "config.json").is_file()]
    files = [text for text in data if text not in runs]
    if len(runs) > 1 or not files:
        rule = "must be files to train on, and at most one folder of a run"
        raise InvalidInput(sentence("DATA", rule, repr(" ".join(data)), "name a file with raw data and labels"))
    base = read_settings(Path(runs[0])) if runs else {}
    settings = TrainConfig(**merged_settings(base, config, options, assignments))
    volumes = [volume for text in files for volume in read_volumes(text, None, None)]
    with progress("benchmark train") as bar:
        report = benchmark_training(settings, volumes, repeat=repeat, progress=bar)
    report["inputs"] = list(data)
    write_report(out, report)
    echo_json(report) if as_json else _echo(report)
    return report


def _echo(report: dict) -> None:
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
