"""NRRD, written by pynrrd and by hand."""

import sys

import numpy as np
import pytest

from segkit import io
from segkit.errors import BrokenComponent, InvalidInput, MissingDataset, SegkitWarning, StorageError
from tests.io.format_checks import OFFSET, VOXEL, check, check_cut_off, some

nrrd = pytest.importorskip("nrrd", reason="needs pynrrd (the extra segkit-em[nrrd])")
UPRIGHT = {
    "space directions": np.diag(VOXEL[::-1]),
    "space origin": np.array(OFFSET[::-1]),
    "space units": ["nm"] * 3,
    "space dimension": 3,
}


@pytest.fixture
def write(tmp_path):
    """Write an array, z, y, x, with a header."""

    def make(array, header=UPRIGHT, name="a.nrrd", encoding="raw", **options):
        nrrd.write(str(tmp_path / name), array.T, {**header, "encoding": encoding}, index_order="F", **options)
        return tmp_path / name

    return make


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", ">u2", "i4", "u4", "u8", "f4", "f8"])
@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
def test_types_and_encodings(write, dtype, encoding):
    check(write(some(dtype), encoding=encoding), some(dtype))


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_values_beside_the_header(write, tmp_path, encoding):
    path = write(some(), name="a.nhdr", encoding=encoding, detached_header=True)
    assert len(list(tmp_path.iterdir())) == 2
    check(path, some())
    source = io.RegionSource(path, "raw")
    before = source.identity
    values = next(item for item in tmp_path.iterdir() if item.suffix != ".nhdr")
    values.write_bytes(values.read_bytes() + b"x")
    assert io.RegionSource(path, "raw").identity != before
    values.unlink()
    with pytest.raises(StorageError, match=r"cannot be read \(No such file"):
        io.read_volume(path)


@pytest.mark.parametrize("outside", ["../raw", "/tmp/raw"])
def test_values_elsewhere_are_refused(write, tmp_path, outside):
    (tmp_path / "inner").mkdir()
    path = write(some(), name="inner/a.nhdr", detached_header=True)
    target = tmp_path / "raw" if outside.startswith(".") else tmp_path / "other"
    (tmp_path / "inner/a.raw").rename(target)
    path.write_text(path.read_text().replace("a.raw", outside if outside.startswith(".") else str(target)))
    with pytest.raises(InvalidInput, match=r"data file must lie beside its header.*\[links=follow\]"):
        io.read_volume(path)
    np.testing.assert_array_equal(io.read_volume(f"{path}[links=follow]").array, some())


@pytest.mark.parametrize(
    ("header", "offset"),
    [
        ({"spacings": VOXEL[::-1], "units": ["nm"] * 3, "axis mins": OFFSET[::-1]}, OFFSET),
        ({"spacings": [length / 1000 for length in VOXEL[::-1]], "units": ["um", "um", "microns"]}, (0, 0, 0)),
        (UPRIGHT | {"space directions": np.diag([-4.0, -8, 40]), "space origin": np.array([-8.0, -80, 400])}, OFFSET),
        (UPRIGHT | {"kinds": ["domain"] * 3, "labels": ["a", "b", "c"]}, OFFSET),
    ],
)
def test_where_voxels_lie(write, header, offset):
    check(write(some(), header), some(), offset=offset)


def test_axes_in_another_order_are_followed(write):
    array = some()
    stored = np.ascontiguousarray(array.T)  # z is the first axis of the file
    check(write(stored, UPRIGHT | {"space directions": np.diag(VOXEL[::-1])[::-1]}), array)
    header = {"spacings": VOXEL, "units": ["nm"] * 3, "labels": ["z", "y", "x"]}
    check(write(stored, header), array, offset=(0, 0, 0))


def test_channels(write):
    array = some(shape=(5, 6, 7, 2))
    steps = np.vstack([[np.nan] * 3, UPRIGHT["space directions"]])
    path = write(array, UPRIGHT | {"space directions": steps, "kinds": ["vector", "domain", "domain", "domain"]})
    with pytest.raises(InvalidInput, match=r"has 2 channels; pick one as ADDRESS\[c=0\]"):
        io.read_volume(path)
    found = io.read_volume(f"{path}[c=1]")
    np.testing.assert_array_equal(found.array, array[..., 1])
    assert (found.grid.voxel_size, found.grid.offset) == (VOXEL, OFFSET)
    header = {"spacings": [*VOXEL[::-1], np.nan], "units": ["nm", "nm", "nm", ""]}
    path = write(array.transpose(3, 0, 1, 2), header | {"kinds": ["domain", "domain", "domain", "time"]})
    found = io.read_volume(f"{path}[t=1]")
    np.testing.assert_array_equal(found.array, array[..., 1])
    assert found.grid.voxel_size == VOXEL


def test_affinities_and_labels(write):
    affinities = np.zeros((3, 5, 6, 7), "f4")
    affinities[0, 1:] = 0.5
    path = write(affinities, {"kinds": ["domain", "domain", "domain", "list"], "spacings": [4, 8, 40, np.nan]})
    with pytest.warns(SegkitWarning, match="without a unit"):
        found = io.read_affinities(path, [[-1, 0, 0], [0, -1, 0], [0, 0, -1]])
    np.testing.assert_array_equal(found.array, affinities)
    np.testing.assert_array_equal(io.read_labels(write(some("u8"))).array, some("u8"))
    with pytest.raises(MissingDataset, match="merge tree"):
        io.read_merge_tree(write(some()))


HEADER = 'NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 1 2\nspacings: 4 8 40\nunits: "nm" "nm" "nm"\n'


@pytest.mark.parametrize("skip", ["byte skip: 3\n", "line skip: 1\n", "byteskip: -1\n", "lineskip: 1\nbyte skip: 0\n"])
@pytest.mark.parametrize("detached", [True, False])
def test_what_is_skipped(tmp_path, skip, detached):
    """x runs fastest."""
    values, path = b"ab\n" + bytes([1, 2, 3, 4]), tmp_path / ("a.nhdr" if detached else "a.nrrd")
    (tmp_path / "values").write_bytes(values)
    where = "data file: values\n" if detached else ""
    path.write_bytes(f"{HEADER}encoding: raw\n{skip}{where}\n".encode() + (b"" if detached else values))
    assert io.read_volume(path).array.tolist() == [[[1, 2]], [[3, 4]]]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("type: uint8", "type: block", "type must be a type of numbers"),
        ("encoding: raw", "encoding: hex", "encoding must be"),
        ("type: uint8", "type: short", "endian must be little or big"),
        ("sizes: 2 1 2", "sizes: 2 2", "sizes must have 3 entries"),
        ("sizes: 2 1 2", "sizes: 2 -1 2", "sizes.1 must be"),
        ("spacings: 4 8 40", "spacings: 4 8", "spacings must have 3 entries"),
        ("encoding: raw", "encoding: raw\ndata file: LIST", "data file must name one file"),
        ("spacings: 4 8 40", "spacings: 4 -8 40", "voxel_size"),
    ],
)
def test_what_is_no_volume(tmp_path, old, new, message):
    path = tmp_path / "a.nrrd"
    path.write_bytes(f"{HEADER}encoding: raw\n\n".replace(old, new).encode() + bytes(8))
    with pytest.raises(InvalidInput, match=message):
        io.read_volume(path)


def test_cut_off(write):
    check_cut_off(write(some()), cuts=(0, 3, -1))
    check_cut_off(write(some(), encoding="gzip"), cuts=(-20, -100))


def test_without_pynrrd(write, monkeypatch):
    path = write(some())
    monkeypatch.setitem(sys.modules, "nrrd", None)
    with pytest.raises(BrokenComponent, match=r"NRRD needs the package nrrd; pip install 'segkit-em\[nrrd\]'"):
        io.read_volume(path)
