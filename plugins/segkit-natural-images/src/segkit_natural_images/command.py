"""The command segkit-natural-images: pictures with annotations -> a volume that every verb of segkit takes."""

import click
from segkit.cli.common import Verb, examples, note

EXAMPLES = examples("segkit-natural-images 'BSDS500/data/images/train[0:180]' train.h5")


@click.command("segkit-natural-images", cls=Verb, epilog=EXAMPLES)
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@click.option("--overwrite", is_flag=True, help="Replace the volume in OUT, if there is one.")
def command(source: str, target: str, overwrite: bool) -> dict[str, object]:
    """Convert pictures and their annotations in the layout of BSDS500 to a volume.

    IN is a folder images/SPLIT with groundTruth/SPLIT beside images, or an HDF5 file with a group a picture; with
    [0:18] behind it, the first 18 pictures by name. OUT gets three sections a picture, its colours, and the labels of
    each annotator. `segkit run bsds-unet2d --set data.train=OUT --set data.test=OTHER` segments such volumes.
    """
    from segkit_natural_images.convert import convert_pictures

    result = convert_pictures(source, target, overwrite=overwrite)
    note(f"{result['shape'][0] // 3} pictures with labels of up to {result['truths']} annotators -> {target}")
    return result
