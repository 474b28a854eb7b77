"""segkit convert: options, sentences and exit codes."""

import h5py
import numpy as np
import pytest

from segkit import io
from segkit.data import Affinities, Grid, Labels

GRID = Grid((40, 4, 4), (40, 0, 8))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with affinities from labels, ours.h5 and foreign.h5:affs (bare, stored at the end, 1 = split, bytes)."""
    labels = Labels.convert(np.random.default_rng(0).integers(1, 4, (6, 7, 8)), GRID)
    ours = Affinities.from_labels(labels)
    io.write_all(tmp_path / "ours.h5", {"truth": labels, "affinities": ours})
    foreign = np.stack([np.roll(channel, -1, axis) for axis, channel in enumerate(ours.array)])
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["affs"] = ((1 - foreign) * 255).astype(np.uint8).transpose(3, 2, 1, 0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


FOREIGN = ["--axes", "xyzc", "--voxel-size", "40", "4", "4", "--offset", "40", "0", "8"]
CLAIM = ["--from-neighborhood", "[[-1,0,0],[0,-1,0],[0,0,-1]]", "--from-scale", "plain"]


def test_there_and_back(folder, segkit):
    claim = [*CLAIM, "--from-edges-at", "end", "--from-polarity", "split"]
    result = segkit("convert", "foreign.h5:affs", "b.zarr", "--kind", "affinities", *FOREIGN, *claim)
    assert result.exit_code == 0 and result.stdout == "", result.stderr
    assert "affinities 3 x 6 x 7 x 8 uint8 -> b.zarr" in result.stderr
    found = io.read_affinities("b.zarr")
    np.testing.assert_array_equal(found.array, io.read_affinities("ours.h5").array)
    assert found.grid == GRID
    words = ["--to-edges-at", "end", "--to-polarity", "split", "--to-axes", "xyzc"]
    result = segkit("convert", "b.zarr", "c.h5:affs", "--kind", "affinities", *words)
    assert result.exit_code == 0, result.stderr
    with h5py.File("c.h5") as one, h5py.File("foreign.h5") as other:
        np.testing.assert_array_equal(one["affs"], other["affs"])


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        ([*FOREIGN, *CLAIM], ["--from-edges-at, --from-polarity"]),
        ([*FOREIGN, "--from", "waterz"], ["the other --from-polarity and the other --from-edges-at"]),
        ([*FOREIGN, "--from", "torch-em", *CLAIM], ["channel 0", "stored at the other end", "--no-checks"]),
        ([*FOREIGN, "--from", "torchem"], ["did you mean 'torch-em'?"]),
        ([*FOREIGN[2:], *CLAIM], ["--axes", "(8, 7, 6, 3)"]),
        ([*FOREIGN[:2], "--from", "waterz"], ["--voxel-size Z Y X"]),
        ([*FOREIGN, "--from", "waterz", "--from-scale", "signed"], ["must be floats, not uint8"]),
        ([*FOREIGN, "--from", "waterz", "--dtype", "int7"], ["--dtype", "int7"]),
        ([*FOREIGN, "--from", "waterz", "--dtype", "int16"], ["floats, uint8 or uint16, not int16"]),
        ([*FOREIGN, "--from", "waterz", "--from-neighborhood", "[[0,0,1]]"], ["one offset a channel, 3, not 1"]),
    ],
)
def test_refusals(folder, segkit, words, fragments):
    result = segkit("convert", "foreign.h5:affs", "b.h5", "--kind", "affinities", *words)
    assert result.exit_code == 2, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    for fragment in fragments:
        assert fragment in line
    assert sorted(path.name for path in folder.iterdir()) == ["foreign.h5", "ours.h5"]


@pytest.mark.parametrize(
    ("scale", "array", "message"),
    [
        ("plain", np.random.default_rng(0).integers(0, 2, (3, 4, 4, 4)).astype("u1"), "--from-scale binary"),
        ("plain", np.full((3, 4, 4, 4), 1.5, "f4"), "must lie in 0..1, not 1.5..1.5"),
        ("plain", np.full((3, 4, 4, 4), np.nan, "f4"), "must not be NaN"),
        ("binary", np.full((3, 4, 4, 4), 2), "must lie in 0..1"),
        ("signed", np.random.default_rng(0).random((3, 4, 4, 4)), "--from-scale plain"),
        ("logits", np.random.default_rng(0).random((3, 4, 4, 4)), "--from-scale plain"),
    ],
)
def test_values_that_contradict_the_scale(folder, segkit, scale, array, message):
    with h5py.File("x.h5", "w") as file:
        file["affs"] = array
    words = ["--kind", "affinities", "--voxel-size", "4", "4", "4", "--from", "waterz", "--from-scale", scale]
    result = segkit("convert", "x.h5:affs", "b.h5", *words)
    assert result.exit_code == 2 and message in result.stderr
    assert not (folder / "b.h5").exists()
    if "--from-scale" in message:
        assert segkit("convert", "x.h5:affs", "b.h5", *words, "--no-checks").exit_code == 0


@pytest.mark.parametrize(
    ("target", "words", "message"),
    [
        ("b.txt", [], "must end in .h5"),
        ("b.tif", [], "affinities cannot be written to TIFF"),
        ("ours.h5", [], "exists already; give --overwrite"),
        ("b.tif:raw", [], "must name no dataset"),
        ("b.h5[1:2]", [], "must have no crop"),
        ("nowhere/b.h5", [], "must exist"),
        ("b.zarr", ["--to-axes", "xyzc"], "in HDF5 only"),
    ],
)
def test_targets(folder, segkit, target, words, message):
    result = segkit("convert", "ours.h5", target, "--kind", "affinities", *words)
    assert result.exit_code == 2 and message in result.stderr


def test_other_verbs_read_stacks(folder, segkit):
    assert segkit("convert", "ours.h5", "truth.tif", "--kind", "labels").exit_code == 0
    assert segkit("fragment", "--from-labels", "truth.tif", "--out", "fragments.h5").exit_code == 0
    np.testing.assert_array_equal(io.read_labels("truth.tif").array, io.read_labels("ours.h5").array)
    result = segkit("fragment", "--from-labels", "truth.tif", "--out", "fragments.tif")
    assert result.exit_code == 2 and "segkit convert" in result.stderr
