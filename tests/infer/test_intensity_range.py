"""Raw values that are no bytes: one decision for all that is stored, told, and the same in training and inference."""

import warnings

import numpy as np
import pytest

from segkit import Grid, Labels, Volume, io
from segkit.blockwise.work import Work
from segkit.errors import SegkitWarning
from segkit.infer import predict
from segkit.infer.settings import Settings
from segkit.infer.stage import infer_files
from segkit.models.checkpoint import load_model
from segkit.models.inputs import found_range, in_range, scale_intensity
from segkit.train import TrainConfig, TrainingVolume, train

VOXEL = (10.0, 10.0, 10.0)
SETTINGS = {
    "model": "fcn",
    "loss": "mse",
    "patch": [1, 16, 16],
    "steps": 1,
    "device": "cpu",
    "threads": 1,
    "health": {"every": 0},
}


def bytes_of(shape=(6, 32, 32)):
    return np.random.default_rng(0).integers(0, 250, shape).astype(np.uint8)


def written(path, array, voxel=VOXEL):
    io.write(path, Volume(array, Grid(voxel)))
    return path


def run_on(folder, array, found=None, **settings):
    labels = Labels.convert(np.ones(array.shape, int), Grid(VOXEL))
    volume = TrainingVolume(Volume(array, Grid(VOXEL)), labels, found=found)
    return load_model(train(TrainConfig(**SETTINGS, **settings), [volume], folder).model)


@pytest.fixture
def trained(tmp_path):
    """A network that was trained on bytes."""
    return run_on(tmp_path / "run", bytes_of())


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_bytes_in_a_wider_type_are_what_they_were(trained, dtype):
    raw, options = bytes_of(), {"device": "cpu"}
    expected = predict(trained.module, Volume(raw, Grid(VOXEL)), trained.neighborhood, **options)
    wide = Volume(raw.astype(dtype), Grid(VOXEL))
    found = predict(trained.module, wide, trained.neighborhood, intensity_range=(0, 255), **options)
    assert np.array_equal(found.array, expected.array)
    assert np.array_equal(scale_intensity(in_range(wide.array, 0, 255)), scale_intensity(raw))


def test_bytes_in_a_wider_type_are_warned_of_whole_cropped_and_by_blocks(trained, tmp_path):
    array = bytes_of().astype(np.uint16)
    array[:2] //= 50
    raw = written(tmp_path / "raw.h5", array)
    match = r"uint16 has values of 0\.\.249, where 0 is black and 65535 white.*in training.*--intensity-range.* 0 255"
    crop = io.Address(raw, None, (slice(0, 2), slice(None), slice(None)))
    for address, out, work in ((raw, "a.h5", Work()), (crop, "b.h5", Work()), (raw, "c.zarr", Work((6, 16, 16)))):
        with pytest.warns(SegkitWarning, match=match):
            infer_files(address, trained, tmp_path / out, work=work)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        infer_files(raw, trained, tmp_path / "d.h5", Settings(intensity_range=(0, 255)))


def test_a_dark_crop_of_good_data_is_no_reason_to_warn(trained, tmp_path):
    array = bytes_of()
    array[:2] //= 50
    raw = written(tmp_path / "raw.h5", array)
    infer_files(io.Address(raw, None, (slice(0, 2), slice(None), slice(None))), trained, tmp_path / "a.h5")
    run_on(tmp_path / "crop", array[:2], found=(0, 249))


def test_training_warns_and_its_range_goes_with_the_network(tmp_path):
    twelve = bytes_of().astype(np.uint16) * 16
    with pytest.warns(SegkitWarning, match=r"training volume 0: raw data of uint16 has values of 0\.\..*0 4095"):
        dark = run_on(tmp_path / "dark", twelve)
    infer_files(written(tmp_path / "same.h5", twelve), dark, tmp_path / "a.h5")  # as it was trained
    trained = run_on(tmp_path / "run", twelve, intensity_range=(0, 4095))
    assert trained.extra["intensity_range"] == [0, 4095]
    infer_files(tmp_path / "same.h5", trained, tmp_path / "b.h5")
    seen = Volume((twelve / np.float32(4095)).astype(np.float32), Grid(VOXEL))
    expected = predict(trained.module, seen, trained.neighborhood, device="cpu")
    assert np.allclose(io.read_affinities(tmp_path / "b.h5").array, expected.array, atol=1e-5)
    written(tmp_path / "bytes.h5", bytes_of())
    with pytest.warns(SegkitWarning, match="raw data of uint8 has values of"):
        infer_files(tmp_path / "bytes.h5", trained, tmp_path / "c.h5")


def test_values_of_any_type_can_be_trained_on(tmp_path):
    trained = run_on(tmp_path / "run", bytes_of().astype(np.int16) - 100, intensity_range=(-100, 155))
    assert trained.extra["brightest"] > 0.9


@pytest.mark.parametrize("given", [[255, 0], [0, 0], [0, float("inf")]])
def test_what_is_no_range_is_refused(segkit, tmp_path, given):
    for words in (["train", "a.h5", "--out", "run"], ["infer", "a.h5", "--run", "run", "--out", "b.h5"]):
        result = segkit(*words, "--intensity-range", *given)
        assert result.exit_code == 2 and "two finite numbers, the lower first" in result.stderr


def test_voxels_unlike_those_of_the_training_are_warned_of(trained, tmp_path):
    other = written(tmp_path / "other.h5", bytes_of(), (40, 4, 4))
    match = r"has voxels of 40,4,4 nm, and the network was trained on 10,10,10; --voxel-size 10,10,10"
    with pytest.warns(SegkitWarning, match=match):
        infer_files(other, trained, tmp_path / "a.h5")
    infer_files(written(tmp_path / "near.h5", bytes_of(), (10.5, 10, 10)), trained, tmp_path / "b.h5")


def test_the_range_is_found_from_the_first_section_to_the_last():
    class Counted:
        shape, grid = (400, 3000, 3000), Grid()
        read_voxels = 0

        def read(self, box):
            sizes = [along.stop - along.start for along in box]
            self.read_voxels += int(np.prod(sizes))
            return np.full(sizes, box[0].start, np.uint16)

    source = Counted()
    assert found_range(source) == ((0.0, 399.0), np.uint16)
    assert source.read_voxels < 500_000
