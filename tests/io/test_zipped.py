"""Zarr stores in zip files, packed by zarr, by zipfile and by segkit's own writer."""

import shutil
import zipfile

import numpy as np
import pytest
import zarr

from segkit import io
from segkit.data import Affinities, Grid, Labels, MergeTree, Volume
from segkit.errors import InvalidInput, MissingDataset, MissingFile, StorageError
from segkit.io.shard_target import ShardTarget
from segkit.io.writer import Form
from tests.io.format_checks import OFFSET, VOXEL, check, some

GRID = Grid(VOXEL, OFFSET)


def pack(folder, target, top="", keep=lambda name: True, how=zipfile.ZIP_STORED):
    """A zip file of what lies in a folder, under `top`."""
    with zipfile.ZipFile(target, "w", how) as file:
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            if path.is_file() and keep(name):
                file.write(path, f"{top}{name}")
    return target


@pytest.mark.parametrize(
    ("name", "top", "how"),
    [
        ("vol.zarr.zip", "", zipfile.ZIP_STORED),
        ("vol.zip", "vol.zarr/", zipfile.ZIP_DEFLATED),
        ("vol.ome.zarr.ZIP", "some folder/", zipfile.ZIP_STORED),
        ("vol.ozx", "", zipfile.ZIP_STORED),
        ("vol.zarr", "vol.zarr/", zipfile.ZIP_STORED),
    ],
)
def test_what_segkit_wrote(tmp_path, name, top, how):
    labels = Labels.convert(some("u8") % 7, GRID)
    affinities = Affinities.from_labels(labels)
    tree = MergeTree(np.array([1, 2, 3], np.uint64), np.array([3, 3, 4, 4, 4]), np.array([0.1, 0.2]))
    things = {"raw": Volume(some(), GRID), "truth": labels, "affinities": affinities, "merge_tree": tree}
    io.write_all(tmp_path / "a.zarr", things)
    path = pack(tmp_path / "a.zarr", tmp_path / name, top, how=how)
    shutil.rmtree(tmp_path / "a.zarr")
    np.testing.assert_array_equal(io.read_volume(path).array, some())
    check(f"{path}:volumes/raw", some())
    np.testing.assert_array_equal(io.read_labels(path).array, labels.array)
    np.testing.assert_array_equal(io.read_affinities(path).array, affinities.array)
    np.testing.assert_array_equal(io.read_merge_tree(path).parents, tree.parents)
    assert "volumes/raw" in io.datasets(path) and len(io.datasets(path)) == 4


@pytest.mark.parametrize("version", [2, 3])
def test_what_zarr_packed(tmp_path, version):
    with zarr.storage.ZipStore(tmp_path / "a.zip", mode="w") as store:
        group = zarr.create_group(store, zarr_format=version)
        array = group.create_array("em/raw", data=some(), chunks=(2, 3, 4))
        array.attrs.update({"resolution": VOXEL, "offset": OFFSET})
    check(f"{tmp_path}/a.zip:em/raw", some())
    with pytest.raises(MissingDataset, match=r"did you mean .*a\.zip:em/raw\?"):
        io.read_volume(tmp_path / "a.zip")


def test_one_image_and_one_array(tmp_path):
    io.write(tmp_path / "a.zarr", Volume(some(), GRID))
    check(pack(tmp_path / "a.zarr/volumes/raw", tmp_path / "image.zip"), some())
    array = zarr.create_array(str(tmp_path / "bare.zarr"), data=some())
    array.attrs.update({"resolution": VOXEL, "offset": OFFSET})
    check(pack(tmp_path / "bare.zarr", tmp_path / "bare.zip", "bare.zarr/"), some())
    check(f"{pack(tmp_path / 'bare.zarr', tmp_path / 'named.zip', 'raw/')}:raw", some())


def test_shards_and_a_box(tmp_path):
    target = ShardTarget.create(tmp_path / "a.zarr", Form("fragments", (5, 6, 7), GRID), (4, 4, 4), key="k")
    target.write((slice(0, 5), slice(0, 6), slice(0, 7)), some("u8"))
    target.finish()
    source = io.RegionSource(pack(tmp_path / "a.zarr", tmp_path / "a.zip"), "fragments")
    np.testing.assert_array_equal(source.read((slice(1, 3), slice(0, 6), slice(2, 7))), some("u8")[1:3, :, 2:])
    assert source.identity


def test_a_chunk_that_was_lost(tmp_path):
    io.write(tmp_path / "a.zarr", Volume(some(), GRID))
    path = pack(tmp_path / "a.zarr", tmp_path / "a.zip", keep=lambda name: "/c/0/0/0" not in name)
    with pytest.raises(MissingFile, match=r"the chunk .*a\.zip/volumes/raw/0/c/0/0/0 is not there, it was lost"):
        io.read_volume(path)
    assert not io.read_volume(f"{path}[missing=0]").array.any()


def test_identity_changes_with_the_file(tmp_path):
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    group.create_array("raw", data=some()).attrs["resolution"] = VOXEL
    path = pack(tmp_path / "a.zarr", tmp_path / "a.zip")
    before = io.RegionSource(f"{path}:raw", "raw").identity
    pack(tmp_path / "a.zarr", path, how=zipfile.ZIP_DEFLATED)
    assert io.RegionSource(f"{path}:raw", "raw").identity != before


def test_damage(tmp_path):
    io.write(tmp_path / "a.zarr", Volume(some(), GRID))
    path = pack(tmp_path / "a.zarr", tmp_path / "a.zip")
    whole = path.read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(StorageError, match=r"a\.zip cannot be read"):
            io.read_volume(path)
    at = whole.index(b"volumes/raw/0/c/0/0/0") + 60
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    with pytest.raises(StorageError, match=r"the chunk .*volumes/raw/0/c/0/0/0 cannot be read"):
        io.read_volume(path)


def test_what_is_no_zipped_store(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("notes.txt", "hello")
    with pytest.raises(InvalidInput, match=r"a\.zip must be a zip file of a Zarr store, not one without arrays"):
        io.read_volume(tmp_path / "a.zip")
    (tmp_path / "b.zarr").write_text("hello")
    with pytest.raises(InvalidInput, match=r"b\.zarr must be a Zarr folder, or a zip file of one"):
        io.read_volume(tmp_path / "b.zarr")
    with pytest.raises(InvalidInput, match=r"must end in \.h5"):
        io.write(tmp_path / "c.zip", Volume(some(), GRID))
