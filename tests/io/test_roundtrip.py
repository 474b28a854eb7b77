"""What is written is read back, in both formats, and looks as documented to h5py, zarr and json alone."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from segkit.data import Affinities, Grid, Labels, MergeTree, Volume
from segkit.errors import InvalidInput, MissingDataset, MissingFile
from segkit.io import (
    exists,
    read_affinities,
    read_labels,
    read_mask,
    read_merge_tree,
    read_volume,
    shape_of,
    write,
    write_all,
)

GRID = Grid((40, 4, 4.5), (80, -8, 9))
GOLDEN = Path(__file__).parent / "golden"
OFFSETS = [[-1, 0, 0], [0, 0, -1], [0, 2, -1]]


@pytest.fixture(params=["a.h5", "a.hdf", "a.hdf5", "a.zarr", "a.ome.zarr"])
def path(request, tmp_path):
    return tmp_path / request.param


def some_labels():
    array = np.random.default_rng(0).integers(0, 4, (5, 70, 6)).astype(np.uint64)
    array[0, 0, :3] = 2**64 - 1, 2**64 - 2, 2**63 + 1
    return Labels(array, GRID)


def some_affinities():
    return Affinities.convert(np.random.default_rng(1).random((3, 5, 70, 6)), OFFSETS, GRID)


def some_tree():
    return MergeTree.from_merges([2, 5, 2**64 - 3], [[0, 1], [2, 3]], [0.1, 0.6])


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "f2", "f4", "f8", "?", ">u2"])
def test_raw_of_any_dtype(path, dtype):
    array = np.random.default_rng(0).integers(0, 2, (3, 4, 5)).astype(dtype)
    write(path, Volume(array, GRID), "raw")
    found = read_volume(str(path))
    np.testing.assert_array_equal(found.array, array)
    assert found.array.dtype == np.dtype(dtype).newbyteorder("=") and found.array.dtype.isnative
    assert found.grid == GRID


def test_everything_in_one_file(path):
    labels, affinities, tree = some_labels(), some_affinities(), some_tree()
    write_all(path, {"truth": labels, "affinities": affinities})
    write(path, tree)
    write(path, Volume(labels.inside, GRID))
    np.testing.assert_array_equal(read_labels(path).array, labels.array)
    np.testing.assert_array_equal(read_mask(path).array, labels.inside)
    found = read_affinities(path)
    np.testing.assert_array_equal(found.array, affinities.array)
    np.testing.assert_array_equal(found.neighborhood, OFFSETS)
    for name in ("leaf_ids", "parents", "altitudes"):
        np.testing.assert_array_equal(getattr(read_merge_tree(path), name), getattr(tree, name))
    assert read_labels(path).grid == found.grid == GRID


def test_a_tree_without_leaves(path):
    write(path, MergeTree([], [], []))
    assert len(read_merge_tree(path).parents) == 0


def test_an_object_is_replaced_and_others_stay(path):
    labels = some_labels()
    write_all(path, {"fragments": labels, "truth": labels})
    write(path, Labels(np.ones((1, 2, 3), np.uint64), Grid()), "fragments")
    assert read_labels(path, "fragments").shape == (1, 2, 3)
    np.testing.assert_array_equal(read_labels(path).array, labels.array)
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_a_dataset_of_ones_own(path):
    write(f"{path}:deep/er/one", some_labels(), "fragments")
    assert exists(f"{path}:deep/er/one", "truth") and not exists(path, "fragments")
    assert read_labels(f"{path}:deep/er/one").shape == (5, 70, 6)


def test_default_roles(path):
    labels = some_labels()
    for container in (labels, some_affinities(), some_tree(), Volume(labels.inside, GRID), Volume(labels.array, GRID)):
        write(path, container)
    for role in ("segmentation", "affinities", "merge_tree", "mask", "raw"):
        assert exists(path, role)
    assert not exists(path, "truth") and not exists(path.with_name("no.h5"), "raw")


def test_crops(path):
    labels, affinities = some_labels(), some_affinities()
    write_all(path, {"truth": labels, "affinities": affinities})
    crop = f"{path}[1:3,65:70]"
    found = read_labels(crop)
    np.testing.assert_array_equal(found.array, labels.array[1:3, 65:70])
    assert found.grid.offset == (120, 252, 9)
    assert shape_of(crop, "truth") == shape_of(crop, "affinities") == (2, 5, 6)
    assert shape_of(path, "affinities") == (5, 70, 6)
    expected = affinities.array[:, 1:3, 65:70].copy()
    expected[0, 0] = expected[1, :, :, 0] = expected[2, :, :, 0] = expected[2, :, -2:] = 0
    np.testing.assert_array_equal(read_affinities(crop).array, expected)
    with pytest.raises(InvalidInput, match="0:5 along z"):
        read_labels(f"{path}[1:6]")


def test_other_units_become_nanometers(path):
    write(path, Volume(np.zeros((1, 1, 1)), Grid((0.04, 0.5, 1), (2, 0, 0), "um")))
    assert read_volume(path).grid == Grid((40, 500, 1000), (2000, 0, 0), "nm")
    with pytest.raises(InvalidInput, match="unit of length"):
        write(path, Volume(np.zeros((1, 1, 1)), Grid(unit="parsnip")))


def test_what_hdf5_says(tmp_path):
    write(tmp_path / "a.h5", some_affinities())
    with h5py.File(tmp_path / "a.h5") as file:
        dataset = file["volumes/affinities"]
        attributes = {
            key: value.tolist() if hasattr(value, "tolist") else value for key, value in dataset.attrs.items()
        }
        assert dataset.chunks == (1, 5, 64, 6) and dataset.compression == "gzip"
    assert attributes == {
        "kind": "affinities",
        "format_version": 1,
        "resolution": [40, 4, 4.5],
        "offset": [80, -8, 9],
        "unit": "nm",
        "neighborhood": OFFSETS,
        "polarity": "1=same object",
    }


def test_what_ome_zarr_says(tmp_path):
    write(tmp_path / "a.zarr", some_affinities())
    attributes = json.loads((tmp_path / "a.zarr/volumes/affinities/zarr.json").read_text())["attributes"]
    (image,) = attributes["ome"]["multiscales"]
    assert attributes["ome"]["version"] == "0.5"
    assert [axis["name"] for axis in image["axes"]] == ["c", "z", "y", "x"]
    assert [axis["type"] for axis in image["axes"]] == ["channel", "space", "space", "space"]
    assert [axis.get("unit") for axis in image["axes"]] == [None] + ["nanometer"] * 3
    scale, translation = image["datasets"][0]["coordinateTransformations"]
    assert scale == {"type": "scale", "scale": [1, 40, 4, 4.5]}
    assert translation == {"type": "translation", "translation": [0, 80, -8, 9]}
    array = zarr.open_array(tmp_path / "a.zarr/volumes/affinities/0", mode="r")
    assert array.chunks == (1, 5, 64, 6) and array.metadata.dimension_names == ("c", "z", "y", "x")
    assert attributes["segkit"] == {
        "kind": "affinities",
        "format_version": 1,
        "neighborhood": OFFSETS,
        "polarity": "1=same object",
        "chunks": "all",
    }


@pytest.mark.parametrize("name", ["v1.h5", "v1.zarr"])
def test_the_first_format_stays_readable(name):
    """Made once, by ``write_all(path, {...})`` of the containers below, at format version 1."""
    path = GOLDEN / name
    labels = np.array([[[0, 7, 7], [2**64 - 1, 9, 9]], [[7, 7, 9], [9, 9, 2**64 - 2]]], np.uint64)
    truth, affinities, tree = read_labels(path), read_affinities(path), read_merge_tree(path)
    np.testing.assert_array_equal(truth.array, labels)
    np.testing.assert_array_equal(read_volume(path).array, np.arange(12, dtype=np.uint8).reshape(2, 2, 3))
    np.testing.assert_array_equal(read_mask(path).array, labels < 2**64 - 2)
    expected = [[[0, 0, 0], [0, 0, 0]], [[0, 1, 0], [0, 1, 0]]], [[[0, 0, 1], [0, 0, 1]], [[0, 1, 0], [0, 1, 0]]]
    np.testing.assert_array_equal(affinities.array, np.array(expected, np.float32))
    np.testing.assert_array_equal(affinities.neighborhood, [[-1, 0, 0], [0, 0, -1]])
    assert tree.leaf_ids.tolist() == [7, 9] and tree.parents.tolist() == [2, 2, 2] and tree.altitudes.tolist() == [0.25]
    assert truth.grid == affinities.grid == Grid((40, 4, 4), (0, 400, 404))


def test_what_cannot_be_written(path):
    labels = some_labels()
    cases = [
        (lambda: write(f"{path}[0:1]", labels), InvalidInput, "no crop"),
        (lambda: write(path, labels, "raw"), InvalidInput, "must be of kind volume, not labels"),
        (lambda: write(path, np.zeros((1, 1, 1))), InvalidInput, "not of type ndarray"),
        (lambda: write(path, labels, "neurons"), InvalidInput, "role must be one of"),
        (lambda: write_all(f"{path}:raw", {"truth": labels}), InvalidInput, "neither a dataset"),
        (lambda: write(path.parent / "no" / path.name, labels), MissingFile, "must exist"),
        (lambda: write(path.with_suffix(".tif"), labels), InvalidInput, r"\.h5, \.hdf, \.hdf5, \.zarr or \.ome\.zarr"),
    ]
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()
    assert list(path.parent.iterdir()) == []


def test_datasets_and_groups_are_not_mixed_up(path):
    write(path, some_labels(), "truth")
    with pytest.raises(InvalidInput, match="is a group of other datasets"):
        write(f"{path}:volumes", some_labels())
    with pytest.raises(InvalidInput, match="volumes/labels/neuron_ids is"):
        write(f"{path}:volumes/labels/neuron_ids/below", some_labels())
    with pytest.raises(MissingDataset, match="not a group"):
        read_labels(f"{path}:volumes")
    with pytest.raises((MissingDataset, InvalidInput)):
        read_merge_tree(f"{path}:volumes/labels/neuron_ids")
    assert read_labels(path).shape == (5, 70, 6)
