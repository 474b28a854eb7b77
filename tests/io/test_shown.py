"""What the root of a Zarr store shows to viewers: an image that is there, and segkit takes the store for none."""

import json

import numpy as np
import pytest
import zarr

from segkit import io
from segkit.data import Affinities, Grid, Labels, MergeTree, Volume
from segkit.errors import InvalidInput
from segkit.io.lookup import holds_one
from segkit.io.records import Layout

GRID = Grid((40, 8, 4), (400, 80, 8))
RAW = Volume(np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4), GRID)
IDS = Labels(np.arange(2 * 3 * 4, dtype=np.uint64).reshape(2, 3, 4), GRID)
EDGES = Affinities(np.zeros((1, 2, 3, 4), np.float32), np.array([[-1, 0, 0]]), GRID)
TREE = MergeTree(np.array([1, 2], np.uint64), np.array([2, 2, 2]), np.array([0.5]))


def stated(path, group=""):
    """What a group states of OME-Zarr."""
    return json.loads((path / group / "zarr.json").read_text())["attributes"].get("ome", {})


def shown(path):
    """The paths of the arrays that the root shows."""
    return [scale["path"] for image in stated(path).get("multiscales", []) for scale in image["datasets"]]


def test_the_root_shows_the_first_of_the_images(tmp_path):
    path = tmp_path / "a.zarr"
    io.write(path, TREE)
    assert shown(path) == []
    for container, role, expected in (
        (EDGES, "affinities", "volumes/affinities/0"),
        (IDS, "fragments", "volumes/fragments/0"),
        (IDS, "segmentation", "volumes/segmentation/0"),
        (RAW, "raw", "volumes/raw/0"),
        (IDS, "truth", "volumes/raw/0"),
    ):
        io.write(path, container, role)
        assert shown(path) == [expected]
        np.testing.assert_array_equal(zarr.open_group(str(path), mode="r")[expected][...], _array(path, expected))
    (image,) = stated(path)["multiscales"]
    assert image["datasets"][0]["coordinateTransformations"][0]["scale"] == [40, 8, 4]
    assert [axis["name"] for axis in image["axes"]] == ["z", "y", "x"]


def _array(path, name):
    return zarr.open_array(str(path / name), mode="r")[...]


def test_what_the_root_shows_is_no_image_of_its_own(tmp_path):
    path = tmp_path / "a.zarr"
    io.write_all(path, {"raw": RAW, "segmentation": IDS})
    assert shown(path) == ["volumes/raw/0"]
    assert io.datasets(path) == ["volumes/raw", "volumes/segmentation"]
    assert not holds_one(path) and not io.exists(path, "truth")
    np.testing.assert_array_equal(io.read_labels(path, "segmentation").array, IDS.array)
    io.write(f"{path}:volumes/more", RAW)  # there is room
    with pytest.raises(InvalidInput, match="volumes/raw is an object itself"):
        io.write(f"{path}:volumes/raw/0", RAW)


def test_what_is_removed_is_not_shown(tmp_path):
    path = tmp_path / "a.zarr"
    io.write_all(path, {"segmentation:volumes/cuts/a": IDS, "segmentation:volumes/cuts/b": IDS})
    assert shown(path) == ["volumes/cuts/a/0"]
    io.write_all(path, {"segmentation:volumes/cuts/b": IDS}, drop="volumes/cuts")
    assert shown(path) == ["volumes/cuts/b/0"]


def test_what_is_written_by_blocks_is_shown_once_it_is_finished(tmp_path):
    from contextlib import ExitStack

    from segkit.io.shard_target import ShardOutput

    path = tmp_path / "a.zarr"
    with ExitStack() as locks:
        output = ShardOutput(path, (2, 3, 4), locks)
        target = output.volume(io.Form("segmentation", IDS.shape, GRID), key="k")
        target.write((slice(0, 2), slice(0, 3), slice(0, 4)), IDS.array)
        assert shown(path) == []
        output.finish()
    assert shown(path) == ["volumes/segmentation/0"]


def test_labels_of_the_image_are_listed(tmp_path):
    path = tmp_path / "a.zarr"
    io.write(path, RAW)
    io.write(f"{path}:labels/cells", IDS, "segmentation")
    io.write(f"{path}:labels/boutons", IDS, "segmentation")
    io.write(f"{path}:labels/picture", RAW)
    assert shown(path) == ["volumes/raw/0"]
    assert stated(path, "labels")["labels"] == ["boutons", "cells"]
    assert "image-label" in stated(path, "labels/cells")
    assert "image-label" not in stated(path) and "image-label" not in stated(path, "labels/picture")
    io.write_all(path, {"segmentation:labels/cells": IDS}, drop="labels/b")
    assert stated(path, "labels")["labels"] == ["cells"]


def test_a_root_that_is_an_image_stays_as_it_is(tmp_path):
    path = tmp_path / "a.zarr"
    root = zarr.create_group(str(path), zarr_format=3)
    root.create_array("s0", data=RAW.array)
    datasets = [{"path": "s0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1]}]}]
    axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]
    root.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    labels = root.create_group("labels")
    for name in ("theirs", "coarse"):  # with more scales than NGFF wants
        image = {"axes": axes, "datasets": [{"path": "0"}, {"path": "1"}]}
        labels.create_group(name).attrs["ome"] = {"version": "0.5", "image-label": {}, "multiscales": [image]}
    labels.attrs["ome"] = {"version": "0.5", "labels": ["theirs"]}
    before = (path / "zarr.json").read_bytes()
    io.write(path, IDS, "segmentation")
    io.write(f"{path}:labels/ours", IDS, "segmentation")
    assert (path / "zarr.json").read_bytes() == before and holds_one(path)
    assert stated(path, "labels")["labels"] == ["theirs", "ours"]
    (path / "labels/coarse/zarr.json").write_text("{")
    io.write(path, IDS, "segmentation")
    assert stated(path, "labels")["labels"] == ["theirs", "ours"]


def test_what_else_the_root_says_is_kept_and_what_is_wrong_elsewhere_does_no_harm(tmp_path):
    path = tmp_path / "a.zarr"
    root = zarr.create_group(str(path), zarr_format=3)
    root.attrs["lab"] = "ours"
    bad = root.create_group("bad")
    bad.attrs["ome"] = {"version": "0.5", "multiscales": [{"datasets": []}]}
    io.write(path, RAW)
    assert shown(path) == ["volumes/raw/0"]
    (path / "bad" / "zarr.json").write_text("{")
    io.write(path, RAW)
    assert shown(path) == []
    assert json.loads((path / "zarr.json").read_text())["attributes"] == {"lab": "ours"}
    np.testing.assert_array_equal(io.read_volume(path).array, RAW.array)


def scaled(path, role, array, pyramid=True):
    """A volume with smaller scales."""
    kind = "volume" if role == "raw" else "labels"
    place = {"resolution": list(GRID.voxel_size), "offset": list(GRID.offset), "unit": "nm"}
    parts = iter([(tuple(slice(0, size) for size in array.shape), array)])
    blocks = io.Blocks(array.shape, array.dtype, parts)
    io.write_blocks(path, role, blocks, {"kind": kind, "format_version": 1, **place}, Layout(pyramid))


def test_labels_get_as_many_scales_as_the_image_has(tmp_path):
    path = tmp_path / "a.zarr"
    scaled(path, "raw", np.zeros((2, 140, 500), np.uint8))
    assert shown(path) == ["volumes/raw/0", "volumes/raw/1", "volumes/raw/2"]
    for name, shape in (("small", (2, 9, 10)), ("large", (2, 300, 2000)), ("line", (1, 1, 2))):
        scaled(f"{path}:labels/{name}", "segmentation", np.ones(shape, np.uint64))
    scaled(f"{path}:labels/flat", "segmentation", np.ones((2, 9, 10), np.uint64), pyramid=False)
    assert stated(path, "labels")["labels"] == ["large", "small"]  # NGFF wants as many as the image has
    for name in ("small", "large"):
        assert [scale["path"] for scale in stated(path, f"labels/{name}")["multiscales"][0]["datasets"]] == [*"012"]
    scaled(f"{path}:volumes/segmentation", "segmentation", np.ones((2, 9, 10), np.uint64))
    assert len(stated(path, "volumes/segmentation")["multiscales"][0]["datasets"]) == 1
