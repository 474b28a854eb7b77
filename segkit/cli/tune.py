"""segkit tune: Choose fragmenter, agglomerator, parameters and threshold by volumes with a truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from segkit.cli.common import (
    AGAIN,
    Failure,
    Verb,
    as_json_text,
    echo_json,
    echo_table,
    examples,
    gathered,
    json_option,
    neighborhood_option,
    note,
    parse_neighborhood,
    progress,
    seed_option,
)
from segkit.cli.types import (
    ADDRESS,
    COMPONENT_SETTING,
    FILE,
    RUN_FOLDER,
    SETTINGS_FILE,
    SKELETONS,
    TRUTH,
    ComponentName,
    Number,
)
from segkit.errors import InvalidParameter, sentence
from segkit.parameters import parse_value

if TYPE_CHECKING:
    from segkit.blockwise import ComponentSpec
    from segkit.data.skeletons import Skeletons
    from segkit.tune import Combination, Goal, Row, Scene, Space

ROWS = 10
"""Rows of the table that are printed."""
EXAMPLES = examples(
    "segkit tune affinities.h5 --truth sample_B.hdf --out tuned",
    "segkit tune a.h5 b.h5 --truth sample_A.hdf --truth sample_B.hdf --out tuned",
    "segkit tune affinities.h5 --truth sample_B.hdf --out tuned \\\n"
    "    --method watershed --fragment-set threshold=0.5,0.7 --set score=mean,max",
)


@dataclass(frozen=True)
class Data:
    """What DATA, --truth, --run, --augment, --neighborhood, --border, --skeletons and --skeletons-unit say."""

    data: tuple[str, ...]
    truths: tuple[str, ...]
    run_folder: str | None
    augment: str
    neighborhood: str | None
    border: float | None
    skeletons: tuple[str, ...]
    skeletons_unit: Literal["nm", "um"] | None


@dataclass(frozen=True)
class Tried:
    """What --space, --method, --fragment-set, --backend, --set, --trials and --seed say."""

    space: str | None
    methods: tuple[str, ...]
    fragment_assignments: tuple[str, ...]
    backends: tuple[str, ...]
    assignments: tuple[str, ...]
    trials: int | None
    seed: int | None


@click.command("tune", cls=Verb, stopped=lambda params: AGAIN, epilog=EXAMPLES)
@click.argument("data", type=ADDRESS, nargs=-1, required=True)
@click.option(
    "--truth", "truths", type=TRUTH, multiple=True, required=True, help="Annotation of each of DATA, in their order."
)
@click.option("--out", type=FILE, required=True, metavar="FOLDER", help="Folder of what is kept and found.")
@click.option(
    "--by",
    type=click.Choice(["cremi_score", "voi", "adapted_rand_error", "nerl"]),
    default="cremi_score",
    show_default=True,
    help="Score that decides: voi is split + merge; nerl, which is to be high, that at 50 nodes.",
)
@click.option("--run", "run_folder", type=RUN_FOLDER, help="DATA are raw: predict them by the network of this run.")
@click.option(
    "--augment",
    type=click.Choice(["none", "flips", "all"]),
    default="none",
    show_default=True,
    help="Test-time augmentation of --run, as of `segkit infer`.",
)
@click.option("--space", type=SETTINGS_FILE, help="What is tried, in a file.  [default: 60 combinations]")
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=ComponentName("fragmenters"),
    help="Fragmenter to try; repeatable.  [default: watershed and affinity-watershed]",
)
@click.option(
    "--fragment-set",
    "fragment_assignments",
    multiple=True,
    type=COMPONENT_SETTING,
    metavar="NAME=VALUE,...",
    help="Values to try of a parameter of those fragmenters that know it; repeatable.",
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    type=ComponentName("agglomerators"),
    help="Agglomerator to try; repeatable.  [default: python]",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    type=COMPONENT_SETTING,
    metavar="NAME=VALUE,...",
    help="Values to try of a parameter of those agglomerators that know it; repeatable.",
)
@click.option("--trials", type=click.IntRange(min=1), metavar="N", help="Try N that Optuna proposes.  [default: all]")
@click.option("--border", type=Number(min=0), metavar="NM", help="As of `segkit evaluate`; the CREMI challenge: 25.")
@click.option(
    "--skeletons",
    type=SKELETONS,
    multiple=True,
    help="Skeletons of each of DATA, for --by nerl.  [default: made of the truth]",
)
@click.option("--skeletons-unit", type=click.Choice(["nm", "um"]), help="Unit of lengths in .swc of --skeletons.")
@neighborhood_option
@seed_option
@json_option
@gathered("data", Data)
@gathered("tried", Tried)
def command(data: Data, tried: Tried, out: str, by: str, as_json: bool) -> dict:
    """Try fragmenters and agglomerators on DATA, affinities of volumes with a truth, and choose.

    Each combination is scored at all thresholds. FOLDER receives recipe.toml, which `segkit run` takes as it is,
    table.json with all rows, pareto.png, and what every combination came to: the same command goes on where it was
    stopped.

    Of a threshold the mean over those within 0.02 of it counts, of a combination also what its neighbours come to, and
    of several volumes the worst as much as the mean. Then also each volume is left out in turn, and scored with what
    the others choose. `spread` is the standard deviation of the score over draws of blocks.
    """
    from segkit.io.lock import locked_run
    from segkit.tune import Goal

    goal, folder = Goal(by), Path(out)
    _check(data, tried, goal)
    if tried.space or tried.methods or tried.backends or tried.assignments or tried.fragment_assignments:
        _space(tried, None).check()  # what is wrong with it is said before anything is read
    affinities = _predicted(data, folder)
    with locked_run(folder):
        scenes = [_scene(data, number, address, goal) for number, address in enumerate(affinities)]
        space = _space(tried, scenes[0])
        space.check()
        records = _records(space, scenes, folder, goal, tried)
        return _finish(data, space, records, folder, goal, as_json)


def _check(data: Data, tried: Tried, goal: "Goal") -> None:
    """Refuse options that do not go together."""
    _as_many("--truth", data.truths, data.data)
    if data.skeletons:
        _as_many("--skeletons", data.skeletons, data.data)
    if goal.counts_voxels and data.skeletons:
        raise InvalidParameter(sentence("--skeletons", "needs --by nerl", next_step="add it"))
    if data.skeletons_unit and not data.skeletons:
        raise InvalidParameter(sentence("--skeletons-unit", "needs --skeletons", next_step="name their files"))
    if data.augment != "none" and not data.run_folder:
        raise InvalidParameter(sentence("--augment", "needs --run", next_step="name the run, or leave it out"))
    if data.neighborhood and data.run_folder:
        raise InvalidParameter(
            sentence("--neighborhood", "is that of the network with --run", next_step="leave it out")
        )
    if tried.space and (tried.methods or tried.backends or tried.fragment_assignments or tried.assignments):
        rule = "must stand alone, without --method, --fragment-set, --backend and --set"
        raise InvalidParameter(sentence("--space", rule, tried.space, "write it all into the file"))
    if tried.seed is not None and not tried.trials:
        raise InvalidParameter(sentence("--seed", "needs --trials", next_step="leave it out: nothing else is random"))
    if tried.trials:
        from segkit.tune.trials import check_optuna

        check_optuna()


def _as_many(option: str, given: Sequence[str], data: Sequence[str]) -> None:
    if len(given) != len(data):
        rule = f"must be given once for each of the {len(data)} DATA, in their order"
        raise InvalidParameter(sentence(option, rule, len(given)))


def _space(tried: Tried, scene: "Scene | None") -> "Space":
    """What is tried; the default one goes by the volume."""
    from segkit.data import NEAREST, Grid
    from segkit.tune import Space, default_space, read_space
    from segkit.tune.space import named_choices

    if tried.space:
        return read_space(Path(tried.space))
    volume = (scene.affinities.grid, scene.affinities.neighborhood) if scene else (Grid(), NEAREST)
    usual = default_space(*volume)
    return Space(
        named_choices(
            "fragmenters", tried.methods, _values("--fragment-set", tried.fragment_assignments), usual.fragmenters
        ),
        named_choices("agglomerators", tried.backends, _values("--set", tried.assignments), usual.agglomerators),
    )


def _values(option: str, assignments: Sequence[str]) -> dict[str, list[object]]:
    """The values of each ``NAME=VALUE,...``; in brackets they may hold commas.

    >>> _values("--set", ["threshold=0.5,0.7", "score=mean,max", "offsets=[[1, 2], [3, 4]]"])
    {'threshold': [0.5, 0.7], 'score': ['mean', 'max'], 'offsets': [[1, 2], [3, 4]]}
    """
    found: dict[str, list[object]] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.strip():
            raise InvalidParameter(sentence(option, "must look like name=value,value", repr(assignment)))
        value = parse_value(text.strip())
        if isinstance(value, str) and "," in value and not text.strip().startswith(("'", '"')):
            found[name.strip()] = [parse_value(part.strip()) for part in value.split(",")]
        else:
            found[name.strip()] = value if isinstance(value, list) else [value]
    return found


def _predicted(data: Data, folder: Path) -> list[str]:
    """The addresses of the affinities; with --run they are predicted into the folder first, unless they are there."""
    if not data.run_folder:
        return list(data.data)
    from segkit.cli.run import check, execute
    from segkit.cli.steps import Step
    from segkit.run import RecipeStage

    files = [str(folder / f"affinities-{number}.h5") for number in range(1, len(data.data) + 1)]
    options = {"run": data.run_folder, "augment": data.augment}
    steps = [
        Step.of(RecipeStage(f"infer-{number}", "infer", {"raw": raw, "out": file} | options))
        for number, (raw, file) in enumerate(zip(data.data, files, strict=True), 1)
    ]
    check(steps)
    execute(steps, folder)
    return files


def _scene(data: Data, number: int, address: str, goal: "Goal") -> "Scene":
    """The volume of this number."""
    from segkit.tune import read_scene

    offsets = parse_neighborhood(data.neighborhood)
    scene = read_scene(address, data.truths[number], neighborhood=offsets, border=data.border or 0.0)
    if goal.counts_voxels:
        return scene
    return replace(scene, skeletons=_skeletons(data, number, scene))


def _skeletons(data: Data, number: int, scene: "Scene") -> "Skeletons":
    if data.skeletons:
        from segkit.io.skeletons import read_skeletons

        return read_skeletons(data.skeletons[number], data.skeletons_unit)
    from segkit.registry import load

    return load("metrics", "nerl").skeletons(scene.truth)


def _records(space: "Space", scenes: "Sequence[Scene]", folder: Path, goal: "Goal", tried: Tried) -> list[dict]:
    """What the combinations came to: all, or those that are proposed."""
    from segkit.tune import search

    with progress("tune") as bar:
        if not tried.trials:
            return search(space.combinations, scenes, folder, goal, bar)
        from segkit.tune.trials import search_some

        def score(some: "Sequence[Combination]") -> list[dict]:
            return search(some, scenes, folder, goal, bar)

        return search_some(space, tried.trials, goal, tried.seed or 0, score)


def _finish(data: Data, space: "Space", records: list[dict], folder: Path, goal: "Goal", as_json: bool) -> dict:
    """Choose, write what was found, and show it."""
    from segkit.io.lock import writing
    from segkit.tune import ranked
    from segkit.tune.plot import can_plot, save_pareto
    from segkit.tune.table import problems, table, table_of_left_out

    failed = problems(space, records)
    for problem, names in failed.items():
        note(f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {problem}")
    chosen = ranked(records, space.neighbours, goal)
    if not chosen:
        raise Failure("no combination could be scored; see above why", 1)
    rows, left = table(space, records, chosen, goal), table_of_left_out(space, records, goal, data.data)
    report = {"by": goal.by, "inputs": list(data.data), "truths": list(data.truths), "rows": rows, "left_out": left}
    with writing(folder / "table.json") as temporary:
        temporary.write_text(as_json_text(report) + "\n")
    with writing(folder / "recipe.toml") as temporary:
        temporary.write_text(_recipe(data, space.combinations[chosen[0].number], chosen[0], goal), encoding="utf-8")
    if can_plot():
        pairs = [(each.fragmenter.name, each.agglomerator.name) for each in space.combinations]
        save_pareto(folder / "pareto.png", records, chosen, pairs)
    else:
        note("pareto.png needs matplotlib: pip install 'segkit-em[tune]'")
    echo_json(report) if as_json else _show(rows, left, goal, folder)
    if failed:
        count = sum(map(len, failed.values()))
        raise Failure(f"{count} of {len(records)} combinations failed; the others are in {folder}", 1)
    return rows[0]


def _show(table: Sequence[Mapping[str, Any]], left: Sequence[dict], goal: "Goal", folder: Path) -> None:
    """Print the first rows, and what each volume that is left out comes to."""
    import numpy as np

    from segkit.tune.table import PARTS

    shown = table[:ROWS]
    names = [{"row": k} | {what: _words(row, what) for what in PARTS} for k, row in enumerate(shown, 1)]
    echo_table(f"the best of {len(table)} combinations by {goal.by}; table.json has all", names)
    figures = ["worst"] if left else []  # of one volume it is the score itself
    figures += ["spread", "wins"] if np.isfinite([row["spread"] for row in shown]).all() else []
    figures += ["around", "best", "oracle", "voi_split", "voi_merge"]
    cells = [
        {"row": k, "threshold": f"{row['threshold']:g}", goal.by: row["mean"]} | {name: row[name] for name in figures}
        for k, row in enumerate(shown, 1)
    ]
    echo_table("at the threshold of each", cells)
    if left:
        echo_table("each volume scored with what the others choose", left)
    note(f"the choice as a recipe: segkit run {folder / 'recipe.toml'}")


def _words(row: Mapping[str, Any], what: str) -> str:
    return " ".join([row[what], *(f"{name}={value}" for name, value in row[f"{what}_parameters"].items())])


def _recipe(data: Data, combination: "Combination", row: "Row", goal: "Goal") -> str:
    """The recipe of the choice, which reads the first volume unless it is told others."""
    from segkit.tune.recipe import Inputs, recipe_text
    from segkit.tune.table import PARTS

    combination = replace(combination, **{what: _anywhere(getattr(combination, what)) for what in PARTS})
    options: dict[str, dict[str, object]] = {"evaluate": {"border": data.border} if data.border else {}}
    if not goal.counts_voxels:
        options["evaluate"] |= {"metric": ["cremi", "nerl"]}
        options["evaluate"] |= {"skeletons": _absolute(data.skeletons[0])} if data.skeletons else {}
        options["evaluate"] |= {"skeletons-unit": data.skeletons_unit} if data.skeletons_unit else {}
    if data.neighborhood:
        options |= {name: {"neighborhood": data.neighborhood} for name in ("fragment", "agglomerate")}
    if data.augment != "none":
        options["infer"] = {"augment": data.augment}
    run = _absolute(data.run_folder) if data.run_folder else None
    inputs = Inputs(_absolute(data.data[0]), _absolute(data.truths[0]), run, options)
    score = f"{goal.by} {goal.shown(row.mean):.4g}"
    told = f"{score} on {len(data.data)} volume(s): the mean at this threshold; the worst {goal.shown(row.worst):.4g}."
    return recipe_text(combination, row.threshold, inputs, told)


def _anywhere(spec: "ComponentSpec") -> "ComponentSpec":
    """The component with the files that it reads named whatever the working folder."""
    files = {name: str(path.absolute()) for name, path in spec.files().items() if name in spec.parameters}
    return replace(spec, parameters={**spec.parameters, **files})


def _absolute(address: str) -> str:
    """The address whatever the working folder, if it lies on this machine."""
    from segkit.io import parse_address

    found = parse_address(address)
    return str(replace(found, path=found.path.absolute()))
