"""segkit benchmark: interchangeable components head to head."""

from dataclasses import replace

import click

from segkit.cli import benchmark_infer, benchmark_train
from segkit.cli.benchmark_report import check_outputs, check_page, write_page, write_report
from segkit.cli.common import (
    Verb,
    component_parameters,
    device_option,
    echo_json,
    echo_table,
    examples,
    json_option,
    neighborhood_option,
    note,
    parse_neighborhood,
    progress,
)
from segkit.cli.completion import complete_component


class Measured(Verb):
    """A verb that needs to know `--threads`, which it passes on to other processes, and has the common options."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.params += [
            click.Option(
                ["--set", "assignments"],
                multiple=True,
                metavar="[LABEL.]NAME=VALUE",
                help="Parameter of all components, or of the one called LABEL; repeatable.",
            ),
            click.Option(["--repeat"], type=click.IntRange(min=1), default=3, show_default=True, help="Timed calls."),
            click.Option(
                ["--timeout"],
                type=click.FloatRange(min=0, min_open=True),
                help="Seconds after which a component is stopped.  [default: never]",
            ),
            click.Option(["--out"], metavar="FILE.json", help="Write the report, as --json prints it."),
        ]

    def invoke(self, ctx: click.Context):
        """Run the verb."""
        ctx.obj = ctx.params.get("threads")
        return super().invoke(ctx)


report_option = click.option("--report", "page", metavar="FILE.html", help="Write a page: the table, and plots of it.")
TRY_AGGLOMERATE = examples(
    "segkit benchmark agglomerate affinities.h5 --fragments fragments.h5 \\\n"
    "    --backend python --backend waterz --truth sample_C.hdf"
)
TRY_FRAGMENT = examples("segkit benchmark fragment aff.h5 --method watershed --method threshold")
TRY_EVALUATE = examples("segkit benchmark evaluate segmentation.h5 sample_C.hdf --metric cremi")
TRY_LOSS = examples("segkit benchmark loss --loss constrained-malis --loss mse --size 56")


@click.group("benchmark", epilog=TRY_AGGLOMERATE)
def command() -> None:
    """Time interchangeable components on the same input, each in a process of its own, and compare what they return.

    A component is named as in `segkit plugins list`, or LABEL=NAME to have it twice with other parameters. One that
    fails is a row, with the reason on stderr; the others go on, and the exit code is 1.

    `train` and `infer` are another matter: they show where the time of one of these stages goes, in this process.
    """


command.add_command(benchmark_train.command)
command.add_command(benchmark_infer.command)


@command.command("agglomerate", cls=Measured, epilog=TRY_AGGLOMERATE)
@click.argument("affinities")
@click.option("--fragments", metavar="ADDRESS", help="Fragments.  [default: those in the file of AFFINITIES]")
@click.option(
    "--backend",
    "names",
    multiple=True,
    required=True,
    metavar="[LABEL=]NAME",
    shell_complete=complete_component("agglomerators", separators="="),
    help="Agglomerator; repeatable.",
)
@click.option("--truth", metavar="ADDRESS", help="Ground truth to score the segmentations by.")
@click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    type=float,
    metavar="NUMBER",
    help="Threshold of a segmentation, 0..1; repeatable.  [default: 0.1, 0.2, ... 0.9]",
)
@click.option("--score", metavar="NAME", help="The same as --set score=NAME: mean, max, min, median, quantile.")
@click.option("--plot", metavar="FILE.png", help="Draw VOI split against VOI merge; needs --truth.")
@report_option
@neighborhood_option
@json_option
@click.pass_context
def agglomerate(ctx, affinities, fragments, names, truth, thresholds, score, plot, neighborhood, **options) -> dict:
    """Compare agglomerators: time, memory, partitions at each threshold, and scores.

    The time is that of the merge tree and of one segmentation at each threshold.
    """
    from segkit import io
    from segkit.benchmark import contest

    if plot and truth is None:
        raise click.UsageError("--plot needs --truth, for without it there is no VOI")
    if plot and not plot.lower().endswith(".png"):
        raise click.UsageError(f"--plot writes a PNG: its file must end in .png, not {plot!r}")
    fragments = fragments or str(replace(io.parse_address(affinities), dataset=None))  # with the same crop
    inputs = {"affinities": affinities, "fragments": fragments} | ({"truth": truth} if truth else {})
    more = {"thresholds": sorted(thresholds) or contest.THRESHOLDS, "neighborhood": parse_neighborhood(neighborhood)}
    shared = {name: repr(value) for name, value in component_parameters((), score=score).items()}
    report = _run(ctx, "agglomerate", names, inputs, options, [plot], shared, **more)
    if plot:
        _plot(plot, report)
    return _finish(ctx, report, options)


@command.command("fragment", cls=Measured, epilog=TRY_FRAGMENT)
@click.argument("affinities")
@click.option(
    "--method",
    "names",
    multiple=True,
    required=True,
    metavar="[LABEL=]NAME",
    shell_complete=complete_component("fragmenters", separators="="),
    help="Fragmenter; repeatable.",
)
@click.option("--truth", metavar="ADDRESS", help="Ground truth to score the fragments by.")
@report_option
@neighborhood_option
@json_option
@click.pass_context
def fragment(ctx, affinities, names, truth, neighborhood, **options) -> dict:
    """Compare fragmenters: time, memory, fragments, and scores."""
    inputs = {"affinities": affinities} | ({"truth": truth} if truth else {})
    more = {"neighborhood": parse_neighborhood(neighborhood)}
    return _finish(ctx, _run(ctx, "fragment", names, inputs, options, [], {}, **more), options)


@command.command("evaluate", cls=Measured, epilog=TRY_EVALUATE)
@click.argument("segmentation")
@click.argument("truth")
@click.option(
    "--metric",
    "names",
    multiple=True,
    required=True,
    metavar="[LABEL=]NAME",
    shell_complete=complete_component("metrics", separators="="),
    help="Metric; repeatable.",
)
@report_option
@json_option
@click.pass_context
def evaluate(ctx, segmentation, truth, names, **options) -> dict:
    """Compare metrics: time, memory, and whether they agree."""
    inputs = {"segmentation": segmentation, "truth": truth}
    return _finish(ctx, _run(ctx, "evaluate", names, inputs, options, [], {}), options)


@command.command("loss", cls=Measured, epilog=TRY_LOSS)
@click.argument("affinities", required=False)
@click.argument("labels", required=False)
@click.option(
    "--loss",
    "names",
    multiple=True,
    default=["constrained-malis"],
    show_default=True,
    metavar="NAME",
    help="Loss; repeatable.",
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="NAME",
    help="Code of the losses that let one choose: cpu, gpu, higra; repeatable.  [default: that of the device]",
)
@click.option(
    "--size",
    "sizes",
    multiple=True,
    type=click.IntRange(min=1),
    help="Edge of a cube in voxels; repeatable.  [default: 56, 84, 128]",
)
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Copies of the cube at a time.")
@device_option
@click.option("--trace", metavar="FILE.json", help="Write a profiler trace of one call, for chrome://tracing.")
@neighborhood_option
@json_option
@click.pass_context
def loss(ctx, affinities, labels, **options) -> dict:
    """Compare losses, or backends of losses, with their gradients: time, memory, and whether they agree.

    They see cubes, --size voxels wide, from the middle of AFFINITIES and LABELS (the ground truth, by default that in
    the file of AFFINITIES), or of a synthetic volume. np.argsort of the edges is timed too, as a measure of the
    machine.
    """
    from segkit.cli.benchmark_loss import echo_losses, run_losses

    check_outputs(options["out"], options["trace"])
    report = run_losses(affinities, labels, options, threads=ctx.obj)
    return _finish(ctx, report, options, echo_losses)


def _run(ctx, verb, names, inputs, options, outputs, shared, **more) -> dict:
    """The report, after a look at whether what shall be written can be."""
    from segkit.benchmark import benchmark, contenders

    check_outputs(*outputs, options["out"])
    check_page(options["page"])
    assignments = [f"{name}={value}" for name, value in shared.items()] + list(options["assignments"])
    limits = {"repeat": options["repeat"], "timeout": options["timeout"], "threads": ctx.obj}
    with progress(f"benchmark {verb}") as bar:
        return benchmark(verb, contenders(names, assignments), inputs, progress=bar, **limits, **more)


def _plot(path, report) -> None:
    from segkit.benchmark.plot import save_plot

    curves = {row["backend"]: row["thresholds"] for row in report["rows"] if "thresholds" in row}
    if curves:
        save_plot(path, curves, f"{report['inputs']['affinities']}, {' x '.join(map(str, report['shape']))}")
        note(f"VOI split against VOI merge -> {path}")


def _finish(ctx, report, options, echo=None) -> dict:
    """Print and write the report; exit code 1 if a component failed."""
    write_report(options["out"], report)
    write_page(options.get("page"), report)
    failed = [row for row in report["rows"] if "error" in row]
    if options["as_json"]:
        echo_json(report)
    else:
        (echo or _echo)(report)
    for row in failed:
        note(f"{_name(row)} failed: {row['error']}")
    if failed:
        ctx.exit(1)
    return report


def _name(row) -> str:
    from segkit.benchmark.loss import title

    return f"{title(row['loss'], row['backend'])}, size {row['size']}," if "loss" in row else row["backend"]


def _echo(report) -> None:
    """Tables of the report: what it cost, and where the time went."""
    rows = report["rows"]
    done = [row for row in rows if "error" not in row]
    shape = " x ".join(map(str, report["shape"]))
    title = f"{report['verb']}: {shape} voxels, {report['repeat']} timed calls, {report['machine']['processor']}"
    echo_table(title, [_cells(row, done[0]) if "error" not in row else _failure(row) for row in rows])
    if any(set(row["phases"]) - {"other"} for row in done):
        echo_table("seconds by phase", [{"backend": row["backend"]} | row["phases"] for row in done])


def _failure(row) -> dict:
    return {"backend": row["backend"], "problem": "failed"}


def _cells(row, first) -> dict:
    """A row of the table; ratios are to the first row that did not fail."""
    cells = {
        "backend": row["backend"],
        "seconds": row["seconds"],
        "ratio": row["seconds"] / first["seconds"],
        "cpu": row["cpu_seconds"],
        "compile": row["compile_seconds"],
        "peak MB": "?" if row["peak_bytes"] is None else round(row["peak_bytes"] / 1e6),
    }
    cells |= {name: row[name] for name in ("merges", "fragments") if name in row}
    if row is not first:
        cells["identical"] = _verdict(row)
    best = row.get("best", {})
    if best:
        # A rounded threshold could give another segmentation.
        cells |= {"best cremi_score": best["cremi_score"], "at": repr(best["threshold"])}
    scores = ("voi_split", "voi_merge", "adapted_rand_error", "cremi_score")
    return cells | {name: row[name] for name in scores if name in row}


def _verdict(row) -> str:
    """Whether the results are those of the first, and else how far off at most."""
    (same,) = row["identical_to"].values()
    if same is None:
        return "nothing in common"
    if same:
        return "yes"
    return f"no, VOI {max(row['voi_to'].values()):.2g}" if "voi_to" in row else "no"
