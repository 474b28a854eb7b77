"""CONTRIBUTING and the workflows: what they name exists, and continuous integration runs make and nothing else."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def helpers() -> list[str]:
    """What the table of helpers names: module paths with a dot or a slash in them."""
    section = re.search(r"^## What exists once\n(.*?)(?=^## )", TEXT, re.M | re.S)[1]
    cells = [line.split("|")[2] for line in section.splitlines() if line.startswith("| ")]
    names = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    return [name for name in names if re.fullmatch(r"\w+[./][\w./]+", name)]


def exists(name: str) -> bool:
    """Whether a module of segkit, or a name in one, is there; `agglomerate/_kernels.find` is a name in a module."""
    name = f"segkit.{name.removesuffix('.py').replace('/', '.')}"
    parent, _, last = name.rpartition(".")
    if importlib.util.find_spec(parent) is None:
        return False
    module = importlib.import_module(parent)
    return hasattr(module, last) or importlib.util.find_spec(name) is not None


@pytest.mark.parametrize("name", helpers())
def test_helpers_exist(name):
    assert exists(name)


def test_a_helper_that_does_not_exist_is_seen():
    assert len(helpers()) > 20
    assert not exists("data.nothing_of_that_name") and exists("threads.share")


def test_files_exist():
    names = re.findall(r"\]\(([^)#:]+)\)|`((?:segkit|tests|docs)/[\w/]+(?:\.\w+)?)`", TEXT)
    names = [first or second for first, second in names]
    assert len(names) > 10
    assert not [name for name in names if not (ROOT / name).exists()]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_make_alone(path):
    jobs = yaml.safe_load(path.read_text())["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    for step in steps:
        assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]) if "uses" in step else step["run"].startswith("make ")
    targets = {step["run"].split()[1] for step in steps if "run" in step}
    assert targets <= {"test", "lint", "docs", "test-slow"}, targets


def test_continuous_integration_has_its_parts():
    assert [path.stem for path in WORKFLOWS] == ["docs", "slow", "tests"]
