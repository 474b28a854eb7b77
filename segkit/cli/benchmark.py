"""segkit benchmark: Time interchangeable components head to head, and compare their results."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from segkit.cli.benchmark_common import Measured, Report, check_outputs, finish
from segkit.cli.benchmark_loss import loss
from segkit.cli.benchmark_stages import infer, train
from segkit.cli.common import (
    component_parameters,
    echo_table,
    examples,
    json_option,
    neighborhood_option,
    note,
    parse_neighborhood,
    progress,
)
from segkit.cli.types import ADDRESS, FILE, ComponentName

report_option = click.option(
    "--report", "page", type=FILE, metavar="FILE.html", help="Write a page: the table, and plots of it."
)
TRY_AGGLOMERATE = examples(
    "segkit benchmark agglomerate affinities.h5 --fragments fragments.h5 \\\n"
    "    --backend python --backend waterz --truth sample_C.hdf"
)
TRY_FRAGMENT = examples("segkit benchmark fragment aff.h5 --method watershed --method threshold")
TRY_EVALUATE = examples("segkit benchmark evaluate segmentation.h5 sample_C.hdf --metric cremi")


@click.group("benchmark", epilog=TRY_AGGLOMERATE)
def command() -> None:
    """Time interchangeable components on the same input, each in a process of its own, and compare what they return.

    A component is named as in `segkit plugins list`, or LABEL=NAME to have it twice with other parameters. One that
    fails is a row, with the reason on stderr; the others go on, and the exit code is 1.

    `train` and `infer` are another matter: they show where the time of one of these stages goes, in this process.
    """


command.add_command(train)
command.add_command(infer)


@command.command("agglomerate", cls=Measured, epilog=TRY_AGGLOMERATE)
@click.argument("affinities", type=ADDRESS)
@click.option("--fragments", type=ADDRESS, help="Fragments.  [default: those in the file of AFFINITIES]")
@click.option(
    "--backend",
    "names",
    multiple=True,
    required=True,
    metavar="[LABEL=]NAME",
    type=ComponentName("agglomerators"),
    help="Agglomerator; repeatable.",
)
@click.option("--truth", type=ADDRESS, help="Ground truth to score the segmentations by.")
@click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    type=float,
    metavar="NUMBER",
    help="Threshold of a segmentation, 0..1; repeatable.  [default: 0.1, 0.2, ... 0.9]",
)
@click.option("--score", metavar="NAME", help="The same as --set score=NAME: mean, max, min, median, quantile.")
@click.option("--plot", type=FILE, metavar="FILE.png", help="Draw VOI split against VOI merge; needs --truth.")
@report_option
@neighborhood_option
@json_option
@click.pass_context
def agglomerate(ctx: click.Context, affinities: str, names: tuple[str, ...], **options: Any) -> Report:
    """Compare agglomerators: time, memory, partitions at each threshold, and scores.

    The time is that of the merge tree and of one segmentation at each threshold.
    """
    from segkit import io
    from segkit.benchmark.components import THRESHOLDS

    truth, plot = options["truth"], options["plot"]
    if plot and truth is None:
        raise click.UsageError("--plot needs --truth, for without it there is no VOI")
    if plot and not plot.lower().endswith(".png"):
        raise click.UsageError(f"--plot writes a PNG: its file must end in .png, not {plot!r}")
    beside = str(replace(io.parse_address(affinities), dataset=None))  # with the same crop
    inputs = {"affinities": affinities, "fragments": options["fragments"] or beside}
    inputs |= {"truth": truth} if truth else {}
    more: dict[str, Any] = {"thresholds": sorted(options["thresholds"]) or THRESHOLDS}
    more |= {"neighborhood": parse_neighborhood(options["neighborhood"])}
    shared = {name: repr(value) for name, value in component_parameters((), score=options["score"]).items()}
    options["assignments"] = (*(f"{name}={value}" for name, value in shared.items()), *options["assignments"])
    report = _run(ctx, "agglomerate", names, inputs, options, **more)
    if plot:
        _plot(plot, report)
    return finish(ctx, report, options, _show, _name)


@command.command("fragment", cls=Measured, epilog=TRY_FRAGMENT)
@click.argument("affinities", type=ADDRESS)
@click.option(
    "--method",
    "names",
    multiple=True,
    required=True,
    metavar="[LABEL=]NAME",
    type=ComponentName("fragmenters"),
    help="Fragmenter; repeatable.",
)
@click.option("--truth", type=ADDRESS, help="Ground truth to score the fragments by.")
@report_option
@neighborhood_option
@json_option
@click.pass_context
def fragment(
    ctx: click.Context,
    affinities: str,
    names: tuple[str, ...],
    truth: str | None,
    neighborhood: str | None,
    **options: Any,
) -> Report:
    """Compare fragmenters: time, memory, fragments, and scores."""
    inputs = {"affinities": affinities} | ({"truth": truth} if truth else {})
    more = {"neighborhood": parse_neighborhood(neighborhood)}
    return finish(ctx, _run(ctx, "fragment", names, inputs, options, **more), options, _show, _name)


@command.command("evaluate", cls=Measured, epilog=TRY_EVALUATE)
@click.argument("segmentation", type=ADDRESS)
@click.argument("truth", type=ADDRESS)
@click.option(
    "--metric",
    "names",
    multiple=True,
    required=True,
    metavar="[LABEL=]NAME",
    type=ComponentName("metrics"),
    help="Metric; repeatable.",
)
@report_option
@json_option
@click.pass_context
def evaluate(ctx: click.Context, segmentation: str, truth: str, names: tuple[str, ...], **options: Any) -> Report:
    """Compare metrics: time, memory, and whether they agree."""
    inputs = {"segmentation": segmentation, "truth": truth}
    return finish(ctx, _run(ctx, "evaluate", names, inputs, options), options, _show, _name)


command.add_command(loss)


def _run(
    ctx: click.Context,
    verb: str,
    names: tuple[str, ...],
    inputs: dict[str, str],
    options: Mapping[str, Any],
    **more: Any,
) -> Report:
    """The report, after a look at whether what shall be written can be."""
    from segkit.benchmark import Limits, benchmark, contenders

    check_outputs(options.get("plot"), options["out"])
    if options["page"]:
        from segkit.report.page import check

        check(Path(options["page"]))
    limits = Limits(options["repeat"], options["timeout"], ctx.obj)
    with progress(f"benchmark {verb}") as bar:
        return benchmark(verb, contenders(names, options["assignments"]), inputs, limits=limits, progress=bar, **more)


def _plot(path: str, report: Report) -> None:
    from segkit.benchmark.plot import save_plot

    curves = {row["backend"]: row["thresholds"] for row in report["rows"] if "thresholds" in row}
    if curves:
        save_plot(path, curves, f"{report['inputs']['affinities']}, {' x '.join(map(str, report['shape']))}")
        note(f"VOI split against VOI merge -> {path}")


def _name(row: Report) -> str:
    return row["backend"]


def _show(report: Report) -> None:
    """Tables of the report: what it cost, and where the time went."""
    rows = report["rows"]
    done = [row for row in rows if "error" not in row]
    shape = " x ".join(map(str, report["shape"]))
    title = f"{report['verb']}: {shape} voxels, {report['repeat']} timed calls, {report['machine']['processor']}"
    echo_table(title, [_cells(row, done[0]) if "error" not in row else _failure(row) for row in rows])
    if any(set(row["phases"]) - {"other"} for row in done):
        echo_table("seconds by phase", [{"backend": row["backend"]} | row["phases"] for row in done])


def _failure(row: Report) -> dict[str, object]:
    return {"backend": row["backend"], "problem": "failed"}


def _cells(row: Report, first: Report) -> dict[str, object]:
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


def _verdict(row: Report) -> str:
    """Whether the results are those of the first, and else how far off at most."""
    (same,) = row["identical_to"].values()
    if same is None:
        return "nothing in common"
    if same:
        return "yes"
    return f"no, VOI {max(row['voi_to'].values()):.2g}" if "voi_to" in row else "no"
