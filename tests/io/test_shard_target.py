"""Volumes made block by block, against the same volumes written as a whole."""

import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from contextlib import ExitStack
from itertools import product

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit import Grid, io
from segkit.data import Affinities, Labels
from segkit.errors import InUse, InvalidInput, InvalidShape, MissingDataset, StorageError
from segkit.io import Form
from segkit.io.shard_target import ShardOutput, ShardTarget

GRID = Grid((40, 4, 4), (0, 80, 8))
OFFSETS = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
SHAPE = (5, 20, 33)
SHARD = (8, 8, 16)


def labels(shape=SHAPE, seed=0) -> Labels:
    ids = np.random.default_rng(seed).choice(np.array([0, 1, 2**63 + 5, 2**64 - 3], np.uint64), shape)
    ids[: shape[0] // 2 + 1, : shape[1] // 2] = 0  # blocks of nothing but background
    return Labels(ids, GRID)


def boxes(shape, shard):
    """The boxes of all blocks."""
    along = [
        [slice(a, min(a + step, size)) for a in range(0, size, step)] for size, step in zip(shape, shard, strict=True)
    ]
    return list(product(*along))


def begun(path, shape=SHAPE, shard=SHARD, key="k") -> ShardTarget:
    return ShardTarget.create(path, Form("fragments", shape, GRID), shard, key=key, notes={"method": "threshold"})


def fill(target: ShardTarget, array: np.ndarray, order=lambda found: found) -> None:
    target = pickle.loads(pickle.dumps(target))
    for box in order(boxes(target.shape, target.shard)):
        target.write(box, array[(..., *box)])


def made(path, found: Labels, **options) -> ShardTarget:
    target = begun(path, found.shape, **options)
    fill(target, found.array)
    target.finish()
    return target


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.integers(1, 20)] * 3), st.tuples(*[st.integers(5, 24)] * 3), st.randoms())
def test_it_is_what_is_written_as_a_whole(tmp_path_factory, shape, shard, random):
    folder, found = tmp_path_factory.mktemp("any"), labels(shape)
    target = begun(folder / "a.zarr", shape, shard)
    fill(target, found.array, lambda blocks: random.sample(blocks, len(blocks)))
    target.finish()
    read = io.read_labels(folder / "a.zarr", "fragments")
    np.testing.assert_array_equal(read.array, found.array)
    assert read.grid == GRID
    assert io.read_notes(folder / "a.zarr", "fragments") == {"method": "threshold"}


def test_affinities(tmp_path):
    found = Affinities.convert(np.random.default_rng(0).random((3, *SHAPE), np.float32), OFFSETS, GRID)
    form = Form("affinities", SHAPE, GRID, np.array(OFFSETS))
    target = ShardTarget.create(tmp_path / "a.zarr", form, SHARD, key="k")
    fill(target, found.array)
    part = (slice(1, 4), slice(3, 19), slice(10, 30))
    np.testing.assert_array_equal(target.read(part), found.array[(slice(None), *part)])
    target.finish()
    read = io.read_affinities(tmp_path / "a.zarr")
    np.testing.assert_array_equal(read.array, found.array)
    assert read.neighborhood.tolist() == [list(offset) for offset in OFFSETS]


def test_its_form_is_that_of_other_objects_but_for_shards(tmp_path):
    io.write(tmp_path / "a.zarr", labels((70, 130, 100)), "fragments", notes={"method": "threshold"})
    made(tmp_path / "b.zarr", labels((70, 130, 100)), shard=(100, 128, 96))
    whole, blocks = (
        zarr.open_group(str(tmp_path / name), mode="r")["volumes/fragments"] for name in ("a.zarr", "b.zarr")
    )
    attributes = dict(blocks.attrs)
    assert attributes["segkit"].pop("made_by") == "k"
    assert attributes == dict(whole.attrs)
    assert blocks["0"].metadata.dimension_names == whole["0"].metadata.dimension_names == ("z", "y", "x")
    assert blocks["0"].shards == (70, 128, 96) and blocks["0"].chunks == (35, 64, 48)
    np.testing.assert_array_equal(blocks["0"][...], whole["0"][...])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [name for name, _ in zarr.open_group(str(tmp_path / "b.zarr"), mode="r").members(max_depth=None)] == [
            "volumes",
            "volumes/fragments",
            "volumes/fragments/0",
        ]


def test_nobody_finds_it_before_it_is_finished(tmp_path):
    path = tmp_path / "a.zarr"
    io.write(path, labels(), "segmentation")
    fill(begun(path), labels().array)
    assert not io.exists(path, "fragments")
    assert io.matching(f"{path}:volumes/*", "fragments")[0].dataset == "volumes/segmentation"
    with pytest.raises(MissingDataset, match=r"it holds volumes/segmentation;"):
        io.read_labels(path, "fragments")


def test_what_was_there_stays_until_the_last_step(tmp_path):
    path = tmp_path / "a.zarr"
    io.write(path, labels(seed=1), "fragments")
    target = begun(path)
    fill(target, labels().array)
    np.testing.assert_array_equal(io.read_labels(path, "fragments").array, labels(seed=1).array)
    target.finish()
    np.testing.assert_array_equal(io.read_labels(path, "fragments").array, labels().array)
    assert not [item for item in (path / "volumes").iterdir() if item.name.startswith(".")]


def test_digests_tell_blocks_that_are_there_and_whole(tmp_path):
    target, found = begun(tmp_path / "a.zarr"), labels()
    first, second, *_ = boxes(SHAPE, SHARD)
    assert target.digest(first) is None
    target.write(first, found.array[first])
    digest = target.digest(first)
    assert digest is not None and target.digest(second) is None
    target.write(first, found.array[first])
    assert target.digest(first) == digest
    (file,) = (file for file in (target.folder / "0" / "c").rglob("*") if file.is_file())
    content = file.read_bytes()
    for damaged in (content[:-3], content[:-1] + bytes([content[-1] ^ 1]), b""):
        file.write_bytes(damaged)
        assert target.digest(first) != digest
    target.write(first, found.array[first])  # over the damaged one
    assert target.digest(first) == digest
    both = tuple(slice(a.start, b.stop) for a, b in zip(first, second, strict=True))
    target.write(both, found.array[both])
    assert target.digest(first) == digest and target.digest(both) is not None


def test_the_same_key_goes_on_and_another_begins_anew(tmp_path):
    path, found = tmp_path / "a.zarr", labels()
    first, *_, last = boxes(SHAPE, SHARD)
    target = begun(path)
    target.write(first, found.array[first])
    assert begun(path).digest(first) == target.digest(first) is not None
    assert begun(path, shard=(8, 8, 8)).digest(first) is None
    assert begun(path, key="other").digest(first) is None
    np.testing.assert_array_equal(target.read(last), 0)


def test_a_finished_one_stays_where_it_is_and_is_mended_there(tmp_path):
    path, found = tmp_path / "a.zarr", labels()
    first, *others = boxes(SHAPE, SHARD)
    target = begun(path)
    fill(target, found.array)
    target.marks.mkdir()
    (target.marks / "0.json").write_text("{}")
    digests = [target.digest(box) for box in others]
    target.finish()
    (path / "volumes/fragments/0/c/0/0/0").write_bytes(b"damaged")
    again = begun(path)
    assert (again.marks / "0.json").exists() and io.exists(path, "fragments")
    assert [again.digest(box) for box in others] == digests
    again.write(first, found.array[first])
    again.finish()
    np.testing.assert_array_equal(io.read_labels(path, "fragments").array, found.array)
    assert not [item.name for item in (path / "volumes/fragments").iterdir() if item.name.startswith(".")]


def test_two_drivers_on_one_volume(tmp_path):
    path, form = tmp_path / "a.zarr", Form("fragments", SHAPE, GRID)
    with ExitStack() as locks:
        fill(ShardOutput(path, SHARD, locks).volume(form, key="k"), labels().array)
        ShardOutput(f"{path}:another", SHARD, locks).volume(form, key="k")
        process = os.fork()
        if process == 0:
            with ExitStack() as other:
                try:
                    ShardOutput(path, SHARD, other).volume(form, key="other")
                except InUse as error:
                    os._exit(0 if f"{path}:volumes/fragments is in use by process" in str(error) else 1)
            os._exit(2)
        assert os.waitpid(process, 0)[1] == 0
    with ExitStack() as locks:
        output = ShardOutput(path, SHARD, locks)
        output.volume(form, key="k")
        output.finish()
    np.testing.assert_array_equal(io.read_labels(path, "fragments").array, labels().array)
    assert [item.name for item in tmp_path.iterdir()] == ["a.zarr"]


def test_what_a_killed_run_has_left_of_another_key_goes(tmp_path):
    path = tmp_path / "a.zarr"
    made(path, labels())
    target = begun(path, key="other")
    target.marks.mkdir()
    (target.marks / ".0.json.0123456789ab.tmp").touch()
    left = path / "volumes/fragments/0/.marks/3/.3.json.0123456789ab.tmp"
    left.parent.mkdir(parents=True)
    left.touch()
    begun(path).finish()
    assert sorted(item.name for item in (path / "volumes").iterdir()) == ["fragments", "zarr.json"]
    assert not list(path.rglob("*.tmp"))


def test_what_is_said_of_it_is_what_was_said_last(tmp_path):
    place = (tmp_path / "a.zarr", Form("fragments", SHAPE, GRID), SHARD)
    made(place[0], labels())
    for notes in ({"method": "another"}, None):
        ShardTarget.create(*place, key="k", notes=notes).finish()
        assert io.read_notes(place[0], "fragments") == (notes or {})
        read = io.read_labels(place[0], "fragments")
        np.testing.assert_array_equal(read.array, labels().array)
        assert read.grid == GRID


def test_a_worker_of_an_earlier_run_writes_nothing_into_a_volume_of_another_key(tmp_path):
    first, *_ = boxes(SHAPE, SHARD)
    late, target = begun(tmp_path / "a.zarr", key="earlier"), begun(tmp_path / "a.zarr", key="k")
    target.write(first, labels(seed=1).array[first])
    digest = target.digest(first)
    with pytest.raises(StorageError):
        late.write(first, labels(seed=2).array[first])
    assert target.digest(first) == digest
    target.finish()
    with pytest.raises(StorageError):
        target.write(first, labels(seed=2).array[first])


def test_a_finished_one_of_another_key_stays(tmp_path):
    path = tmp_path / "a.zarr"
    made(path, labels())
    begun(path, key="other")
    np.testing.assert_array_equal(io.read_labels(path, "fragments").array, labels().array)


WRITER = """
import pickle, sys
import numpy as np
target, box = pickle.load(sys.stdin.buffer)
array = np.random.default_rng(0).integers(0, 2**63, [along.stop - along.start for along in box]).astype(np.uint64)
print("ready", flush=True)
while True:
    target.write(box, array)
"""


def test_a_block_of_a_process_that_is_killed_is_whole_or_not_there(tmp_path):
    shape = (64, 64, 64)
    target = begun(tmp_path / "a.zarr", shape, shape)
    (box,) = boxes(shape, shape)
    found = np.random.default_rng(0).integers(0, 2**63, shape).astype(np.uint64)
    target.write(box, found)
    digest = target.digest(box)
    writer = subprocess.Popen([sys.executable, "-c", WRITER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    writer.stdin.write(pickle.dumps((target, box)))
    writer.stdin.close()
    assert writer.stdout.readline() == b"ready\n"
    for _ in range(50):
        assert target.digest(box) == digest
        time.sleep(0.01)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert target.digest(box) == digest
    target.finish()
    assert not list((tmp_path / "a.zarr").rglob(".writing*"))
    np.testing.assert_array_equal(io.read_labels(tmp_path / "a.zarr", "fragments").array, found)


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    target, found = begun(tmp_path / "a.zarr"), labels()
    first = boxes(SHAPE, SHARD)[0]
    target.write(first, found.array[first])
    digest = target.digest(first)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="No space left"):
            target.write(first, 1 + found.array[first])
    assert target.digest(first) == digest
    assert not list((target.folder).glob(".writing-*/*"))


def test_refusals(tmp_path):
    for name, words in (
        ("a.h5", "must end in .zarr"),
        ("a.zarr:x[0:1]", "must have no crop"),
        ("no/a.zarr", "must exist"),
    ):
        with pytest.raises((InvalidInput, OSError), match=words):
            begun(f"{tmp_path}/{name}")
    with pytest.raises(InvalidShape, match="block must be three numbers"):
        begun(tmp_path / "a.zarr", shard=(0, 8, 8))
    with pytest.raises(InvalidInput, match="labels must be uint64"):
        ShardTarget.create(
            tmp_path / "a.zarr", Form("fragments", SHAPE, GRID, dtype=np.dtype(np.int32)), SHARD, key="k"
        )
    with pytest.raises(InvalidInput, match="neighborhood must be given"):
        ShardTarget.create(tmp_path / "a.zarr", Form("affinities", SHAPE, GRID), SHARD, key="k")
    assert not (tmp_path / "a.zarr").exists()
    target, found = begun(tmp_path / "a.zarr"), labels().array
    for part in ((slice(0, 4), *[slice(0, 8)] * 2), (slice(0, 5), slice(1, 8), slice(0, 16))):
        with pytest.raises(InvalidShape, match="whole blocks"):
            target.write(part, found[part])
        with pytest.raises(InvalidShape, match="whole blocks"):
            target.digest(part)
    first = boxes(SHAPE, SHARD)[0]
    for wrong in (found[first][1:], found[first].astype(np.int64)):
        with pytest.raises(InvalidShape, match="must be uint64 of shape"):
            target.write(first, wrong)
    zarr.create_group(str(tmp_path / "old.zarr"), zarr_format=2)
    with pytest.raises(InvalidInput, match="must be Zarr v3 to be added to"):
        begun(tmp_path / "old.zarr")
    with pytest.raises(InvalidInput, match="other datasets"):
        ShardTarget.create(f"{tmp_path}/a.zarr:volumes", Form("fragments", SHAPE, GRID), SHARD, key="k")
