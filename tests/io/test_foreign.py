"""Files that other tools made, and files that are not what they should be."""

import json
import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from segkit.data import Affinities, Grid, Labels, Volume
from segkit.errors import InvalidInput, InvalidShape, MissingDataset, MissingFile, SegkitWarning, StorageError
from segkit.io import exists, read_affinities, read_labels, read_mask, read_merge_tree, read_volume, shape_of, write
from segkit.io.lookup import holds_one

NEAREST = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]


@pytest.fixture
def hdf5(tmp_path):
    """Write datasets, (array, attributes) by name, as another tool would."""

    def make(**datasets):
        path = tmp_path / "foreign.hdf"
        with h5py.File(path, "w") as file:
            for name, (array, attributes) in datasets.items():
                dataset = file.create_dataset(name.replace("__", "/"), data=array)
                dataset.attrs.update({"resolution": [40.0, 4.0, 4.0], **attributes})
        return path

    return make


def test_values_that_are_arrays_themselves(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("d", (2, 2, 2), np.dtype(("u1", (3,)))).attrs["resolution"] = [1, 1, 1]
    for read in (read_volume, read_labels, read_mask):
        with pytest.raises(InvalidInput, match="must hold one number a voxel"):
            read(f"{tmp_path / 'a.h5'}:d")


def test_cremi(hdf5):
    raw, ids = np.arange(24, dtype=np.uint8).reshape(2, 3, 4), np.arange(24, dtype=np.uint64).reshape(2, 3, 4)
    path = hdf5(volumes__raw=(raw, {}), volumes__labels__neuron_ids=(ids, {"offset": (40, 8, 4)}))
    assert read_volume(path).grid == Grid((40, 4, 4))
    assert read_labels(path).grid == Grid((40, 4, 4), (40, 8, 4))
    np.testing.assert_array_equal(read_labels(path).array, ids)


def test_no_resolution_is_said(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["volumes/raw"] = np.zeros((1, 2, 3))
    with pytest.warns(SegkitWarning, match=r"a.h5:volumes/raw has no attribute `resolution`"):
        assert read_volume(tmp_path / "a.h5").grid == Grid((1, 1, 1))


@pytest.mark.parametrize("dtype", ["i1", "u2", "i4", "i8", ">u4"])
def test_labels_of_any_integer(hdf5, dtype):
    path = hdf5(volumes__labels__neuron_ids=(np.array([[[0, 3, 127]]], dtype), {}))
    assert read_labels(path).array.tolist() == [[[0, 3, 127]]]
    assert read_labels(path).array.dtype == np.uint64


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((1, 2, 2), np.float32), "must be integers, not float32"),
        (np.array([[[1, -1]]]), "must not be negative, not -1"),
        (np.zeros((2, 2), np.uint8), "Z = 1"),
        (np.zeros((0, 2, 2), np.uint8), "must not be empty"),
        (np.zeros((1, 2, 2, 2), np.uint8), "3 dimensions"),
    ],
)
def test_what_is_no_labels(hdf5, array, message):
    path = hdf5(volumes__labels__neuron_ids=(array, {}))
    with pytest.raises(InvalidInput, match=rf"foreign.hdf:volumes/labels/neuron_ids.*{message}"):
        read_labels(path)


def test_what_is_no_raw(hdf5):
    path = hdf5(a=(np.array([[[0, np.nan]]]), {}), b=(np.zeros((1, 1, 1), complex), {}), c=(np.zeros((4, 4)), {}))
    for name, message in {"a": "finite", "b": "real numbers", "c": "Z = 1"}.items():
        with pytest.raises(InvalidInput, match=message):
            read_volume(f"{path}:{name}")


def test_affinities_need_a_neighborhood(hdf5):
    path = hdf5(volumes__affinities=(np.ones((3, 2, 2, 2), np.float32), {}))
    with pytest.raises(InvalidInput, match="--neighborhood"):
        read_affinities(path)
    found = read_affinities(path, NEAREST)
    assert found.array[0].tolist() == [[[0, 0], [0, 0]], [[1, 1], [1, 1]]]
    found.check()


@pytest.mark.parametrize(("dtype", "top"), [("u1", 255), ("u2", 65535)])
def test_affinities_in_bits_are_scaled(hdf5, dtype, top):
    array = np.zeros((1, 2, 1, 3), dtype)
    array[0, 1] = 0, top // 5, top
    path = hdf5(volumes__affinities=(array, {"neighborhood": [[-1, 0, 0]]}))
    np.testing.assert_allclose(read_affinities(path).array[0, 1, 0], [0, 0.2, 1], rtol=1e-6)


@pytest.mark.parametrize(
    ("array", "attributes", "given", "message"),
    [
        (np.zeros((3, 2, 2, 2)), {"neighborhood": NEAREST, "polarity": "1=split"}, None, "polarity"),
        (np.zeros((3, 2, 2, 2)), {"neighborhood": NEAREST}, NEAREST[::-1], "file states"),
        (np.zeros((2, 4, 5, 3)), {}, NEAREST, "channels seem to be last"),
        (np.full((3, 2, 2, 2), 1.5), {}, NEAREST, r"must lie in 0\.\.1"),
        (np.full((3, 2, 2, 2), np.nan), {}, NEAREST, "NaN"),
        (np.zeros((3, 2, 2, 2), int), {}, NEAREST, "uint8 or uint16"),
        (np.zeros((2, 2, 2)), {}, NEAREST, "4 dimensions"),
    ],
)
def test_what_is_no_affinities(hdf5, array, attributes, given, message):
    with pytest.raises(InvalidInput, match=message):
        read_affinities(hdf5(volumes__affinities=(array, attributes)), given)


def test_another_kind_or_a_later_format(hdf5):
    path = hdf5(
        a=(np.zeros((1, 2, 2), np.uint8), {"kind": "labels", "format_version": 2}),
        b=(np.zeros((1, 2, 2), np.uint8), {"kind": "volume", "format_version": 1}),
        c=(np.zeros((1, 2, 2), np.uint8), {"kind": "holiday photographs"}),
    )
    with pytest.raises(InvalidInput, match="format_version must be 1, not 2"):
        read_labels(f"{path}:a")
    with pytest.raises(InvalidInput, match="kind labels, not volume"):
        read_labels(f"{path}:b")
    assert read_labels(f"{path}:c").shape == (1, 2, 2)


@pytest.mark.parametrize("top", [1, 255])
def test_masks_of_integers(hdf5, top):
    path = hdf5(volumes__labels__mask=(np.array([[[0, top, top]]], np.uint64), {}))
    assert read_mask(path).array.tolist() == [[[False, True, True]]]


@pytest.mark.parametrize(("values", "message"), [([0, 1, 2], "one other value"), ([0.0, 1.0, 1.0], "booleans")])
def test_what_is_no_mask(hdf5, values, message):
    with pytest.raises(InvalidInput, match=message):
        read_mask(hdf5(volumes__labels__mask=(np.array([[values]]), {})))


def test_units(hdf5):
    path = hdf5(a=(np.zeros((1, 1, 1)), {"unit": "um"}), b=(np.zeros((1, 1, 1)), {"unit": np.bytes_(b"furlong")}))
    assert read_volume(f"{path}:a").grid.voxel_size == (40000, 4000, 4000)
    with pytest.raises(InvalidInput, match="furlong"):
        read_volume(f"{path}:b")


@pytest.mark.parametrize("resolution", [[4, 4], [0, 4, 4], [4, 4, np.nan]])
def test_nonsense_for_a_resolution(hdf5, resolution):
    with pytest.raises(InvalidInput, match=r"raw: (resolution|voxel_size)"):
        read_volume(hdf5(volumes__raw=(np.zeros((1, 1, 1)), {"resolution": resolution})))


def test_missing_things_name_what_is_there(hdf5):
    path = hdf5(volumes__raw=(np.zeros((1, 1, 1)), {}), other=(np.zeros(3), {}))
    with pytest.raises(MissingDataset, match=r"did you mean .*foreign.hdf:volumes/raw\? it holds other, volumes/raw"):
        read_volume(f"{path}:volume/raw")
    with pytest.raises(MissingFile, match=r"did you mean .*foreign.hdf"):
        read_volume(path.with_name("foriegn.hdf"))
    with pytest.raises(MissingFile, match="no folder"):
        read_volume(path.parent / "nowhere" / "a.h5")
    with pytest.raises(MissingDataset, match="merge_tree"):
        read_merge_tree(path)


def test_an_incomplete_tree(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["merge_tree/leaf_ids"] = [1, 2]
    with pytest.raises(MissingDataset, match="must hold leaf_ids, parents, altitudes, not leaf_ids"):
        read_merge_tree(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["merge_tree/parents"], file["merge_tree/altitudes"] = [2, 2, 1], [0.5]
    with pytest.raises(InvalidInput, match="after their children"):
        read_merge_tree(tmp_path / "a.h5")


def test_files_that_are_none(tmp_path):
    (tmp_path / "text.h5").write_text("hello")
    (tmp_path / "folder.h5").mkdir()
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "file.zarr").write_text("hello")
    (tmp_path / "image.tif").write_text("hello")
    volume = Volume(np.zeros((1, 1, 1)), Grid())
    for name in ("text.h5", "folder.h5", "folder.zarr", "file.zarr", "image.tif"):
        with pytest.raises(InvalidInput):
            read_volume(tmp_path / name)
        with pytest.raises(InvalidInput):
            write(tmp_path / name, volume)
    assert (tmp_path / "text.h5").read_text() == "hello" and not list((tmp_path / "folder.zarr").iterdir())


def test_damaged_files(tmp_path):
    volume = Volume(np.random.default_rng(0).random((20, 20, 20)), Grid())
    write(tmp_path / "a.h5", volume)
    os.truncate(tmp_path / "a.h5", 9000)
    write(tmp_path / "a.zarr", volume)
    (tmp_path / "a.zarr/volumes/raw/zarr.json").write_text("{")
    for name in ("a.h5", "a.zarr"):
        with pytest.raises(StorageError, match=f"{name}.*damaged"):
            read_volume(tmp_path / name)


def test_a_crop_is_all_that_is_read(hdf5):
    """The other chunks are damaged, so that reading them would fail."""
    path = hdf5()
    with h5py.File(path, "w") as file:
        data = np.random.default_rng(0).random((4, 8, 8))
        dataset = file.create_dataset("volumes/raw", data=data, chunks=(1, 8, 8), compression="gzip")
        dataset.attrs["resolution"] = [1, 1, 1]
        where = dataset.id.get_chunk_info(3)
    with open(path, "r+b") as file:
        file.seek(where.byte_offset)
        file.write(b"\xff" * where.size)
    np.testing.assert_array_equal(read_volume(f"{path}[1:3]").array, data[1:3])
    assert shape_of(path, "raw") == (4, 8, 8)
    with pytest.raises(StorageError):
        read_volume(path)


def foreign_zarr(path, array, axes, transformations, version="0.5"):
    root = zarr.create_group(str(path), zarr_format=3 if version == "0.5" else 2)
    root.create_array("s0", data=array)
    image = {"axes": axes, "datasets": [{"path": "s0", "coordinateTransformations": transformations}]}
    root.attrs.update(
        {"ome": {"version": version, "multiscales": [image]}} if version == "0.5" else {"multiscales": [image]}
    )


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_of_others(tmp_path, version):
    path, array = tmp_path / "vol.zarr", np.arange(24, dtype=np.uint16).reshape(1, 1, 2, 3, 4)
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    steps = [{"type": "scale", "scale": [1, 1, 0.04, 0.5, 1]}, {"type": "translation", "translation": [0, 0, 1, 0, 0]}]
    foreign_zarr(path, array, axes, steps, version)
    for address in (path, f"{path}:s0"):
        found = read_volume(address)
        np.testing.assert_array_equal(found.array, array[0, 0])
        assert found.grid == Grid((40, 500, 1000), (1000, 0, 0))
    np.testing.assert_array_equal(read_volume(f"{path}[1:2,:,2:]").array, array[0, 0, 1:2, :, 2:])
    assert shape_of(path, "raw") == (2, 3, 4)
    assert exists(path, "raw") and not exists(path, "segmentation")


def test_transformations_of_the_whole_image_come_last(tmp_path):
    path = tmp_path / "a.zarr"
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    steps = [{"type": "scale", "scale": [1, 2, 2]}, {"type": "translation", "translation": [5, 6, 7]}]
    foreign_zarr(path, np.zeros((1, 2, 3)), axes, steps)
    attributes = zarr.open_group(str(path)).attrs["ome"]
    attributes["multiscales"][0]["coordinateTransformations"] = [{"type": "scale", "scale": [10, 4, 4]}]
    zarr.open_group(str(path)).attrs["ome"] = attributes
    assert read_volume(path).grid == Grid((10, 8, 8), (50, 24, 28))


def test_ome_zarr_in_another_axis_order(tmp_path):
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "xyz"]
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    foreign_zarr(tmp_path / "a.zarr", array, axes, [{"type": "scale", "scale": [4, 8, 40]}])
    found = read_volume(tmp_path / "a.zarr")
    np.testing.assert_array_equal(found.array, array.T)
    assert found.grid == Grid((40, 8, 4))
    np.testing.assert_array_equal(read_volume(f"{tmp_path}/a.zarr[1:3,:,0:1]").array, array.T[1:3, :, 0:1])


def test_bare_zarr_arrays(tmp_path):
    group = zarr.create_group(str(tmp_path / "a.zarr"))
    array = group.create_array("some/labels", data=np.ones((1, 2, 3), np.uint32))
    array.attrs.update({"resolution": [40, 4, 4], "offset": [40, 0, 0]})
    found = read_labels(f"{tmp_path}/a.zarr:some/labels")
    assert isinstance(found, Labels) and found.grid == Grid((40, 4, 4), (40, 0, 0))
    with pytest.raises(MissingDataset, match="it holds some/labels"):
        read_volume(tmp_path / "a.zarr")


def test_zarr_v2_is_not_added_to(tmp_path):
    zarr.create_group(str(tmp_path / "a.zarr"), zarr_format=2)
    with pytest.raises(InvalidInput, match="Zarr v3"):
        write(tmp_path / "a.zarr", Volume(np.zeros((1, 1, 1)), Grid()))


def test_affinities_given_as_labels(tmp_path):
    write(f"{tmp_path}/a.zarr:x", Affinities.convert(np.zeros((3, 1, 1, 1))))
    with pytest.raises(InvalidInput, match="not affinities"):
        read_labels(f"{tmp_path}/a.zarr:x")


@pytest.mark.data
def test_real_data():
    path = os.path.join(os.environ["SEGKIT_DATA"], "fib25_train.h5")
    assert read_volume(f"{path}[110:112]").grid == Grid((10, 10, 10), (1100, 0, 0))
    assert shape_of(path, "truth") == (150, 250, 250)
    assert read_labels(f"{path}:volumes/labels/neuroproof_fragments[0:1]").shape == (1, 250, 250)
    with pytest.raises(InvalidShape):
        read_affinities(f"{path}:volumes/raw", NEAREST)


def test_pickles_in_a_zarr_store_are_not_read(tmp_path):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    folder = tmp_path / "a.zarr/volumes/raw"
    folder.mkdir(parents=True)
    for group in (folder.parent, folder.parent.parent):
        (group / ".zgroup").write_text(json.dumps({"zarr_format": 2}))
    array = {"zarr_format": 2, "shape": [4, 4, 4], "chunks": [4, 4, 4], "dtype": "|O", "fill_value": "", "order": "C"}
    array |= {"compressor": {"id": "pickle", "protocol": 5}, "filters": [{"id": "vlen-utf8"}]}
    (folder / ".zarray").write_text(json.dumps(array))
    (folder / "0.0.0").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InvalidInput, match="must not be stored as pickles"):
        read_volume(tmp_path / "a.zarr")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "zarr.json",
            '{"zarr_format": 3, "node_type": "group", "attributes": [1]}',
            "attributes must be a JSON object",
        ),
        ("zarr.json", '{"zarr_format": 3, "attributes": {"ome": {"multiscales": 3}}}', "multiscales must be"),
        ("info", '{"scales": [3]}', "info.type must be stated"),
        ("datasource-properties.json", "{}", "dataLayers must be stated"),
    ],
)
def test_what_is_wrong_with_a_whole_file_is_said_of_it(tmp_path, name, content, message):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / name).write_text(content)
    for look in (read_volume, holds_one):
        with pytest.raises(InvalidInput, match=rf"^{tmp_path}/a: .*{message}"):
            look(tmp_path / "a")
