"""Files of one volume, and the roles that they play: raw data, labels and mask named together."""

import json

import numpy as np
import pytest
import tifffile

from segkit import io
from segkit.cli.runs import check_names, read_volumes
from segkit.testing.phantoms import neurites

TINY = ["--model", "fcn", "--loss", "mse", "--steps", "1", "--set", "patch=[1,16,16]", "--set", "validate_every=1"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Raw data, labels and a mask, each a TIFF stack; and the three in one file."""
    phantom = neurites((6, 32, 32), count=4, seed=1)
    ids = phantom.truth.array.astype(np.uint16)
    voxel = phantom.raw.grid.voxel_size
    mask = np.zeros(ids.shape, np.uint8)
    mask[:, :, :20] = 255
    for name, array in (("raw", phantom.raw.array), ("ids", ids), ("mask", mask)):
        stated = {
            "resolution": (1 / voxel[2], 1 / voxel[1]),
            "metadata": {"axes": "ZYX", "spacing": voxel[0], "unit": "nm"},
        }
        tifffile.imwrite(tmp_path / f"{name}.tif", array, imagej=True, **stated)
    io.write_all(tmp_path / "all.h5", {"raw": phantom.raw, "truth": phantom.truth})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("where", ["data", "val", "recipe"])
@pytest.mark.parametrize("file", ["raw.tif", "ids.tif"])
def test_a_file_of_one_volume_is_not_raw_data_and_labels(segkit, folder, where, file):
    words = {
        "data": ["train", file, "--out", "run", *TINY],
        "val": ["train", "all.h5", "--val", file, "--out", "run", *TINY],
        "recipe": ["run", "mine.toml", "--out", "run"],
    }
    (folder / "mine.toml").write_text(f'[train]\ndata = "{file}"\nout = "{{out}}/run"\n')
    result = segkit(*words[where])
    assert result.exit_code == 2 and "mask" not in result.stderr
    assert f"{file} holds one volume, and DATA are raw data and labels" in result.stderr
    assert "name both, as RAW,labels=LABELS" in result.stderr
    assert not (folder / "run").exists()


def test_files_named_together_are_one_volume(folder):
    (whole,) = read_volumes("all.h5", None, None)
    (found,) = read_volumes("raw.tif,labels=ids.tif", None, None)
    assert np.array_equal(found.raw.array, whole.raw.array) and np.array_equal(found.labels.array, whole.labels.array)
    assert found.mask is None
    (masked,) = read_volumes("raw.tif,labels=ids.tif,mask=mask.tif", None, None)
    assert masked.mask is not None and masked.mask.array[:, :, :20].all() and not masked.mask.array[:, :, 20:].any()
    (mixed,) = read_volumes("raw.tif[1:5],labels=all.h5:volumes/labels/neuron_ids[2:4]", None, None)
    assert mixed.raw.shape == (4, 32, 32) and np.array_equal(mixed.labels.array, whole.labels.array[2:4])


@pytest.mark.parametrize("where", ["data", "recipe"])
@pytest.mark.parametrize(
    ("data", "option"),
    [
        ("raw.tif,labels=ids.tif", "labels"),
        ("raw.tif,labels=all.h5:volumes/labels/neuron_ids", "labels"),
        ("raw.tif,labels=all.h5", "raw"),
        ("all.h5:volumes/raw,labels=all.h5", "raw"),
    ],
)
def test_a_dataset_is_not_said_in_two_ways(segkit, folder, where, data, option):
    if where == "data":
        result = segkit("train", data, f"--{option}-dataset", "other", "--out", "run", *TINY)
    else:
        more = f'{option}-dataset = "other"\n'
        (folder / "mine.toml").write_text(f'[train]\ndata = "{data}"\nout = "{{out}}/run"\n{more}')
        result = segkit("run", "mine.toml", "--out", "run")
    assert result.exit_code == 2
    said = f"--{option}-dataset must name the {option} in a file of which DATA names none, not 'other'; leave it out"
    assert said in result.stderr
    assert not (folder / "run").exists()


def test_names_of_datasets_are_those_of_files_that_have_some(folder):
    raw, ids = io.read_volume("all.h5"), io.read_labels("all.h5")
    io.write("all.h5:other", ids, "truth")
    for text in ("raw.tif,labels=all.h5", "all.h5,labels=all.h5", "all.h5"):
        (found,) = read_volumes(text, None, "other")
        assert np.array_equal(found.labels.array, ids.array) and np.array_equal(found.raw.array, raw.array)
    check_names(["raw.tif,labels=ids.tif", "all.h5"], None, "other")  # the second takes it
    (found,) = read_volumes("raw.tif,labels=ids.tif", None, "other")
    assert np.array_equal(found.labels.array, ids.array)


def test_training_validation_and_repetition(segkit, folder):
    both = "raw.tif,labels=ids.tif"
    result = segkit("train", both, "--val", f"{both},mask=mask.tif", "--out", "run", *TINY)
    assert result.exit_code == 0, result.stderr
    source = json.loads((folder / "run" / "card.json").read_text())["source"]
    assert source["data"] == [f"{folder}/raw.tif,labels={folder}/ids.tif"]
    again = segkit("train", "--like", "run", "--out", "again")
    assert again.exit_code == 0 and "data" not in again.stderr, again.stderr
    resumed = segkit("train", both, "--val", both, "--out", "run", "--resume", "--steps", 2)
    assert resumed.exit_code == 0, resumed.stderr


RECIPE = """
[data]
all = "raw.tif,labels=ids.tif"
[train]
data = "{data.all}"
model = "fcn"
loss = "mse"
steps = 1
out = "{out}/run"
set = { patch = [1, 16, 16] }
[infer]
raw = "{data.all}"
run = "{out}/run"
out = "{out}/affinities.h5"
[fragment]
affinities = "{out}/affinities.h5"
per-section = true
out = "{out}/fragments.h5"
[evaluate]
segmentation = "{out}/fragments.h5:volumes/fragments"
truth = "{data.all}"
"""


def test_stages_of_a_recipe_take_the_file_of_their_role(segkit, folder):
    (folder / "mine.toml").write_text(RECIPE)
    result = segkit("run", "mine.toml", "--out", "out", "--json")
    assert result.exit_code == 0, result.stderr
    assert "cremi_score" in json.loads(result.stdout)["evaluate"]
    absent = segkit("run", "mine.toml", "--out", "out", "--set", "data.all=raw.tif,labels=idds.tif")
    assert absent.exit_code == 2 and "idds.tif does not exist; did you mean ids.tif?" in absent.stderr


@pytest.mark.parametrize("text", ["raw.tif,label=ids.tif", "raw.tif,labels=", "raw.tif,labels=ids.tif,labels=ids.tif"])
def test_words_that_are_no_roles(segkit, folder, text):
    result = segkit("train", text, "--out", "run", *TINY)
    assert result.exit_code == 2 and "must look like RAW,labels=LABELS,mask=MASK" in result.stderr
