"""Boxes through a cache of chunks: the values of the whole, each chunk decoded once while there is room."""

import json
import pickle
import threading

import h5py
import numpy as np
import pytest
import tifffile

from segkit import Grid, Labels, Volume, io
from segkit.errors import InvalidInput, StorageError
from segkit.io import cached
from segkit.io.cached import CachedSource, ChunkCache

BOXES = [
    ((0, 1), (0, 1), (0, 1)),
    ((3, 11), (5, 29), (7, 40)),
    ((0, 20), (0, 30), (0, 40)),
    ((19, 20), (2, 9), (0, 40)),
]
ROOM = 10**8
pytestmark = pytest.mark.filterwarnings("ignore:.*voxels are taken to be 1 nm")


@pytest.fixture
def ids():
    array = np.random.default_rng(0).integers(0, 9, (20, 30, 40)).astype(np.uint64)
    array[2:5, 3:6, :] = 2**64 - 1
    return array


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(cached, "SMALLEST", 400)


@pytest.fixture
def reads(monkeypatch):
    """What was read of any file, box by box."""
    found, read = [], io.RegionSource.read
    monkeypatch.setattr(io.RegionSource, "read", lambda self, box: found.append(box) or read(self, box))
    return found


def stored(path, array):
    """`array` as labels in a file, in small chunks where the format has such."""
    name = "volumes/labels/neuron_ids"
    if path.suffix == ".tif":
        tifffile.imwrite(path, array.astype(np.uint16), compression="zlib", photometric="minisblack")
        return path
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file.create_dataset(name, data=array, chunks=(7, 8, 9)).attrs["resolution"] = (4, 4, 4)
    else:
        io.write(f"{path}:{name}", Labels(array, Grid((4, 4, 4), (40, 0, 8))))
    return f"{path}:{name}"


def slices(box):
    return tuple(slice(*along) for along in box)


@pytest.mark.parametrize("name", ["a.h5", "a.zarr", "a.tif"])
@pytest.mark.parametrize("crop", ["", "[2:19,1:30,3:38]"])
def test_boxes_are_those_of_the_whole(ids, tmp_path, name, crop):
    if name == "a.tif":
        ids = ids % 2**16
    address = f"{stored(tmp_path / name, ids)}{crop}"
    whole = io.read_labels(address)
    source = CachedSource(address, "truth", ChunkCache(ROOM))
    assert (source.shape, source.grid, source.dtype) == (whole.shape, whole.grid, np.uint64)
    for box in BOXES:
        part = slices([(a, min(b, size)) for (a, b), size in zip(box, whole.shape, strict=True)])
        if all(along.start < along.stop for along in part):
            assert np.array_equal(source.read(part), whole.array[part])


def test_what_is_read_may_be_changed(ids, tmp_path):
    source = CachedSource(stored(tmp_path / "a.h5", ids), "truth", ChunkCache(ROOM))
    source.read(slices(BOXES[1]))[:] = 0
    assert np.array_equal(source.read(slices(BOXES[1])), ids[slices(BOXES[1])])


def test_chunks_end_where_those_of_the_file_end_and_are_read_once(ids, tmp_path, reads):
    source = CachedSource(f"{stored(tmp_path / 'a.h5', ids)}[2:20]", "truth", ChunkCache(ROOM))
    for box in [((0, 3), (0, 9), (0, 9)), ((1, 9), (0, 9), (0, 9)), ((0, 18), (0, 9), (0, 9))]:
        source.read(slices(box))
    assert len(reads) == len({str(box) for box in reads})
    starts = [{box[axis].start for box in reads} for axis in range(3)]
    assert starts == [{0, 5, 12}, {0, 8}, {0}]  # the crop begins at voxel 2 of the file


def test_the_cache_keeps_what_was_used_last_and_no_more_than_it_may(ids, tmp_path, reads):
    cache = ChunkCache(2 * 7 * 8 * 9 * 8)  # two chunks
    source = CachedSource(stored(tmp_path / "a.h5", ids), "truth", cache)
    first, second, third = ((slice(0, 1), slice(0, 1), slice(at, at + 1)) for at in (0, 9, 18))
    for box in (first, second, first, third, first):
        source.read(box)
    assert len(reads) == 3
    source.read(second)
    assert len(reads) == 4 and cache.held <= cache.size
    source.read(slices(BOXES[2]))  # more than the cache holds
    assert cache.held <= cache.size


def test_small_ids_take_half_the_room(ids, tmp_path):
    for name, array, size in (("small", ids % 2**16, 4), ("large", ids | np.uint64(2**40), 8)):
        cache = ChunkCache(ROOM)
        source = CachedSource(stored(tmp_path / f"{name}.h5", array), "truth", cache)
        assert np.array_equal(source.read(slices(BOXES[2])), array) and cache.held == size * array.size


def test_a_chunk_that_many_want_is_read_once(ids, tmp_path, reads):
    source = CachedSource(stored(tmp_path / "a.h5", ids), "truth", ChunkCache(ROOM))
    threads = [threading.Thread(target=source.read, args=(slices(BOXES[2]),)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reads) == len({str(box) for box in reads})


def test_what_cannot_be_read_is_read_anew(ids, tmp_path, monkeypatch):
    source, read = CachedSource(stored(tmp_path / "a.h5", ids), "truth", ChunkCache(ROOM)), io.RegionSource.read
    monkeypatch.setattr(io.RegionSource, "read", lambda self, box: (_ for _ in ()).throw(StorageError("gone")))
    with pytest.raises(StorageError, match="gone"):
        source.read(slices(BOXES[0]))
    monkeypatch.setattr(io.RegionSource, "read", read)
    assert np.array_equal(source.read(slices(BOXES[0])), ids[slices(BOXES[0])])


def test_a_chunk_larger_than_the_cache_is_refused(ids, tmp_path):
    with pytest.raises(
        InvalidInput, match=r"cache must hold what is decoded at once of .*a\.h5:volumes/labels/neuron_ids, 0\.0 MB"
    ):
        CachedSource(stored(tmp_path / "a.h5", ids), "truth", ChunkCache(1000))


def test_sources_that_travel_share_a_cache_there(ids, tmp_path):
    address, cache = stored(tmp_path / "a.h5", ids), ChunkCache(ROOM)
    sources = [CachedSource(address, "truth", cache), CachedSource(f"{address}[1:9]", "truth", cache)]
    first, second = pickle.loads(pickle.dumps(sources))
    assert first._cache is second._cache and first._cache.size == ROOM and not first._cache.held
    assert np.array_equal(second.read(slices(BOXES[0])), ids[1:2, :1, :1])


def test_a_volume_of_floats_keeps_its_dtype_and_a_mask_its_meaning(tmp_path):
    mask = np.random.default_rng(1).random((20, 30, 40)) < 0.5
    io.write(tmp_path / "raw.h5", Volume(np.linspace(0, 1, mask.size, dtype=np.float32).reshape(mask.shape), Grid()))
    with h5py.File(tmp_path / "mask.h5", "w") as file:
        file.create_dataset("volumes/labels/mask", data=mask * np.uint8(255), chunks=(4, 4, 40))
    for name, role, dtype in (("raw", "raw", np.float32), ("mask", "mask", bool)):
        source = CachedSource(tmp_path / f"{name}.h5", role, ChunkCache(ROOM))
        whole = io.RegionSource(tmp_path / f"{name}.h5", role).whole()
        assert source.dtype == dtype and np.array_equal(source.read(slices(BOXES[1])), whole.array[slices(BOXES[1])])


def test_chunks_are_those_of_the_file_along_z_y_x(tmp_path, monkeypatch):
    array = np.zeros((20, 30, 40), np.uint16)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("zyx", data=array, chunks=(7, 8, 9))
        file.create_dataset("xyz", data=array.T, chunks=(9, 8, 7))
        file.create_dataset("tczyx", data=array[None, None], chunks=(1, 1, 7, 8, 9))
        file.create_dataset("section", data=array[0], chunks=(8, 9)).attrs["axes"] = ["y", "x"]
        file.create_dataset("contiguous", data=array)
    tifffile.imwrite(tmp_path / "packed.tif", array, compression="zlib", photometric="minisblack")
    tifffile.imwrite(tmp_path / "plain.tif", array, photometric="minisblack")
    monkeypatch.setattr("segkit.io.zarr.CHUNK", 16)
    io.write(tmp_path / "a.zarr", Volume(array, Grid()))
    expected = {
        "a.h5:zyx": (7, 8, 9),
        "a.h5:xyz[axes=xyz]": (7, 8, 9),
        "a.h5:tczyx[axes=tczyx]": (7, 8, 9),
        "a.h5:section": (1, 8, 9),
        "a.h5:contiguous": None,
        "a.zarr:volumes/raw": (16, 16, 16),
        "packed.tif": (1, 30, 40),
        "plain.tif": None,
    }
    assert {name: io.RegionSource(f"{tmp_path}/{name}", "raw").chunks for name in expected} == expected


def test_chunks_of_precomputed_volumes(tmp_path):
    pytest.importorskip("tensorstore", reason="needs tensorstore")
    scale = {"key": "s0", "size": [40, 30, 20], "resolution": [4, 4, 4], "chunk_sizes": [[9, 8, 7]], "encoding": "raw"}
    info = {"@type": "neuroglancer_multiscale_volume", "type": "image", "data_type": "uint16", "num_channels": 1}
    (tmp_path / "a.precomputed").mkdir()
    (tmp_path / "a.precomputed" / "info").write_text(json.dumps(info | {"scales": [scale]}))
    assert io.RegionSource(tmp_path / "a.precomputed", "raw").chunks == (7, 8, 9)
