"""The table of experiments: the whole way on tiny data, and what is done when it is called again."""

import json
import sys
from argparse import Namespace
from importlib.util import find_spec

import experiments
import pytest
import recipes
from click.testing import CliRunner

from segkit import io
from segkit.cli.main import main
from segkit.testing.phantoms import neurites

TINY = ("budget.steps=2", "budget.features=2", "budget.patch=[8,16,16]", "budget.pooling=[[1,2,2]]")
BACKENDS = ["backends"] if find_spec("waterz") else []


@pytest.fixture
def script(monkeypatch):
    """A callable(*words) that runs the script; what its calls of segkit said, in this process."""
    said = []

    def segkit(*words):
        done = CliRunner().invoke(main, [str(word) for word in words], prog_name="segkit")
        said.append(done.stderr)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    monkeypatch.setattr(recipes, "segkit", segkit)

    def run(*words) -> str:
        said.clear()
        monkeypatch.setattr(sys, "argv", [experiments.__file__, *map(str, words)])
        experiments.main()
        return "".join(said)

    return run


@pytest.fixture
def files(tmp_path):
    """Where results and the page go, with markers."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- experiments:begin -->\n<!-- experiments:end -->\n")
    return ["--results", tmp_path / "results" / "found.json", "--page", page, "--out", tmp_path / "runs"]


def test_experiments(tmp_path, files, script):
    phantom = neurites((24, 32, 32), count=6, seed=0)
    data = tmp_path / "data.h5"
    io.write_all(data, {"raw": phantom.raw, "truth": phantom.truth})
    words = [data, "--minutes", 1, "--train", "[0:16]", "--tune", "[8:16]", "--test", "[16:24]", *files]
    words += [word for setting in TINY for word in ("--set", setting)]
    script(*words, "--only", "unet3d", "decoupled", *BACKENDS)
    rows = json.loads(files[1].read_text())["rows"]
    assert [row["experiment"] for row in rows] == ["unet3d"] * 2 + BACKENDS * 2 + ["decoupled"] * 2
    assert not any("error" in row for row in rows) and rows[0]["steps"] == 2 and rows[0]["scored"] == "volume"
    plain, grid = rows[-2:]
    assert plain["cremi_score"] <= grid["cremi_score"]
    text = files[3].read_text()
    assert "before" in text and "| U-Net, 3-D | volume |" in text and "0.75 / 0.53 / 0.77 / 0.56" in text
    assert "segkit run experiments/unet3d --set data.file=DATA" in text

    again = script(*words, "--only", "unet3d")
    assert "train: finished before" in again and "segkit train" not in again
    assert json.loads(files[1].read_text())["rows"] == rows


def test_what_was_made_of_other_data_is_made_again(tmp_path):
    io.write(tmp_path / "data.h5", neurites((8, 16, 16), count=3, seed=0).truth, "truth")
    for test in ("[0:4]", "[2:8]"):
        experiments.make_oracles(Namespace(data=tmp_path / "data.h5", test=test, out=tmp_path))
        made = tmp_path / "oracle_grid.h5"
        assert io.read_affinities(made).grid == io.read_labels(f"{tmp_path / 'data.h5'}{test}").grid
    before = made.stat().st_mtime_ns
    experiments.make_oracles(Namespace(data=tmp_path / "data.h5", test=test, out=tmp_path))
    assert made.stat().st_mtime_ns == before


def test_a_failure_is_a_row(tmp_path, files, monkeypatch):
    """Its calls of segkit are processes of their own."""
    monkeypatch.setattr(sys, "argv", ["experiments.py", *map(str, [tmp_path / "nothing.h5", *files, "--only", "fcn"])])
    experiments.main()
    (row,) = json.loads(files[1].read_text())["rows"]
    assert "nothing.h5" in row["error"] and "failed: " in files[3].read_text()
