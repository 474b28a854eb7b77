"""The pages: each command is a call, those of the how-to pages and of the tutorial run, and the site builds.

A page's blocks of `sh` and `python` are run from top to bottom, unless ``<!-- not run: REASON -->`` stands before a
block. Commands run in a folder that holds what the page says it begins with, made from synthetic neurites; `SMALL` is
added to them, so that networks are tiny and trained for two steps.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.io import savemat

from segkit.cli.main import VERBS, main
from segkit.run import shipped_recipes
from segkit.view import things

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
RUN = [name for name in NAMES if re.match(r"README|docs/(how-to/|tutorial)", name) and not name.endswith("plugins.md")]
"""The page on plugins runs in tests/scaffold, where what it installs is installed."""
BEGINS = {"README.md": {"sample_A.hdf", "sample_B.hdf", "sample_C.hdf"}, "docs/tutorial.md": {"demo-output"}}
"""What pages begin with that do not say so in a paragraph "This page begins with"."""
BLOCK = re.compile(r"^(<!-- not run: .+ -->\n)?```(\w+)[^\n]*\n(.*?)^```$", re.M | re.S)
NETWORK = {
    "model.features": "2",
    "model.growth": "2",
    "model.pooling": "[[1,2,2]]",
    "model.padding": "same",
    "patch": "[4,16,16]",
    "health.every": "0",
}
TRAIN = ["--steps", "2", *(word for name, value in NETWORK.items() for word in ("--set", f"{name}={value}"))]
STAGE = [f"train.set.{name}={value}" for name, value in NETWORK.items()] + ["train.steps=2"]
FILES = ["data.train=sample_A.hdf[0:16]", "data.test=sample_B.hdf[0:16]"]
PICTURES = ["budget.steps=2", "budget.features=2", "train.set.model.levels=2", "train.set.patch=[1,6,6]"]
SMALL = {
    "train": TRAIN,
    "run mala3d": [word for setting in STAGE for word in ("--set", setting)],
    "run fib25-small": [word for setting in STAGE + FILES for word in ("--set", setting)],
    "run bsds-unet2d": [word for setting in PICTURES for word in ("--set", setting)],
}
"""What is added to a command, by its first words."""
OTHERWISE = {
    "[0:180]": "[0:2]",
    "[180:200]": "[2:3]",
    " --cluster local:2": "",
    "--resume": "--resume --steps 3",
    "--steps 40000": "--steps 4",
}
"""What is put in the place of what a page says: pictures are few here, processes cost time, and runs end at once."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str
    runs: bool

    def commands(self) -> Iterator[str]:
        """The logical lines of a block of shell; a here-document belongs to its command."""
        lines = iter(self.text.replace("\\\n", " ").splitlines())
        for line in lines:
            if here := re.search(r"<<'(\w+)'", line):
                for more in lines:
                    line += f"\n{more}"
                    if more == here[1]:
                        break
            if line.strip() and not line.lstrip().startswith("#"):
                yield line


def blocks(name: str) -> list[Block]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return [Block(language, code, not mark) for mark, language, code in BLOCK.findall(text)]


def calls(name: str) -> list[str]:
    """The calls of segkit on a page."""
    shell = [command for block in blocks(name) if block.language == "sh" for command in block.commands()]
    return [command for command in shell if command.startswith("segkit ")]


def words_of(command: str) -> list[str]:
    return shlex.split(command.replace("\\\n", " "), comments=True)[1:]


def parse(words: list[str]) -> dict:
    """Let click read a call, down to the verb; nothing is run. Returns the parameters."""
    command, context = main, click.Context(main, info_name="segkit")
    while isinstance(command, click.Group) and not words[0].startswith("-"):
        name, *words = words
        command, parent = command.get_command(context, name), context
        assert command is not None, f"there is no {name}"
        context = click.Context(command, info_name=name, parent=parent)
    return command.make_context(context.info_name, words).params


def made(folder: Path) -> None:
    """Make what pages begin with."""
    from segkit import io
    from segkit.testing.phantoms import neurites

    for seed, name in enumerate(("sample_A.hdf", "sample_B.hdf", "sample_C.hdf")):
        phantom = neurites((24, 48, 48), count=8, seed=seed, voxel_size=(40, 4, 4))
        io.write_all(folder / name, {"raw": phantom.raw, "truth": phantom.truth})
    (folder / "demo-output").mkdir()
    for name, depth in (("train", 64), ("test", 16)):
        phantom = neurites((depth, 48, 48), count=8, seed=depth, voxel_size=(40, 4, 4))
        io.write_all(folder / "demo-output" / f"{name}_0.h5", {"raw": phantom.raw, "truth": phantom.truth})
    pictures(folder / "BSDS500" / "data")
    for command in (
        "segkit train sample_A.hdf --out run",
        "segkit infer sample_B.hdf --run run --out affinities.h5",
        "segkit fragment affinities.h5 --set seed_distance=3 --out fragments.h5",
        "segkit agglomerate affinities.h5 --fragments fragments.h5 --out tree.h5",
        "segkit segment tree.h5 --threshold 0.5 --out segmentation.h5",
    ):
        call(command)


def pictures(folder: Path) -> None:
    """Three pictures of two colours, each annotated by two people, in the layout of BSDS500."""
    for part in ("images", "groundTruth"):
        (folder / part / "train").mkdir(parents=True)
    for number in range(3):
        left = np.indices((24, 36))[1] < 12 + 4 * number
        colours = np.where(left[..., None], [200, 30, 40], [20, 90, 220]).astype(np.uint8)
        Image.fromarray(colours).save(folder / f"images/train/{number}.png")
        cells = np.empty((1, 2), object)
        for person in range(2):
            cells[0, person] = {"Segmentation": np.where(left, 1, 2 + person).astype(np.uint16)}
        savemat(folder / f"groundTruth/train/{number}.mat", {"groundTruth": cells})


def call(command: str) -> None:
    """Run a line of a page in this folder: calls of segkit in this process, all else, and redirections, by bash."""
    for said, instead in OTHERWISE.items():
        command = command.replace(said, instead)
    if command.startswith("cd "):
        os.chdir(command.removeprefix("cd "))
        return
    if not command.startswith("segkit ") or re.search(r" [|>] ", command):
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(["bash", "-ec", command], env=os.environ | {"PATH": path}, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        return
    words = words_of(command)
    if words[0] == "view":  # it stays open, and tests/view has the browser
        assert things(parse(words)["data"])
        return
    small = [] if "--resume" in words else SMALL.get(words[0]) or SMALL.get(" ".join(words[:2]), [])
    done = CliRunner().invoke(main, [*words, *small], prog_name="segkit")
    assert done.exit_code == 0, f"{command}\n{done.stderr}"


@pytest.fixture(scope="session")
def beginnings(tmp_path_factory) -> Path:
    """The folder with all that pages begin with."""
    folder = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        made(folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_commands_are_calls(name):
    for command in calls(name):
        try:
            parse(words_of(command))
        except click.ClickException as error:
            pytest.fail(f"{command}: {error.format_message()}")
        except click.exceptions.Exit as done:  # of --version, say
            assert done.exit_code == 0, command


@pytest.mark.parametrize("words", ["train --sped 3", "segment", "plugins shw models fcn", "evaluate --border wide a b"])
def test_what_is_no_call_is_seen(words):
    with pytest.raises((click.ClickException, AssertionError)):
        parse(words.split())


@pytest.mark.parametrize("name", NAMES)
def test_brackets_and_stars_are_quoted(name):
    """An unquoted bracket or star is a pattern of file names for the shell."""
    for command in calls(name):
        bare = re.sub(r"'[^']*'|\"[^\"]*\"", "", command.partition(" #")[0])
        assert not re.search(r"[\[\]?]|(?<![\w.])\*|\*(?![\w.])", bare), command


@pytest.mark.parametrize("name", RUN)
def test_pages_run_from_top_to_bottom(name, beginnings, tmp_path, monkeypatch):
    """A page begins with what the paragraph "This page begins with" names, and nothing else."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / name).read_text(encoding="utf-8")
    stated = re.findall(r"^This page begins with.*?(?=\n\n)", text, re.M | re.S)
    named = set(re.findall(r"`([\w.]+)`", " ".join(stated))) | BEGINS.get(name, set())
    for there in named & {path.name for path in beginnings.iterdir()}:
        copy = shutil.copytree if (beginnings / there).is_dir() else shutil.copy
        copy(beginnings / there, tmp_path / there)
    namespace: dict[str, object] = {}
    for block in blocks(name):
        if block.language == "sh" and block.runs:
            for command in block.commands():
                call(command)
        elif block.language == "python" and block.runs:
            exec(compile(block.text, name, "exec"), namespace)


def test_some_page_shows_every_verb():
    shown = {words_of(command)[0] for name in RUN for command in calls(name)}
    assert set(VERBS) - shown <= {"demo"}


def test_the_table_of_experiments_is_their_folder():
    text = (ROOT / "docs" / "results" / "experiments.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:`[\w-]+` ?)+) \|", text, re.M)
    named = {f"experiments/{name}" for name in re.findall(r"`([\w-]+)`", " ".join(rows))}
    assert named >= {name for name in shipped_recipes() if "/" in name}


def test_the_site_builds_without_a_warning_and_asks_nobody(tmp_path):
    """Strictly, as `make docs` does; its pages load nothing from elsewhere."""
    missing = [name for name in ("material", "mkdocs_click", "mkdocstrings") if find_spec(name) is None]
    if missing:
        pytest.skip("needs pip install 'segkit-em[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr  # --quiet would hide and pass them
    pages = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.html")}
    assert len(pages) >= len(NAMES)  # the pages without the README, and 404.html
    for name, html in pages.items():
        loaded = re.findall(r"<(?:script|img|iframe)[^>]* src=[\"']?((?:https?:)?//[^\s\"'>]+)", html)
        loaded += re.findall(r"<link[^>]* rel=[\"']?(?:stylesheet|preconnect|icon)[^>]*(https?://[^\s\"'>]+)", html)
        assert not loaded, f"{name} loads {loaded}"
    shown = pages["reference/components/index.html"] + pages["reference/command-line/index.html"]
    assert 'id="agglomerator-python"' in shown and "segkit agglomerate" in shown and "generated:" not in shown
