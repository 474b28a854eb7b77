"""MRC files, written by mrcfile."""

import sys

import numpy as np
import pytest

from segkit import io
from segkit.errors import BrokenComponent, InvalidInput, MissingDataset, SegkitWarning
from tests.io.format_checks import OFFSET, VOXEL, check, check_cut_off, some

mrcfile = pytest.importorskip("mrcfile", reason="needs mrcfile (the extra segkit-em[mrc])")
START = tuple(int(at / length) for at, length in zip(OFFSET, VOXEL, strict=True))


@pytest.fixture
def mrc(tmp_path):
    """Write an array as it is; fields of the header by name; lengths are angstroms."""

    def make(array, voxel=VOXEL, name="a.mrc", stamp=None, **fields):
        path = tmp_path / name
        with mrcfile.new(path, array, overwrite=True) as file:
            if array.ndim == 3:
                file.set_volume()
            file.voxel_size = tuple(length * 10 for length in voxel[::-1])
            for field, value in fields.items():
                setattr(file.header, field, value)
        if stamp is not None:
            content = bytearray(path.read_bytes())
            content[152:160] = np.array([1146047817, stamp], "<i4").tobytes()
            path.write_bytes(content)
        return path

    return make


ORIGIN = tuple(at * 10 for at in OFFSET[::-1])


@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "f4", "f2", ">i2"])
@pytest.mark.parametrize("name", ["a.mrc", "a.rec", "a.MAP"])
def test_modes(mrc, dtype, name):
    check(mrc(some(dtype), name=name, origin=ORIGIN), some(dtype).astype(np.dtype(dtype).newbyteorder("=")))


def test_the_start_is_the_place_where_there_is_no_origin(mrc):
    z, y, x = START
    check(mrc(some(), nxstart=x, nystart=y, nzstart=z), some())
    check(mrc(some(), nxstart=99, nystart=y, nzstart=z, origin=ORIGIN), some())


@pytest.mark.parametrize("order", ["xyz", "yxz", "zyx", "yzx", "zxy"])
def test_axes_of_columns_rows_and_sections(mrc, order):
    """`order` is that of columns, rows and sections; sizes of the cell are those of x, y and z whatever it is."""
    array, starts = some(), dict(zip("zyx", START, strict=True))
    stored = np.ascontiguousarray(array.transpose(["zyx".index(axis) for axis in order[::-1]]))
    numbers = {name: "xyz".index(axis) + 1 for name, axis in zip(("mapc", "mapr", "maps"), order, strict=True)}
    cell = {f"m{axis}": array.shape["zyx".index(axis)] for axis in "xyz"}
    lengths = tuple(10 * length * size for length, size in zip(VOXEL[::-1], array.shape[::-1], strict=True))
    begin = {f"n{field}start": starts[axis] for field, axis in zip("xyz", order, strict=True)}
    check(mrc(stored, **numbers, **cell, cella=lengths, **begin), array)


def test_axes_that_are_left_out(mrc):
    check(mrc(some(), mapc=0, mapr=0, maps=0, origin=ORIGIN), some())
    with pytest.raises(InvalidInput, match=r"must be 1, 2 and 3 in some order, not \[1, 1, 3\]"):
        io.read_volume(mrc(some(), mapr=1))


@pytest.mark.parametrize(("flags", "dtype", "sign"), [(0, "u1", -1), (1, "i1", -1), (5, "i1", 1), (4, "u1", 1)])
def test_files_of_imod(mrc, flags, dtype, sign):
    array = some("i2") * 2 - 30
    stored = array.astype("i1")
    origin = tuple(sign * at for at in ORIGIN)
    check(mrc(stored, stamp=flags, origin=origin, nxstart=7), array.astype(dtype))


def test_one_image_and_stacks(mrc, tmp_path):
    check_one = io.read_volume(mrc(some()[0], VOXEL, ispg=0))
    np.testing.assert_array_equal(check_one.array, some()[:1])
    with mrcfile.new(tmp_path / "b.mrcs", some(shape=(2, 5, 6, 7))) as file:
        file.voxel_size = tuple(10 * length for length in VOXEL[::-1])
    with pytest.raises(InvalidInput, match=r"has 2 times; pick one as ADDRESS\[t=0\]"):
        io.read_volume(tmp_path / "b.mrcs")
    np.testing.assert_array_equal(io.read_volume(f"{tmp_path}/b.mrcs[t=1]").array, some(shape=(2, 5, 6, 7))[1])


def test_voxels_that_nobody_measured(mrc):
    with pytest.warns(SegkitWarning, match="no attribute `resolution`"):
        assert io.read_volume(mrc(some(), (0, 0, 0))).grid.voxel_size == (1, 1, 1)


def test_labels_and_masks(mrc):
    np.testing.assert_array_equal(io.read_labels(mrc(some("u2"))).array, some("u2"))
    np.testing.assert_array_equal(io.read_mask(mrc((some() > 50).astype("i1"))).array, some() > 50)
    with pytest.raises(MissingDataset, match="merge tree"):
        io.read_merge_tree(mrc(some()))


def test_what_is_refused(mrc, tmp_path):
    with pytest.raises(InvalidInput, match=r"mode must be 0, 1, 2, 6, 12, not 4"):
        io.read_volume(mrc(some("c8")))
    with pytest.raises(InvalidInput, match=r"the angles of the cell must be 90, not \[90.0, 100.0, 90.0\]"):
        io.read_volume(mrc(some(), cellb=(90, 100, 90)))
    check_cut_off(mrc(some()), cuts=(0, 3, 300, 1024, -1))
    (tmp_path / "b.mrc").write_text("hello" * 1000)
    with pytest.raises(Exception, match=r"b\.mrc cannot be read"):
        io.read_volume(tmp_path / "b.mrc")


def test_without_mrcfile(mrc, monkeypatch):
    path = mrc(some())
    monkeypatch.setitem(sys.modules, "mrcfile", None)
    with pytest.raises(BrokenComponent, match=r"MRC needs the package mrcfile; pip install 'segkit-em\[mrc\]'"):
        io.read_volume(path)
