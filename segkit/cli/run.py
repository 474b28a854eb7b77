"""segkit run: a recipe, stage by stage."""

import re
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from importlib import import_module
from itertools import count
from pathlib import Path

import click

from segkit.cli.by_blocks import Blocks, blockwise_options
from segkit.cli.common import AGAIN, Verb, echo_json, echo_table, examples, json_option, note
from segkit.cli.report import write_after
from segkit.errors import InvalidInput, sentence
from segkit.parameters import nest, parse_assignments

INPUTS: tuple[str, ...] = ("data", "raw", "affinities", "merge_tree", "segmentation", "truth")
INPUTS += ("validation", "run_folder", "fragments", "mask", "from_labels", "config")
"""Parameters of verbs that are addresses of what they read."""
STAGES = ("train", "infer", "fragment", "agglomerate", "segment", "evaluate")
BY_BLOCKS = ("infer", "fragment", "agglomerate", "segment", "evaluate")
WITH_HALO = ("infer", "fragment")
COMPONENTS = {"model": "models", "method": "fragmenters", "backend": "agglomerators", "metrics": "metrics"}
"""Options that name components, and the kind that they name."""


EXAMPLES = examples(
    "segkit run mala3d --set data.train=sample_A.hdf \\\n    --set data.val=sample_B.hdf --set data.test=sample_C.hdf",
    "segkit run fib25-small --set data.file=fib25.h5 --dry-run",
)


@click.command("run", cls=Verb, stopped=lambda params: AGAIN, epilog=EXAMPLES)
@click.argument("recipe")
@click.option("--out", metavar="FOLDER", help="Folder of all that is written.  [default: runs/RECIPE]")
@click.option(
    "--set", "assignments", multiple=True, metavar="TABLE.NAME=VALUE", help="Change a value of the recipe; repeatable."
)
@click.option("--dry-run", is_flag=True, help="Print the commands of the stages, and run none.")
@json_option
@blockwise_options(halo=True)
def command(recipe, out, assignments, dry_run, as_json, blocks) -> dict:
    """Run RECIPE, a .toml file or the name of a shipped one: train, infer, fragment, agglomerate, evaluate.

    Stages that are finished are not run again; a training that was interrupted goes on. Shipped recipes are mala3d and
    mala2d (anisotropic volumes, a GPU), fib25-small (isotropic volumes, a CPU), demo, and others; an unknown name lists
    them all. At the end the page report.html in FOLDER shows what came out (`segkit report`).

    With --blockwise all stages after training work block by block, and write .zarr where the recipe says .h5.
    """
    from segkit.run import load_recipe, shipped_recipes

    folder = Path(out or Path("runs") / (recipe if recipe in shipped_recipes() else Path(recipe).stem))
    loaded = load_recipe(recipe, folder, nest(parse_assignments(assignments)))
    stages = [by_blocks(stage, blocks, folder) for stage in loaded.stages] if blocks.wanted else loaded.stages
    calls = [(stage, *call(stage)) for stage in stages]
    check(calls)
    if dry_run:
        for _, _, words in calls:
            click.echo(shlex.join(words))
        return {}
    check_inputs(calls)
    results = execute(calls, folder)
    write_after(folder)
    scores = [{"stage": name} | result for name, result in results.items() if "cremi_score" in result]
    if as_json:
        echo_json(results)
    elif scores:
        echo_table(loaded.title, scores)
    return results


def execute(calls: list, folder: Path) -> dict[str, dict]:
    """Run the stages that are not done yet; the results of all."""
    from segkit.run import Record, fill, fingerprint

    folder.mkdir(parents=True, exist_ok=True)
    record = Record(folder)
    results: dict[str, dict] = {}
    for stage, verb, template in calls:
        words = fill(template, results)
        parameters = verb.make_context(stage.verb, words[2:]).params
        inputs, outputs = _files(parameters)
        before = fingerprint(_deciding(words), inputs)
        result = record.result(stage.name, before, outputs)
        if result is not None:
            note(f"{stage.name}: finished before")
        else:
            started = time.perf_counter()
            known = stage.name in record.stages
            resume = _make_room(stage, go_on=record.begin(stage.name, before), ours=known)
            result = _invoke(stage, verb, [*words, *resume])
            seconds = time.perf_counter() - started
            record.finish(stage.name, before, outputs, result, seconds, words, _given(parameters))
        results[stage.name] = result
    return results


def by_blocks(stage, blocks: Blocks, folder: Path):
    """The stage as it works by blocks, if it can."""
    options = {name: _as_zarr(value, folder) for name, value in stage.options.items()}
    if stage.verb in BY_BLOCKS and not {"from-labels", "from_labels"} & options.keys():
        options |= {"blockwise": True, "block": list(blocks.block)}
        options |= {"cluster": blocks.cluster} if blocks.cluster else {}
        options |= {"halo": list(blocks.halo)} if blocks.halo and stage.verb in WITH_HALO else {}
    return replace(stage, options=options)


def _as_zarr(value, folder: Path):
    """The address of an HDF5 file in `folder`, of a Zarr store instead; anything else as it is."""
    if isinstance(value, list):
        return [_as_zarr(item, folder) for item in value]
    if not isinstance(value, str) or not value.startswith(f"{folder}/"):
        return value
    return re.sub(r"\.h5(?=$|:|\[)", ".zarr", value, count=1)


def _deciding(words: list[str]) -> Iterator[str]:
    """The words that decide a result: not who computes it."""
    following = iter(words)
    for word in following:
        if word == "--cluster":
            next(following)
        else:
            yield word


def _make_room(stage, go_on: bool, ours: bool) -> list[str]:
    """What to add to the words of a training stage whose folder is not empty.

    A run that was cut off goes on. One that this stage made with other settings or data is moved aside, not lost.
    """
    folder = Path(str(stage.options.get("out", "")))
    if stage.verb != "train" or not (folder / "config.json").exists() or not ours:
        return []
    if go_on:
        return ["--resume"]
    number = next(n for n in count(1) if not folder.with_name(f"{folder.name}.before-{n}").exists())
    folder.rename(folder.with_name(f"{folder.name}.before-{number}"))
    note(f"{stage.name}: the run of other settings or data is now {folder.name}.before-{number}")
    return []


def _invoke(stage, verb: Verb, words: list[str]) -> dict:
    note(shlex.join(words))
    with verb.make_context(stage.verb, words[2:]) as context, redirect_stdout(sys.stderr):
        return verb.work(context)


def check(calls: list) -> None:
    """Raise now what is wrong with a later stage: options, and names of components."""
    from segkit.registry import find
    from segkit.run.recipe import RESULT

    for stage, verb, template in calls:
        words = [RESULT.sub("0.5", word) for word in template]  # any number will do
        parameters = verb.make_context(stage.verb, words[2:]).params
        for option, kind in COMPONENTS.items():
            names = parameters.get(option) or ()
            for name in (names,) if isinstance(names, str) else names:
                find(kind, name)


def check_inputs(calls: list) -> None:
    """Raise now that a file of a later stage is missing, if no earlier stage writes it: not after days of training."""
    from segkit.io.missing import missing_file
    from segkit.run.recipe import RESULT

    made: set[Path] = set()
    for stage, verb, template in calls:
        words = [RESULT.sub("0.5", word) for word in template]
        inputs, outputs = _files(verb.make_context(stage.verb, words[2:]).params)
        for path in inputs:
            if not path.exists() and not any(path == each or each in path.parents for each in made):
                raise missing_file(path)
        made.update(outputs)


def call(stage) -> tuple[click.Command, list[str]]:
    """The command of a stage and the words that a user would type for it."""
    from segkit.run.recipe import as_assignment, flatten

    if stage.verb not in STAGES:
        rule = f"must be one of {', '.join(STAGES)}"
        raise InvalidInput(sentence(f"verb of stage {stage.name!r}", rule, repr(stage.verb)))
    verb = import_module(f"segkit.cli.{stage.verb}").command
    options = dict(stage.options)
    positional: list[str] = []
    named: list[str] = []
    for parameter in verb.params:
        key = next((key for key in options if _matches(parameter, key)), None)
        if key is None:
            continue
        value = options.pop(key)
        if parameter.name == "assignments":
            _require(isinstance(value, dict), f"set of stage {stage.name!r}", "must be a table", value)
            named += [word for item in flatten(value).items() for word in ("--set", as_assignment(*item))]
        elif isinstance(parameter, click.Argument):
            positional += map(str, value if isinstance(value, list) else [value])
        elif getattr(parameter, "is_flag", False):
            _require(isinstance(value, bool), f"{key} of stage {stage.name!r}", "must be true or false", value)
            named += [parameter.opts[-1]] if value else []
        elif parameter.multiple:
            for item in value if isinstance(value, list) else [value]:
                named += [parameter.opts[0], str(item)]
        else:
            named += [parameter.opts[0], *map(str, value if isinstance(value, list) else [value])]
    if options:
        rule = f"must be an argument or option of 'segkit {stage.verb}'"
        raise InvalidInput(sentence(f"{next(iter(options))!r} of stage {stage.name!r}", rule))
    return verb, ["segkit", stage.verb, *positional, *named]


def _require(holds: bool, what: str, rule: str, value: object) -> None:
    if not holds:
        raise InvalidInput(sentence(what, rule, repr(value)))


def _matches(parameter: click.Parameter, key: str) -> bool:
    if isinstance(parameter, click.Argument):
        return key == parameter.name
    return any(key.replace("_", "-") == option.lstrip("-") for option in parameter.opts)


def _given(parameters: dict) -> dict:
    """The addresses that a call is given, by the name of the parameter: one, or a tuple of several."""
    return {name: parameters[name] for name in INPUTS if parameters.get(name)}


def _files(parameters: dict) -> tuple[list[Path], list[Path]]:
    """Files that a call reads and files that it writes."""
    from segkit.io import parse_address

    given = _given(parameters).values()
    inputs = [parse_address(text).path for value in given for text in ([value] if isinstance(value, str) else value)]
    out = parameters.get("out")
    return inputs, [parse_address(out).path] if out else []
