"""Boxes of volumes against the same volumes read as a whole."""

import os
import pickle
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segkit import Grid, Volume, io
from segkit.data import Affinities, Labels
from segkit.errors import InvalidInput, MissingDataset
from segkit.io.reader import RegionSource, open_volume
from segkit.io.records import Blocks
from segkit.io.shard_target import ShardTarget
from segkit.testing import strategies

GRID = Grid((40, 4, 4), (0, 80, 8))
NEIGHBORHOOD = [(-1, 0, 0), (0, 2, 0), (1, -1, -3), (0, 0, 9)]
SHAPE = (4, 7, 8)
RNG = np.random.default_rng(0)


@st.composite
def boxes(draw, shape=SHAPE):
    """A part of a volume, with at least one voxel."""
    ends = [sorted(draw(st.tuples(st.integers(0, size - 1), st.integers(1, size)))) for size in shape]
    return tuple(slice(a, max(b, a + 1)) for a, b in ends)


def text_of(box) -> str:
    return f"[{','.join(f'{along.start}:{along.stop}' for along in box)}]"


def unclean(dtype) -> np.ndarray:
    """Affinities of other tools: not 0 where an edge leaves the volume."""
    steps = RNG.integers(1, 256, (len(NEIGHBORHOOD), *SHAPE))
    return steps.astype(dtype) if np.dtype(dtype).kind == "u" else (steps / 255).astype(dtype)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files with affinities of three dtypes, labels and masks, in HDF5 and Zarr."""
    folder = tmp_path_factory.mktemp("regions")
    attributes = {"resolution": [40, 4, 4], "offset": [0, 80, 8], "neighborhood": np.array(NEIGHBORHOOD).tolist()}
    whole = (slice(None),) * 4
    for suffix in ("h5", "zarr"):
        for dtype in ("uint8", "float16", "float32"):
            array = unclean(dtype)
            path = folder / f"a.{suffix}:{dtype}"
            record = attributes | {"kind": "affinities", "format_version": 1, "unit": "nm"}
            io.write_blocks(str(path), "affinities", Blocks(array.shape, array.dtype, [(whole, array)]), record)
        ids = RNG.choice(np.array([0, 1, 2**63 + 5, 2**64 - 1], np.uint64), SHAPE)
        io.write(folder / f"a.{suffix}", Labels(ids, GRID), "fragments")
        io.write(folder / f"a.{suffix}", Volume(RNG.random(SHAPE) < 0.5, GRID))
        io.write(folder / f"a.{suffix}", Volume(RNG.integers(0, 9, SHAPE).astype(np.uint16), GRID))
    return folder


def same_box(source: RegionSource, whole, part) -> None:
    """Check a box of a handle that has travelled, and that nobody minds if it is changed."""
    source = pickle.loads(pickle.dumps(source))
    assert (source.shape, source.grid) == (whole.shape, whole.grid)
    found = source.read(part)
    assert found.dtype == whole.array.dtype
    np.testing.assert_array_equal(found, whole.array[(..., *part)])
    found[...] = 0
    np.testing.assert_array_equal(source.read(part), whole.array[(..., *part)])


@pytest.mark.parametrize("suffix", ["h5", "zarr"])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_boxes_of_affinities(folder, suffix, dtype, data):
    crop = data.draw(boxes())
    address = f"{folder}/a.{suffix}:{dtype}{text_of(crop)}"
    whole = io.read_affinities(address)
    source = RegionSource(address, "affinities")
    np.testing.assert_array_equal(source.neighborhood, NEIGHBORHOOD)
    same_box(source, whole, data.draw(boxes(whole.shape)))


@pytest.mark.parametrize("suffix", ["h5", "zarr"])
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_boxes_of_labels_masks_and_raw_data(folder, suffix, data):
    crop = text_of(data.draw(boxes()))
    readers = {
        "fragments": ("volumes/fragments", lambda address: io.read_labels(address, "fragments")),
        "mask": ("volumes/labels/mask", io.read_mask),
        "raw": ("volumes/raw", io.read_volume),
    }
    for role, (dataset, read) in readers.items():
        address = f"{folder}/a.{suffix}:{dataset}{crop}"
        whole = read(address)
        same_box(RegionSource(address, role), whole, data.draw(boxes(whole.shape)))


def test_files_that_are_open_for_a_while(folder):
    part = (slice(1, 3), slice(2, 7), slice(0, 4))
    path = folder / "a.zarr"
    with (
        open_volume(path, "fragments") as labels,
        open_volume(path, "mask") as mask,
        open_volume(f"{path}:float32", "affinities") as affinities,
    ):
        np.testing.assert_array_equal(labels.read(part), io.read_labels(path, "fragments").array[part])
        np.testing.assert_array_equal(mask.read(part), io.read_mask(path).array[part])
        expected = io.read_affinities(f"{path}:float32").array[(slice(None), *part)]
        np.testing.assert_array_equal(affinities.read(part), expected)
        assert labels.neighborhood is None


def test_a_box_of_8_bits_may_hold_nothing_above_1(tmp_path):
    steps = np.zeros((1, 1, 1, 3), np.uint8)
    steps[..., 1:] = 1, 255
    attributes = {"resolution": [1, 1, 1], "offset": [0, 0, 0], "unit": "nm", "neighborhood": [[0, 0, -1]]}
    io.write_blocks(tmp_path / "a.h5", "affinities", Blocks(steps.shape, steps.dtype, [((...,), steps)]), attributes)
    source = RegionSource(tmp_path / "a.h5", "affinities")
    assert source.read((slice(0, 1), slice(0, 1), slice(0, 2))).tolist() == [[[[0, np.float32(1 / 255)]]]]


@pytest.mark.parametrize("suffix", ["h5", "zarr"])
def test_a_handle_sees_what_took_the_place_of_an_object(tmp_path, suffix):
    path, part = tmp_path / f"a.{suffix}", (slice(0, 1),) * 3
    source = RegionSource(path, "fragments")
    for ids in ([[[7]]], [[[8, 9]]]):
        io.write(path, Labels.convert(ids, GRID), "fragments")
        assert source.read(part).item() == ids[0][0][0]
        assert source.shape == (1, 1, len(ids[0][0]))


def test_many_handles(tmp_path):
    for number in range(40):
        io.write(tmp_path / f"{number}.h5", Labels.convert([[[number]]], GRID), "fragments")
    sources = [RegionSource(tmp_path / f"{number}.h5", "fragments") for number in range(40)]
    assert [int(source.read((slice(0, 1),) * 3).item()) for source in sources * 2] == [*range(40)] * 2


def test_refusals(folder, tmp_path):
    with pytest.raises(InvalidInput, match="role must be one of"):
        RegionSource(folder / "a.h5", "nonsense")
    with pytest.raises(MissingDataset, match="it holds"):
        _ = RegionSource(folder / "a.h5", "truth").shape
    with pytest.raises(InvalidInput, match="must be of kind labels"):
        _ = RegionSource(f"{folder}/a.zarr:float32", "fragments").grid
    with pytest.raises(InvalidInput, match="the one that the file states"):
        _ = RegionSource(f"{folder}/a.zarr:float32", "affinities", [(0, 0, -1)]).shape
    io.write(tmp_path / "a.h5", Volume(np.zeros((1, 1, 2), np.float32), GRID))
    for role in ("mask", "truth"):
        with pytest.raises(InvalidInput, match=r"a\.h5"):
            RegionSource(f"{tmp_path}/a.h5:volumes/raw", role).read((slice(0, 1),) * 3)


def test_values_are_checked(tmp_path):
    array = np.zeros((1, 1, 1, 2), np.float32)
    array[..., 1] = 1.5
    attributes = {"resolution": [1, 1, 1], "offset": [0, 0, 0], "unit": "nm", "neighborhood": [[0, 0, -1]]}
    attributes |= {"kind": "affinities", "format_version": 1}
    io.write_blocks(tmp_path / "a.h5", "affinities", Blocks(array.shape, array.dtype, [((...,), array)]), attributes)
    source = RegionSource(tmp_path / "a.h5", "affinities")
    assert source.read((slice(0, 1),) * 3).tolist() == [[[[0]]]]
    with pytest.raises(InvalidInput, match=r"affinities must lie in 0\.\.1"):
        source.read((slice(0, 1), slice(0, 1), slice(0, 2)))


def test_another_process_may_work_elsewhere(folder, monkeypatch):
    monkeypatch.chdir(folder)
    source = RegionSource("a.h5", "fragments")
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).shape)"
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(source), capture_output=True, cwd="/")
    assert done.stdout.decode().strip() == str(SHAPE), done.stderr.decode()


@settings(max_examples=25, deadline=None)
@given(strategies.affinities(neighborhood=strategies.neighborhoods()), st.data())
def test_zeroing_is_that_of_the_container(found: Affinities, data):
    from segkit.data.affinities import cut_leaving

    part = data.draw(boxes(found.shape))
    ones = np.ones_like(found.array)
    whole = Affinities.convert(ones, found.neighborhood, found.grid).array[(slice(None), *part)]
    boxed = ones[(slice(None), *part)].copy()
    cut_leaving(boxed, found.neighborhood, part, found.shape)
    np.testing.assert_array_equal(boxed, whole)


@pytest.mark.parametrize("suffix", ["h5", "zarr"])
def test_the_identity_changes_with_the_content(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    found = []
    for ids in ([[[7, 8]]], [[[8, 9]]]):
        io.write(path, Labels.convert(ids, GRID), "fragments")
        found.append(RegionSource(path, "fragments").identity)
        found.append(RegionSource(f"{path}:volumes/fragments[:,:,1:]", "fragments").identity)
        assert RegionSource(path, "fragments").identity == found[-2]
    assert len(set(found)) == 4


def test_the_identity_of_what_blocks_made_is_its_key(tmp_path):
    for name, key in (("a", "k"), ("b", "k"), ("c", "other")):
        target = ShardTarget.create(
            tmp_path / f"{name}.zarr", io.Form("fragments", (2, 2, 2), GRID), (2, 2, 2), key=key
        )
        target.finish()
    first, second, third = (RegionSource(tmp_path / f"{name}.zarr", "fragments").identity for name in "abc")
    assert first == second != third


@pytest.mark.parametrize("suffix", ["h5", "zarr"])
def test_no_two_objects_have_one_identity(tmp_path, suffix):
    for name in ("a", "b"):
        io.write(f"{tmp_path}/a.{suffix}:{name}", Labels.convert([[[7]]], GRID), "fragments")
    os.utime(tmp_path / f"a.{suffix}")
    shutil.copytree(tmp_path, tmp_path / "copy")
    places = (tmp_path, tmp_path / "copy")
    found = {RegionSource(f"{place}/a.{suffix}:{name}", "fragments").identity for place in places for name in "ab"}
    assert len(found) == 4


@pytest.mark.parametrize("version", [2, 3])
def test_the_identity_changes_with_a_chunk(tmp_path, version):
    path = str(tmp_path / "a.zarr")
    array = zarr.create_array(path, name="x/y", shape=(2, 8, 8), chunks=(1, 4, 4), dtype="u1", zarr_format=version)
    array.attrs["resolution"] = [1, 1, 1]
    array[...] = 1
    before = RegionSource(f"{path}:x/y", "fragments").identity
    time.sleep(0.02)
    zarr.create_array(path, name="x/z", shape=(1, 1, 1), dtype="u1", zarr_format=version)[...] = 1
    assert RegionSource(f"{path}:x/y", "fragments").identity == before
    array[1, 7, 7] = 2
    assert RegionSource(f"{path}:x/y", "fragments").identity != before
