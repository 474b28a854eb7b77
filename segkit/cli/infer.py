"""segkit infer: raw -> affinities."""

from pathlib import Path

import click

from segkit.cli.common import Verb, device_option, note, out_option, progress


@click.command("infer", cls=Verb)
@click.argument("raw")
@click.option("--run", "run_folder", required=True, metavar="RUN", help="Folder that `segkit train` wrote.")
@out_option
@click.option("--tile", nargs=3, type=int, metavar="Z Y X", help="Output tile in voxels; a fitting one if not given.")
@click.option("--batch-size", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--precision", type=click.Choice(["32", "bf16"]), default="32", show_default=True)
@device_option
def command(raw, run_folder, out, tile, batch_size, precision, device) -> dict:
    """Predict the affinities of RAW with the network of a training run."""
    from segkit import io
    from segkit.infer import predict
    from segkit.models.checkpoint import load_model
    from segkit.models.device import resolve_device

    io.check_writable(out)
    trained = load_model(_model_file(Path(run_folder)), device=resolve_device(device))
    volume = io.read_volume(raw)
    with progress("infer") as report:
        affinities = predict(
            trained.module,
            volume,
            trained.neighborhood,
            tile_shape=tile or None,
            device=device,
            batch_size=batch_size,
            precision=precision,
            progress=report,
        )
    io.write(out, affinities, "affinities")
    note(f"affinities {affinities.array.shape} -> {out}")
    return {"out": out}


def _model_file(run: Path) -> Path:
    """The network of a run, or a file of weights given by itself."""
    return run if run.is_file() else run / "model.safetensors"
