"""segkit benchmark loss: its inputs and its tables."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from segkit.cli.common import echo_table, note, parse_neighborhood, progress

VOXELS_A_NEURITE = 25_000


def run_losses(affinities, labels, options, threads) -> dict:
    """The report of the losses and backends that the options name."""
    from segkit.benchmark import benchmark_losses, contenders
    from segkit.benchmark.loss import SIZES, entries_of

    losses = contenders(options["names"], options["assignments"])
    entries_of(losses, options["backends"])  # refuses them before a volume is made
    sizes = options["sizes"] or SIZES
    limits = {name: options[name] for name in ("backends", "batch", "device", "trace", "repeat", "timeout")}
    limits |= {"sizes": sizes, "threads": threads, "neighborhood": parse_neighborhood(options["neighborhood"])}
    with _inputs(affinities, labels, max(sizes)) as inputs, progress("benchmark loss") as bar:
        report = benchmark_losses(losses, inputs, progress=bar, **limits)
    if not affinities:
        report["inputs"] = {"synthetic": f"neurites of {max(sizes)}^3 voxels"}  # the file is no more
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


def echo_losses(report) -> None:
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


def _cells(row) -> dict:
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


def _verdict(row) -> str:
    """Whether pair counts, or else loss and gradient, are those of the first, and what the largest difference is."""
    ((first, agrees),) = row["agrees_to"].items()
    identical, apart = row["identical_to"][first], max(row["loss_apart_to"][first], row["gradient_apart_to"][first])
    what = {True: "same pair counts", False: "other pair counts", None: "loss and gradient"}[identical]
    return f"{'yes' if agrees else 'no'}: {what}, {apart:.1g} apart"
