"""What is asked of every format that is read: one small volume, whole and in part, and its damaged files."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from segkit import io
from segkit.data import Grid
from segkit.errors import SegkitError, StorageError

VOXEL, OFFSET = (40.0, 8.0, 4.0), (400.0, 80.0, 8.0)
"""Nanometers, z, y, x."""


def some(dtype="u2", shape=(5, 6, 7)) -> np.ndarray:
    """Values that differ along every axis."""
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


def check(address: object, array: np.ndarray, voxel=VOXEL, offset=OFFSET) -> None:
    """The volume at an address is `array` on that grid, read whole, as a crop and box by box; nothing is doubtful."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = io.read_volume(address)
        crop = io.read_volume(f"{address}[1:3,2:,:4]")
        with io.open_volume(address) as reader:
            box = reader.read((slice(2, 4), slice(0, 3), slice(1, 7)))
    np.testing.assert_array_equal(found.array, array)
    assert found.array.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_allclose(found.grid.voxel_size, voxel, rtol=1e-6)
    np.testing.assert_allclose(found.grid.offset, offset, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(crop.array, array[1:3, 2:, :4])
    np.testing.assert_allclose(crop.grid.offset, np.add(offset, np.multiply(voxel, (1, 2, 0))), rtol=1e-6)
    np.testing.assert_array_equal(box, array[2:4, 0:3, 1:7])
    assert found.grid.same_voxel_size(Grid(voxel)) and io.shape_of(address, "raw") == array.shape


def check_cut_off(path: Path, cuts=(0, 3, 30, 300, -1)) -> None:
    """A file that ends too early is refused by its name, at each of the `cuts`."""
    content = path.read_bytes()
    for cut in cuts:
        path.write_bytes(content[:cut])
        with warnings.catch_warnings(), pytest.raises(SegkitError) as caught:
            warnings.simplefilter("ignore")
            io.read_volume(path)
        assert path.name in str(caught.value) and str(caught.value).count("\n") == 0
        assert isinstance(caught.value, StorageError), (cut, caught.value)


def write_numpy(path: Path, array: np.ndarray) -> str:
    """A .npy; it says nothing of voxels."""
    np.save(path / "a.npy", array)
    return f"{path}/a.npy"


def write_npz(path: Path, array: np.ndarray) -> str:
    """An array of an .npz."""
    np.savez_compressed(path / "a.npz", raw=array)
    return f"{path}/a.npz:raw"


def write_png(path: Path, array: np.ndarray) -> str:
    """A folder of PNG sections."""
    from PIL import Image

    (path / "sections").mkdir()
    for number, section in enumerate(array):
        Image.fromarray(section).save(path / "sections" / f"s{number}.png")
    return f"{path}/sections"


def write_n5(path: Path, array: np.ndarray) -> str:
    """N5 by TensorStore."""
    tensorstore = pytest.importorskip("tensorstore", reason="needs tensorstore (the extra segkit-em[n5])")
    metadata = {"dimensions": array.shape[::-1], "dataType": array.dtype.name, "blockSize": [4] * 3}
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{path}/a.n5/raw/"}, "create": True}
    tensorstore.open(spec | {"metadata": metadata | {"compression": {"type": "gzip"}}}).result().T[...] = array
    return f"{path}/a.n5:raw"


def write_mrc(path: Path, array: np.ndarray) -> str:
    """MRC by mrcfile."""
    pytest.importorskip("mrcfile", reason="needs mrcfile (the extra segkit-em[mrc])").write(path / "a.mrc", array)
    return f"{path}/a.mrc"


def write_nifti(path: Path, array: np.ndarray) -> str:
    """NIfTI by nibabel."""
    nibabel = pytest.importorskip("nibabel", reason="needs nibabel (the extra segkit-em[nifti])")
    nibabel.save(nibabel.Nifti1Image(array.T, np.eye(4)), path / "a.nii.gz")
    return f"{path}/a.nii.gz"


def write_nrrd(path: Path, array: np.ndarray) -> str:
    """NRRD by pynrrd."""
    nrrd = pytest.importorskip("nrrd", reason="needs pynrrd (the extra segkit-em[nrrd])")
    nrrd.write(f"{path}/a.nrrd", array, index_order="C")
    return f"{path}/a.nrrd"


def write_zip(path: Path, array: np.ndarray) -> str:
    """Zarr in a zip file."""
    import zarr

    with zarr.storage.ZipStore(path / "a.zip", mode="w") as store:
        zarr.create_array(store, name="raw", data=array, chunks=(2, 3, 4))
    return f"{path}/a.zip:raw"


WRITERS = (write_numpy, write_npz, write_png, write_n5, write_mrc, write_nifti, write_nrrd, write_zip)
"""What write a volume in each format that is read and not written, and give its address; no voxel size is stated."""
