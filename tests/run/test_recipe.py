"""Recipes: references, changes, refusals; and that the shipped ones are commands the command line takes."""

import tomllib
from pathlib import Path

import pytest

from segkit.cli.steps import Earlier, Step
from segkit.errors import InvalidInput, InvalidParameter, MissingFile
from segkit.parameters import parse_assignments
from segkit.registry.component import OWN
from segkit.run import find_recipe, load_recipe, shipped_recipes
from segkit.run.recipe import as_assignment

RECIPE = """
title = "Small"
[data]
file = "a.h5"
raw = "{data.file}"
many = ["a.h5", "b.h5"]
[infer]
raw = "{data.raw}[0:5]"
run = "{out}/run"
out = "{out}/affinities.h5"
[again]
verb = "train"
data = "{data.many}"
out = "{out}/again"
val = "{data.many}"
resume = true
set = { steps = 3, "model.pooling" = [[1, 2, 2]], model = { padding = "same" } }
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(RECIPE)
    return path


def words(recipe) -> list[list[str]]:
    return [Step.of(stage).words() for stage in recipe.stages]


def test_a_recipe_is_the_commands_that_a_user_would_type(path):
    infer, train = words(load_recipe(str(path), Path("x")))
    assert infer == ["segkit", "infer", "a.h5[0:5]", "--run", "x/run", "--out", "x/affinities.h5"]
    settings = ["--set", "steps=3", "--set", "model.pooling=[[1, 2, 2]]", "--set", "model.padding=same", "--resume"]
    assert train == [
        *["segkit", "train", "a.h5", "b.h5", "--val", "a.h5", "--val", "b.h5", "--out", "x/again"],
        *settings,
    ]


def test_changes_are_laid_over_it(path):
    recipe = load_recipe(str(path), path.parent, {"data": {"raw": "c.h5"}, "infer": {"tile": [1, 2, 3]}})
    first = words(recipe)[0]
    assert first[2] == "c.h5[0:5]" and first[first.index("--tile") + 1 :][:3] == ["1", "2", "3"]


@pytest.mark.parametrize("value", [3, 1e-4, True, "same", [[1, 2, 2]], ["z", "y"]])
def test_assignments_come_back_as_they_were(value):
    assert parse_assignments([as_assignment("name", value)]) == {"name": value}


GROWING = "[data]\na1 = 'xxxxxxxxxx'\n"
GROWING += "".join(f"a{n} = '{f'{{data.a{n - 1}}}' * 10}'\n" for n in range(2, 15)) + "[infer]\nraw = '{data.a14}'\n"
"""References that become 10^14 characters."""


@pytest.mark.parametrize(
    ("text", "error", "fragment"),
    [
        ("[infer]\nraw = '{data.rwa}'\n", InvalidInput, "{data.rwa}"),
        ("[data]\na = '{data.b}'\nb = '{data.a}'\n[infer]\nraw = '{data.a}'\n", InvalidInput, "in a circle"),
        (GROWING, InvalidInput, "longer than"),
        ("[infer\n", InvalidInput, "not valid TOML"),
        ("infer = 3\n", InvalidInput, "table of options"),
        ("[data]\ntrain = ''\n[infer]\nraw = '{data.train}'\n", InvalidParameter, "--set data.train="),
        ("title = 'empty'\n", InvalidInput, "at least one stage"),
    ],
)
def test_refusals(tmp_path, text, error, fragment):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(error, match=fragment.replace("{", r"\{")):
        load_recipe(str(path), tmp_path)


def test_a_change_must_name_a_table(path):
    with pytest.raises(InvalidParameter, match="must name a table"):
        load_recipe(str(path), path.parent, {"inffer": {}})
    with pytest.raises(InvalidParameter, match="must be one of file, raw, many"):
        load_recipe(str(path), path.parent, {"data": {"rwa": "b.h5"}})
    with pytest.raises(InvalidParameter, match="must be a table"):
        load_recipe(str(path), path.parent, {"data": 5})
    with pytest.raises(MissingFile, match="shipped recipes are"):
        load_recipe("nothing", path.parent)


def test_recipes_of_other_distributions_are_found_by_name(tmp_path, monkeypatch):
    """What is segkit's own keeps its name; a name that two others offer needs the distribution before it."""
    folders = [(OWN, tmp_path / "own"), ("lab-a", tmp_path / "a"), ("lab-b", tmp_path / "b")]
    for (_, folder), names in zip(folders, (["demo"], ["demo", "twice", "once"], ["twice"]), strict=True):
        folder.mkdir()
        for name in names:
            (folder / f"{name}.toml").write_text("")
    monkeypatch.setattr("segkit.run.recipe.recipe_folders", lambda: folders)
    assert list(shipped_recipes()) == ["demo", "lab-a:demo", "once", "lab-a:twice", "lab-b:twice"]
    assert find_recipe("demo") == tmp_path / "own" / "demo.toml"
    with pytest.raises(MissingFile, match="lab-a:twice"):
        find_recipe("twice")


def test_a_recipe_known_elsewhere_says_what_to_install(monkeypatch):
    monkeypatch.setattr("segkit.run.recipe.shipped_recipes", dict)
    with pytest.raises(MissingFile, match="it comes with segkit-natural-images: 'pip install"):
        find_recipe("bsds-unet2d")


@pytest.mark.parametrize(
    ("key", "text"), [("tempo", "must be an argument or option"), ("verb", "must be one of train")]
)
def test_options_and_verbs_must_exist(path, key, text):
    recipe = load_recipe(str(path), path.parent, {"infer": {key: "nonsense"}})
    with pytest.raises(InvalidInput, match=text):
        words(recipe)


@pytest.mark.parametrize(("key", "value"), [("resume", "false"), ("set", 5)])
def test_flags_are_booleans_and_set_is_a_table(path, key, value):
    with pytest.raises(InvalidInput, match="must be"):
        words(load_recipe(str(path), path.parent, {"again": {key: value}}))


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_parse_as_commands(name, tmp_path):
    known = tomllib.loads(find_recipe(name).read_text())
    given = known.get("data", {"file": ""})
    data = {"data": dict.fromkeys((key for key, value in given.items() if value == ""), "sample.hdf")}
    earlier = Earlier()
    for stage in load_recipe(name, tmp_path, data).stages:
        step = Step.of(stage).supposed(earlier)
        values = step.values()
        for text, role in step.reads(values):
            earlier.check(text, role)
        earlier.add(step)
        assert values["out" if stage.verb != "evaluate" else "truth"]
        typed = step.verb.make_context(stage.verb, step.words()[2:]).params  # as a user's call
        if "assignments" in typed:
            typed["assignments"] = parse_assignments(typed["assignments"])
        assert {name: value or None for name, value in values.items()} == {n: v or None for n, v in typed.items()}


def test_a_recipe_changes_its_base(path, tmp_path):
    changed = tmp_path / "changed.toml"
    changed.write_text(
        f'base = "{path}"\n[data]\nraw = "other.h5"\n[again.set]\nsteps = 9\n[infer]\ntile = [1, 2, 3]\n'
    )
    infer, train = words(load_recipe(str(changed), Path("x")))
    assert infer[2] == "other.h5[0:5]" and infer[-3:] == ["1", "2", "3"]
    assert "steps=9" in train and "model.padding=same" in train
    changed.write_text(f'base = "{path.name}"\n[again.set]\nsteps = 8\n')  # beside it, not in the working directory
    assert "steps=8" in words(load_recipe(str(changed), Path("x")))[1]
    changed.write_text(f'base = "{changed}"\n')
    with pytest.raises(InvalidInput, match="is its own base"):
        load_recipe(str(changed), tmp_path)


def test_budgets_are_values_and_must_be_known(path):
    path.write_text(RECIPE.replace("steps = 3", 'steps = "{budget.steps}"') + "[budget]\nsteps = 7\n")
    assert "steps=7" in words(load_recipe(str(path), Path("x")))[1]
    assert "steps=8" in words(load_recipe(str(path), Path("x"), {"budget": {"steps": 8}}))[1]
    with pytest.raises(InvalidParameter, match=r"--set budget\.step must be one of steps"):
        load_recipe(str(path), Path("x"), {"budget": {"step": 8}})


def test_results_of_earlier_stages_are_filled_in_when_they_are_known(path):
    path.write_text(RECIPE.replace("steps = 3", 'steps = "{result.infer.steps}"'))
    recipe = load_recipe(str(path), Path("x"))
    train = Step.of(recipe.stages[1])
    assert "steps={result.infer.steps}" in train.words()
    assert "steps=4" in train.filled({"infer": {"steps": 4}}).words()
    assert train.filled({"infer": {"steps": 4}}).values()["assignments"]["steps"] == 4
    with pytest.raises(InvalidInput, match="result 'steps' must be one of seconds"):
        train.filled({"infer": {"seconds": 4}})
    path.write_text(RECIPE.replace('"{data.raw}[0:5]"', '"{result.again.out}"'))
    with pytest.raises(InvalidInput, match="result of 'again', which is no stage before 'infer'"):
        load_recipe(str(path), Path("x"))
