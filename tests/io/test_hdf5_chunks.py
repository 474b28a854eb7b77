"""Chunks that are encoded in threads are those that HDF5 itself would make, read back by h5py."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from segkit.io import hdf5
from segkit.io.records import Blocks, Record


def _cut(shape: tuple[int, ...], at: list[int]) -> list[tuple[slice, ...]]:
    """Boxes of an array, cut along its last axis."""
    before = [slice(0, size) for size in shape[:-1]]
    return [(*before, slice(low, high)) for low, high in zip([0, *at], [*at, shape[-1]], strict=True)]


@pytest.mark.parametrize("dtype", ["uint8", "<f4", ">f4", "uint64", "bool", "int16"])
@pytest.mark.parametrize(
    ("shape", "at"),
    [((5,), []), ((70_000,), [65_536]), ((70_000,), [5, 65_536]), ((2, 3, 65, 130), [64, 128]), ((9, 8, 70), [63])],
    ids=["one", "chunks", "parts of chunks", "borders", "across"],
)
def test_blocks_are_read_back_by_h5py(tmp_path: Path, dtype: str, shape: tuple[int, ...], at: list[int]) -> None:
    array = (np.random.default_rng(0).random(shape) * 200).astype(dtype)
    blocks = Blocks(array.shape, array.dtype, [(part, array[part]) for part in _cut(shape, at)])
    hdf5.write(tmp_path / "file.h5", {"whole": Record(array, {}), "blocks": Record(blocks, {})})
    with h5py.File(tmp_path / "file.h5") as file:
        for name in ("whole", "blocks"):
            assert file[name].dtype == array.dtype
            np.testing.assert_array_equal(file[name][...], array)


@pytest.mark.parametrize("dtype", ["uint64", "float32"])
def test_a_chunk_is_encoded_as_hdf5_encodes_it(tmp_path: Path, dtype: str) -> None:
    ids = np.arange(2 * 70 * 64, dtype=np.uint64).reshape(2, 70, 64)
    array = ids if dtype == "uint64" else np.random.default_rng(0).random(ids.shape, dtype=np.float32)
    hdf5.write(tmp_path / "file.h5", {"ours": Record(array, {})})
    with h5py.File(tmp_path / "file.h5", "r+") as file:
        ours = file["ours"]
        layout = {"compression": "gzip", "compression_opts": hdf5.LEVEL, "shuffle": True, "fletcher32": True}
        theirs = file.create_dataset("theirs", data=array, chunks=ours.chunks, **layout)
        for number in range(theirs.id.get_num_chunks()):
            corner = theirs.id.get_chunk_info(number).chunk_offset
            found = [each.id.read_direct_chunk(corner) for each in (ours, theirs)]
            assert found[0][0] == found[1][0] == 0
            assert len(found[0][1]) == pytest.approx(len(found[1][1]), rel=0.05)  # releases of zlib may differ


def test_threads_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(0).random((3, 70, 130), dtype=np.float32)
    written = []
    for threads in (1, 3):
        monkeypatch.setattr("segkit.threads._limit", [threads])
        hdf5.write(tmp_path / "file.h5", {"array": Record(array, {})})
        with h5py.File(tmp_path / "file.h5") as file:
            chunks = [file["array"].id.get_chunk_info(n).chunk_offset for n in range(file["array"].id.get_num_chunks())]
            written.append([file["array"].id.read_direct_chunk(corner)[1] for corner in chunks])
    assert written[0] == written[1]


@pytest.mark.parametrize("part", [(..., slice(0, 64)), (slice(None), slice(0, 64)), (slice(0, 64, 2), slice(None))])
def test_boxes_that_are_said_otherwise_are_written_by_h5py(tmp_path: Path, part: tuple) -> None:
    array = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    blocks = Blocks(array.shape, array.dtype, [(part, array[part])])
    hdf5.write(tmp_path / "file.h5", {"blocks": Record(blocks, {})})
    with h5py.File(tmp_path / "file.h5") as file:
        np.testing.assert_array_equal(file["blocks"][part], array[part])
