"""Mistakes of the first hour: each is answered by the argument, the rule, the value and the next step."""

import json

import h5py
import numpy as np
import pytest
import tifffile
import torch

from segkit import io
from segkit.data import Affinities
from segkit.testing.phantoms import neurites

SMALL = ["--model", "fcn", "--loss", "mse", "--steps", 1, "--set", "patch=[1, 8, 8]", "--set", "health.every=0"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory: cremi.h5 in the layout of CREMI, which states no kinds; affinities.h5 and raw.tif."""
    phantom = neurites((4, 24, 24), count=3, seed=0)
    with h5py.File(tmp_path / "cremi.h5", "w") as file:
        for name, array in (("raw", phantom.raw.array), ("labels/neuron_ids", phantom.truth.array)):
            file[f"volumes/{name}"] = array
            file[f"volumes/{name}"].attrs["resolution"] = (10.0, 10.0, 10.0)
    io.write(tmp_path / "affinities.h5", Affinities.from_labels(phantom.truth))
    tifffile.imwrite(tmp_path / "raw.tif", phantom.raw.array, photometric="minisblack")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(result) -> str:
    assert result.exit_code == 2 and "Traceback" not in result.stderr, (result.stderr, result.exception)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return line


@pytest.mark.parametrize(
    ("words", "sentences"),
    [
        (
            ["fragment", "cremi.h5:volumes/labels/neuron_ids", "--out", "o.h5"],
            [
                "cremi.h5:volumes/labels/neuron_ids: the dataset must be of kind affinities, not labels",
                "`segkit infer RAW",
            ],
        ),
        (
            ["evaluate", "cremi.h5:volumes/raw", "cremi.h5"],
            ["must be of kind labels, not volume", "`segkit segment MERGE_TREE"],
        ),
        (
            ["agglomerate", "affinities.h5", "--fragments", "affinities.h5:volumes/affinities", "--out", "o.h5"],
            ["must be of kind labels, not affinities", "`segkit fragment AFFINITIES --out FILE` makes fragments"],
        ),
        (["fragment", "affinities.h5", "--out", "fragments"], ["must end in .h5", "add .h5 or .zarr"]),
        (["fragment", "affinities.h5", "--out", "f.tif"], ["take .h5 or .zarr, and `segkit convert` that to .tif"]),
        (
            ["segment", "affinities.h5", "--threshold", "0.3,0.5", "--out", "o.h5"],
            ["must be a number or 'run', not '0.3,0.5'", "repeat the option"],
        ),
        (["train", "cremi.h5", "--val", "cremi.h5:volumes/raw", *SMALL, "--out", "run"], ["--val", "--raw-dataset"]),
        (
            ["agglomerate", "affinities.h5", "--score", "max", "--set", "score=mean", "--out", "o.h5"],
            ["--score must be the score of --set, 'mean', not 'max'"],
        ),
        (
            ["train", "cremi.h5", "--out", "run", "--set", "features=8"],
            ["training has no setting 'features'; did you mean 'model.features'?"],
        ),
        (
            ["train", "cremi.h5", "--loss", "malis", "--out", "run", "--set", "balanced=false"],
            ["no setting 'balanced'; did you mean 'loss.balanced'?"],
        ),
        (
            ["train", "cremi.h5", "--out", "run", "--set", "patch=29,29,29"],
            ["cremi.h5 must hold raw data of", "(model.padding=same"],
        ),
        (["plugins", "show", "pyton"], ["NAME must be that of a component, not 'pyton'; did you mean 'python'?"]),
    ],
)
def test_a_mistake_is_answered_with_the_next_step(segkit, folder, words, sentences):
    line = said(segkit(*words))
    for sentence in sentences:
        assert sentence in line
    assert not (folder / "o.h5").exists()


@pytest.mark.parametrize("threshold", [50, -0.5, "nan", "inf"])
def test_a_threshold_that_is_no_altitude_is_refused(segkit, folder, threshold):
    segkit("fragment", "affinities.h5", "--out", "f.h5")
    segkit("agglomerate", "affinities.h5", "--fragments", "f.h5", "--out", "t.h5")
    found = segkit("segment", "t.h5", "--threshold", threshold, "--out", "s.h5")
    assert found.exit_code == 2 and "--threshold must lie in 0..1" in found.stderr
    assert f", not {threshold}; choose one" in found.stderr
    swept = segkit("evaluate", "t.h5", "affinities.h5", "--sweep", "--threshold", threshold)
    assert swept.exit_code == 2 and "--threshold must lie in 0..1" in swept.stderr
    assert segkit("segment", "t.h5", "--threshold", 1, "--out", "s.h5").exit_code == 0


def test_a_stack_without_a_voxel_size_is_answered_with_the_call_that_states_it(segkit, folder):
    assert segkit("train", "cremi.h5", *SMALL, "--out", "run").exit_code == 0
    line = said(segkit("infer", "raw.tif", "--run", "run", "--voxel-size", "10,10,10", "--out", "o.h5"))
    assert "raw.tif must say its voxel size for resampling" in line
    assert "`segkit convert raw.tif OUT --kind raw --voxel-size Z Y X`" in line
    with pytest.warns(UserWarning, match="`segkit convert --voxel-size Z Y X` writes a file that states"):
        io.read_volume("raw.tif")


def test_a_run_of_another_machine_says_which_data_it_wants(segkit, folder):
    assert segkit("train", "cremi.h5", *SMALL, "--out", "run").exit_code == 0
    card = json.loads((folder / "run" / "card.json").read_text())
    card["source"]["data"] = ["/somewhere/else/sample_A.hdf[0:2]"]
    (folder / "run" / "card.json").write_text(json.dumps(card))
    line = said(segkit("train", "--like", "run", "--out", "again"))
    assert "DATA must be given: /somewhere/else/sample_A.hdf[0:2], which the run was trained on, is not on this" in line
    assert segkit("train", "cremi.h5", "--like", "run", "--out", "again").exit_code == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_a_device_that_is_absent(segkit, folder):
    line = said(segkit("train", "cremi.h5", *SMALL, "--device", "cuda", "--out", "run"))
    assert "choose 'cpu' or 'auto'" in line and ("for CPUs" in line) == (torch.version.cuda is None)


def test_labels_of_a_mask_and_masks_of_labels_stay_readable(folder):
    with h5py.File("cremi.h5", "r+") as file:
        file["volumes/labels/mask"] = np.ones((4, 24, 24), np.uint8)
        file["volumes/labels/mask"].attrs["resolution"] = (10.0, 10.0, 10.0)
    assert io.read_mask("cremi.h5").array.all()
