"""segkit run: Run a recipe: the stages composed."""

import re
import shlex
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import click

from segkit.cli.by_blocks import NEEDS, Blocks, blockwise_options, refuse_with_blocks
from segkit.cli.common import AGAIN, Verb, echo_json, echo_table, examples, gathered, json_option, note
from segkit.cli.fuse import fused_steps
from segkit.cli.report import write_after
from segkit.cli.steps import Earlier, Step
from segkit.cli.types import FILE, RECIPE, RECIPE_SETTING, Bytes
from segkit.errors import InvalidParameter, sentence
from segkit.parameters import nearest, nest, parse_assignments

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
    """What --in-memory, --keep, --report and --fused say."""

    in_memory: int | None
    keep: tuple[str, ...]
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
@click.option(
    "--keep",
    multiple=True,
    metavar="STAGE",
    help="Stage whose file is written; those of stages that are not named are not, where they fit into that memory; "
    "repeatable.  [default: all]",
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
    _check_kept(ways.keep, steps)
    refuse_with_blocks(blocks, keep=ways.keep)
    if ways.fused and not blocks.wanted:
        raise InvalidParameter(sentence("--fused", f"needs {NEEDS}", next_step=f"add {NEEDS}"))
    steps = fused_steps(steps) if ways.fused else steps
    if blocks.wanted:
        steps = [by_blocks(step, blocks, folder) for step in steps]
    check(steps)
    if dry_run:
        return _planned(steps, as_json)
    results = execute(steps, folder, ways.in_memory, ways.keep or None)
    scores = [{"stage": name} | result for name, result in results.items() if "cremi_score" in result]
    if as_json:
        echo_json(results)
    elif scores:
        echo_table(loaded.title, scores)
    if ways.report:
        write_after(folder)
    return results


def _check_kept(names: Sequence[str], steps: Sequence[Step]) -> None:
    """Raise InvalidParameter for a name of --keep that is no stage."""
    known = [step.name for step in steps]
    for name in names:
        if name not in known:
            guess = nearest(name, known)
            next_step = f"did you mean {guess!r}?" if guess else None
            raise InvalidParameter(sentence("--keep", f"must be one of {', '.join(known)}", repr(name), next_step))


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


def execute(
    steps: Sequence[Step], folder: Path, memory: int | None = None, keep: Collection[str] | None = None
) -> dict[str, dict]:
    """Run the steps that are not done yet; the results of all. Raises InUse if another process runs them there.

    What a step writes is handed to the next in memory, up to `memory` bytes, and its files are written meanwhile: see
    :mod:`segkit.io.handed`. Of steps that are not among those to `keep`, and write to no file of these, HDF5 files that
    are not there yet are not written, where they fit into that memory; such a step is run again once any is to be run.
    """
    from segkit.io.atomic import mend
    from segkit.io.handed import handing_over
    from segkit.io.lock import locked_run
    from segkit.run import Record

    with locked_run(folder):
        record = Record(folder)
        mend(record.path)
        done = None if keep is None else _finished(steps, record, keep)
        if done is not None:
            note("all stages: finished before")
            return done
        with handing_over(memory) as handed:
            results: dict[str, dict] = {}
            passed: Passed = {}
            written = {step.name for step in steps} if keep is None else _written(steps, keep)
            for template in steps:
                step = template.filled(results)
                results[step.name] = _result(step, record, handed, passed, kept=step.name in written)
            return results


def _written(steps: Sequence[Step], keep: Collection[str]) -> set[str]:
    """The steps to `keep`, and those that write to a file of one: a file is written with all that is in it."""
    earlier, files = Earlier(), {}
    for step in steps:
        supposed = step.supposed(earlier)
        files[step.name] = {*_places(supposed.files(supposed.values())[1])}
        earlier.add(step)
    wanted = {place for name in keep for place in files[name]}
    return {name for name, places in files.items() if name in keep or places & wanted}


Passed = dict[Path, list[str]]
"""Files that are not written -> what decided their content, once that is known."""


def _decided(step: Step, inputs: "Sequence[Path | Remote]", passed: Passed) -> str:
    """What decides the result of a step: its options, its files, and what decided those that are not written."""
    from segkit.run import fingerprint

    origins = [passed[place][-1] for place in _places(filter(_is_missing, inputs)) if place in passed]
    return fingerprint([*step.words(without=NOT_DECIDING), *origins], inputs)


def _finished(steps: Sequence[Step], record: "Record", keep: Collection[str]) -> dict[str, dict] | None:
    """The results of all steps, if all are done and the files of those to `keep` are there; else None."""
    results: dict[str, dict] = {}
    passed: Passed = {}
    for template in steps:
        step = template.filled(results)
        inputs, outputs = step.files(step.values())
        decided = _decided(step, inputs, passed)
        found = record.result(step.name, decided, outputs)
        if found is None or (step.name in keep and any(map(_is_missing, outputs))):
            return None
        passed |= {place: [decided] for place in _places(outputs)}
        results[step.name] = found
    return results


def _places(paths: "Iterable[Path | Remote]") -> list[Path]:
    """Where files lie on this machine, however they are spelled."""
    return [path.resolve() for path in paths if isinstance(path, Path)]


def _is_missing(path: "Path | Remote") -> bool:
    return isinstance(path, Path) and not path.exists()


def _result(step: Step, record: "Record", handed: "HandOver", passed: Passed, *, kept: bool) -> dict:
    """The result of a step, which is run unless it is done. It counts as finished once its files are written."""
    values = step.values()
    inputs, outputs = step.files(values)
    if "resume" in step.takes:
        handed.settle()
    pending = any(map(handed.is_pending, (*inputs, *outputs)))  # then it was done of other files than those to come
    pending = pending or any(place in passed and not passed[place][-1] for place in _places(inputs))
    seen = ["" if pending else _decided(step, inputs, passed)]
    missing = any(map(_is_missing, outputs))
    found = None if pending or missing else record.result(step.name, seen[0], outputs)
    if found is not None:
        note(f"{step.name}: finished before")
        return found
    if not kept:
        passed |= dict.fromkeys(_places(outputs), seen)
        handed.passing |= {*_places(outputs)}
    started, known = time.perf_counter(), step.name in record.stages
    again = _make_room(step, outputs, go_on=record.begin(step.name, seen[0]), ours=known)
    if pending:
        handed.after(lambda: seen.append(_decided(step, inputs, passed)))  # before it writes to a file that it reads
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
