"""The README: its tables name what exists, and its tour runs as written."""

import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from segkit.cli.main import VERBS
from segkit.registry import components
from segkit.run import shipped_recipes

TEXT = (Path(__file__).parents[1] / "README.md").read_text()
OPTIONS = {
    "--model": "models",
    "--loss": "losses",
    "--method": "fragmenters",
    "--backend": "agglomerators",
    "--metric": "metrics",
}


def section(title: str) -> str:
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)[1]


def tour() -> list[str]:
    """The commands of the tour; a backslash at the end of a line goes on in the next."""
    code = "\n".join(line[4:] for line in section("A tour").splitlines() if line.startswith("    "))
    return [line for line in code.replace("\\\n", " ").splitlines() if line.startswith("segkit ")]


@pytest.mark.parametrize(("option", "kind"), OPTIONS.items())
def test_the_table_of_components_is_the_registry(option, kind):
    row = next(line for line in section("Components").splitlines() if line.startswith(f"| `{option}`"))
    names = set(re.findall(r"`([\w-]+)`", row.split("|")[2]))
    assert names == {component.name for component in components(kind) if component.distribution == "segkit-em"}


def test_the_table_of_recipes_is_the_folder():
    named = {name for name in shipped_recipes() if "/" not in name}
    assert set(re.findall(r"^\| `([\w-]+)` \|", section("Recipes"), re.M)) == named


def test_the_table_of_experiments_is_their_folder():
    rows = re.findall(r"^\| (`[^|]+`) \|", section("Experiments"), re.M)
    named = {f"experiments/{name}" for name in re.findall(r"`([\w-]+)`", "".join(rows))}
    assert named >= {name for name in shipped_recipes() if "/" in name} and "experiments/fcn" in named


def test_the_tour_shows_every_verb_of_the_pipeline():
    shown = {shlex.split(line)[1] for line in tour()}
    assert set(VERBS) - shown <= {"demo", "benchmark"}


def test_commands_by_blocks_are_calls():
    lines = [line.strip() for line in section("Larger than memory").splitlines() if line.startswith("    segkit ")]
    assert {shlex.split(line)[1] for line in lines} == {
        "infer",
        "fragment",
        "agglomerate",
        "segment",
        "evaluate",
        "run",
    }
    for line in lines:
        verb, *words = shlex.split(line)[1:]
        import_module(f"segkit.cli.{verb}").command.make_context(verb, words)


def test_nothing_is_left_to_fill_in():
    assert not re.findall(r"\b[A-Z0-9]+_[A-Z0-9_]+\b", re.sub(r"`[^`]*`", "", TEXT))


@pytest.mark.data
def test_the_tour_runs_as_written(real_data, tmp_path):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "DATA": str(real_data / "fib25_train.h5")}
    if not any(component.name == "waterz" for component in components("agglomerators")):
        pytest.skip("needs segkit-waterz")
    for line in tour():
        done = subprocess.run(line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
