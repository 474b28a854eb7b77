"""segkit benchmark train and infer."""

import json

import pytest

from segkit import io
from segkit.testing.phantoms import neurites

SMALL = ["--set", "model.features=2", "--set", "model.growth=2", "--set", "model.pooling=[[1,2,2]]"]
SMALL += ["--set", "patch=[4,8,8]", "--loss", "bce", "--device", "cpu"]


@pytest.fixture
def data(tmp_path):
    phantom = neurites((30, 40, 40), count=8, seed=3)
    io.write_all(tmp_path / "data.h5", {"raw": phantom.raw, "truth": phantom.truth})
    return tmp_path / "data.h5"


def test_train(segkit, data, tmp_path):
    result = segkit("benchmark", "train", data, *SMALL, "--repeat", 2, "--json", "--out", tmp_path / "report.json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report == json.loads((tmp_path / "report.json").read_text())
    parts = [row["part"] for row in report["rows"]]
    assert parts == ["network", "optimiser", "loss", "reading", "augmentation", "loop", "whole"]
    seconds = {row["part"]: row["seconds"] for row in report["rows"]}
    assert all(row["cpu_seconds"] > 0 for row in report["rows"])
    assert report["feed"] == pytest.approx((seconds["whole"] - seconds["optimiser"]) / seconds["network"])
    assert 0 < report["waiting"] < seconds["loop"] * 3 and report["waiting_share"] > 0
    assert report["steps_per_second"] == pytest.approx(1 / seconds["whole"])
    assert report["voxels"] >= 4 * 8 * 8 and report["loss"] == "bce"


def test_train_with_the_settings_of_a_run(segkit, data, tmp_path):
    words = ["train", data, *SMALL, "--set", "batch_size=2", "--steps", 1, "--out", tmp_path / "run"]
    assert segkit(*words).exit_code == 0
    result = segkit("benchmark", "train", tmp_path / "run", data, "--repeat", 2)
    assert result.exit_code == 0, result.stderr
    assert "unet3d with bce" in result.stdout and "+ augmentation" in result.stdout
    assert "% to the network" in result.stderr and "a step of the loop waits" in result.stderr
    assert segkit("benchmark", "train", tmp_path / "run").exit_code == 2


@pytest.mark.parametrize("suffix", ["h5", "zarr"])
def test_infer(segkit, data, suffix):
    words = ["--model", "unet3d", "--set", "features=2", "--set", "growth=2", "--set", "pooling=[[1,2,2]]"]
    result = segkit("benchmark", "infer", data, *words, "--device", "cpu", "--repeat", 1, "--format", suffix, "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert [row["part"] for row in report["rows"]] == ["network", "memory", "file"]
    bare, _, file = (row["seconds"] for row in report["rows"])
    assert report["added"] == pytest.approx(file / bare - 1) and report["format"] == f".{suffix}"
    assert {"reading", "network", "blending"} <= set(report["phases"]) and report["shape"] == [30, 40, 40]


def test_infer_needs_one_network(segkit, data):
    for words in ([], ["--run", "a", "--model", "b"]):
        result = segkit("benchmark", "infer", data, *words)
        assert result.exit_code == 2 and "give one of --run and --model" in result.stderr
    result = segkit("benchmark", "infer", data, "--run", "a", "--set", "features=2")
    assert result.exit_code == 2 and "--set is for --model" in result.stderr
