"""segkit tune, as typed."""

import json

import numpy as np
import pytest

from segkit import io
from segkit.infer.oracle import oracle_affinities
from segkit.testing.phantoms import neurites

FEW = ["--method", "watershed", "--fragment-set", "threshold=0.5,0.7", "--fragment-set", "seed_distance=3"]
FEW += ["--backend", "python", "--set", "score=mean,max"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Two files with affinities, truth and raw data."""
    folder = tmp_path_factory.mktemp("tune")
    for seed, name in enumerate("ab"):
        phantom = neurites((12, 28, 28), count=6, seed=seed)
        affinities = oracle_affinities(phantom.truth, noise=0.25, seed=seed)
        io.write_all(folder / f"{name}.h5", {"raw": phantom.raw, "truth": phantom.truth, "affinities": affinities})
    return folder


def called(segkit, *words):
    result = segkit(*words)
    assert result.exit_code == 0, result.stderr
    return result


def test_a_row_and_the_recipe_give_what_the_verbs_give(segkit, inputs, tmp_path):
    one, out = inputs / "a.h5", tmp_path / "tuned"
    table = json.loads(called(segkit, "tune", one, "--truth", one, "--out", out, *FEW, "--json").stdout)
    assert table == json.loads((out / "table.json").read_text()) and len(table["rows"]) == 4
    assert all(row["seconds"] > 0 for row in table["rows"])
    assert [row["around"] for row in table["rows"]] == sorted(row["around"] for row in table["rows"])
    assert (out / "pareto.png").exists()
    for row in (table["rows"][0], table["rows"][3]):
        settings = [f"{name}={value}" for name, value in row["fragmenter_parameters"].items()]
        cutting = [word for each in settings for word in ("--set", each)]
        called(segkit, "fragment", one, "--method", row["fragmenter"], *cutting, "--out", tmp_path / "f.h5")
        words = ["--score", row["agglomerator_parameters"]["score"], "--threshold", row["threshold"]]
        tree = tmp_path / "tree.h5"
        called(segkit, "agglomerate", one, "--fragments", tmp_path / "f.h5", *words, "--out", tree)
        scores = json.loads(called(segkit, "evaluate", tree, one, "--json").stdout)
        assert {name: row[name] for name in scores} == pytest.approx(scores, abs=1e-12)
        assert row["mean"] == pytest.approx(scores["cremi_score"])
        swept = json.loads(called(segkit, "evaluate", tree, one, "--sweep", "--json").stdout)
        assert row["best"] == swept["best"]["cremi_score"] and row["oracle"] == swept["oracle"]["cremi_score"]
    found = called(segkit, "run", out / "recipe.toml", "--out", tmp_path / "run", "--no-report", "--json")
    first = table["rows"][0]
    scores = json.loads(found.stdout)["evaluate"]
    assert {name: first[name] for name in scores} == pytest.approx(scores, abs=1e-12)


def test_the_same_command_goes_on_and_prints_the_same(segkit, inputs, tmp_path):
    volumes = [inputs / "a.h5", inputs / "b.h5"]
    words = ["tune", *volumes, "--truth", volumes[0], "--truth", volumes[1], "--out", tmp_path, *FEW]
    first = called(segkit, *words)
    assert "each volume scored with what the others choose" in first.stdout and "worst" in first.stdout
    kept = sorted((tmp_path / "combinations").iterdir())
    kept[1].unlink()
    again = called(segkit, *words)
    assert again.stdout == first.stdout
    assert sorted((tmp_path / "combinations").iterdir()) == kept
    report = json.loads((tmp_path / "table.json").read_text())
    assert [each["volume"] for each in report["left_out"]] == [str(volume) for volume in volumes]
    assert all(each["best"] <= each["cremi_score"] for each in report["left_out"])


def test_a_space_in_a_file_and_another_score(segkit, inputs, tmp_path):
    (tmp_path / "space.toml").write_text(
        '[[fragmenter]]\nname = "threshold"\n[[agglomerator]]\nname = "python"\n[[agglomerator]]\nname = "higra"\n'
    )
    one = inputs / "a.h5"
    words = ["tune", one, "--truth", one, "--out", tmp_path / "out", "--space", tmp_path / "space.toml", "--by", "voi"]
    report = json.loads(called(segkit, *words, "--border", 10, "--json").stdout)
    assert {row["agglomerator"] for row in report["rows"]} == {"python", "higra"}
    for row in report["rows"]:
        assert row["mean"] == pytest.approx(row["voi_split"] + row["voi_merge"])
    assert "border = 10" in (tmp_path / "out" / "recipe.toml").read_text()


def test_columns_that_say_nothing_are_left_out(segkit, inputs, tmp_path):
    """The worst of one volume; the spread of lengths of skeletons."""
    one, line = inputs / "a.h5", tmp_path / "s.swc"
    grid = io.read_labels(one, role="truth").grid
    nodes = [(np.array([6, 6 + k, 6]) + 0.5) * grid.voxel_size + grid.offset for k in range(4)]
    line.write_text("\n".join(f"{k + 1} 0 {n[2]} {n[1]} {n[0]} 1 {k or -1}" for k, n in enumerate(nodes)) + "\n")
    words = ["tune", one, "--truth", one, *FEW, "--out"]
    voxels = called(segkit, *words, tmp_path / "v").stdout
    assert "worst" not in voxels and "spread" in voxels and "wins" in voxels
    words = [*words, tmp_path / "n", "--by", "nerl", "--skeletons", line, "--skeletons-unit", "nm"]
    found = called(segkit, *words).stdout
    assert "nerl" in found and not any(word in found for word in ("worst", "spread", "wins", "nan"))
    assert f'skeletons = "{line}"' in (tmp_path / "n" / "recipe.toml").read_text()


def test_raw_data_and_a_run(segkit, inputs, tmp_path):
    import torch

    from segkit.models import save_model
    from segkit.models.unet3d import UNet3D

    small = {"features": 2, "growth": 2, "pooling": [[1, 2, 2]], "padding": "same"}
    torch.manual_seed(0)
    offsets = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
    save_model(tmp_path / "net.safetensors", UNet3D(**small), name="unet3d", parameters=small, neighborhood=offsets)
    one, net = inputs / "a.h5", tmp_path / "net.safetensors"
    words = ["tune", one, "--truth", one, "--run", net, "--out", tmp_path / "out", *FEW]
    table = json.loads(called(segkit, *words, "--json").stdout)
    assert (tmp_path / "out" / "affinities-1.h5").exists()
    assert "finished before" in called(segkit, *words).stderr
    run = ["run", tmp_path / "out" / "recipe.toml", "--out", tmp_path / "run", "--no-report", "--json"]
    scores = json.loads(called(segkit, *run).stdout)["evaluate"]
    assert scores["cremi_score"] == pytest.approx(table["rows"][0]["cremi_score"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--truth", "t.h5", "--truth", "t.h5"], "--truth must be given once for each of the 1 DATA"),
        (["--truth", "t.h5", "--method", "watreshed"], "did you mean 'watershed'"),
        (["--truth", "t.h5", "--fragment-set", "treshold=0.5"], "has no parameter 'treshold'"),
        (["--truth", "t.h5", "--set", "quantile=0.5,1.5"], "quantile"),
        (["--truth", "t.h5", "--set", "quantile"], "--set must look like name=value"),
        (["--truth", "t.h5", "--fragment-set", "threshold"], "--fragment-set must look like name=value"),
        (["--truth", "t.h5", "--space", "nowhere/s.toml"], "does not exist"),
        (["--truth", "t.h5", "--seed", 3], "--seed needs --trials"),
        (["--truth", "t.h5", "--space", "s.toml", "--backend", "python"], "--space must stand alone"),
        (["--truth", "t.h5", "--augment", "flips"], "--augment needs --run"),
        (["--truth", "t.h5", "--skeletons", "s.npz"], "--skeletons needs --by nerl"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_is_read(segkit, tmp_path, words, said):
    result = segkit("tune", tmp_path / "missing.h5", *words, "--out", tmp_path / "out")
    assert result.exit_code == 2 and said in result.stderr, result.stderr
    assert not (tmp_path / "out").exists()


def test_those_that_fail_are_told_and_the_others_chosen_from(segkit, inputs, tmp_path, monkeypatch):
    from segkit.agglomerate.greedy import GreedyMerging
    from segkit.errors import InvalidInput

    whole = GreedyMerging.agglomerate

    def fail(self, affinities, fragments):
        if self.score == "max":
            raise InvalidInput("not this volume")
        return whole(self, affinities, fragments)

    monkeypatch.setattr(GreedyMerging, "agglomerate", fail)
    one = inputs / "a.h5"
    result = segkit("tune", one, "--truth", one, "--out", tmp_path / "out", *FEW)
    assert result.exit_code == 1 and "not this volume" in result.stderr and "2 of 4 combinations" in result.stderr
    assert result.stderr.count("not this volume") == 1 and "score=max and 1 more: not this volume" in result.stderr
    assert 'score = "mean"' in (tmp_path / "out" / "recipe.toml").read_text()


def test_the_recipe_runs_in_another_folder(segkit, inputs, tmp_path, monkeypatch):
    """Its volumes were named relative to the first folder, in any letters."""
    (tmp_path / "here 😀").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "here 😀" / "a.h5").write_bytes((inputs / "a.h5").read_bytes())
    monkeypatch.chdir(tmp_path / "here 😀")
    called(segkit, "tune", "a.h5", "--truth", "a.h5", "--out", "tuned", *FEW)
    first = json.loads((tmp_path / "here 😀" / "tuned" / "table.json").read_text())["rows"][0]
    monkeypatch.chdir(tmp_path / "there")
    words = ["run", "../here 😀/tuned/recipe.toml", "--out", "run", "--no-report", "--json"]
    assert json.loads(called(segkit, *words).stdout)["evaluate"]["cremi_score"] == pytest.approx(first["mean"])


def test_a_file_that_a_component_reads_is_named_whatever_the_folder(tmp_path, monkeypatch):
    from pathlib import Path

    from segkit.blockwise import ComponentSpec
    from segkit.cli.tune import _anywhere

    class Reading(ComponentSpec):
        def files(self):
            return {"model": Path("m.json")}

    monkeypatch.chdir(tmp_path)
    found = _anywhere(Reading("agglomerators", "one", {"model": "./m.json", "score": "mean", "size": 3}))
    assert found.parameters == {"model": str(tmp_path / "m.json"), "score": "mean", "size": 3}
