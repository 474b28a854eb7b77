"""NumPy files, written by NumPy."""

import pickle
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest

from segkit import io
from segkit.data import Grid
from segkit.errors import InvalidInput, MissingDataset, SegkitWarning, StorageError

NEAREST = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]


def some(dtype="u2", shape=(5, 6, 7)):
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["u1", ">u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("how", ["save", "savez", "savez_compressed"])
def test_arrays_and_crops(tmp_path, dtype, order, how):
    array = np.array(some(dtype), order=order)
    address = tmp_path / "a.npy"
    if how == "save":
        np.save(address, array)
    else:
        getattr(np, how)(tmp_path / "a.npz", other=array[0], raw=array)
        address = f"{tmp_path}/a.npz:raw"
    with pytest.warns(SegkitWarning, match="no attribute `resolution`"):
        found = io.read_volume(address)
        crop = io.read_volume(f"{address}[1:3,2:,:4]")
        backwards = io.read_volume(f"{address}[axes=xyz]")
    np.testing.assert_array_equal(found.array, array)
    np.testing.assert_array_equal(crop.array, array[1:3, 2:, :4])
    np.testing.assert_array_equal(backwards.array, array.T)
    assert found.grid == Grid((1, 1, 1)) and io.shape_of(address, "raw") == (5, 6, 7)


@pytest.mark.filterwarnings("ignore::segkit.errors.SegkitWarning")
def test_every_role(tmp_path):
    labels, affinities = some("i8"), np.zeros((3, 5, 6, 7), np.float32)
    affinities[0, 2:] = 0.25
    np.savez(tmp_path / "a.npz", labels=labels, mask=labels > 50, affinities=affinities)
    np.save(tmp_path / "labels.npy", labels)
    np.testing.assert_array_equal(io.read_labels(f"{tmp_path}/a.npz:labels").array, labels)
    np.testing.assert_array_equal(io.read_labels(tmp_path / "labels.npy").array, labels)
    np.testing.assert_array_equal(io.read_mask(f"{tmp_path}/a.npz:mask").array, labels > 50)
    np.testing.assert_array_equal(io.read_affinities(f"{tmp_path}/a.npz:affinities", NEAREST).array, affinities)
    assert io.datasets(tmp_path / "a.npz") == ["affinities", "labels", "mask"]
    with pytest.raises(MissingDataset, match=r"it holds affinities, labels, mask"):
        io.read_volume(tmp_path / "a.npz")
    for name in ("a.npz", "labels.npy"):
        with pytest.raises(MissingDataset, match="merge tree"):
            io.read_merge_tree(tmp_path / name)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_pickles_are_not_read(tmp_path, name):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    values = np.array([[[Evil()]]], object)
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "a.npz", raw=values)
    with pytest.raises(InvalidInput, match="must not be stored as pickles"):
        io.read_volume(tmp_path / name if name.endswith("y") else f"{tmp_path}/a.npz:raw")
    (tmp_path / name).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(StorageError, match=name):
        io.read_volume(tmp_path / name if name.endswith("y") else f"{tmp_path}/a.npz:raw")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("dtype", ["U3", "M8[s]", [("a", "u1")]])
def test_what_is_no_number(tmp_path, dtype):
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4), dtype))
    with pytest.raises(InvalidInput, match=r"a\.npy.* must be an array of numbers"):
        io.read_volume(tmp_path / "a.npy")


def test_a_negative_shape(tmp_path):
    np.save(tmp_path / "a.npy", some())
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content.replace(b"(5, 6, 7)", b"(5,-6, 7)"))
    with pytest.raises(InvalidInput, match=r"a\.npy: shape must not be negative, not \(5, -6, 7\)"):
        io.read_volume(tmp_path / "a.npy")


@pytest.mark.filterwarnings("ignore::segkit.errors.SegkitWarning")
@pytest.mark.parametrize("kept", [0, 4, 40, 150, 600])
@pytest.mark.parametrize("how", ["save", "savez", "savez_compressed"])
def test_cut_off(tmp_path, how, kept):
    path = tmp_path / ("a.npy" if how == "save" else "a.npz")
    getattr(np, how)(path, some("f8"))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(StorageError, match=rf"{path.name}.* cannot be read"):
        io.read_volume(path if how == "save" else f"{path}:arr_0")


def test_members_are_mapped(tmp_path):
    """An array in an archive that is not packed is not read whole."""
    np.savez(tmp_path / "a.npz", some("u1", (3, 4, 5)), raw=np.zeros((300, 400, 500), np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with io.opened(f"{tmp_path}/a.npz:raw", "raw", ("volume",)) as (stored, _):
            tracemalloc.start()
            stored.read((slice(0, 1), slice(0, 1), slice(0, 9)))
            assert tracemalloc.get_traced_memory()[1] < 10_000_000
            tracemalloc.stop()
