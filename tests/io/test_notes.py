"""What is written beside an object comes back, and harms nothing."""

import h5py
import numpy as np
import pytest

from segkit import Affinities, Grid, Labels, MergeTree, Volume, io
from segkit.errors import MissingDataset

NOTES = {"chosen": {"threshold": 0.12, "run": "r", "parameters": {"max_size": None, "x": [1, 2]}}, "text": "µm"}
LABELS = Labels.convert(np.ones((2, 3, 4), int), Grid())
AFFINITIES = Affinities.from_labels(LABELS)
TREE = MergeTree.from_merges([1, 2], [[0, 1]], [0.5])


@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
def test_there_and_back(tmp_path, name):
    path = tmp_path / name
    io.write(path, AFFINITIES, "affinities", notes=NOTES)
    io.write_all(path, {"merge_tree": TREE, "fragments": LABELS}, notes={"merge_tree": NOTES})
    assert io.read_notes(path, "affinities") == io.read_notes(path, "merge_tree") == NOTES
    assert io.read_notes(path, "fragments") == {}
    assert np.array_equal(io.read_affinities(path).array, AFFINITIES.array)
    assert io.read_merge_tree(path).altitudes.tolist() == [0.5]
    assert io.read_notes(f"{path}:volumes/affinities[0:1]", "affinities") == NOTES
    io.write(path, AFFINITIES, "affinities")
    assert io.read_notes(path, "affinities") == {}


def test_what_others_wrote(tmp_path):
    path = tmp_path / "a.h5"
    io.write(path, AFFINITIES, "affinities")
    with pytest.raises(MissingDataset):
        io.read_notes(path, "merge_tree")
    for value in ("{", "3", 7):
        with h5py.File(path, "r+") as file:
            file["volumes/affinities"].attrs["notes"] = value
        assert io.read_notes(path, "affinities") == {}
    io.write_blocks(tmp_path / "a.tif", "raw", whole(np.zeros((2, 3, 4), np.uint8)), {})
    assert io.read_notes(tmp_path / "a.tif", "raw") == {}


def whole(array):
    return io.Blocks(array.shape, array.dtype, [(tuple(slice(0, size) for size in array.shape), array)])


def test_volumes_too(tmp_path):
    io.write(tmp_path / "a.h5", Volume(np.zeros((1, 2, 3), np.uint8), Grid()), notes={"by": "hand"})
    assert io.read_notes(tmp_path / "a.h5", "raw") == {"by": "hand"}
