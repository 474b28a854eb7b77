"""Raw data, labels and masks between all formats: every value survives, or the conversion is refused."""

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from segkit import io
from segkit.convert import convert
from segkit.data import Grid, Labels
from segkit.errors import InvalidInput, MissingFile

GRID = Grid((40, 5, 4), (80, 15, 8))
SHAPE = (70, 6, 9)
PLACE = {"resolution": GRID.voxel_size, "offset": GRID.offset}


def stored(path, array, **attributes):
    with h5py.File(path, "w") as file:
        file["data"] = array
        file["data"].attrs.update(attributes)
    return f"{path}:data"


def ids():
    array = np.random.default_rng(0).integers(0, 2**64, SHAPE, np.uint64)
    array[0, 0, :3] = 0, 2**64 - 1, 2**64 - 2
    return array


def same_place(grid, expected=GRID, offset=True):
    return grid.same_voxel_size(expected) and (not offset or grid.voxel_position(expected) == (0, 0, 0))


@pytest.mark.parametrize("name", ["b.h5", "b.zarr", "b.ome.zarr", "b.tif", "b.precomputed"])
def test_ids_at_the_edge_of_uint64(tmp_path, name):
    if name.endswith("precomputed"):
        pytest.importorskip("tensorstore", reason="tensorstore (the extra segkit-em[precomputed]) is not installed")
    convert(stored(tmp_path / "a.h5", ids(), **PLACE), tmp_path / name, "labels")
    convert(tmp_path / name, tmp_path / "c.h5", "labels")
    found = io.read_labels(tmp_path / "c.h5")
    np.testing.assert_array_equal(found.array, ids())
    assert same_place(found.grid)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "f4", "f8"])
@pytest.mark.parametrize("name", ["b.h5", "b.zarr", "b.tif"])
def test_raw(tmp_path, name, dtype):
    array = np.random.default_rng(0).integers(0, 100, SHAPE).astype(dtype)
    convert(stored(tmp_path / "a.h5", array, **PLACE), tmp_path / name, "raw")
    found = io.read_volume(tmp_path / name)
    np.testing.assert_array_equal(found.array, array)
    assert found.array.dtype == dtype and same_place(found.grid)


@pytest.mark.parametrize("axes", ["xyz", "zxy", "yzx"])
def test_axes_are_turned(tmp_path, axes):
    array = ids()
    turned = array.transpose(["zyx".index(axis) for axis in axes])
    foreign = stored(tmp_path / "a.h5", turned)
    known = {"voxel_size": (40, 5, 4), "offset": (80, 15, 8)}
    convert(f"{foreign}[3:68,1:,2:]", tmp_path / "b.h5", "labels", axes=axes, **known)
    found = io.read_labels(tmp_path / "b.h5")
    np.testing.assert_array_equal(found.array, array[3:68, 1:, 2:])
    assert found.grid == GRID.crop((3, 1, 2))
    convert(tmp_path / "b.h5", tmp_path / "c.h5", "labels", to_axes=axes)
    with h5py.File(tmp_path / "c.h5") as file:
        np.testing.assert_array_equal(
            file["volumes/labels/neuron_ids"], found.array.transpose(["zyx".index(axis) for axis in axes])
        )
    convert(tmp_path / "c.h5", tmp_path / "d.h5", "labels")
    np.testing.assert_array_equal(io.read_labels(tmp_path / "d.h5").array, found.array)
    for path in ("c.h5", "d.h5"):  # every reader follows the axes that a file states
        read = io.read_labels(tmp_path / path)
        np.testing.assert_array_equal(read.array, found.array)
        assert read.grid == found.grid


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("order", ["zyx", "xyz"])
def test_ome_zarr_of_both_versions(tmp_path, version, order):
    array, path = ids()[:5], tmp_path / "a.zarr"
    root = zarr.create_group(str(path), zarr_format=version)
    at = ["zyx".index(axis) for axis in order]
    root.create_array("s0", data=array.transpose(at))
    steps = [{"type": "scale", "scale": [GRID.voxel_size[i] for i in at]}]
    steps += [{"type": "translation", "translation": [GRID.offset[i] for i in at]}]
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in order]
    image = {"axes": axes, "datasets": [{"path": "s0", "coordinateTransformations": steps}]}
    multiscales = {"multiscales": [image], "version": "0.5"}
    root.attrs.update({"ome": multiscales} if version == 3 else multiscales)
    convert(path, tmp_path / "b.h5", "labels")
    found = io.read_labels(tmp_path / "b.h5")
    np.testing.assert_array_equal(found.array, array)
    assert found.grid == GRID


def test_an_image_without_a_scale_has_no_voxel_size(tmp_path):
    root = zarr.create_group(str(tmp_path / "a.zarr"))
    root.create_array("0", data=np.ones((2, 3, 4), "u1"))
    image = {"axes": [{"name": name, "type": "space"} for name in "zyx"], "datasets": [{"path": "0"}]}
    root.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    with pytest.raises(InvalidInput, match="voxel size is not stated"):
        convert(tmp_path / "a.zarr", tmp_path / "b.h5", "raw")
    convert(tmp_path / "a.zarr", tmp_path / "b.h5", "raw", voxel_size=(40, 4, 4))
    assert io.read_volume(tmp_path / "b.h5").grid == Grid((40, 4, 4))


def test_a_bare_zarr_v2_array(tmp_path):
    array = ids()[:5]
    zarr.create_array(str(tmp_path / "a.zarr"), data=array, zarr_format=2)
    convert(tmp_path / "a.zarr", tmp_path / "b.zarr", "labels", axes="zyx", voxel_size=(40, 5, 4))
    np.testing.assert_array_equal(io.read_labels(tmp_path / "b.zarr").array, array)


def test_a_folder_of_sections(tmp_path):
    array = ids()[:11].astype("u2")
    (tmp_path / "stack").mkdir()
    for z in range(11):
        tifffile.imwrite(tmp_path / "stack" / f"s{z}.tif", array[z])
    convert(tmp_path / "stack", tmp_path / "b.h5", "raw", voxel_size=(40, 4, 4))
    np.testing.assert_array_equal(io.read_volume(tmp_path / "b.h5").array, array)
    (tmp_path / "stack" / "s4.tif").unlink()
    with pytest.raises(MissingFile, match=r"s4\.tif is missing"):
        convert(tmp_path / "stack", tmp_path / "c.h5", "raw", voxel_size=(40, 4, 4))


@pytest.mark.parametrize("name", ["b.h5", "b.tif"])
@pytest.mark.parametrize("dtype", ["?", "u1", "u8"])
def test_masks(tmp_path, name, dtype):
    array = (ids() % np.uint64(3) == 0).astype(dtype) * np.dtype(dtype).type(1)
    convert(stored(tmp_path / "a.h5", array, **PLACE), tmp_path / name, "mask")
    np.testing.assert_array_equal(io.read_mask(tmp_path / name).array, array != 0)


def test_a_crop_of_what_is_no_mask(tmp_path):
    address = stored(tmp_path / "a.h5", np.arange(24).reshape(2, 3, 4) // 12 + 1, **PLACE)
    with pytest.raises(InvalidInput, match="0 and one other value, not 1 and 2"):
        convert(f"{address}[0:1]", tmp_path / "b.h5", "mask")


@pytest.mark.parametrize(
    ("array", "kind", "options", "message"),
    [
        (np.ones((2, 3, 4)), "labels", {}, "labels must be integers, not float64"),
        (np.full((2, 3, 4), -1), "labels", {}, "must not be negative"),
        (np.full((2, 3, 4), 2**32), "labels", {"dtype": "uint32"}, r"must fit into uint32, not 4294967296\.\."),
        (np.full((2, 3, 4), 2**64 - 1, "u8"), "labels", {"dtype": "uint32"}, "must fit into uint32"),
        (np.full((2, 3, 4), 1), "labels", {"dtype": "int64"}, "unsigned"),
        (np.full((2, 3, 4), 0.5), "raw", {"dtype": "uint8"}, "raw must fit into uint8"),
        (np.full((2, 3, 4), 256), "raw", {"dtype": "uint8"}, "raw must fit into uint8"),
        (np.full((2, 3, 4), -1), "raw", {"dtype": "uint64"}, "raw must fit into uint64"),
        (np.full((2, 3, 4), 2**53 + 1), "raw", {"dtype": "float64"}, "raw must fit into float64"),
        (np.arange(24).reshape(2, 3, 4), "mask", {}, "0 and one other value, not 1 and"),
        (np.ones((2, 3, 4)), "mask", {}, "mask must be integers"),
        (np.ones((2, 3, 4, 5), "u1"), "raw", {"axes": "czyx"}, r"has 2 channels; pick one as ADDRESS\[c=0\]"),
        (np.ones((2, 3, 4), "u1"), "raw", {"to_axes": "xy"}, "must name each of x, y, z once"),
        (
            np.ones((2, 3, 4), "u1"),
            "raw",
            {"voxel_size": (4, 4, 4)},
            r"states, \(40.0, 5.0, 4.0\) nm, not \(4.0, 4.0, 4.0\)",
        ),
        (np.ones((2, 3, 4), "u1"), "raw", {"after": {"polarity": "split"}}, "is for --kind affinities"),
        (np.ones((2, 3, 4), "u1"), "holiday", {}, "kind must be one of raw, truth, fragments"),
    ],
)
def test_refusals_leave_nothing(tmp_path, array, kind, options, message):
    foreign = stored(tmp_path / "a.h5", array, **PLACE)
    with pytest.raises(InvalidInput, match=message):
        convert(foreign, tmp_path / "b.h5", kind, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_nothing_is_guessed(tmp_path):
    foreign = stored(tmp_path / "a.h5", np.zeros((2, 3, 4), "u1"))
    with pytest.raises(InvalidInput, match="order of the axes is not stated by the file; give --axes"):
        convert(foreign, tmp_path / "b.h5", "raw")
    with pytest.raises(InvalidInput, match="voxel size is not stated by the file; give --voxel-size"):
        convert(foreign, tmp_path / "b.h5", "raw", axes="zyx")
    with pytest.raises(InvalidInput, match="must name each of x, y, z once"):
        convert(foreign, tmp_path / "b.h5", "raw", axes="zzx", voxel_size=(4, 4, 4))
    says = stored(tmp_path / "says.h5", np.zeros((2, 3, 4), "u1"), **PLACE, axes="yzx")
    with pytest.raises(InvalidInput, match="must be those that the file states, yzx, not xyz"):
        convert(says, tmp_path / "b.h5", "raw", axes="xyz")
    four = stored(tmp_path / "c.h5", np.zeros((3, 2, 3, 4), "f4"), **PLACE)
    with pytest.raises(InvalidInput, match="order of the axes"):
        convert(four, tmp_path / "b.h5", "affinities")
    with pytest.raises(InvalidInput, match="nobody says its neighborhood, edges at, polarity, scale"):
        convert(four, tmp_path / "b.h5", "affinities", axes="czyx")


def test_what_is_there_stays(tmp_path):
    labels = Labels(ids()[:3], GRID)
    io.write(tmp_path / "b.h5", labels, "fragments")
    foreign = stored(tmp_path / "a.h5", ids()[:5], **PLACE)
    convert(foreign, tmp_path / "b.h5", "labels")
    with pytest.raises(InvalidInput, match="exists already; give --overwrite"):
        convert(foreign, tmp_path / "b.h5", "labels")
    convert(f"{foreign}[1:2]", tmp_path / "b.h5", "labels", overwrite=True)
    np.testing.assert_array_equal(io.read_labels(tmp_path / "b.h5").array, ids()[1:2])
    np.testing.assert_array_equal(io.read_labels(tmp_path / "b.h5", "fragments").array, labels.array)
    for name in ("b.tif", "b.zarr"):
        convert(foreign, tmp_path / name, "labels")
        with pytest.raises(InvalidInput, match="--overwrite"):
            convert(foreign, tmp_path / name, "labels")
        convert(f"{foreign}[1:2]", tmp_path / name, "labels", overwrite=True)
        np.testing.assert_array_equal(io.read_labels(tmp_path / name).array, ids()[1:2])


def test_a_failure_on_the_way_leaves_what_was_there(tmp_path):
    """The last block holds an id that does not fit."""
    array = np.ones(SHAPE, "u8")
    convert(stored(tmp_path / "a.h5", array, **PLACE), tmp_path / "b.tif", "labels", dtype="uint32")
    before = (tmp_path / "b.tif").read_bytes()
    array[-1, -1, -1] = 2**40
    steps = []
    foreign = stored(tmp_path / "a.h5", array, **PLACE)
    for name in ("b.tif", "c.zarr", "c.h5"):
        with pytest.raises(InvalidInput, match="must fit into uint32"):
            convert(
                foreign, tmp_path / name, "labels", dtype="uint32", overwrite=True, progress=lambda *a: steps.append(a)
            )
    assert (tmp_path / "b.tif").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.tif"]
    assert steps == [(0, 2), (1, 2)] * 3


def test_blocks_are_read_not_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("segkit.convert.files.VALUES", 64**3)
    array = np.random.default_rng(0).integers(0, 256, (130, 140, 150)).astype("u1")
    sizes = []
    from segkit.convert.source import Source

    read = Source.read
    monkeypatch.setattr(Source, "read", lambda self, box: sizes.append(read(self, box).size) or read(self, box))
    convert(stored(tmp_path / "a.h5", array, **PLACE), tmp_path / "b.zarr", "raw")
    np.testing.assert_array_equal(io.read_volume(tmp_path / "b.zarr").array, array)
    assert max(sizes) <= 64**3 and len(sizes) == 27


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_raw_that_is_not_finite_is_refused(tmp_path, value):
    array = np.zeros((3, 4, 5), np.float32)
    array[1, 2, 3] = value
    with pytest.raises(InvalidInput, match=f"raw must be finite, not {value}"):
        convert(stored(tmp_path / "a.h5", array, **PLACE), tmp_path / "b.h5", "raw")
    assert not (tmp_path / "b.h5").exists()
