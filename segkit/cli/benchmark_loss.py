"""segkit benchmark loss: losses and their backends, on cubes of a volume."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import click

from segkit.cli.benchmark_common import Measured, Report, check_outputs, finish
from segkit.cli.common import (
    device_option,
    echo_table,
    examples,
    json_option,
    neighborhood_option,
    note,
    parse_neighborhood,
    progress,
)
from segkit.cli.types import ADDRESS, FILE, ComponentName

VOXELS_A_NEURITE = 25_000
EXAMPLES = examples("segkit benchmark loss --loss constrained-malis --loss mse --size 56")


@click.command("loss", cls=Measured, epilog=EXAMPLES)
@click.argument("affinities", type=ADDRESS, required=False)
@click.argument("labels", type=ADDRESS, required=False)
@click.option(
    "--loss",
    "names",
    multiple=True,
    default=["constrained-malis"],
    show_default=True,
    type=ComponentName("losses"),
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
@click.option(
    "--trace", type=FILE, metavar="FILE.json", help="Write a profiler trace of one call, for chrome://tracing."
)
@neighborhood_option
@json_option
@click.pass_context
def loss(ctx: click.Context, affinities: str | None, labels: str | None, **options: Any) -> Report:
    """Compare losses, or backends of losses, with their gradients: time, memory, and whether they agree.

    They see cubes, --size voxels wide, from the middle of AFFINITIES and LABELS (the ground truth, by default that in
    the file of AFFINITIES), or of a synthetic volume. np.argsort of the edges is timed too, as a measure of the
    machine.
    """
    check_outputs(options["out"], options["trace"])
    return finish(ctx, _run(affinities, labels, options, threads=ctx.obj), options, _show, _name)


def _run(affinities: str | None, labels: str | None, options: Mapping[str, Any], threads: int | None) -> Report:
    """The report of the losses and backends that the options name."""
    from segkit.benchmark import Cubes, Limits, benchmark_losses, contenders
    from segkit.benchmark.loss import SIZES, entries_of

    losses, backends = contenders(options["names"], options["assignments"]), options["backends"]
    entries_of(losses, backends)  # refuses them before a volume is made
    cubes = Cubes(options["sizes"] or SIZES, options["batch"], options["device"], options["trace"])
    limits = Limits(options["repeat"], options["timeout"], threads)
    more = {"backends": backends, "neighborhood": parse_neighborhood(options["neighborhood"])}
    with _inputs(affinities, labels, max(cubes.sizes)) as inputs, progress("benchmark loss") as bar:
        report = benchmark_losses(losses, inputs, cubes=cubes, limits=limits, progress=bar, **more)
    if not affinities:
        report["inputs"] = {"synthetic": f"neurites of {max(cubes.sizes)}^3 voxels"}  # the file is no more
    return report | {"trace": options["trace"]}


@contextmanager
def _inputs(affinities: str | None, labels: str | None, size: int) -> Iterator[dict[str, str]]:
    """Role -> address; without files a synthetic volume of `size` voxels a side, for a while."""
    from segkit import io

    if affinities:
        beside = replace(io.parse_address(affinities), dataset=None)  # with the same crop
        yield {"affinities": affinities, "truth": labels or str(beside)}
        return
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from segkit.infer.oracle import oracle_affinities
    from segkit.testing.phantoms import neurites

    truth = neurites((size,) * 3, count=max(size**3 // VOXELS_A_NEURITE, 4), seed=1).truth
    with TemporaryDirectory(prefix="segkit-benchmark-") as folder:
        file = Path(folder) / "neurites.h5"
        io.write_all(file, {"truth": truth, "affinities": oracle_affinities(truth, noise=0.1, seed=1)})
        yield {"affinities": str(file), "truth": str(file)}


def _show(report: Report) -> None:
    """Tables of the report: what each row cost and whether it agrees, and how fast this machine sorts."""
    rows, machine = report["rows"], report["machine"]
    calls = f"batch of {report['batch']}, {report['repeat']} timed calls"
    echo_table(f"loss and gradient: {calls}, {machine['processor']}, {machine['cores']} cores", [*map(_cells, rows)])
    yardsticks = [
        {"size": row["size"], "edges": row["edges"], "np.argsort seconds": row["argsort_seconds"]}
        for row in report["yardsticks"]
    ]
    echo_table("the machine: np.argsort of the edges' affinities, float32", yardsticks)
    if report["trace"] and "error" not in rows[0]:
        copied = rows[0]["bytes_to_host"]
        what = "on the CPU, nothing to copy" if copied is None else f"{copied} bytes copied from device to host"
        note(f"profiler trace -> {report['trace']}; {what}")


def _name(row: Report) -> str:
    from segkit.benchmark.loss import title

    return f"{title(row['loss'], row['backend'])}, size {row['size']},"


def _cells(row: Report) -> dict[str, object]:
    """A row of the table."""
    named = {"loss": row["loss"], "backend": row["backend"] or "", "size": row["size"]}
    if "error" in row:
        return named | {"problem": "failed"}
    cells = named | {"seconds": row["seconds"], "ratio": row["ratio"], "argsorts": row["argsorts"]}
    cells |= {"cpu": row["cpu_seconds"], "compile": row["compile_seconds"], "peak MB": _megabytes(row["peak_bytes"])}
    if row["device_peak_bytes"] is not None:
        cells |= {"device MB": _megabytes(row["device_peak_bytes"])}
    return cells | {"agrees": _verdict(row)}


def _megabytes(size: int | None) -> object:
    return "?" if size is None else round(size / 1e6)


def _verdict(row: Report) -> str:
    """Whether pair counts, or else loss and gradient, are those of the first, and what the largest difference is."""
    ((first, agrees),) = row["agrees_to"].items()
    identical, apart = row["identical_to"][first], max(row["loss_apart_to"][first], row["gradient_apart_to"][first])
    what = {True: "same pair counts", False: "other pair counts", None: "loss and gradient"}[identical]
    return f"{'yes' if agrees else 'no'}: {what}, {apart:.1g} apart"
