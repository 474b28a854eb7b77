"""N5: bytes by the specification, and what TensorStore writes with the attributes of each tool."""

import json
import sys

import numpy as np
import pytest

from segkit import io
from segkit.errors import BrokenComponent, InvalidInput, MissingDataset, SegkitWarning, StorageError
from tests.io.format_checks import OFFSET, VOXEL, check, some

TRANSFORM = {"axes": ["z", "y", "x"], "scale": VOXEL, "translate": OFFSET, "units": ["nm"] * 3}
COARSE = (40.0, 16.0, 8.0)


@pytest.fixture
def tensorstore():
    return pytest.importorskip("tensorstore", reason="needs tensorstore (the extra segkit-em[n5])")


@pytest.fixture
def n5(tmp_path, tensorstore):
    """Write an array, [channels,] z, y, x, under a name, with attributes."""

    def make(name, array, compression=None, **attributes):
        metadata = {"dimensions": array.shape[::-1], "dataType": array.dtype.name, "blockSize": [3] * array.ndim}
        metadata |= {"compression": compression or {"type": "gzip"}}
        kvstore = {"driver": "file", "path": f"{tmp_path}/a.n5/{name}/"}
        spec = {"driver": "n5", "kvstore": kvstore, "metadata": metadata}
        tensorstore.open(spec, create=True).result().T[...] = array
        add(tmp_path / "a.n5" / name, **attributes)
        return f"{tmp_path}/a.n5:{name}"

    return make


def add(folder, **attributes):
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "attributes.json"
    file.write_text(json.dumps((json.loads(file.read_text()) if file.exists() else {}) | attributes))


def test_without_tensorstore(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    by_hand(tmp_path / "a.n5", some())
    with pytest.raises(BrokenComponent, match=r"N5 needs the package tensorstore; pip install 'segkit-em\[n5\]'"):
        io.read_volume(tmp_path / "a.n5")


def by_hand(folder, array):
    """Raw blocks of 4 x 4 x 4, x fastest, big-endian, with their sizes, in folders named by x, y and z."""
    add(folder, dimensions=array.shape[::-1], blockSize=[4, 4, 4], dataType="uint16", compression={"type": "raw"})
    add(folder, pixelResolution={"dimensions": VOXEL[::-1], "unit": "nm"})
    for z in range(0, array.shape[0], 4):
        for y in range(0, array.shape[1], 4):
            for x in range(0, array.shape[2], 4):
                part = array[z : z + 4, y : y + 4, x : x + 4].astype(">u2")
                file = folder / f"{x // 4}/{y // 4}/{z // 4}"
                file.parent.mkdir(parents=True, exist_ok=True)
                header = np.array([0, 3], ">u2").tobytes() + np.array(part.shape[::-1], ">u4").tobytes()
                file.write_bytes(header + part.tobytes())


def test_blocks_made_by_hand(tmp_path, tensorstore):
    array = some()
    by_hand(tmp_path / "a.n5", array)
    check(tmp_path / "a.n5", array, offset=(0, 0, 0))
    assert io.datasets(tmp_path / "a.n5") == []
    (tmp_path / "a.n5/0/0/0").unlink()  # the format leaves blocks of zeros out
    array[:4, :4, :4] = 0
    check(tmp_path / "a.n5", array, offset=(0, 0, 0))
    (tmp_path / "a.n5/1/0/0").write_bytes(b"\0\0\0\3")
    with pytest.raises(StorageError, match=r"a\.n5.* cannot be read"):
        io.read_volume(tmp_path / "a.n5")


@pytest.mark.parametrize(
    "settings",
    [
        {"type": "raw"},
        {"type": "gzip", "level": -1},
        {"type": "gzip", "useZlib": True},
        {"type": "bzip2"},
        {"type": "xz"},
        {"type": "zstd"},
        {"type": "blosc", "cname": "zstd", "clevel": 9, "shuffle": 2},
    ],
)
@pytest.mark.parametrize("dtype", ["u1", "i2", "u8", "f4"])
def test_compressions(n5, tmp_path, settings, dtype):
    address = n5("volumes/raw", some(dtype), settings, transform=TRANSFORM)
    add(tmp_path / "a.n5/volumes/raw", compression=settings | {"nthreads": 8})  # which TensorStore does not know
    check(address, some(dtype))
    check(address.partition(":")[0], some(dtype))


@pytest.mark.parametrize(
    ("attributes", "offset"),
    [
        ({"transform": TRANSFORM, "pixelResolution": {"dimensions": VOXEL[::-1], "unit": "nm"}}, OFFSET),
        ({"pixelResolution": {"dimensions": [v / 1000 for v in VOXEL[::-1]], "unit": "um"}}, (0, 0, 0)),
        ({"resolution": VOXEL[::-1], "offset": OFFSET[::-1]}, OFFSET),
        ({"resolution": VOXEL[::-1], "units": "nm,nm,nm", "axes": "xyz"}, (0, 0, 0)),
        ({"resolution": [4, 8, 0.04], "units": ["nm", "nm", "um"], "axes": ["x", "y", "z"]}, (0, 0, 0)),
    ],
)
def test_attributes_are_those_of_x_y_z(n5, attributes, offset):
    check(n5("raw", some(), **attributes), some(), offset=offset)


def test_axes_in_another_order(n5):
    array = some()
    attributes = {"axes": ["z", "y", "x"], "resolution": VOXEL, "units": ["nm"] * 3}
    check(n5("raw", np.ascontiguousarray(array.T), **attributes), array, offset=(0, 0, 0))


def test_scales_of_a_group(n5, tmp_path):
    n5("em/s0", some())
    coarse = n5("em/s1", some("u1"), downsamplingFactors=[2, 2, 1])
    add(tmp_path / "a.n5/em", pixelResolution={"dimensions": VOXEL[::-1], "unit": "nm"}, offset=OFFSET[::-1])
    path = tmp_path / "a.n5"
    assert io.datasets(path) == ["em"]
    check(f"{path}:em", some(), offset=(0, 0, 0))  # pixelResolution says nothing of the place
    check(coarse, some("u1"), COARSE, (0, 0, 0))
    with pytest.raises(MissingDataset, match=r"did you mean .*a\.n5:em\?"):
        io.read_volume(path)


def test_factors_that_the_group_states(n5, tmp_path):
    coarse, coarser = n5("em/s1", some()), n5("em/s2", some())
    size = {"dimensions": VOXEL[::-1], "unit": "nm"}
    add(tmp_path / "a.n5/em", pixelResolution=size, scales=[[1, 1, 1], [2, 2, 1]], axes=["x", "y", "z"])
    check(coarse, some(), COARSE, (0, 0, 0))
    with pytest.warns(SegkitWarning, match="voxels are taken to be 1 nm"):  # nobody states how long these are
        assert io.read_volume(coarser).grid.voxel_size == (1, 1, 1)
    add(tmp_path / "a.n5/em/s2", resolution=VOXEL[::-1])
    check(coarser, some(), offset=(0, 0, 0))


def test_axes_of_a_scale_and_of_its_group_must_agree(n5, tmp_path):
    add(tmp_path / "a.n5/em", axes=["x", "y", "z"])
    address = n5("em/s0", some(), transform=TRANSFORM | {"ordering": "C"})
    check(address, some())
    for axes in ({"axes": ["x", "y", "z"]}, {"ordering": "F"}):
        add(tmp_path / "a.n5/em/s0", transform=TRANSFORM | axes)
        with pytest.raises(InvalidInput, match=r"must agree, not z, y, x \(axes\) and x, y, z \(transform\)"):
            io.read_volume(address)


def test_resolution_beside_factors_is_said(n5):
    address = n5("em/s1", some(), downsamplingFactors=[2, 2, 1], resolution=VOXEL[::-1])
    with pytest.warns(SegkitWarning, match="`downsamplingFactors` .*; they are multiplied"):
        assert io.read_volume(address).grid.voxel_size == COARSE


def test_big_data_viewer(n5, tmp_path):
    for scale, factors in (("s0", [1, 1, 1]), ("s1", [2, 2, 1])):
        n5(f"setup3/timepoint0/{scale}", some(), downsamplingFactors=factors)
    (tmp_path / "a.xml").write_text(
        "<SpimData><ViewSetup><id>3</id><voxelSize><unit>nm</unit><size>4 8 40</size></voxelSize>"
        "</ViewSetup></SpimData>"
    )
    path = tmp_path / "a.n5"
    assert io.datasets(path) == ["setup3/timepoint0"]
    check(f"{path}:setup3/timepoint0", some(), offset=(0, 0, 0))
    check(f"{path}:setup3/timepoint0/s1", some(), COARSE, (0, 0, 0))


def test_labels_and_affinities(n5):
    labels, affinities = some("u8"), np.zeros((3, 5, 6, 7), "f4")
    affinities[0, 1:] = 0.5
    found = io.read_labels(n5("labels", labels, transform=TRANSFORM))
    np.testing.assert_array_equal(found.array, labels)
    address = n5("affinities", affinities, resolution=VOXEL[::-1], axes=["x", "y", "z", "c"])
    found = io.read_affinities(address, [[-1, 0, 0], [0, -1, 0], [0, 0, -1]])
    np.testing.assert_array_equal(found.array, affinities)
    assert found.grid.voxel_size == VOXEL
    np.testing.assert_array_equal(io.read_volume(f"{address}[c=0]").array, affinities[0])
    with pytest.raises(MissingDataset, match="merge tree"):
        io.read_merge_tree(address)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"compression": {"type": "lz4"}}, "compression.type must be 'raw', 'gzip'"),
        ({"dataType": "object"}, "dataType must be"),
        ({"blockSize": [3, 3]}, "blockSize must have 3 sides"),
        ({"blockSize": [4096, 4096, 4096]}, "chunks must be smaller"),
        ({"dimensions": "many"}, "dimensions must be"),
        ({"downsamplingFactors": [2, 2], "resolution": [4, 8, 40]}, "downsamplingFactors must be as many"),
        ({"axes": ["x", "y", "z", "c"]}, "axes must be 3, as many as the array has"),
    ],
)
@pytest.mark.filterwarnings("ignore::segkit.errors.SegkitWarning")
def test_what_is_no_array(n5, tmp_path, attributes, message):
    address = n5("raw", some(), resolution=VOXEL[::-1])
    add(tmp_path / "a.n5/raw", **attributes)
    with pytest.raises(InvalidInput, match=message):
        io.read_volume(address)


def test_what_is_no_container(tmp_path, tensorstore):
    (tmp_path / "a.n5").write_text("x")
    with pytest.raises(InvalidInput, match="must be an N5 folder, not a file"):
        io.read_volume(tmp_path / "a.n5")
    add(tmp_path / "b")
    with pytest.raises(MissingDataset, match="holds nothing"):
        io.read_volume(tmp_path / "b")
    with pytest.raises(MissingDataset, match="must be an array or an image"):
        (tmp_path / "b/c").mkdir()
        io.read_volume(f"{tmp_path}/b:c")
