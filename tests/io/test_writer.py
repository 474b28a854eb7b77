"""Files that are made object by object, and appear as a whole."""

import numpy as np
import pytest

from segkit import Grid, Labels, MergeTree, io
from segkit.errors import InvalidInput

GRID = Grid((40, 4, 4))
LABELS = Labels(np.array([[[1, 1, 2]]], np.uint64), GRID)
TREE = MergeTree.from_merges([1, 2], [[0, 1]], [0.5])


@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
def test_all_objects_appear_when_it_is_finished(tmp_path, name):
    path = tmp_path / name
    output = io.Output(path)
    output.put(TREE, "merge_tree", notes={"by": "me"})
    output.volume(io.Form("segmentation", (1, 1, 3), GRID), dataset="volumes/mine").write((), LABELS.array)
    assert not path.exists()
    output.finish()
    assert sorted(io.datasets(path)) == ["merge_tree", "volumes/mine"]
    assert io.read_notes(path, "merge_tree") == {"by": "me"}
    np.testing.assert_array_equal(io.read_labels(f"{path}:volumes/mine", "segmentation").array, LABELS.array)


@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
def test_what_is_dropped_goes_unless_it_is_written(tmp_path, name):
    for there in ("volumes/segmentation_0.1", "volumes/segmentation_0.2", "volumes/other"):
        io.write(f"{tmp_path / name}:{there}", LABELS, "segmentation")
    output = io.Output(tmp_path / name)
    output.drop("volumes/segmentation")
    output.put(TREE, "merge_tree")
    output.put(LABELS, "segmentation", dataset="volumes/segmentation_0.2")
    output.finish()
    assert io.datasets(tmp_path / name) == ["merge_tree", "volumes/other", "volumes/segmentation_0.2"]


def test_affinities_are_streamed(tmp_path):
    values = np.random.default_rng(0).random((2, 3, 1, 4), np.float32)
    form = io.Form("affinities", (3, 1, 4), GRID, np.array([(0, 0, -1), (0, 0, -2)]))
    whole = tuple(slice(0, size) for size in values.shape)
    output = io.Output(tmp_path / "a.h5")
    target = output.volume(form, notes={"by": "me"})
    parts = (((whole[0], slice(z, z + 1), *whole[2:]), values[:, z : z + 1]) for z in range(3))
    target.fill(whole[1:], parts)
    output.finish()
    assert io.read_notes(tmp_path / "a.h5", "affinities") == {"by": "me"}
    with io.open_volume(tmp_path / "a.h5", "affinities") as affinities:
        found = affinities.read(whole[1:])
    np.testing.assert_array_equal(found[..., 2:], values[..., 2:])


def test_a_crop_is_no_place_to_write(tmp_path):
    with pytest.raises(InvalidInput, match="must have no crop"):
        io.Output(f"{tmp_path}/a.h5:volumes/raw[0:1]")
