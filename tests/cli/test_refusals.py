"""Bad input: one clear sentence, exit code 2 (the call is wrong) or 1 (the work failed), nothing written."""

import errno

import h5py
import numpy as np
import pytest

from segkit import io
from segkit.data import Affinities, Grid, Labels, Volume

SHAPE = (6, 20, 20)
TINY = ["--set", "model.features=2", "--set", "model.growth=1", "--set", "model.pooling=[[1, 2, 2]]"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with good files, which is the working directory."""
    rng = np.random.default_rng(0)
    grid = Grid((10, 10, 10))
    labels = Labels.convert(np.repeat(np.arange(1, 5), SHAPE[2] // 4) * np.ones(SHAPE, int), grid)
    raw = Volume(rng.integers(0, 256, SHAPE).astype(np.uint8), grid)
    io.write_all(tmp_path / "good.h5", {"raw": raw, "truth": labels, "affinities": Affinities.from_labels(labels)})
    io.write(tmp_path / "good.h5", labels, "fragments")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def store(name: str, array, **attributes) -> str:
    """A foreign HDF5 file with one dataset; its address."""
    attributes = {"resolution": (10.0, 10.0, 10.0), "offset": (0.0, 0.0, 0.0)} | attributes
    with h5py.File(name, "w") as file:
        file["data"] = array
        file["data"].attrs.update(attributes)
    return f"{name}:data"


def refused(result, *fragments, code: int = 2) -> None:
    """One sentence on stderr that holds all `fragments`, and no traceback."""
    assert result.exit_code == code, (result.exit_code, result.stderr, result.exception)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    for fragment in fragments:
        assert fragment in line
    assert "Traceback" not in result.stderr and result.stdout == ""


NEIGHBORS = ["--neighborhood", "[[-1,0,0],[0,-1,0],[0,0,-1]]"]


def bad_affinities(kind: str):
    """An array that no stage may accept, and what the sentence must say."""
    good = np.full((3, *SHAPE), 0.5, np.float32)
    nan = good.copy()
    nan[1, 2, 3, 4] = np.nan
    return {
        "channels last": (np.moveaxis(good, 0, -1).copy(), ["one channel an offset", "np.moveaxis"]),
        "above one": (good * 3, ["must lie in 0..1", "1.5"]),
        "below zero": (good - 1, ["must lie in 0..1", "-0.5"]),
        "not a number": (nan, ["must not be NaN", "(1, 2, 3, 4)"]),
        "three dimensions": (good[0], ["must have 4 dimensions"]),
        "empty": (good[:, :0], ["must not be empty"]),
        "integers": (good.astype(np.int32), ["must be floats in 0..1, uint8 or uint16", "int32"]),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["channels last", "above one", "below zero", "not a number", "three dimensions", "empty", "integers"],
)
def test_affinities(segkit, folder, kind):
    array, words = bad_affinities(kind)
    address = store("bad.h5", array)
    refused(segkit("fragment", address, *NEIGHBORS, "--out", "out.h5"), "bad.h5", *words)
    refused(segkit("agglomerate", address, "--fragments", "good.h5", *NEIGHBORS, "--out", "out.h5"), *words)
    assert not (folder / "out.h5").exists()


def test_affinities_that_do_not_say_their_neighborhood(segkit, folder):
    address = store("bare.h5", np.zeros((3, *SHAPE), np.float32))
    refused(segkit("fragment", address, "--out", "out.h5"), "--neighborhood")


def test_affinities_of_eight_bits_are_scaled(segkit, folder):
    whole = io.read_affinities("good.h5")
    address = store("bytes.h5", (whole.array * 255).astype(np.uint8))
    method = ["--method", "threshold", "--set", "statistic=min"]
    assert segkit("fragment", address, *NEIGHBORS, *method, "--out", "bytes_fragments.h5").exit_code == 0
    assert segkit("fragment", "good.h5", *method, "--out", "float_fragments.h5").exit_code == 0
    eight, float32 = (io.read_labels(f"{name}_fragments.h5", "fragments").array for name in ("bytes", "float"))
    assert np.array_equal(eight, float32) and eight.max() == 4


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.full(SHAPE, -1), ["must not be negative", "-1"]),
        (np.full(SHAPE, 1.5), ["must be integers", "float64"]),
        (np.ones(SHAPE[1:], int), ["must have 3 dimensions"]),
        (np.ones((0, 20, 20), int), ["must not be empty"]),
        (np.ones((6, 20, 21), int), ["must have the same shape", "(6, 20, 21)"]),
    ],
    ids=["negative", "float", "2-D", "empty", "another shape"],
)
def test_labels(segkit, folder, labels, words):
    address = store("labels.h5", labels)
    refused(segkit("agglomerate", "good.h5", "--fragments", address, "--out", "out.h5"), *words)
    refused(segkit("evaluate", address, "good.h5"), *words)
    assert not (folder / "out.h5").exists()


def test_voxel_sizes_that_disagree(segkit, folder):
    address = store("thick.h5", np.ones(SHAPE, int), resolution=(40.0, 4.0, 4.0))
    refused(segkit("evaluate", address, "good.h5"), "must have the same voxel size", "(40.0, 4.0, 4.0)")


def test_positions_that_disagree(segkit, folder):
    address = store("moved.h5", np.ones(SHAPE, int), offset=(0.0, 0.0, 50.0))
    refused(segkit("evaluate", address, "good.h5"), "must lie at the same place", "crop them alike")


def test_missing_files_and_datasets(segkit, folder):
    refused(segkit("evaluate", "god.h5", "good.h5"), "god.h5", "does not exist", "good.h5")
    refused(segkit("evaluate", "good.h5:volumes/segmentatoin", "good.h5"), "has no dataset", "volumes/raw")
    refused(segkit("infer", "good.h5", "--run", "nowhere", "--out", "out.h5"), "nowhere")
    refused(segkit("fragment", "good.h5", "--out", "no/folder/out.h5"), "no/folder")
    refused(segkit("fragment", "good.h5", "--out", "out.txt"), "must end in .h5")


def test_what_cannot_be_written_is_refused_before_the_work(segkit, folder):
    (folder / "notes.h5").write_text("not HDF5")
    refused(segkit("fragment", "good.h5", "--out", "notes.h5"), "must be an HDF5 file")
    refused(segkit("fragment", "good.h5", "--out", "out.h5:volumes/fragments[0:3]"), "must have no crop")
    refused(segkit("agglomerate", "good.h5", "--out", "out.h5:tree"), "must name a file only")
    refused(segkit("agglomerate", "good.h5", "--threshold", "nan", "--out", "out.h5"), "--threshold", "nan")


def test_eight_bits_that_hold_only_zero_and_one(segkit, folder):
    address = store("bits.h5", np.ones((3, *SHAPE), np.uint8))
    refused(segkit("fragment", address, *NEIGHBORS, "--out", "out.h5"), "must span 0..255", "floats")


def test_neighborhoods_that_are_none(segkit, folder):
    address = store("bare.h5", np.zeros((3, *SHAPE), np.float32))
    refused(segkit("fragment", address, "--neighborhood", "[[1,0],[2]]", "--out", "o.h5"), "must be a list of integer")
    refused(segkit("fragment", address, "--neighborhood", "zyx", "--out", "o.h5"), "must look like")


def test_training_data_without_labels(segkit, folder):
    labels = store("empty.h5", np.zeros(SHAPE, int)).removesuffix(":data")
    with h5py.File(labels, "r+") as file, h5py.File("good.h5") as good:
        good.copy("volumes/raw", file, "volumes/raw")
    words = ["train", labels, "--model", "fcn", "--set", "patch=[1, 8, 8]", "--labels-dataset", "data"]
    refused(segkit(*words, "--out", "run"), "share of labelled voxels", "min_labelled")
    assert not (folder / "run").exists()


def test_names(segkit, folder):
    refused(segkit("agglomerate", "good.h5", "--backend", "pyton", "--out", "o.h5"), "did you mean 'python'?")
    refused(segkit("fragment", "good.h5", "--set", "treshold=1", "--out", "o.h5"), "did you mean 'threshold'?")
    refused(segkit("fragment", "good.h5", "--set", "threshold=high", "--out", "o.h5"), "must be float", "'high'")
    refused(segkit("train", "good.h5", "--loss", "mse+*bce", "--out", "run"), "mse+*bce")
    refused(segkit("train", "good.h5", "--loss", "mse", "--loss-backend", "cpu", "--out", "run"), "loss_backend", "mse")
    refused(segkit("train", "good.h5", "--loss-backend", "tpu", "--out", "run"), "'higra'", "'tpu'")
    refused(segkit("train", "good.h5", "--set", "step=4", "--out", "run"), "did you mean 'steps'?")
    refused(segkit("fragmet", "good.h5"), "did you mean 'fragment'?")
    refused(segkit("run", "mala4d"), "did you mean 'mala3d'?")
    refused(segkit("run", "mala3d"), "data.train", "--set data.train=")
    refused(segkit("train", "good.h5", "--set", "model.features=2", "--set", "model=fcn", "--out", "run"), "'model'")
    assert not (folder / "run").exists()


def test_a_patch_that_no_model_takes(segkit, folder):
    words = ["train", "good.h5", "--set", "patch=[4, 15, 15]", *TINY, "--set", "model.padding=same", "--out", "run"]
    refused(segkit(*words), "15", "nearest")
    assert not (folder / "run").exists()


def test_a_volume_smaller_than_the_context(segkit, folder):
    refused(segkit("train", "good.h5", "--steps", 1, "--out", "run"), "(29, 214, 214)", "smallest patch")
    small = ["--model", "unet2d", "--set", "model.features=2", "--set", "model.levels=2", "--set", "patch=[1, 2, 2]"]
    result = segkit("train", "good.h5", *small, "--steps", 1, "--loss", "mse", "--out", "run")
    assert result.exit_code == 0, result.stderr
    address = store("small.h5", np.zeros((1, 5, 5), np.uint8))
    refused(segkit("infer", address, "--run", "run", "--out", "out.h5"), "smaller than the context", "not (5, 5)")
    assert not (folder / "out.h5").exists()


def test_a_checkpoint_of_another_model(segkit, folder):
    words = ["train", "good.h5", "--set", "patch=[2, 8, 8]", "--set", "model.padding=same", "--steps", 1]
    assert segkit(*words, *TINY, "--out", "run").exit_code == 0
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open("run/model.safetensors", "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors.pop(next(iter(tensors)))
    save_file(tensors, "run/model.safetensors", metadata)
    refused(segkit("infer", "good.h5", "--run", "run", "--out", "out.h5"), "model.safetensors")
    more = ["--steps", 2, "--out", "run", "--resume"]
    refused(segkit("train", "good.h5", "--set", "model.features=4", *more), "model_parameters")
    assert not (folder / "out.h5").exists()


def test_a_run_folder_in_use(segkit, folder):
    words = ["train", "good.h5", "--set", "patch=[2, 8, 8]", *TINY, "--set", "model.padding=same", "--steps", 1]
    assert segkit(*words, "--out", "run").exit_code == 0
    refused(segkit(*words, "--out", "run"), "run", "--resume")


def test_a_full_disk(segkit, folder, monkeypatch):
    before = (folder / "good.h5").read_bytes()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(h5py.Group, "create_dataset", full)
    refused(segkit("fragment", "good.h5", "--out", "good.h5"), "good.h5", "No space left on device", code=1)
    assert (folder / "good.h5").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["good.h5"]


def test_debug_shows_the_traceback(segkit, folder):
    result = segkit("evaluate", "god.h5", "good.h5", "--debug")
    assert isinstance(result.exception, FileNotFoundError)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "good.h5", "--out", "s3://bucket/run"],
        ["infer", "good.h5", "--run", "s3://bucket/run", "--out", "out.h5"],
        ["run", "demo", "--out", "gs://bucket/run"],
        ["report", "https://host/run"],
        ["report", ".", "--out", "s3://bucket/report.html"],
    ],
)
def test_runs_and_pages_lie_on_this_machine(segkit, folder, words):
    refused(segkit(*words), "must lie on this machine, not at", "://")
    assert sorted(path.name for path in folder.iterdir()) == ["good.h5"]
