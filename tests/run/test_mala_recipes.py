"""The recipes after Funke et al. 2018 with tiny networks: trained, validated, segmented and scored as they say."""

import json

import numpy as np
import pytest

from segkit import io
from segkit.testing.phantoms import neurites

SMALL = {
    "mala3d": ["patch=[4, 24, 24]", "model.pooling=[[1, 2, 2]]", "model.growth=1", "model.padding=same"],
    "mala2d": ["patch=[1, 22, 22]", "model.levels=2", "model.growth=1"],
}
COMMON = ["model.features=2", "validate_every=2", "health.every=0", "augmentation.elastic.probability=0"]
VOLUMES = ["--set", "data.train=A.h5", "--set", "data.val=B.h5", "--set", "data.test=C.h5"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three synthetic volumes of anisotropic voxels, in the working directory."""
    for number, name in enumerate("ABC"):
        phantom = neurites((8, 48, 48), count=8, seed=number, voxel_size=(40, 8, 8))
        io.write_all(tmp_path / f"{name}.h5", {"raw": phantom.raw, "truth": phantom.truth})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", SMALL)
def test_from_three_volumes_to_scores_at_the_threshold_that_validation_chose(segkit, folder, name):
    small = [f"train.set.{setting}" for setting in (*SMALL[name], *COMMON)] + ["train.steps=4", "train.device=cpu"]
    words = ["run", name, "--out", "out", *VOLUMES, *(word for each in small for word in ("--set", each))]
    result = segkit(*words, "--json")
    assert result.exit_code == 0, result.stderr
    scores = json.loads(result.stdout)["evaluate"]
    best = json.loads((folder / "out" / "run" / "best.json").read_text())
    assert io.read_notes("out/segmentation.h5", "merge_tree")["chosen"]["threshold"] == best["threshold"]
    again = segkit("segment", "out/segmentation.h5", "--threshold", repr(best["threshold"]), "--out", "cut.h5")
    assert again.exit_code == 0, again.stderr
    assert np.array_equal(*(io.read_labels(file, "segmentation").array for file in ("cut.h5", "out/segmentation.h5")))
    section = ["--per-section"] if name == "mala2d" else []
    near = json.loads(segkit("evaluate", "cut.h5", "C.h5", "--border", 25, *section, "--json").stdout)
    whole = json.loads(segkit("evaluate", "cut.h5", "C.h5", *section, "--json").stdout)
    assert scores["cremi_score"] == near["cremi_score"] != whole["cremi_score"]


@pytest.mark.parametrize("name", ["mala3d", "mala2d", "mala2d-padded", "mala2d-3sections"])
def test_validation_segments_with_the_components_of_the_recipe(segkit, folder, name):
    changes = ["fragment.set.size_threshold=7", "fragment.method=affinity-watershed", "agglomerate.set.score=max"]
    kept = SMALL.get(name, ["patch=[1, 22, 22]", "model.levels=2", "model.growth=1"])
    changes += [f"train.set.{setting}" for setting in (*kept, *COMMON)]
    result = segkit("run", name, "--dry-run", *VOLUMES, *(word for each in changes for word in ("--set", each)))
    assert result.exit_code == 0, result.stderr
    train, _, fragment, agglomerate, evaluate = result.stdout.splitlines()
    assert "--val B.h5" in train and "validation.fragmenter=affinity-watershed" in train
    assert "validation.fragmenter_parameters.size_threshold=7" in train and "--set size_threshold=7" in fragment
    assert "validation.fragmenter_parameters.per_section=true" in train and "--set per_section=true" in fragment
    assert "validation.agglomerator_parameters.score=max" in train and "--set score=max" in agglomerate
    assert "--threshold run" in agglomerate and "--border 25" in evaluate


def test_all_volumes_that_are_missing_are_named_in_one_sentence(segkit):
    result = segkit("run", "mala3d", "--set", "data.train=A.h5")
    assert result.exit_code == 2 and "data.val, data.test of recipe 'mala3d' must be given" in result.stderr
    assert "--set data.val=sample_B.hdf --set data.test=sample_C.hdf" in result.stderr
