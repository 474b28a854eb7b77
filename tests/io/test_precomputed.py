"""Neuroglancer precomputed: bytes by the specification on one side, TensorStore on the other."""

import gzip
import json
import sys
from itertools import product

import numpy as np
import pytest

from segkit import io
from segkit.data import Grid
from segkit.errors import BrokenComponent, InvalidInput, MissingFile, StorageError
from segkit.io.precomputed_layout import CHUNK as CHUNK_SIDE
from segkit.io.precomputed_layout import SHARD, shards
from segkit.io.pyramid import levels, reduced
from segkit.io.records import Layout

SIZE, CHUNK, START = (5, 4, 3), (3, 4, 2), (10, 20, 30)
"""x, y, z."""


def test_without_tensorstore(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    by_hand(tmp_path / "a", np.zeros(SIZE[::-1], "u1"))
    with pytest.raises(BrokenComponent, match=r"needs the package tensorstore; pip install 'segkit-em\[precomputed\]'"):
        io.read_volume(tmp_path / "a")


@pytest.fixture
def tensorstore():
    return pytest.importorskip("tensorstore", reason="tensorstore (the extra segkit-em[precomputed]) is not installed")


def info(dtype, kind="image", channels=1, **scale):
    place = {"size": SIZE, "resolution": [4, 5, 40], "voxel_offset": START, "chunk_sizes": [CHUNK], "encoding": "raw"}
    scales = [{"key": "full", **place, **scale}]
    return {"type": kind, "data_type": np.dtype(dtype).name, "num_channels": channels, "scales": scales}


def chunk_boxes():
    for z in range(0, SIZE[2], CHUNK[2]):
        for y in range(0, SIZE[1], CHUNK[1]):
            for x in range(0, SIZE[0], CHUNK[0]):
                begin = (x, y, z)
                yield begin, tuple(min(b + c, s) for b, c, s in zip(begin, CHUNK, SIZE, strict=True))


def by_hand(path, array, **scale):
    """Raw chunks, x running fastest and channels slowest, in files named after their bounds; array is [c,] z, y, x."""
    four = array if array.ndim == 4 else array[None]
    (path / "full").mkdir(parents=True)
    (path / "info").write_text(json.dumps(info(array.dtype, channels=len(four), **scale)))
    for begin, end in chunk_boxes():
        name = "_".join(f"{b + s}-{e + s}" for b, e, s in zip(begin, end, START, strict=True))
        part = four[:, begin[2] : end[2], begin[1] : end[1], begin[0] : end[0]]
        (path / "full" / name).write_bytes(part.astype(array.dtype.newbyteorder("<")).tobytes())
    return path


def some(dtype, channels=()):
    rng = np.random.default_rng(0)
    return rng.integers(0, 100, (*channels, *SIZE[::-1])).astype(dtype)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "f4"])
def test_raw_chunks_made_by_hand(tmp_path, tensorstore, dtype):
    array = some(dtype)
    path = by_hand(tmp_path / "vol", array)
    found = io.read_volume(path)
    np.testing.assert_array_equal(found.array, array)
    assert found.array.dtype == dtype and found.grid == Grid((40, 5, 4), (1200, 100, 40))
    np.testing.assert_array_equal(io.read_volume(f"{path}[1:3,2:,:4]").array, array[1:3, 2:, :4])
    np.testing.assert_array_equal(io.read_volume(f"{path}:full").array, array)
    assert io.shape_of(path, "raw") == (3, 4, 5)


def test_channels_made_by_hand(tmp_path, tensorstore):
    array = (some("f4", (3,)) / 100).astype("f4")
    array[0, 0], array[1, :, 0], array[2, :, :, 0] = 0, 0, 0
    path = by_hand(tmp_path / "aff", array)
    found = io.read_affinities(path, [[-1, 0, 0], [0, -1, 0], [0, 0, -1]])
    np.testing.assert_array_equal(found.array, array)


def decode_compressed_segmentation(content: bytes, size) -> np.ndarray:
    """A chunk of one channel and uint64, as the specification of the format says, voxel by voxel; result z, y, x."""
    words = np.frombuffer(content, "<u4")
    start, block = int(words[0]), (8, 8, 8)
    grid = [-(-s // b) for s, b in zip(size, block, strict=True)]
    result = np.zeros(size[::-1], np.uint64)
    for z in range(size[2]):
        for y in range(size[1]):
            for x in range(size[0]):
                number = x // 8 + grid[0] * (y // 8 + grid[1] * (z // 8))
                table, encoded = (int(word) for word in words[start + 2 * number : start + 2 * number + 2])
                bits, table = table >> 24, start + (table & 0xFFFFFF)
                index = 0
                if bits:
                    position = (x % 8 + 8 * (y % 8 + 8 * (z % 8))) * bits
                    word = int(words[start + encoded + position // 32])
                    index = word >> (position % 32) & ((1 << bits) - 1)
                low, high = (int(word) for word in words[table + 2 * index : table + 2 * index + 2])
                result[z, y, x] = low | high << 32
    return result


def write(path, array, kind="labels", offset=(80, 20, 8), step=2):
    attributes = {"kind": kind, "format_version": 1, "resolution": [40, 5, 4], "offset": list(offset), "unit": "nm"}
    cuts = range(0, array.shape[-3], step)
    parts = [
        (*[slice(None)] * (array.ndim - 3), slice(z, min(z + step, array.shape[-3])), slice(0, None), slice(0, None))
        for z in cuts
    ]
    blocks = io.Blocks(array.shape, array.dtype, ((part, array[part]) for part in parts))
    io.write_blocks(path, "truth", blocks, attributes)


def test_segmentations_written(tmp_path, tensorstore):
    rng = np.random.default_rng(0)
    array = np.repeat(rng.integers(0, 2**63, (3, 11, 6)), 3, axis=2).astype("u8")
    array[0, 0, :3] = 2**64 - 1, 2**64 - 2, 0
    path = tmp_path / "seg.precomputed"
    write(path, array)
    said = json.loads((path / "info").read_text())
    (scale,) = said["scales"]
    assert (said["type"], said["data_type"], scale["encoding"]) == ("segmentation", "uint64", "compressed_segmentation")
    assert (scale["size"], scale["resolution"], scale["voxel_offset"]) == ([18, 11, 3], [4, 5, 40], [2, 4, 2])
    chunk = (path / scale["key"] / "2-20_4-15_2-5").read_bytes()
    np.testing.assert_array_equal(decode_compressed_segmentation(chunk, (18, 11, 3)), array)
    found = io.read_labels(path)
    np.testing.assert_array_equal(found.array, array)
    assert found.grid == Grid((40, 5, 4), (80, 20, 8))
    with pytest.raises(InvalidInput, match="kind volume, not labels"):
        io.read_volume(path)


def test_images_written(tmp_path, tensorstore):
    array = np.random.default_rng(0).integers(0, 256, (70, 5, 6)).astype("u1")
    array[:64] = 0  # blank chunks are written too: what is missing is refused
    write(tmp_path / "raw.precomputed", array, "volume", step=64)
    np.testing.assert_array_equal(io.read_volume(tmp_path / "raw.precomputed").array, array)
    (folder,) = (item for item in (tmp_path / "raw.precomputed").iterdir() if item.is_dir())
    last = np.frombuffer((folder / "2-8_4-9_66-72").read_bytes(), "u1").reshape(6, 5, 6)
    np.testing.assert_array_equal(last, array[64:])


def test_sharded_volumes_are_read(tmp_path, tensorstore):
    sharding = {"@type": "neuroglancer_uint64_sharded_v1", "preshift_bits": 1, "minishard_bits": 1, "shard_bits": 1}
    sharding |= {"hash": "identity", "data_encoding": "gzip", "minishard_index_encoding": "gzip"}
    scale = info("u2")["scales"][0] | {"chunk_size": CHUNK, "sharding": sharding}
    del scale["chunk_sizes"]
    multiscale = {"type": "image", "data_type": "uint16", "num_channels": 1}
    spec = {"driver": "neuroglancer_precomputed", "kvstore": f"file://{tmp_path}/vol/", "scale_metadata": scale}
    store = tensorstore.open(spec | {"multiscale_metadata": multiscale}, create=True).result()
    array = some("u2")
    store[..., 0].write(array.T).result()
    assert list((tmp_path / "vol" / "full").glob("*.shard"))
    np.testing.assert_array_equal(io.read_volume(tmp_path / "vol").array, array)


@pytest.mark.parametrize("suffix", [".gz", ".br"])
def test_chunks_that_are_compressed_as_files(tmp_path, tensorstore, suffix):
    """CloudVolume writes them so unless it is told not to."""
    array = some("u2")
    path = by_hand(tmp_path / "vol", array)
    for chunk in list((path / "full").iterdir()):
        packed = gzip.compress(chunk.read_bytes()) if suffix == ".gz" else brotli(chunk.read_bytes())
        chunk.with_name(chunk.name + suffix).write_bytes(packed)
        chunk.unlink()
    np.testing.assert_array_equal(io.read_volume(path).array, array)
    np.testing.assert_array_equal(io.read_volume(f"{path}[1:2,3:,:4]").array, array[1:2, 3:, :4])
    damaged = next((path / "full").iterdir())
    damaged.write_bytes(damaged.read_bytes()[:-9] + b"123456789")
    with pytest.raises(StorageError, match=f"{damaged.name}.*damaged"):
        io.read_volume(path)


def brotli(content: bytes) -> bytes:
    return pytest.importorskip("brotli").compress(content)


def test_missing_chunks(tmp_path, tensorstore):
    array = some("u1")
    path = by_hand(tmp_path / "vol", array)
    chunk = next((path / "full").iterdir())
    x, y, z = (slice(*map(int, part.split("-"))) for part in chunk.name.split("_"))
    chunk.unlink()
    with pytest.raises(MissingFile, match=f"lacks a chunk.*missing=0.*{chunk.name}"):
        io.read_volume(path)
    found = io.read_volume(f"{path}[missing=0]").array
    start = np.array(json.loads((path / "info").read_text())["scales"][0].get("voxel_offset", [0, 0, 0]))
    array = array.copy()
    array[tuple(slice(part.start - at, part.stop - at) for part, at in zip((z, y, x), start[::-1], strict=True))] = 0
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    ("array", "offset", "message"),
    [
        (np.zeros((2, 2, 2), "f8"), (0, 0, 0), "must be of dtype uint8, .*not float64"),
        (np.zeros((2, 2, 2), "i8"), (0, 0, 0), "must be of dtype uint8, .*not int64; choose one by --dtype"),
        (np.zeros((2, 2, 2), "u1"), (20, 0, 0), "whole voxels"),
    ],
)
def test_what_cannot_be_written(tmp_path, tensorstore, array, offset, message):
    with pytest.raises(InvalidInput, match=message):
        write(tmp_path / "a.precomputed", array, "volume", offset)
    assert not list(tmp_path.iterdir())


def test_what_is_no_volume(tmp_path):
    (tmp_path / "a.precomputed").mkdir()
    with pytest.raises(InvalidInput, match="without the file info"):
        io.read_volume(tmp_path / "a.precomputed")
    (tmp_path / "a.precomputed" / "info").write_text('{"@type": "neuroglancer_skeletons"}')
    with pytest.raises(InvalidInput, match="neuroglancer_skeletons"):
        io.read_volume(tmp_path / "a.precomputed")
    (tmp_path / "a.precomputed" / "info").write_text("{")
    with pytest.raises(StorageError, match="damaged"):
        io.read_volume(tmp_path / "a.precomputed")


def scales_of(path):
    return json.loads((path / "info").read_text())["scales"]


@pytest.mark.parametrize("sharding", [False, True])
@pytest.mark.parametrize(("dtype", "kind"), [("u1", "volume"), ("u8", "labels"), ("f4", "volume"), ("u2", "labels")])
def test_smaller_scales_and_shards(tmp_path, tensorstore, dtype, kind, sharding):
    array = np.random.default_rng(0).integers(0, 3, (9, 140, 300)).astype(dtype)
    path, voxel, offset = tmp_path / "a.precomputed", (40, 4, 4), (80, 12, 20)  # 2, 3 and 5 voxels
    attributes = {"kind": kind, "format_version": 1, "resolution": voxel, "offset": offset, "unit": "nm"}
    parts = [
        ((slice(0, 9), slice(0, 140), slice(a, min(a + 128, 300))), array[:, :, a : a + 128]) for a in (0, 128, 256)
    ]
    blocks = io.Blocks(array.shape, array.dtype, iter(parts))
    io.write_blocks(path, "truth" if kind == "labels" else "raw", blocks, attributes, Layout(True, sharding))
    found = levels(array.shape, voxel, (2, 3, 5))
    said = scales_of(path)
    assert [scale["key"] for scale in said] == ["4_4_40", "8_8_40", "16_16_40"] == io.datasets(path)
    assert [scale["voxel_offset"] for scale in said] == [[5, 3, 2], [2, 1, 2], [1, 0, 2]]
    assert [scale["size"] for scale in said] == [[300, 140, 9], [151, 71, 9], [76, 36, 9]]
    assert [scale["resolution"] for scale in said] == [[4, 4, 40], [8, 8, 40], [16, 16, 40]]
    assert all(("sharding" in scale) == sharding for scale in said)
    assert all(any((path / scale["key"]).glob("*.shard")) == sharding for scale in said)
    packed = kind == "labels" and dtype == "u8"
    assert {scale["encoding"] for scale in said} == {"compressed_segmentation" if packed else "raw"}
    reader = io.read_labels if kind == "labels" else io.read_volume
    expected = array
    for number, (scale, level) in enumerate(zip(said, found, strict=True)):
        if number:
            ((_, expected),) = reduced(found[number - 1], level, expected.__getitem__, kind == "labels", level.shape)
        one = reader(f"{path}:{scale['key']}")
        np.testing.assert_array_equal(one.array, expected)
        assert one.grid == Grid(
            tuple(scale["resolution"][::-1]),
            tuple(a * b for a, b in zip(scale["voxel_offset"][::-1], scale["resolution"][::-1], strict=True)),
        )
    np.testing.assert_array_equal(reader(path).array, array)


@pytest.mark.parametrize("shape", [(1, 1, 1), (70, 5, 6), (300, 4000, 4000), (64, 65, 100000), (100, 10**6, 10**6)])
@pytest.mark.parametrize("size", [1, 8, 100])
def test_a_shard_is_a_box_that_fits_into_memory(shape, size):
    """The numbers of its chunks, by the Morton code of the specification, are one range."""
    sides, sharding = shards(shape, size)
    grid = [-(-side // CHUNK_SIDE) for side in shape[::-1]]
    box = [side // CHUNK_SIDE for side in sides[::-1]]
    bits = [sharding[name] for name in ("preshift_bits", "minishard_bits", "shard_bits")]
    assert np.prod(box) == 2 ** (bits[0] + bits[1]) and CHUNK_SIDE**3 * size * np.prod(box) <= max(
        SHARD, CHUNK_SIDE**3 * size
    )
    assert 2 ** sum(bits) >= np.prod(grid) and bits[0] <= 6
    at = [(n - 1) // side for n, side in zip(grid, box, strict=True)]  # the last shard
    corners = [range(a * side, min((a + 1) * side, n)) for a, side, n in zip(at, box, grid, strict=True)]
    numbers = {morton(index, grid) >> bits[0] + bits[1] for index in product(*corners)}
    assert len(numbers) == 1


def morton(index, grid):
    """The compressed Morton code of the specification of the format."""
    code = place = 0
    for bit in range(max(grid).bit_length()):
        for axis in range(3):
            if 2**bit < grid[axis]:
                code |= (index[axis] >> bit & 1) << place
                place += 1
    return code
