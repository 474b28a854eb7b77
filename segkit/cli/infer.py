"""segkit infer: raw -> affinities."""

from contextlib import closing
from pathlib import Path

import click

from segkit.cli.by_blocks import Blocks, blockwise_options, refuse_with_blocks
from segkit.cli.chosen import chosen_by, unlike
from segkit.cli.common import (
    Verb,
    chosen_precision,
    device_option,
    examples,
    network_options,
    note,
    out_option,
    progress,
)
from segkit.cli.runs import model_file
from segkit.cli.voxels import VoxelSizeType, check_stated

EXAMPLES = examples(
    "segkit infer sample_C.hdf --run run --out affinities.h5",
    "segkit infer 'sample_C.hdf[0:50]' --run run --augment flips --out part.zarr",
)


@click.command("infer", cls=Verb, epilog=EXAMPLES)
@click.argument("raw")
@click.option(
    "--run", "run_folder", required=True, metavar="RUN", help="Folder of a training run, or a .safetensors of one."
)
@click.option(
    "--checkpoint",
    type=click.Choice(["best", "last"]),
    help="The network that segmented the validation volumes best, or the last one.  [default: best, if there is one]",
)
@out_option
@network_options
@click.option(
    "--voxel-size",
    type=VoxelSizeType(),
    help="Resample RAW to voxels of this size in nm, and the affinities back.  [default: that of a run trained so]",
)
@click.option("--keep-grid", is_flag=True, help="Write the affinities on the resampled voxels.")
@device_option
@blockwise_options(halo=True)
def command(
    raw,
    run_folder,
    checkpoint,
    out,
    tile,
    batch_size,
    precision,
    augment,
    compiled,
    device,
    voxel_size,
    keep_grid,
    blocks,
) -> dict:
    """Predict the affinities of RAW with the network of a training run.

    RAW is a volume of images (volumes/raw where no dataset is named). FILE receives volumes/affinities, float32 of
    shape (C, Z, Y, X): for each of C edge offsets, 1 where both voxels of the edge belong to one object, 0 where not.
    A network that was trained on resampled voxels sees RAW resampled alike.
    """
    from segkit import io
    from segkit.infer import predict_parts
    from segkit.models.checkpoint import load_model
    from segkit.models.device import resolve_device

    io.check_writable(out)
    refuse_with_blocks(blocks, voxel_size=voxel_size, keep_grid=keep_grid)
    file = model_file(Path(run_folder), checkpoint)
    trained = load_model(file, device="cpu" if blocks.wanted else resolve_device(device))
    options = {"tile_shape": tile or None, "device": device, "batch_size": batch_size, "augment": augment}
    options |= {"precision": chosen_precision(precision, device), "compiled": compiled}
    voxel_size = voxel_size or (trained.extra.get("voxel_size") if trained.extra.get("resampled") else None)
    if voxel_size:
        check_stated(raw, "raw", "resampling")
    if blocks.wanted:
        return _by_blocks(raw, run_folder, file, out, blocks, options, trained)
    with io.open_volume(raw) as volume, progress("infer") as report:
        source, result = _on_voxels(volume, trained.neighborhood, voxel_size, keep_grid)
        other = unlike(trained.extra, augment, source.grid.voxel_size, result.grid.voxel_size)
        notes = chosen_by(run_folder, trained.extra, other)
        with closing(predict_parts(trained.module, source, trained.neighborhood, **options, progress=report)) as parts:
            place = (result.shape, result.neighborhood, result.grid)
            io.write_affinities(out, result.restored(parts), *place, notes=notes)
    return _told((len(result.neighborhood), *result.shape), trained, out)


def _by_blocks(raw, run_folder, file: Path, out, blocks: Blocks, options: dict, trained) -> dict:
    from segkit import io
    from segkit.infer.stage import infer_files

    with io.open_volume(raw) as volume:
        shape, size = volume.shape, volume.grid.voxel_size
    notes = chosen_by(run_folder, trained.extra, unlike(trained.extra, options["augment"], size, size))
    with blocks.session() as session:
        options |= {"block": blocks.block, "halo": blocks.halo, "notes": notes}
        options |= {"executor": session.executor, "report": session.report}
        session.ended(infer_files(raw, file, out, **options))
    return _told((len(trained.neighborhood), *shape), trained, out) | {"stages": session.rows()}


def _told(shape, trained, out) -> dict:
    made_by = f" by the network of step {trained.extra['steps']}" if "steps" in trained.extra else ""
    note(f"affinities {shape}{made_by} -> {out}")
    return {"out": out}


def _on_voxels(volume, neighborhood, voxel_size: list[float] | None, keep_grid: bool):
    """What the network sees of a volume, and where its affinities go."""
    from segkit.data.resample import ResampledSource
    from segkit.infer import Restoring

    source = ResampledSource(volume, voxel_size) if voxel_size else volume
    return source, Restoring(source, source if keep_grid else volume, neighborhood)
