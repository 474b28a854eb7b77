"""segkit train: volumes that do not fit into the cache, and how often each volume is drawn from."""

import pytest
from safetensors.numpy import load_file

from segkit import io
from segkit.testing.phantoms import neurites

TINY = ["--loss", "mse", "--steps", 3, "--set", "model.features=2", "--set", "model.growth=2", "--device", "cpu"]
TINY += ["--set", "model.pooling=[[1,2,2]]", "--set", "model.padding=same", "--set", "patch=[4,8,8]"]


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """Two volumes, as a.h5 and b.h5."""
    for seed, name in enumerate("ab"):
        phantom = neurites((20, 40, 40), count=8, seed=seed)
        io.write_all(tmp_path / f"{name}.h5", {"raw": phantom.raw, "truth": phantom.truth})
    monkeypatch.chdir(tmp_path)


def test_a_cache_that_is_too_small_changes_nothing_but_the_way_of_reading(segkit):
    for run, cache in (("whole", "1GB"), ("boxes", "400KB")):
        result = segkit("train", "a.h5", "b.h5", "--val", "b.h5[2:12]", "--out", run, "--cache", cache, *TINY)
        assert result.exit_code == 0, result.stderr
        assert ("the volumes take 0.7 MB: boxes are read, through a cache of 0.4 MB" in result.stderr) == (
            run == "boxes"
        )
    first, second = (load_file(f"{run}/model.safetensors") for run in ("whole", "boxes"))
    assert all((first[name] == second[name]).all() for name in first) and first.keys() == second.keys()


def test_a_run_is_repeated_the_other_way(segkit):
    assert segkit("train", "a.h5", "--out", "first", *TINY).exit_code == 0
    result = segkit("train", "--like", "first", "--out", "second", "--cache", "280KB")
    assert result.exit_code == 0 and "boxes are read" in result.stderr
    assert "data:" not in result.stderr and "settings: cache is 280000" in result.stderr
    first, second = (load_file(f"{run}/model.safetensors") for run in ("first", "second"))
    assert all((first[name] == second[name]).all() for name in first)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cache", "much"], "must be a number of bytes above 0, as 4GB, 500MB or 2GiB, not 'much'"),
        (["--set", "cache=much"], "it must be a number of bytes above 0, as 4GB, 500MB or 2GiB"),
        (["--cache", "1KB"], "cache must hold what is decoded at once of"),
        (["--set", "weights=[1,2,3]"], "weights must be one for each training volume, 2, not 3"),
        (["--set", "weights=[1,0]"], "setting 'weights.1' does not fit"),
    ],
)
def test_what_is_refused(segkit, tmp_path, words, said):
    result = segkit("train", "a.h5", "b.h5", "--out", "run", *TINY, *words)
    assert result.exit_code == 2 and said in result.stderr
    assert not (tmp_path / "run").exists()


def test_weights_decide_how_often_a_volume_is_drawn_from(segkit, monkeypatch):
    drawn = []
    from segkit.train import data

    place = data.PatchDataset._place
    monkeypatch.setattr(
        data.PatchDataset, "_place", lambda self, rng: drawn.append((found := place(self, rng))[0].name) or found
    )
    words = ["--set", "weights=[1,99]", "--set", "steps=60", "--set", "health.every=0"]
    assert segkit("train", "a.h5", "b.h5", "--out", "run", *TINY, *words).exit_code == 0
    assert drawn.count(drawn[-1]) > 50 and drawn[-1].endswith("b.h5")
