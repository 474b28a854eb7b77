"""segkit infer: Predict affinities of a volume of any size."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segkit.cli.by_blocks import Blocks, blocks_of, blockwise_options, costs, costs_of, refuse_with_blocks
from segkit.cli.chosen import chosen_by, unlike
from segkit.cli.common import (
    Made,
    NetworkUse,
    Verb,
    checked_range,
    device_option,
    examples,
    gathered,
    intensity_option,
    network_options,
    note,
    out_option,
    taken,
)
from segkit.cli.runs import model_file
from segkit.cli.types import MASK, RAW, RUN_FOLDER
from segkit.cli.voxels import VoxelSizeType, check_stated

if TYPE_CHECKING:
    from segkit.infer.stage import Voxels, Wanted

EXAMPLES = examples(
    "segkit infer sample_C.hdf --run run --out affinities.h5",
    "segkit infer 'sample_C.hdf[0:50]' --run run --augment flips --out part.zarr",
)


NAMES = {"32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""What precisions stand for."""


@dataclass(frozen=True)
class Seen:
    """What --voxel-size, --intensity-range and --keep-grid say."""

    voxel_size: list[float] | None
    intensity_range: tuple[float, float] | None
    keep_grid: bool


@dataclass(frozen=True)
class Kept:
    """What --mask, --roi, --skip-empty and --dtype say."""

    mask: str | None
    roi: str | None
    skip_empty: bool
    dtype: str

    def wanted(self) -> "Wanted":
        """Return what `infer_files` is told. Refuses what is no region."""
        from segkit.infer.stage import Wanted
        from segkit.io.address import parse_box

        roi = None if self.roi is None else parse_box(self.roi, "--roi")
        return Wanted(roi, self.mask, self.dtype)


def check(params: Mapping[str, Any], there: Callable[[str], bool]) -> None:
    """Refuse what is wrong with a call before the first stage of a recipe begins."""
    from segkit.infer.network import check_precision
    from segkit.models.checkpoint import load_model
    from segkit.models.device import resolve_device, resolve_precision

    refuse_with_blocks(blocks_of(params), voxel_size=params["voxel_size"], keep_grid=params["keep_grid"])
    checked_range(params["intensity_range"])
    taken(Kept, params).wanted()
    device = resolve_device(params["device"])
    check_precision(resolve_precision(params["precision"], device), device)
    if there(params["run_folder"]):
        load_model(model_file(Path(params["run_folder"]), params["checkpoint"]))


def _makes(params: Mapping[str, Any]) -> Made:
    return Made({"out": params["out"]} | costs_of(params), ("affinities",))


@click.command("infer", cls=Verb, stage=True, network=True, check=check, makes=_makes, epilog=EXAMPLES)
@click.argument("raw", type=RAW)
@click.option(
    "--run",
    "run_folder",
    required=True,
    type=RUN_FOLDER,
    help="Folder of a training run, or a .safetensors of one.",
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
@intensity_option
@click.option("--mask", type=MASK, help="Volume that is 0 where nothing is to be computed; affinities are 0 there.")
@click.option(
    "--roi",
    metavar="Z0:Z1,Y0:Y1,X0:X1",
    help="Write this box of RAW only, in voxels; unlike a crop of RAW, the network sees what lies around it.",
)
@click.option(
    "--skip-empty", is_flag=True, help="Leave tiles out under which RAW is 0 everywhere; affinities are 0 there."
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "uint8"]),
    default="float32",
    show_default=True,
    help="Numbers that affinities are kept as; uint8 takes a quarter of the disk, 255 is 1.",
)
@click.option("--keep-grid", is_flag=True, help="Write the affinities on the resampled voxels.")
@device_option
@blockwise_options(halo=True)
@gathered("use", NetworkUse)
@gathered("seen", Seen)
@gathered("kept", Kept)
def command(
    raw: str, run_folder: str, checkpoint: str | None, out: str, use: NetworkUse, seen: Seen, kept: Kept, blocks: Blocks
) -> dict:
    """Predict the affinities of RAW with the network of a training run.

    RAW is a volume of images (volumes/raw where no dataset is named). FILE receives volumes/affinities of
    shape (C, Z, Y, X): for each of C edge offsets, 1 where both voxels of the edge belong to one object, 0 where not.
    A network that was trained on resampled voxels sees RAW resampled alike.
    """
    from segkit import io
    from segkit.infer.settings import Settings
    from segkit.infer.stage import Voxels, infer_files
    from segkit.models.checkpoint import load_model
    from segkit.models.device import resolve_device

    values, wanted = checked_range(seen.intensity_range), kept.wanted()
    io.check_writable(out)
    refuse_with_blocks(blocks, voxel_size=seen.voxel_size, keep_grid=seen.keep_grid)
    file = model_file(Path(run_folder), checkpoint)
    trained = load_model(file, device="cpu" if blocks.wanted else resolve_device(use.device))
    use = replace(use, precision=begun_in(out, use.precision)) if blocks.wanted else use
    settings = Settings(**use.keywords(), intensity_range=values, skip_empty=kept.skip_empty)
    voxel_size: Any = seen.voxel_size or (trained.extra.get("voxel_size") if trained.extra.get("resampled") else None)
    if voxel_size:
        check_stated(raw, "raw", "resampling")
    voxels = Voxels(voxel_size and tuple(voxel_size), seen.keep_grid)
    notes = chosen_by(run_folder, trained.extra, unlike(trained.extra, use.augment, *lengths(raw, voxels)))
    notes |= {"precision": settings.precision}
    with blocks.work("infer") as work:
        shape = infer_files(raw, trained, out, settings, voxels=voxels, wanted=wanted, notes=notes, work=work)
    made_by = f" by the network of step {trained.extra['steps']}" if "steps" in trained.extra else ""
    note(f"affinities {shape}{made_by}, computed in {NAMES[settings.precision]} -> {out}")
    return {"out": out} | costs(work)


def begun_in(out: str, precision: str) -> str:
    """The precision of what was begun at `out` by blocks, where "auto" leaves it open: all machines go on in it."""
    from segkit.io.shard_target import notes_of_begun

    begun = notes_of_begun(out, "affinities").get("precision") if precision == "auto" else None
    return str(begun) if begun in NAMES else precision


def lengths(raw: str, voxels: "Voxels") -> tuple:
    """The size of the voxels that the network sees, and of those of the affinities."""
    from segkit import io
    from segkit.data.resample import resampled_grid

    with io.open_volume(raw) as volume:
        size = volume.grid.voxel_size
        seen = resampled_grid(volume.grid, volume.shape, voxels.size)[0].voxel_size if voxels.size else size
    return seen, seen if voxels.keep_grid else size
