"""segkit demo: A small volume, everything from raw to scores, in minutes, on a CPU."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from segkit.cli.common import AGAIN, Verb, echo_json, echo_table, examples, json_option, note
from segkit.cli.types import FILE

if TYPE_CHECKING:
    from segkit.cli.steps import Step

ROWS = {
    "evaluate-untrained": "untrained network, python",
    "evaluate-fragments": "fragments",
    "evaluate-python": "agglomerated, python",
    "evaluate-waterz": "agglomerated, waterz",
}
VOLUMES = (("train", (64, 160, 160), 0), ("test", (40, 128, 128), 1))
"""Name, shape and number of the synthetic volumes."""


EXAMPLES = examples("segkit demo", "segkit demo --steps 50 --out quick-demo")


@click.command("demo", cls=Verb, stopped=lambda params: AGAIN, epilog=EXAMPLES)
@click.option(
    "--out", default="demo-output", show_default=True, type=FILE, metavar="FOLDER", help="Folder of all files."
)
@click.option("--steps", type=click.IntRange(min=1), help="Training steps.  [default: 350]")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the volumes and the weights."
)
@json_option
def command(out: str, steps: int | None, seed: int, as_json: bool) -> dict:
    """Grow two synthetic volumes of neurites, train on the one, segment and score the other.

    Training, inference, fragments, agglomeration by `python` and by `waterz` (where segkit-waterz is installed),
    scores, a picture, and a page (report.html). Every command is printed as one could type it. An untrained network
    comes first (one step that changes nothing), for its score is the one to beat.
    """
    from segkit.cli.report import write_after
    from segkit.cli.run import check, execute, steps_of
    from segkit.run import load_recipe

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    volumes = _grow(folder, seed)
    changes = {"data": volumes, "train": {"seed": seed} | ({"steps": steps} if steps else {})}
    recipe = load_recipe("demo", folder, changes)
    stages = [step for step in steps_of(recipe) if _available(step)]
    check(stages)
    results = execute(stages, folder)
    scores = {title: results[stage] for stage, title in ROWS.items() if stage in results}
    picture = folder / "demo.png"
    _draw(folder, volumes["test"], picture)
    if as_json:
        echo_json(scores | {"picture": str(picture)})
    else:
        echo_table("Scores on a volume that training never saw", [{"what": name} | row for name, row in scores.items()])
        note(f"raw, affinities, fragments, segmentation, truth: {picture}")
    write_after(folder)
    return scores


def _available(step: "Step") -> bool:
    from segkit.errors import UnknownComponent
    from segkit.registry import find

    if "waterz" not in step.name:
        return True
    try:
        find("agglomerators", "waterz")
    except UnknownComponent as error:
        note(f"{step.name} is left out: {error}")
        return False
    return True


def _grow(folder: Path, seed: int) -> dict[str, str]:
    """The files of both volumes, made if they are not there."""
    from segkit import io
    from segkit.testing.phantoms import neurites

    paths = {}
    for name, shape, number in VOLUMES:
        path = folder / f"{name}_{seed}.h5"
        if not path.exists():
            phantom = neurites(shape, seed=2 * seed + number)
            io.write_all(path, {"raw": phantom.raw, "truth": phantom.truth})
        paths[name] = str(path)
    return paths


def _draw(folder: Path, test: str, path: Path) -> None:
    """The middle section of everything, and below it a cut across the sections, x to the right and z down."""
    import numpy as np

    from segkit import io
    from segkit.demo import Panel, Row, affinity_colours, colours, matched_colours, overlay, save_picture

    volume = io.read_volume(test)
    raw, grid = volume.array, volume.grid
    affinities = io.read_affinities(folder / "affinities.h5")
    fragments = io.read_labels(folder / "fragments.h5", role="fragments").array
    segmentation = io.read_labels(folder / "python.h5", role="segmentation").array
    truth = io.read_labels(test, role="truth").array
    matched = matched_colours(segmentation, truth)
    middle, across = raw.shape[0] // 2, raw.shape[1] // 2

    def rows(*columns: tuple[str, np.ndarray, np.ndarray]) -> list[Row]:
        size = grid.voxel_size
        above = [Panel(title, section, size[1:], k == 0) for k, (title, section, _) in enumerate(columns)]
        return [Row(above), Row([Panel("", side, size[::2]) for _, _, side in columns])]

    def cuts(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return array[middle], array[:, across]

    (raw_xy, raw_xz), (matched_xy, matched_xz) = cuts(raw), cuts(matched)
    rgb = affinity_colours(affinities.array, affinities.neighborhood)
    first = rows(
        ("raw", raw_xy, raw_xz),
        ("affinities along z, y, x as red, green, blue", *cuts(rgb)),
        ("fragments", *cuts(matched_colours(fragments, truth))),
    )
    second = rows(
        ("segmentation over raw", overlay(raw_xy, matched_xy), overlay(raw_xz, matched_xz)),
        ("segmentation, coloured as the truth where it is right", matched_xy, matched_xz),
        ("truth", *cuts(colours(truth))),
    )
    save_picture(path, [*first, *second])
