"""NIfTI, written by nibabel."""

import sys

import numpy as np
import pytest

from segkit import io
from segkit.data import Grid
from segkit.errors import BrokenComponent, InvalidInput, MissingDataset, SegkitWarning
from tests.io.format_checks import OFFSET, VOXEL, check, check_cut_off, some

nibabel = pytest.importorskip("nibabel", reason="needs nibabel (the extra segkit-em[nifti])")


def affine(signs=(1, 1, 1), scale=1.0):
    """That of voxels of VOXEL nm, in units of `scale` nm, with the corner of the first at OFFSET; x, y, z."""
    matrix = np.diag([*(sign * length / scale for sign, length in zip(signs, VOXEL[::-1], strict=True)), 1.0])
    matrix[:3, 3] = [sign * at / scale for sign, at in zip(signs, OFFSET[::-1], strict=True)]
    return matrix


@pytest.fixture
def nifti(tmp_path):
    """Write an array, z, y, x, under an affine in micrometers."""

    def make(array, matrix=None, unit="micron", name="a.nii", kind=nibabel.Nifti1Image, **fields):
        image = kind(array.T, affine(scale=1000) if matrix is None else matrix, dtype=array.dtype)
        image.header.set_xyzt_units(unit)
        for field, value in fields.items():
            image.header[field] = value
        nibabel.save(image, tmp_path / name)
        return tmp_path / name

    return make


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8", ">i2"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ"])
def test_arrays(nifti, dtype, name):
    check(nifti(some(dtype), name=name), some(dtype))


@pytest.mark.parametrize(("unit", "scale"), [("mm", 1e6), ("meter", 1e9)])
def test_units(nifti, unit, scale):
    check(nifti(some(), affine(scale=scale), unit), some())


def test_nifti_2(nifti):
    check(nifti(some("i8"), kind=nibabel.Nifti2Image), some("i8"))


def test_left_and_posterior_is_another_convention(nifti):
    """What ITK writes for an upright volume."""
    check(nifti(some(), affine((-1, -1, 1), 1000)), some())


@pytest.mark.parametrize("order", ["zyx", "yxz", "yzx"])
def test_axes_in_another_order_are_followed(nifti, order):
    """`order` is that of the axes of the file."""
    array = some()
    columns = ["xyz".index(axis) for axis in order]
    matrix = affine(scale=1000)
    matrix[:, :3] = matrix[:, columns]
    stored = array.transpose(["zyx".index(axis) for axis in order])
    check(nifti(np.ascontiguousarray(stored).T, matrix), array)


def test_without_codes_the_sizes_count(nifti, tmp_path):
    image = nibabel.Nifti1Image(some().T, None)
    image.header.set_xyzt_units("micron")
    image.header.set_zooms([length / 1000 for length in VOXEL[::-1]])
    nibabel.save(image, tmp_path / "a.nii")
    check(tmp_path / "a.nii", some(), offset=(0, 0, 0))


def test_no_unit_is_said(nifti):
    with pytest.warns(SegkitWarning, match=r"voxels are \(40, 8, 4\) long .* taken to be nanometers"):
        assert io.read_volume(nifti(some(), affine(), "unknown")).grid.voxel_size == VOXEL


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (affine((-1, 1, 1)), "must run along those of the world, not against it along x"),
        (affine((-1, -1, -1)), "must run along those of the world, not against it along x, y, z"),
        (affine() + np.outer([1, 0, 0, 0], [0, 1, 0, 0]), "must each follow one axis of the world"),
    ],
)
def test_crooked_voxels_are_refused(nifti, matrix, message, segkit, tmp_path):
    path = nifti(some(), matrix)
    with pytest.raises(InvalidInput, match=rf"a\.nii: the axes {message}.*; `segkit convert --voxel-size Z Y X`"):
        io.read_volume(path)
    segkit("convert", path, tmp_path / "a.h5", "--kind", "raw", "--voxel-size", "40", "8", "4")
    np.testing.assert_array_equal(io.read_volume(tmp_path / "a.h5").array, some())


def test_values_that_are_scaled(nifti, tmp_path):
    nifti(some("i2"))
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[112:120] = np.array([0.5, 10], "<f4").tobytes()  # scl_slope, scl_inter
    (tmp_path / "a.nii").write_bytes(content)
    check(tmp_path / "a.nii", some("f8") * 0.5 + 10)
    with pytest.raises(InvalidInput, match="must be integers, not float64"):
        io.read_labels(tmp_path / "a.nii")


def test_times_and_channels(nifti):
    array = some(shape=(3, 2, 5, 6, 7))
    path = nifti(array)
    with pytest.raises(InvalidInput, match=r"has 2 times; pick one as ADDRESS\[t=0\]"):
        io.read_volume(path)
    found = io.read_volume(f"{path}[t=1,c=2]")
    np.testing.assert_array_equal(found.array, array[2, 1])
    assert found.grid.same_voxel_size(io.read_volume(nifti(some(), name="b.nii")).grid)
    np.testing.assert_array_equal(io.read_volume(nifti(some(shape=(1, 5, 6, 7)))).array, some(shape=(5, 6, 7)))


def test_one_section(nifti):
    array = some(shape=(6, 7))
    found = io.read_volume(nifti(array))
    np.testing.assert_array_equal(found.array, array[None])
    assert found.grid.same_voxel_size(Grid(VOXEL))


def test_roles(nifti):
    np.testing.assert_array_equal(io.read_labels(nifti(some("i4"))).array, some("i4"))
    np.testing.assert_array_equal(io.read_mask(nifti((some() > 50).astype("u1"))).array, some() > 50)
    affinities = np.zeros((3, 1, 5, 6, 7), "f4")
    affinities[0, :, 1:] = 0.5
    found = io.read_affinities(nifti(affinities), [[-1, 0, 0], [0, -1, 0], [0, 0, -1]])
    np.testing.assert_array_equal(found.array, affinities[:, 0])
    with pytest.raises(MissingDataset, match="merge tree"):
        io.read_merge_tree(nifti(some()))


def test_what_is_refused(nifti, tmp_path):
    check_cut_off(nifti(some()), cuts=(0, 3, 300, -1))
    check_cut_off(nifti(some(), name="a.nii.gz"), cuts=(0, 3, 100, -20))
    with pytest.raises(InvalidInput, match="real numbers"):
        io.read_volume(nifti(some("c8")))


def test_without_nibabel(nifti, monkeypatch):
    path = nifti(some())
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(BrokenComponent, match=r"NIfTI needs the package nibabel; pip install 'segkit-em\[nifti\]'"):
        io.read_volume(path)
