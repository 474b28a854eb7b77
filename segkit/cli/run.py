"""segkit run: Run a recipe: the stages composed."""

import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import click

from segkit.cli.by_blocks import NEEDS, Blocks, blockwise_options
from segkit.cli.common import AGAIN, Verb, echo_json, echo_table, examples, gathered, json_option, note
from segkit.cli.fuse import fused_steps
from segkit.cli.report import write_after
from segkit.cli.steps import Earlier, Step
from segkit.cli.types import FILE, RECIPE, RECIPE_SETTING, Bytes
from segkit.errors import InvalidParameter, sentence
from segkit.parameters import nest, parse_assignments

if TYPE_CHECKING:
    from segkit.io.handed import HandOver
    from segkit.io.remote import Remote
    from segkit.run import Recipe, Record

NOT_DECIDING = ("cluster",)
"""Parameters that decide who computes a result, and not what it is."""
EXAMPLES = examples(
    "segkit run mala3d --set data.train=sample_A.hdf \\\n    --set data.val=sample_B.hdf --set data.test=sample_C.hdf",
    "segkit run fib25-small --set data.file=fib25.h5 --dry-run",
)


@dataclass(frozen=True)
class Ways:
    """What --in-memory, --report and --fused say."""

    in_memory: int | None
    report: bool
    fused: bool


@click.command("run", cls=Verb, stopped=lambda params: AGAIN, epilog=EXAMPLES)
@click.argument("recipe", type=RECIPE)
@click.option("--out", type=FILE, metavar="FOLDER", help="Folder of all that is written.  [default: runs/RECIPE]")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    type=RECIPE_SETTING,
    metavar="TABLE.NAME=VALUE",
    help="Change a value of the recipe; repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Print the commands of the stages, and run none.")
@json_option
@click.option(
    "--in-memory",
    type=Bytes(),
    help="Memory for what a stage hands to the next while its file is written, as 4GB; 1B for none: each waits for the "
    "file, and reads it.  [default: a quarter of what is free]",
)
@click.option("--report/--no-report", default=True, show_default=True, help="Write the page report.html in the end.")
@click.option(
    "--fused",
    is_flag=True,
    help="Write no affinities: each infer, fragment and agglomerate that belong together are one stage (`segkit "
    "fuse`); needs --blockwise.",
)
@blockwise_options(halo=True)
@gathered("ways", Ways)
def command(
    recipe: str, out: str | None, assignments: tuple[str, ...], dry_run: bool, as_json: bool, ways: Ways, blocks: Blocks
) -> dict[str, dict]:
    """Run RECIPE, a .toml file or the name of a shipped one: train, infer, fragment, agglomerate, evaluate.

    Stages that are finished are not run again; a training that was interrupted goes on. Shipped recipes are mala3d and
    mala2d (anisotropic volumes, a GPU), fib25-small (isotropic volumes, a CPU), demo, and others; an unknown name lists
    them all. At the end the page report.html in FOLDER shows what came out (`segkit report`).

    A stage takes what an earlier one made from memory, and files are written in the background: they are the same
    as of the verbs one by one, and a stage counts as finished once its file is whole.

    With --blockwise all stages after training work block by block, and write .zarr where the recipe says .h5.
    """
    from segkit.run import load_recipe, shipped_recipes

    folder = Path(out or Path("runs") / (recipe if recipe in shipped_recipes() else Path(recipe).stem))
    loaded = load_recipe(recipe, folder, nest(parse_assignments(assignments)))
    steps = steps_of(loaded)
    if ways.fused and not blocks.wanted:
        raise InvalidParameter(sentence("--fused", f"needs {NEEDS}", next_step=f"add {NEEDS}"))
    steps = fused_steps(steps) if ways.fused else steps
    if blocks.wanted:
        steps = [by_blocks(step, blocks, folder) for step in steps]
    check(steps)
    if dry_run:
        return _planned(steps, as_json)
    results = execute(steps, folder, ways.in_memory)
    scores = [{"stage": name} | result for name, result in results.items() if "cremi_score" in result]
    if as_json:
        echo_json(results)
    elif scores:
        echo_table(loaded.title, scores)
    if ways.report:
        write_after(folder)
    return results


def steps_of(recipe: "Recipe") -> list[Step]:
    """The stages of a recipe as steps. An option that a verb does not have is refused with its place."""
    from segkit.io.records import located

    where = f"recipe {recipe.path}"
    with located(where):
        return [Step.of(stage, where) for stage in recipe.stages]


def _planned(steps: Sequence[Step], as_json: bool) -> dict[str, dict]:
    """Print the commands of the steps."""
    if as_json:
        echo_json([{"stage": step.name, "verb": step.verb.name, "command": step.words()} for step in steps])
    else:
        for step in steps:
            click.echo(shlex.join(step.words()))
    return {}


def execute(steps: Sequence[Step], folder: Path, memory: int | None = None) -> dict[str, dict]:
    """Run the steps that are not done yet; the results of all. Raises InUse if another process runs them there.

    What a step writes is handed to the next in memory, up to `memory` bytes, and its files are written meanwhile: see
    :mod:`segkit.io.handed`.
    """
    from segkit.io.atomic import mend
    from segkit.io.handed import handing_over
    from segkit.io.lock import locked_run
    from segkit.run import Record

    with locked_run(folder):
        record = Record(folder)
        mend(record.path)
        with handing_over(memory) as handed:
            results: dict[str, dict] = {}
            for template in steps:
                step = template.filled(results)
                results[step.name] = _result(step, record, handed)
            return results


def _result(step: Step, record: "Record", handed: "HandOver") -> dict:
    """The result of a step, which is run unless it is done. It counts as finished once its files are written."""
    from segkit.run import fingerprint

    values = step.values()
    inputs, outputs = step.files(values)
    if "resume" in step.takes:
        handed.settle()

    def look() -> str:
        return fingerprint(step.words(without=NOT_DECIDING), inputs)

    pending = any(map(handed.is_pending, (*inputs, *outputs)))  # then it was done of other files than those to come
    before = "" if pending else look()
    found = None if pending else record.result(step.name, before, outputs)
    if found is not None:
        note(f"{step.name}: finished before")
        return found
    started, known = time.perf_counter(), step.name in record.stages
    again = _make_room(step, outputs, go_on=record.begin(step.name, before), ours=known)
    seen = [before]
    if pending:
        handed.after(lambda: seen.append(look()))  # before it writes to a file that it reads
    note(shlex.join([*step.words(), *(["--resume"] if again else [])]))
    result = step.run(values | again)
    told = result, time.perf_counter() - started, step.words(), step.given(values)
    handed.after(lambda: record.finish(step.name, seen[-1], outputs, *told))
    return result


def by_blocks(step: Step, blocks: Blocks, folder: Path) -> Step:
    """The step as it works by blocks, if it can."""
    options: dict[str, object] = {name: _as_zarr(value, folder) for name, value in step.options.items()}
    if "blockwise" in step.takes and "from_labels" not in options:
        options |= {"blockwise": True, "block": list(blocks.block)}
        options |= {"cluster": blocks.cluster} if blocks.cluster else {}
        options |= {"halo": list(blocks.halo)} if blocks.halo and "halo" in step.takes else {}
    return replace(step, options=options)


def _as_zarr(value: object, folder: Path) -> object:
    """The address of an HDF5 file in `folder`, of a Zarr store instead; anything else as it is."""
    if isinstance(value, list):
        return [_as_zarr(item, folder) for item in value]
    if not isinstance(value, str) or not value.startswith(f"{folder}/"):
        return value
    return re.sub(r"\.h5(?=$|:|\[)", ".zarr", value, count=1)


def _make_room(step: Step, outputs: "Sequence[Path | Remote]", go_on: bool, ours: bool) -> dict[str, bool]:
    """What to add to the values of a training whose folder is not empty.

    A run that was cut off goes on. One that this stage made with other settings or data is moved aside, not lost.
    """
    folder = next((each for each in outputs if isinstance(each, Path) and (each / "config.json").exists()), None)
    from segkit.io.lock import locked_run

    if "resume" not in step.takes or not ours or folder is None:
        return {}
    if go_on:
        return {"resume": True}
    with locked_run(folder):  # nobody trains in it
        pass
    number = next(n for n in count(1) if not folder.with_name(f"{folder.name}.before-{n}").exists())
    folder.rename(folder.with_name(f"{folder.name}.before-{number}"))
    note(f"{step.name}: the run of other settings or data is now {folder.name}.before-{number}")
    return {}


def check(steps: Sequence[Step]) -> None:
    """Raise now what is wrong with any step: not after days of training.

    That is options, components and their parameters, settings of training, files that no earlier step writes, or in
    which it writes something else, and results that it does not return.
    """
    earlier = Earlier()
    for step in steps:
        step.check(earlier)
        earlier.add(step)
