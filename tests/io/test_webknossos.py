"""Datasets of webKnossos: layers written by hand, by wkw and by zarr, beside properties as webKnossos states them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from segkit import io
from segkit.data import Grid
from segkit.errors import InvalidInput, MissingDataset, StorageError
from tests.io.format_checks import OFFSET, VOXEL, check, some

GOLDEN = Path(__file__).parent / "golden" / "wkw"
TOP_LEFT = [int(at / length) for at, length in zip(OFFSET[::-1], VOXEL[::-1], strict=True)]
"""x, y, z."""
BOX = {"topLeft": TOP_LEFT, "width": 7, "height": 6, "depth": 5}
SCALE = {"factor": list(VOXEL[::-1]), "unit": "nanometer"}


def state(folder, layers, **voxel):
    content = {"id": {"name": "a", "team": ""}, "dataLayers": layers} | (voxel or {"voxelSize": SCALE})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "datasource-properties.json").write_text(json.dumps(content))
    return folder


def layer(name="color", mags=({"mag": [1, 1, 1]},), category="color", form="wkw", box=BOX):
    about = {"name": name, "category": category, "boundingBox": box, "elementClass": "uint16", "dataFormat": form}
    return about | {"mags": list(mags)}


def around(array, start, side=40):
    """A cube, channel, x, y, z, of 9, with an array, [c,] z, y, x, in it."""
    four = array if array.ndim == 4 else array[None]
    found = np.full((len(four), side, side, side), 9, array.dtype)
    x, y, z = start
    found[:, x : x + array.shape[-1], y : y + array.shape[-2], z : z + array.shape[-3]] = four.transpose(0, 3, 2, 1)
    return found


def write_wkw(folder, array, start=TOP_LEFT):
    """Raw files of 2 x 2 x 2 blocks of 4 x 4 x 4 voxels, by the specification: around(array, start)."""
    values = around(array, start)
    dtypes = ["u1", "u2", "u4", "u8", "f4", "f8", "i1", "i2", "i4", "i8"]
    number = dtypes.index(array.dtype.str[1:]) + 1
    header = b"WKW" + bytes([1, 1 << 4 | 2, 1, number, array.dtype.itemsize * len(values)])
    folder.mkdir(parents=True)
    (folder / "header.wkw").write_bytes(header + bytes(8))
    for fz, fy, fx in np.ndindex(5, 5, 5):
        blocks = []
        for z, y, x in np.ndindex(2, 2, 2):  # with two blocks along a side, the order of Morton is that of x, y, z
            low = [8 * fx + 4 * x, 8 * fy + 4 * y, 8 * fz + 4 * z]
            block = values[:, low[0] : low[0] + 4, low[1] : low[1] + 4, low[2] : low[2] + 4]
            blocks.append(block.tobytes(order="F"))
        file = folder / f"z{fz}/y{fy}/x{fx}.wkw"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(header + (16).to_bytes(8, "little") + b"".join(blocks))


def by_the_library(folder, compressed, channels):
    """Files of 4 x 4 x 4 blocks of 2 x 2 x 2 voxels, by wkw: those of golden/wkw."""
    wkw = pytest.importorskip("wkw", reason="needs the package wkw")
    kind = wkw.Header.BLOCK_TYPE_LZ4 if compressed else wkw.Header.BLOCK_TYPE_RAW
    header = wkw.Header(np.uint16, channels, block_len=2, file_len=4, block_type=kind)
    with wkw.Dataset.create(str(folder), header) as dataset:
        array = some(shape=(channels, 5, 6, 7))
        dataset.write((0, 0, 0), np.asfortranarray(around(array, TOP_LEFT, 24)))


@pytest.mark.parametrize(
    ("name", "compressed", "channels"), [("raw", False, 1), ("lz4", True, 1), ("colours", True, 3)]
)
@pytest.mark.parametrize("made", ["once", "now"])
def test_files_of_the_library(tmp_path, name, compressed, channels, made):
    path = state(tmp_path / "a", [layer()])
    if made == "once":
        shutil.copytree(GOLDEN / name, path / "color/1")
    else:
        by_the_library(path / "color/1", compressed, channels)
    array = some(shape=(channels, 5, 6, 7))
    if channels == 1:
        check(f"{path}:color", array[0])
        return
    with pytest.raises(InvalidInput, match=r"has 3 channels; pick one"):
        io.read_volume(f"{path}:color")
    np.testing.assert_array_equal(io.read_volume(f"{path}:color[c=2]").array, array[2])


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i2", "f4"])
def test_the_bounding_box_is_the_volume(tmp_path, dtype):
    path = state(tmp_path / "a", [layer()])
    write_wkw(path / "color/1", some(dtype))
    check(f"{path}:color", some(dtype))
    check(path, some(dtype))  # there is but one layer
    check(f"{path}:color/1", some(dtype))
    assert io.datasets(path) == ["color"]


@pytest.mark.parametrize(
    "voxel",
    [
        {"scale": list(VOXEL[::-1])},
        {"scale": SCALE},
        {"voxelSize": {"factor": [0.004, 0.008, 0.04], "unit": "micrometer"}},
    ],
)
@pytest.mark.parametrize(
    "mag", [{"resolution": 1, "cubeLength": 1024}, {"mag": "1"}, {"mag": {"x": 1, "y": 1, "z": 1}}]
)
def test_how_versions_say_it(tmp_path, voxel, mag):
    stated = layer()
    del stated["mags"]
    path = state(tmp_path / "a", [stated | {"wkwResolutions": [mag]}], **voxel)
    write_wkw(path / "color/1", some())
    check(f"{path}:color", some())


def test_mags(tmp_path):
    path = state(tmp_path / "a", [layer(mags=[{"mag": [2, 2, 1]}, {"mag": [1, 1, 1]}, {"mag": 4, "path": "./far/4"}])])
    write_wkw(path / "color/1", some())
    coarse = some("u1", (5, 3, 4))  # 2..9 along x and 10..16 along y, halved and rounded outwards
    write_wkw(path / "color/2-2-1", coarse, (1, 5, 10))
    write_wkw(path / "far/4", some("u1", (2, 2, 3)), (0, 2, 2))
    check(f"{path}:color", some())
    found = io.read_volume(f"{path}:color/2-2-1")
    np.testing.assert_array_equal(found.array, coarse)
    assert found.grid == Grid((40, 16, 8), (400, 80, 8))
    assert io.read_volume(f"{path}:color/4").grid == Grid((160, 32, 16), (320, 64, 0))
    with pytest.raises(MissingDataset, match="has no dataset 'color/8'"):
        io.read_volume(f"{path}:color/8")


def test_layers_and_their_roles(tmp_path):
    path = state(tmp_path / "a", [layer(), layer("ids", category="segmentation")])
    write_wkw(path / "color/1", some())
    write_wkw(path / "ids/1", some("u4"))
    np.testing.assert_array_equal(io.read_labels(f"{path}:ids").array, some("u4"))
    with pytest.raises(InvalidInput, match="must be of kind volume, not labels"):
        io.read_volume(f"{path}:ids")
    with pytest.raises(MissingDataset, match="it holds color, ids"):
        io.read_labels(path)
    with pytest.raises(MissingDataset, match="merge tree"):
        io.read_merge_tree(f"{path}:ids")


@pytest.mark.parametrize(
    ("order", "axes"), [({"c": 0, "x": 1, "y": 2, "z": 3}, "cxyz"), ({"x": 2, "y": 1, "z": 0}, "zyx"), (None, "cxyz")]
)
@pytest.mark.parametrize("form", ["zarr", "zarr3"])
def test_layers_of_zarr(tmp_path, order, axes, form):
    x, y, z = TOP_LEFT
    around = np.full((20, 20, 20), 9, "u2")
    around[z : z + 5, y : y + 6, x : x + 7] = some()
    stored = around[None].transpose(["czyx".index(axis) for axis in axes]) if "c" in axes else around
    mag = {"mag": [1, 1, 1], "path": "color/1"} | ({"axisOrder": order} if order else {})
    path = state(tmp_path / "a", [layer(mags=[mag], form=form)])
    zarr.create_array(str(path / "color/1"), data=np.ascontiguousarray(stored), zarr_format=3 if form == "zarr3" else 2)
    check(f"{path}:color", some())


def test_what_is_missing_is_zero(tmp_path):
    path = state(tmp_path / "a", [layer()])
    write_wkw(path / "color/1", some())
    for file in (path / "color/1").rglob("x0.wkw"):
        file.unlink()
    array = some()
    array[:, :, :6] = 0  # the box begins at 2, and files are 8 long
    check(f"{path}:color", array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boundingBox": BOX | {"width": 0}}, r"dataLayers.0.boundingBox.width must be"),
        ({"boundingBox": BOX | {"topLeft": [1, 2]}}, r"topLeft must"),
        ({"dataFormat": "n5"}, r"dataFormat must be wkw, zarr or zarr3, not 'n5'"),
        ({"mags": []}, r"mags must"),
        ({"mags": [{"mag": "x"}]}, r"mag must be valid"),
        ({"mags": [{"mag": 1, "path": "../1"}]}, r"must not lead out of the dataset, not '../1'.*\[links=follow\]"),
        ({"mags": [{"mag": 1, "path": "/etc"}]}, r"must not lead out of the dataset"),
        ({"name": "../a"}, r"name must be"),
    ],
)
def test_what_is_no_dataset(tmp_path, change, message):
    path = state(tmp_path / "a", [layer() | change])
    with pytest.raises(InvalidInput, match=message):
        io.read_volume(path)


def test_mags_elsewhere(tmp_path):
    path = state(tmp_path / "a", [layer(mags=[{"mag": 1, "path": "../elsewhere"}])])
    write_wkw(tmp_path / "elsewhere", some())
    np.testing.assert_array_equal(io.read_volume(f"{path}:color[links=follow]").array, some())


def test_damage(tmp_path):
    path = state(tmp_path / "a", [layer()])
    with pytest.raises(StorageError, match=r"header\.wkw cannot be read"):
        io.read_volume(path)
    write_wkw(path / "color/1", some())
    file = path / "color/1/z1/y1/x0.wkw"
    whole, header = file.read_bytes(), (path / "color/1/header.wkw").read_bytes()
    for damaged in (whole[:100], whole[:10], b"", b"WKX" + whole[3:]):
        file.write_bytes(damaged)
        with pytest.raises(StorageError, match=r"x0\.wkw cannot be read"):
            io.read_volume(path)
    file.write_bytes(whole)
    for at, value, message in ((4, 0x1F, "chunks must be smaller"), (4, 0xF2, "chunks must be smaller"), (0, 0, "WKW")):
        (path / "color/1/header.wkw").write_bytes(header[:at] + bytes([value]) + header[at + 1 :])
        with pytest.raises(InvalidInput, match=message):
            io.read_volume(path)
    (path / "color/1/header.wkw").write_bytes(header[:4] + b"\x21" + header[5:])  # other files than there are
    with pytest.raises(StorageError, match=r"its header is not that of header\.wkw"):
        io.read_volume(path)
    (path / "datasource-properties.json").write_text("{")
    with pytest.raises(StorageError, match="no valid JSON"):
        io.read_volume(path)


@pytest.mark.parametrize("cut", [0, 12, 300, -1])
def test_packed_files_that_are_cut_off(tmp_path, cut):
    path = state(tmp_path / "a", [layer()])
    shutil.copytree(GOLDEN / "lz4", path / "color/1")
    file = path / "color/1/z1/y1/x0.wkw"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(StorageError, match=r"x0\.wkw cannot be read"):
        io.read_volume(path)
