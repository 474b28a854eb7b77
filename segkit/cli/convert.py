"""segkit convert: Read and write the files and conventions of other tools."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import click

from segkit.cli.common import Verb, examples, gathered, note, parse_neighborhood, progress
from segkit.cli.types import ADDRESS, TARGET

CHOICES = {
    "edges-at": (("start", "end"), "array[v] is the edge v -> v + offset (start), or v - offset -> v (end)."),
    "polarity": (("same", "split"), "1 means one object (same), or a boundary (split)."),
    "scale": (
        ("plain", "binary", "signed", "logits"),
        "plain: 0..1 (integers: 0..255, 0..65535); binary: 0 and 1; signed: -1..1.",
    ),
}
"""Option -> its values and its help, for both sides."""
PRESETS = ("segkit", "gunpowder", "waterz", "pytorch-connectomics", "torch-em", "watershed-jl")
"""The names in segkit.convert.PRESETS, so that --help need not import it."""


def convention_options(function: Callable) -> Callable:
    """--from, --to, and --from-NAME, --to-NAME for all that a convention says."""
    for side, whose in (("to", "OUT"), ("from", "IN")):
        for name, (values, text) in reversed(CHOICES.items()):
            option = click.option(f"--{side}-{name}", type=click.Choice(values), help=f"Affinities of {whose}: {text}")
            function = option(function)
        text = f"Affinities of {whose}: edge offset of each channel in voxels, [[-1,0,0],...], always z, y, x."
        function = click.option(f"--{side}-neighborhood", metavar="LIST", help=text)(function)
        text = f"Affinities of {whose}: the tool whose convention they have: {', '.join(PRESETS)}."
        function = click.option(f"--{side}", f"{side}_name", metavar="NAME", help=text)(function)
    return function


KINDS = ("raw", "truth", "fragments", "segmentation", "labels", "affinities", "mask")
"""The names in segkit.convert.KINDS."""


EXAMPLES = examples(
    "segkit convert segmentation.h5:volumes/segmentation segmentation.tif",
    "segkit convert sections/ raw.zarr --kind raw --voxel-size 40 4 4",
    "segkit convert ids.h5:main t.h5 --kind truth --axes xyz --voxel-size 40 4 4",
)


@dataclass(frozen=True)
class Stated:
    """What --axes, --voxel-size and --offset say of IN."""

    axes: str | None
    voxel_size: tuple[float, float, float] | None
    offset: tuple[float, float, float] | None


@dataclass(frozen=True)
class Wanted:
    """What --to-axes, --dtype, --pyramid, --sharding and --overwrite say of OUT."""

    to_axes: str | None
    dtype: str | None
    pyramid: bool | None
    sharding: bool
    overwrite: bool


@click.command("convert", cls=Verb, epilog=EXAMPLES)
@click.argument("source", type=ADDRESS, metavar="IN")
@click.argument("target", type=TARGET, metavar="OUT")
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    help="What IN is. labels: truth, fragments or segmentation, as its dataset is called, else truth.  [default: what "
    "IN says it is]",
)
@click.option("--axes", metavar="AXES", help="Axes of IN in order, xyz or zyxc (c: channels) say, if it states none.")
@click.option("--voxel-size", nargs=3, type=float, metavar="Z Y X", help="Voxel size in nm, if IN states none.")
@click.option("--offset", nargs=3, type=float, metavar="Z Y X", help="Corner of the first voxel, in nm.")
@convention_options
@click.option("--to-axes", metavar="AXES", help="Axes of OUT in order, HDF5 only.  [default: zyx, or czyx]")
@click.option("--dtype", metavar="NAME", help="Type of the values of OUT: uint8, uint32, float16, ...")
@click.option(
    "--pyramid/--no-pyramid",
    default=None,
    help="Write smaller scales too, for viewers: .zarr and .precomputed only.  [default: --pyramid where OUT has them]",
)
@click.option("--sharding", is_flag=True, help="Write many chunks to one file: .zarr and .precomputed only.")
@click.option("--overwrite", is_flag=True, help="Replace OUT, or its dataset, if it exists.")
@click.option("--no-checks", is_flag=True, help="Accept values that contradict the convention of the affinities.")
@gathered("stated", Stated)
@gathered("wanted", Wanted)
def command(
    source: str, target: str, kind: str | None, stated: Stated, wanted: Wanted, no_checks: bool, **sides: Any
) -> dict:
    """Convert IN to OUT, between segkit's files and those of other tools, block by block.

    Formats go by the suffix: .h5 .hdf .hdf5, .zarr, .tif .tiff .ome.tif and .precomputed (neuroglancer). Read besides:
    folders of TIFF, PNG or JPEG sections, N5, webKnossos, zipped Zarr, .npy .npz, .mrc, .nii .nii.gz and .nrrd .nhdr.
    What IN does not state, its kind, axes or voxel size, must be given here: nothing is guessed.

    OME-Zarr and precomputed volumes get smaller scales, from which viewers show a large volume at once: of raw data the
    mean, of labels the id that fills most of a voxel. The other verbs read the first scale.

    Without a dataset, OUT is written where the other verbs look for that kind: raw images at volumes/raw, truth at
    volumes/labels/neuron_ids, fragments, segmentation and affinities at volumes/fragments, ... Name another one as
    OUT:DATASET.
    """
    from segkit.convert import convert

    _check_dtype(wanted.dtype)
    options = asdict(stated) | asdict(wanted) | {"before": _side(sides, "from"), "after": _side(sides, "to")}
    with progress("convert") as bar:
        result = convert(source, target, kind, **options, checks=not no_checks, progress=bar)
    note(f"{result['kind']} {' x '.join(map(str, result['shape']))} {result['dtype']} -> {result['out']}")
    return result


def _side(sides: dict, side: str) -> dict:
    """What was said of one side's convention."""
    given = {name.removeprefix(f"{side}_"): value for name, value in sides.items() if name.startswith(f"{side}_")}
    if given["neighborhood"] is not None:
        given["neighborhood"] = parse_neighborhood(given["neighborhood"])
    return {name: value for name, value in given.items() if value is not None}


def _check_dtype(name: str | None) -> None:
    """Refuse a name that is of no dtype."""
    import numpy as np

    from segkit.errors import InvalidInput, sentence

    try:
        known = name is None or np.dtype(name).kind in "buif"
    except TypeError:
        known = False
    if not known:
        raise InvalidInput(sentence("--dtype", "must be the name of a dtype", repr(name), "uint8 or float32, say"))
