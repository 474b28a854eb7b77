"""What values mean is decided for the array as it is stored: whole, a crop and a block of it agree."""

import h5py
import numpy as np
import pytest

from segkit import Grid, Volume, io
from segkit.data import Affinities
from segkit.errors import InvalidInput
from segkit.io import reader
from segkit.io.records import Blocks

NEAREST = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]
DARK = slice(16, 32)
"""Sections of a volume that hold nothing but 0 and 1 of 255."""


def stored(path, array, kind="affinities", **stated):
    attributes = {"resolution": [10, 10, 10], "offset": [0, 0, 0], "kind": kind, "format_version": 1, "unit": "nm"}
    attributes |= stated
    if kind == "affinities":
        attributes["neighborhood"] = NEAREST
    whole = (slice(None),) * array.ndim
    role = "affinities" if kind == "affinities" else "mask"
    io.write_blocks(path, role, Blocks(array.shape, array.dtype, [(whole, array)]), attributes)
    return path


def half_dark(dtype):
    rng = np.random.default_rng(0)
    array = rng.integers(100, 256, (3, 32, 16, 16)).astype(dtype)
    array[:, DARK] = rng.integers(0, 2, array[:, DARK].shape)
    return array


@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_a_dark_part_of_affinities_is_scaled_as_the_whole(tmp_path, name, dtype):
    array = half_dark(dtype)
    path = stored(tmp_path / name, array)
    whole = io.read_affinities(path).array
    crop = io.read_affinities(f"{path}[16:32]")
    inner = np.s_[:, 1:, 1:, 1:]
    np.testing.assert_array_equal(crop.array[inner], whole[:, DARK][inner])
    assert 0 < crop.array.max() < 0.01
    with io.open_volume(path, "affinities") as volume:
        block = volume.read((DARK, slice(0, 16), slice(0, 16)))
    np.testing.assert_array_equal(block, whole[:, DARK])


@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_affinities_of_0_and_1_are_refused_in_every_part(tmp_path, name, dtype):
    array = np.random.default_rng(0).integers(0, 2, (3, 8, 8, 8)).astype(dtype)
    path = stored(tmp_path / name, array)
    for address in (str(path), f"{path}[2:4]"):
        with pytest.raises(InvalidInput, match=r"must span 0\.\..*store them as floats"):
            io.read_affinities(address)
    with io.open_volume(path, "affinities") as volume, pytest.raises(InvalidInput, match="must span"):
        volume.read((slice(0, 4),) * 3)
    with pytest.raises(InvalidInput, match=r"volumes/affinities: .*must span"):  # before blocks are given away
        _ = io.RegionSource(path, "affinities").identity


def foreign(path, array):
    with h5py.File(path, "w") as file:
        file["volumes/affinities"] = array
        file["volumes/affinities"].attrs["resolution"] = [10, 10, 10]
    return path


@pytest.mark.parametrize("bits", [8, 12])
def test_few_bits_in_16_of_another_tool_are_refused_in_every_part(tmp_path, bits):
    path = foreign(tmp_path / "a.h5", half_dark("u2") * np.uint16(2 ** (bits - 8)))
    for address in (str(path), f"{path}[16:32]"):
        with pytest.raises(InvalidInput, match=r"uint16 must span 0\.\.65535, not 0\.\..*divided by what stands for 1"):
            io.read_affinities(address, NEAREST)


def test_a_dark_part_of_floats_that_leave_0_to_1_is_refused_as_the_whole(tmp_path):
    array = half_dark("f4")
    array[:, 10:20] = 200
    array[:, 20:] = np.float32(0.5)
    path = foreign(tmp_path / "a.h5", array)
    with io.open_volume(path, "affinities", NEAREST) as volume, pytest.raises(InvalidInput, match=r"lie in 0\.\.1"):
        volume.read((slice(20, 32), slice(0, 16), slice(0, 16)))
    for address in (str(path), f"{path}[20:32]"):
        with pytest.raises(InvalidInput, match=r"lie in 0\.\.1"):
            io.read_affinities(address, NEAREST)


def test_affinities_of_0_are_0(tmp_path):
    path = stored(tmp_path / "a.h5", np.zeros((3, 4, 4, 4), "u1"))
    assert not io.read_affinities(path).array.any()


@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
def test_a_file_that_says_what_1_is_needs_no_look(tmp_path, name):
    """Nothing but 0 and 1 of 255, then; and another number than the largest is refused."""
    array = half_dark("u1")[:, DARK]
    full = stored(tmp_path / name, array, full_scale=255)
    np.testing.assert_array_equal(io.read_affinities(full).array[:, 1:, 1:, 1:], array[:, 1:, 1:, 1:] / np.float32(255))
    with pytest.raises(InvalidInput, match="full_scale must be the largest number of uint8, not 100"):
        io.read_affinities(stored(tmp_path / f"other-{name}", array, full_scale=100))


def test_an_array_in_memory_is_all_there_is():
    with pytest.raises(InvalidInput, match="must span"):
        Affinities.convert(half_dark("u1")[:, DARK])


@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
def test_a_mask_has_one_value_wherever_it_is_looked_at(tmp_path, name):
    array = np.zeros((96, 8, 8), "u1")
    array[:40], array[90:] = 7, 9
    path = stored(tmp_path / name, array, "labels")
    for start in (0, 50, 90):
        with io.open_volume(path, "mask") as volume, pytest.raises(InvalidInput, match="not 7 and 9"):
            volume.read((slice(start, start + 4), slice(0, 4), slice(0, 4)))
    with pytest.raises(InvalidInput, match="not 7 and 9"):
        io.RegionSource(path, "mask").identity  # noqa: B018  # what a stage by blocks asks first
    for crop in ("", "[:40]", "[50:60]", "[90:]"):
        with pytest.raises(InvalidInput, match="0 and one other value, not 7 and 9"):
            io.read_mask(f"{path}{crop}")


def test_a_large_mask_is_looked_at_until_its_value_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "SMALL_MASK", 200 * 8 * 8 - 1)
    array = np.zeros((200, 8, 8), "u1")
    array[:140], array[150:] = 7, 9
    path = stored(tmp_path / "a.h5", array, "labels")
    assert io.read_mask(f"{path}[:100]").array.all()
    for crop in ("", "[149:]"):
        with pytest.raises(InvalidInput, match="0 and one other value, not 7 and 9"):
            io.read_mask(f"{path}{crop}")


def test_raw_that_is_not_finite_is_refused_in_blocks_too(tmp_path):
    array = np.zeros((4, 4, 4), np.float32)
    array[3, 2, 3] = np.nan
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("volumes/raw", data=array).attrs["resolution"] = [4, 4, 4]
    with io.open_volume(tmp_path / "a.h5") as volume:
        volume.read((slice(0, 2),) * 3)
        with pytest.raises(InvalidInput, match="finite"):
            volume.read((slice(2, 4),) * 3)


def test_blank_volumes_of_any_size_are_looked_at_in_places_only(tmp_path, monkeypatch):
    """A mask of a petavoxel must not be read from end to end to find that it is blank."""
    monkeypatch.setattr(reader, "LOOKED_AT", 3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("volumes/labels/mask", (2**19,) * 3, "u1", chunks=(64,) * 3).attrs["resolution"] = [4, 4, 4]
    with io.open_volume(tmp_path / "a.h5", "mask") as volume:
        assert not volume.read((slice(0, 4),) * 3).any()


def test_what_does_not_fit_into_memory_is_refused_before_it_is_read(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("volumes/raw", (2**17,) * 3, "u1", chunks=(64,) * 3).attrs["resolution"] = [4, 4, 4]
    with pytest.raises(InvalidInput, match=r"takes 2,251,799\.8 GB, and .* GB are free; name a part"):
        io.read_volume(tmp_path / "a.h5")
    assert io.read_volume(f"{tmp_path}/a.h5[0:4,0:4,0:4]").shape == (4, 4, 4)


@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
def test_sizes_that_cannot_be(tmp_path, name):
    io.write(tmp_path / name, Volume(np.zeros((2, 2, 2), "u1"), Grid()))
    if name == "a.h5":
        with h5py.File(tmp_path / name, "r+") as file:
            del file["volumes/raw"]
            data = file.create_dataset("volumes/raw", (2**21, 2**21, 2**21), "u1", chunks=(64,) * 3)
            data.attrs["resolution"] = [4, 4, 4]
    else:
        array = tmp_path / name / "volumes/raw/0/zarr.json"
        text = array.read_text()
        start = text.index('"shape"')
        array.write_text(text[:start] + f'"shape": [{2**21}, {2**21}, {2**21}]' + text[text.index("]", start) + 1 :])
    with pytest.raises(InvalidInput, match="more voxels than there can be"):
        io.read_volume(tmp_path / name)


@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
def test_chunks_that_no_memory_holds(tmp_path, name):
    """Each is decoded whole, however little is read of it."""
    io.write(tmp_path / name, Volume(np.zeros((2, 2, 2), "u1"), Grid()))
    if name == "a.h5":
        with h5py.File(tmp_path / name, "r+") as file:
            del file["volumes/raw"]
            # h5py may refuse to make one: the format allows them since HDF5 2.0
            try:
                data = file.create_dataset("volumes/raw", (2**12, 2**12, 2**10), "u1", chunks=(2**12, 2**12, 2**9))
            except ValueError:
                pytest.skip("needs an h5py that makes chunks of 4 GiB and more")
            data.attrs["resolution"] = [4, 4, 4]
    else:
        array = tmp_path / "a.zarr/volumes/raw/0/zarr.json"
        text = array.read_text()
        start = text.index('"chunk_shape"')
        array.write_text(text[:start] + f'"chunk_shape": [{2**20}, {2**20}, 1]' + text[text.index("]", start) + 1 :])
    with pytest.raises(InvalidInput, match="the chunks must be smaller than 4 GiB, for each is decoded whole"):
        io.read_volume(f"{tmp_path / name}[0:1,0:1,0:1]")
