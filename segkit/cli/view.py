"""segkit view: Show volumes, runs and results in the browser, the threshold live."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from segkit.cli.common import Verb, examples, gathered, note
from segkit.cli.types import FILE, Number

EXAMPLES = examples(
    "segkit view demo-output",
    "segkit view sample_C.hdf tree.h5 --threshold 0.4 --at 20,64,64",
    "segkit view sample_C.hdf affinities.h5 --screenshot seen.png",
)


LOOK_EVERY = 5
"""Seconds between looks for what was written anew, with --follow."""


Place = tuple[tuple[float, ...], bool]
"""Three numbers, z, y, x, and whether they are nm."""


class PlaceType(click.ParamType):
    """A voxel z,y,x, or a place in nm."""

    name = "Z,Y,X[nm]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        """The three numbers, and whether they are nm."""
        text = value.removesuffix("nm")
        try:
            place = tuple(float(part) if text != value else int(part) for part in text.split(","))
        except ValueError:
            place = ()
        if len(place) != 3:
            self.fail(f"must look like 20,64,64, or in nm like 820,258,258nm, not {value!r}", param, ctx)
        return place, text != value


@dataclass(frozen=True)
class Page:
    """What --bind, --port and --link say: where the page is, and whether a browser opens it."""

    bind: str
    port: int
    link: bool


@dataclass(frozen=True)
class Picture:
    """What --screenshot and --size say."""

    screenshot: str | None
    size: tuple[int, int]


@click.command("view", cls=Verb, stopped=lambda params: "the page is closed", epilog=EXAMPLES)
@click.argument("data", nargs=-1, required=True, metavar="THING...")
@click.option(
    "--threshold",
    type=Number(0, 1),
    metavar="NUMBER",
    help="Cut the merge tree here at first, 0..1.  [default: where training chose to, or 0.5]",
)
@click.option(
    "--at",
    type=PlaceType(),
    help="Look here first: at a voxel of the first volume, from 0, or a place in nm.  [default: the middle]",
)
@click.option(
    "--largest",
    type=click.IntRange(1),
    metavar="N",
    help="Select the N largest segments: their surfaces stand in 3-D, the others are faint.",
)
@click.option("--follow", is_flag=True, help="Show what is written anew, such as the validations of a training run.")
@click.option("--link", is_flag=True, help="Print the address, and open no browser.")
@click.option("--bind", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="Port.  [default: any that is free]"
)
@click.option(
    "--screenshot", type=FILE, metavar="FILE.png", help="Take a picture without a window (by Chromium), and end."
)
@click.option(
    "--size",
    default=(1400, 1000),
    type=click.IntRange(1),
    nargs=2,
    show_default=True,
    help="Of that picture, in pixels.",
)
@gathered("page", Page)
@gathered("picture", Picture)
def command(
    data: tuple[str, ...],
    threshold: float | None,
    at: Place | None,
    largest: int | None,
    follow: bool,
    page: Page,
    picture: Picture,
) -> dict:
    """Show THINGs in the browser: files, stores, training runs and folders of recipes, each as what it is.

    Volumes are read chunk by chunk, never as a whole. ROLE=ADDRESS says what an object is where its file does not, as
    in raw=stack.h5:images or truth=labels.h5:ids; URLs with a format, such as raw=precomputed://https://..., are
    read by the page itself. All stages of a run or a recipe are layers; labels over raw are shown first.

    With a merge tree the threshold is live: [ and ] move it by 0.01, with shift by 0.1, or the slider of the raw layer.
    The segments change at once; nothing is written. With a truth, its scores stand below (of a large volume those of
    the middle), and the worst splits and merges are marked; without one, the merges on which most hangs. , and . step
    from one to the next. Shift+click on two places says which merge joins them, and shows where.

    Whoever knows the address, with the token in it, sees the data; it is open to this machine alone unless --bind says
    otherwise.
    """
    from segkit.view import Session, things

    place, in_nm = at or (None, False)
    where = {"position": place} if in_nm else {"at": place}
    session = Session(things(data), threshold=threshold, bind=page.bind, port=page.port, **where)
    if largest:
        session.select_largest(largest)
    if picture.screenshot:
        session.wait()
        session.save(Path(picture.screenshot), picture.size)
        note(f"{picture.screenshot}: {picture.size[0]} x {picture.size[1]} pixels")
        return {"out": picture.screenshot}
    click.echo(session.url)
    if not page.link:
        click.launch(session.url)
        note("Ctrl-C closes the page")
    while True:
        time.sleep(LOOK_EVERY)
        if follow:
            session.refresh(things(data))
