"""segkit infer: from a file to a file, part by part."""

import numpy as np
import pytest
import torch

from segkit import Grid, Volume, io
from segkit.infer import predict
from segkit.models import load_model, save_model
from segkit.models.unet3d import UNet3D

NEAREST = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
GRID = Grid((10, 10, 10), (100, 0, 20))
SMALL = {"features": 2, "growth": 2, "pooling": [[1, 2, 2]]}


@pytest.fixture
def made(tmp_path):
    """A folder with raw.h5 and the weights of a network."""
    torch.manual_seed(0)
    save_model(tmp_path / "net.safetensors", UNet3D(**SMALL), name="unet3d", parameters=SMALL, neighborhood=NEAREST)
    io.write(tmp_path / "raw.h5", Volume(np.random.default_rng(0).integers(0, 256, (70, 14, 16), np.uint8), GRID))
    return tmp_path


def _infer(segkit, made, *words):
    exact = ("--device", "cpu", "--precision", "32")
    return segkit("infer", made / "raw.h5", "--run", made / "net.safetensors", *exact, *words)


@pytest.mark.parametrize("out", ["a.h5", "a.zarr"])
@pytest.mark.parametrize("augment", ["none", "flips"])
def test_the_file_holds_what_predict_gives(segkit, made, out, augment):
    result = _infer(segkit, made, "--out", made / out, "--augment", augment, "--batch-size", 2)
    assert result.exit_code == 0, result.stderr
    trained, found = load_model(made / "net.safetensors"), io.read_affinities(made / out)
    expected = predict(trained.module, io.read_volume(made / "raw.h5"), NEAREST, augment=augment, batch_size=2)
    np.testing.assert_array_equal(found.array, expected.array)
    assert found.grid == GRID and "affinities (3, 70, 14, 16)" in result.stderr


def test_a_crop_lies_where_it_was_cut(segkit, made):
    words = ["infer", f"{made / 'raw.h5'}[20:50]", "--run", made / "net.safetensors", "--out", made / "a.h5"]
    assert segkit(*words).exit_code == 0
    found = io.read_affinities(made / "a.h5")
    assert found.shape == (30, 14, 16) and found.grid.offset == (300, 0, 20)


def test_the_raw_file_may_take_the_affinities(segkit, made):
    before = io.read_volume(made / "raw.h5").array
    assert _infer(segkit, made, "--out", made / "raw.h5").exit_code == 0
    np.testing.assert_array_equal(io.read_volume(made / "raw.h5").array, before)
    assert io.read_affinities(made / "raw.h5").shape == (70, 14, 16)


def test_a_compiled_network_gives_the_same(segkit, made, monkeypatch):
    seen, compiler = [], torch.compile
    monkeypatch.setattr(torch, "compile", lambda *a, **b: seen.append(b) or compiler(*a, **b, backend="eager"))
    assert _infer(segkit, made, "--out", made / "a.h5").exit_code == 0 and not seen
    assert _infer(segkit, made, "--out", made / "b.h5", "--compile").exit_code == 0 and len(seen) == 1
    plain, compiled = (io.read_affinities(made / name).array for name in ("a.h5", "b.h5"))
    np.testing.assert_array_equal(plain, compiled)


def test_a_network_that_cannot_be_compiled_is_said_so(segkit, made, monkeypatch):
    def no_compiler(*_):
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", lambda *a, _=torch.compile, **b: _(*a, **b, backend=no_compiler))
    result = _infer(segkit, made, "--out", made / "a.h5", "--compile")
    assert result.exit_code == 2 and "No working C++ compiler found" in result.stderr
    assert "install a C++ compiler" in result.stderr and not (made / "a.h5").exists()


def test_a_file_of_weights_has_no_other_checkpoint(segkit, made):
    result = _infer(segkit, made, "--out", made / "a.h5", "--checkpoint", "last")
    assert result.exit_code == 2 and "--checkpoint last needs the folder of a run" in result.stderr


def test_values_that_are_refused_half_way_leave_no_file(segkit, made):
    values = np.linspace(0, 1, 70 * 14 * 16).reshape(70, 14, 16)
    values[60:] = 7
    io.write(made / "raw.h5", Volume(values, GRID))
    result = _infer(segkit, made, "--out", made / "a.h5", "--tile", 4, 14, 16)
    assert result.exit_code == 2 and "intensities must lie in 0..1" in result.stderr
    assert sorted(path.name for path in made.iterdir()) == ["net.safetensors", "raw.h5"]


def test_memory_that_is_not_enough_is_said_as_such(segkit, made, monkeypatch):
    def forward(self, raw):
        raise torch.OutOfMemoryError("tried to allocate 90 GiB")

    monkeypatch.setattr(UNet3D, "forward", forward)
    result = _infer(segkit, made, "--out", made / "a.h5")
    assert result.exit_code == 1
    assert "the memory is not enough (tried to allocate 90 GiB); take a smaller crop" in result.stderr


@pytest.mark.filterwarnings("always")
def test_memory_bounds_the_tiles(segkit, made):
    assert _infer(segkit, made, "--out", made / "a.h5").exit_code == 0
    result = _infer(segkit, made, "--out", made / "b.h5", "--memory", "2MB")
    assert result.exit_code == 0 and "Warning" not in result.stderr, result.stderr
    first, second = (io.read_affinities(made / name).array for name in ("a.h5", "b.h5"))
    np.testing.assert_allclose(first, second, atol=2e-6)
    words = ("--out", made / "c.zarr", "--memory", "1KB", "--blockwise", "--block", 64, 16, 16)
    result = _infer(segkit, made, *words)
    assert result.exit_code == 0 and result.stderr.count("memory must be at least") == 1, result.stderr


@pytest.mark.parametrize("text", ["much", "-1GB", "0", "4XB", "nan"])
def test_memory_that_is_none_is_refused(segkit, made, text):
    result = _infer(segkit, made, "--out", made / "a.h5", "--memory", text)
    assert result.exit_code == 2 and "must be a number of bytes above 0, as 4GB" in result.stderr


def test_a_region_with_a_mask_in_eight_bits(segkit, made):
    mask = np.zeros((70, 14, 16), bool)
    mask[20:40] = True
    io.write(made / "mask.h5", Volume(mask, GRID))
    words = ("--roi", "30:60,:,2:", "--mask", made / "mask.h5", "--dtype", "uint8", "--skip-empty")
    result = _infer(segkit, made, "--out", made / "a.h5", *words)
    assert result.exit_code == 0, result.stderr
    assert "affinities (3, 30, 14, 14)" in result.stderr
    trained, found = load_model(made / "net.safetensors"), io.read_affinities(made / "a.h5")
    expected = predict(trained.module, io.read_volume(made / "raw.h5"), NEAREST).array[:, 30:60, :, 2:]
    np.testing.assert_allclose(found.array[:, 1:10, 1:, 1:], expected[:, 1:10, 1:, 1:], atol=0.003)
    assert not found.array[:, 10:].any() and found.grid.offset == (400, 0, 40)


@pytest.mark.parametrize("roi", ["1:2:3", "a", "c=0", "0:1,0:1,0:1,0:1", ""])
def test_what_is_no_region_is_said_so(segkit, made, roi):
    result = _infer(segkit, made, "--out", made / "a.h5", "--roi", roi)
    assert result.exit_code == 2 and "--roi must be ranges of voxels" in result.stderr
