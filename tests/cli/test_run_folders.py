"""Folders that are no training run, and files that are no network: what is said of them."""

import pytest
import torch

from segkit import io
from segkit.testing.phantoms import neurites

SMALL = ["--model", "fcn", "--loss", "mse", "--steps", 1, "--set", "patch=[1, 8, 8]", "--set", "health.every=0"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data.h5, and with a run where `segkit run` leaves it: runs/mine/run."""
    from click.testing import CliRunner

    from segkit.cli.main import main

    folder = tmp_path_factory.mktemp("runs")
    phantom = neurites((4, 24, 24), count=3, seed=0)
    io.write_all(folder / "data.h5", {"raw": phantom.raw, "truth": phantom.truth})
    (folder / "runs" / "mine").mkdir(parents=True)
    words = ["train", folder / "data.h5", *SMALL, "--out", folder / "runs" / "mine" / "run"]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.stderr
    return folder


@pytest.fixture
def folder(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return trained


CALLS = {
    "--run": lambda run: ["infer", "data.h5", "--run", run, "--out", "affinities.h5"],
    "--like": lambda run: ["train", "--like", run, "--out", "again"],
    "--out with --resume": lambda run: ["train", "data.h5", "--resume", "--out", run],
}


def said(result, code: int = 2) -> str:
    assert result.exit_code == code and "Traceback" not in result.stderr, (result.stderr, result.exception)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return line


@pytest.mark.parametrize("option", CALLS)
@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("runs/mine", "did you mean runs/mine/run?"),
        ("runs/mine/rnu", "which does not exist; did you mean runs/mine/run?"),
        ("runs", "`segkit train DATA --out RUN` makes one"),
        ("nowhere", "which does not exist; `segkit train DATA --out RUN` makes one"),
        ("data.h5", ""),
    ],
)
def test_what_a_run_holds_is_said_and_the_nearest_run(segkit, folder, option, given, meant):
    file = given == "data.h5" and option == "--run"
    line = said(segkit(*CALLS[option](given)), code=1 if file else 2)
    if file:  # that may be a network
        assert "data.h5 is damaged, cut short or no safetensors file" in line and "folder of a training run" in line
        return
    assert f"{option} must be the folder of a training run (config.json, card.json and" in line
    assert repr(given) in line and meant in line


@pytest.mark.parametrize("name", ["config.json", "checkpoints/last.ckpt"])
def test_other_files_of_a_run_are_answered_by_the_run(segkit, folder, name):
    line = said(segkit(*CALLS["--run"](f"runs/mine/run/{name}")))
    assert "must be a run folder or a network (.safetensors)" in line and "name the run, runs/mine/run" in line


def test_a_run_without_a_network_and_one_without_a_card(segkit, folder, tmp_path):
    for name in ("config.json", "card.json"):
        (tmp_path / name).write_bytes((folder / "runs/mine/run" / name).read_bytes())
    line = said(segkit(*CALLS["--run"](tmp_path)))
    assert "has no model.safetensors yet" in line and f"segkit train DATA --resume --out {tmp_path}" in line


def test_a_network_of_another_tool_is_refused(segkit, folder, tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    line = said(segkit(*CALLS["--run"](tmp_path / "other.safetensors")))
    assert "must be a model that segkit saved" in line and "its model.safetensors" in line
