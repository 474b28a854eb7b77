"""--voxel-size from training to a segmentation on the voxels of the data."""

import h5py
import numpy as np
import pytest

from segkit import Grid, Labels, MergeTree, Volume, io

NATIVE = Grid((40, 4, 4), (80, 40, 0))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A file with raw data and labels, anisotropic."""
    path = tmp_path_factory.mktemp("voxels") / "data.h5"
    labels = np.ones((6, 24, 24), np.uint64)
    labels[:, :, 12:] = 2
    raw = Volume((labels * 60).astype(np.uint8), NATIVE)
    io.write_all(path, {"raw": raw, "truth": Labels(labels, NATIVE)})
    return path


@pytest.fixture(scope="module")
def run(data):
    """A run on voxels of 20 by 8 by 8 nm, whose pooling follows from them."""
    from click.testing import CliRunner

    from segkit.cli.main import main

    folder = data.parent / "run"
    words = ["train", data, "--out", folder, "--steps", 1, "--loss", "mse", "--voxel-size", "20,8,8", "--device", "cpu"]
    settings = ["patch=[4,8,8]", "health.every=0", "model.features=2", "model.growth=1", "model.padding=same"]
    settings += ["model.pooling=auto", "model.levels=3"]
    words += [word for setting in settings for word in ("--set", setting)]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return folder


def test_affinities_come_back_to_the_voxels_of_the_data(segkit, data, run, tmp_path):
    back, kept, other = (tmp_path / name for name in ("back.h5", "kept.h5", "other.zarr"))
    assert segkit("infer", f"{data}[1:6]", "--run", run, "--out", back, "--device", "cpu").exit_code == 0
    found = io.read_affinities(back)
    assert found.shape == (5, 24, 24) and found.grid == Grid((40, 4, 4), (120, 40, 0))
    found.check()
    assert segkit("infer", data, "--run", run, "--out", kept, "--keep-grid", "--device", "cpu").exit_code == 0
    found = io.read_affinities(kept)
    assert found.shape == (12, 12, 12) and found.grid == Grid((20, 8, 8), (80, 40, 0))
    words = ["infer", data, "--run", run, "--out", other, "--voxel-size", "10,12,8", "--keep-grid", "--device", "cpu"]
    assert segkit(*words).exit_code == 0
    assert io.read_affinities(other).shape == (24, 8, 12)


def test_a_segmentation_comes_back_to_the_voxels_of_the_data(segkit, data, tmp_path):
    fine = Grid((20, 8, 8), NATIVE.offset)
    ids = np.ones((12, 12, 12), np.uint64)
    ids[:, :, 6:] = 2**63 + 5
    tree = MergeTree.from_merges([1, 2**63 + 5], [[0, 1]], [0.5])
    io.write_all(tmp_path / "tree.h5", {"fragments": Labels(ids, fine), "merge_tree": tree})
    words = ["segment", tmp_path / "tree.h5", "--threshold", 0.1, "--like", data, "--out", tmp_path / "out.h5"]
    result = segkit(*words)
    assert result.exit_code == 0, result.stderr
    found = io.read_labels(tmp_path / "out.h5", role="segmentation")
    truth = io.read_labels(data)
    assert found.grid == NATIVE and np.array_equal(found.array == 1, truth.array == 1)
    assert found.ids().tolist() == [1, 2**63 + 5]


@pytest.mark.parametrize("what", ["volumes/raw", "volumes/labels/neuron_ids"])
def test_a_file_without_a_voxel_size_is_refused(segkit, data, run, tmp_path, what):
    other = tmp_path / "other.h5"
    other.write_bytes(data.read_bytes())
    with h5py.File(other, "a") as file:
        del file[what].attrs["resolution"]
    for words in (["--voxel-size", "8,8,8"], ["--set", "model.pooling=auto"], ["--set", "neighborhood=long-range"]):
        result = segkit("train", other, "--out", tmp_path / "run", *words)
        assert result.exit_code == 2 and f"{what} must say its voxel size for" in result.stderr.replace("\n", " ")
    if what == "volumes/raw":
        result = segkit("infer", other, "--run", run, "--out", tmp_path / "a.h5")
        assert result.exit_code == 2 and "must say its voxel size for resampling" in result.stderr


@pytest.mark.parametrize("text", ["8", "8,8", "8,8,0", "a,b,c", "8,8,inf"])
def test_what_is_no_voxel_size_is_refused(segkit, data, tmp_path, text):
    result = segkit("train", data, "--out", tmp_path / "run", "--voxel-size", text)
    assert result.exit_code == 2 and "three lengths in nm" in result.stderr
