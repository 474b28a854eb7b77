"""Volumes in parts, against the same volumes as a whole."""

import h5py
import numpy as np
import pytest

from segkit import Grid, Volume, io
from segkit.data import Affinities
from segkit.errors import InvalidInput, MissingFile, StorageError

GRID = Grid((40, 4, 4), (0, 80, 8))
NEIGHBORHOOD = [(-1, 0, 0), (0, 0, -2)]


@pytest.fixture(params=["raw.h5", "raw.zarr"])
def raw(request, tmp_path):
    path = tmp_path / request.param
    io.write(path, Volume(np.random.default_rng(0).integers(0, 256, (7, 9, 11)).astype(np.uint8), GRID))
    return path


@pytest.mark.parametrize("crop", ["", ":volumes/raw[2:6, 1:9, 3:]"])
def test_parts_of_an_open_volume_are_parts_of_the_whole(raw, crop):
    whole = io.read_volume(f"{raw}{crop}")
    with io.open_volume(f"{raw}{crop}") as volume:
        assert (volume.shape, volume.grid) == (whole.shape, whole.grid)
        part = (slice(1, 3), slice(0, 5), slice(4, 7))
        np.testing.assert_array_equal(volume.read(part), whole.array[part])


def test_big_endian_values_are_turned(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["volumes/raw"] = np.arange(8).reshape(2, 2, 2).astype(">u2")
        file["volumes/raw"].attrs["resolution"] = [1, 1, 1]
    with io.open_volume(tmp_path / "a.h5") as volume:
        assert volume.read((slice(0, 2),) * 3).dtype == np.dtype(np.uint16)


def test_what_fails_while_a_volume_is_open_is_not_blamed_on_its_file(raw):
    with pytest.raises(RuntimeError, match="of my own"), io.open_volume(raw):
        raise RuntimeError("of my own")


def test_volumes_that_cannot_be_opened(raw, tmp_path):
    with pytest.raises(MissingFile), io.open_volume(tmp_path / "none.h5"):
        pass
    io.write(raw, Affinities(np.zeros((2, 3, 3, 3), np.float32), NEIGHBORHOOD, GRID))
    with pytest.raises(InvalidInput, match="kind volume"), io.open_volume(f"{raw}:volumes/affinities"):
        pass


def _affinities(shape):
    array = np.random.default_rng(1).random((2, *shape), np.float32)
    return Affinities.convert(array, NEIGHBORHOOD, GRID)


def _parts(affinities, step):
    for z in range(0, affinities.shape[0], step):
        part = (slice(0, 2), slice(z, min(z + step, affinities.shape[0])), slice(0, 5), slice(0, 6))
        yield part, affinities.array[part]


@pytest.mark.parametrize("suffix", [".h5", ".zarr"])
@pytest.mark.parametrize("step", [3, 64, 200])
def test_affinities_written_in_parts_read_as_those_written_whole(tmp_path, suffix, step):
    affinities = _affinities((130, 5, 6))
    path = tmp_path / f"parts{suffix}"
    io.write_affinities(path, _parts(affinities, step), affinities.shape, NEIGHBORHOOD, GRID, notes={"by": "me"})
    found = io.read_affinities(path)
    np.testing.assert_array_equal(found.array, affinities.array)
    assert found.grid == GRID and found.neighborhood.tolist() == [list(offset) for offset in NEIGHBORHOOD]
    assert io.read_notes(path, "affinities") == {"by": "me"}


@pytest.mark.parametrize("suffix", [".h5", ".zarr"])
@pytest.mark.parametrize("error", [RuntimeError("a network"), MemoryError(), InvalidInput("a sentence")])
def test_an_error_of_the_parts_passes_and_leaves_no_file(tmp_path, suffix, error):
    affinities = _affinities((9, 5, 6))

    def parts():
        yield next(_parts(affinities, 3))
        raise error

    with pytest.raises(type(error)) as raised:
        io.write_affinities(tmp_path / f"a{suffix}", parts(), affinities.shape, NEIGHBORHOOD, GRID)
    assert raised.value is error and not list(tmp_path.iterdir())


def test_a_damaged_part_is_a_storage_error(tmp_path):
    path = tmp_path / "raw.h5"
    io.write(path, Volume(np.random.default_rng(0).integers(0, 256, (64, 64, 64)).astype(np.uint8), GRID))
    with h5py.File(path) as file:
        chunk = file["volumes/raw"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    path.write_bytes(content)
    with io.open_volume(path) as volume, pytest.raises(StorageError, match="damaged"):
        volume.read((slice(0, 4),) * 3)
