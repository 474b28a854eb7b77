"""Objects that are handed over are those that lie in the files, which are written in the background."""

import threading
from contextlib import contextmanager

import numpy as np
import pytest

from segkit import io
from segkit.data import Affinities, Grid, Labels, MergeTree, Volume
from segkit.errors import MissingDataset, MissingFile, SegkitWarning, StorageError
from segkit.io import handed, hdf5
from segkit.io.handed import handing_over
from segkit.io.writer import Form, attributes_of

GRID = Grid((40, 4, 4), (80, 0, 8))
RNG = np.random.default_rng(0)
FRAGMENTS = Labels(RNG.integers(0, 9, (4, 5, 6)).astype(np.uint64), GRID)
OTHERS = Labels(FRAGMENTS.array + np.uint64(100), GRID)
AFFINITIES = Affinities.convert(RNG.random((3, 4, 5, 6), np.float32), grid=GRID)
TREE = MergeTree(np.arange(1, 4, dtype=np.uint64), np.array([3, 3, 4, 4, 4]), np.array([0.25, 0.5]))
OBJECTS = {
    "raw": Volume(RNG.integers(0, 255, (4, 5, 6)).astype(np.uint8), GRID),
    "mask": Volume(RNG.random((4, 5, 6)) > 0.5, GRID),
    "truth": FRAGMENTS,
    "affinities": AFFINITIES,
    "merge_tree": TREE,
}
FORM = Form("affinities", (4, 5, 6), GRID, AFFINITIES.neighborhood)


@contextmanager
def held_up(most=None):
    """Objects are handed over, and no file is written before the block ends."""
    gate = threading.Event()
    with handing_over(most) as held:
        held.after(gate.wait)
        try:
            yield held
        finally:
            gate.set()


def arrays_of(container):
    names = ("leaf_ids", "parents", "altitudes") if isinstance(container, MergeTree) else ("array",)
    return [getattr(container, name) for name in names]


def read(path, role):
    reader = {"raw": io.read_volume, "mask": io.read_mask, "affinities": io.read_affinities}.get(role)
    return (reader or (io.read_merge_tree if role == "merge_tree" else io.read_labels))(path)


def everything(path):
    """What can be known of the objects in a file."""
    found = {}
    with io.formats.reading(path) as store:
        for name in store.names():
            about = store.about(name)
            arrays = store.group(name)[0] if about.kind == "merge_tree" else {}
            stored = None if arrays else store.array(name)
            values = {key: array.tolist() for key, array in arrays.items()}
            facts = stored and (stored.shape, stored.dtype, stored.placement, stored.read((...,)).tolist())
            found[name] = about, values, facts
    return found


@pytest.mark.parametrize("role", OBJECTS)
def test_what_is_held_is_what_lies_in_the_file(tmp_path, role):
    path = tmp_path / "a.h5"
    with held_up():
        io.write(path, OBJECTS[role], role, notes={"made": "so"})
        assert not path.exists() and io.exists(path, role) and io.datasets(path)
        early, before, notes = read(path, role), everything(path), io.read_notes(path, role)
    assert path.exists() and before == everything(path) and len(before) == 1
    assert notes == io.read_notes(path, role) == {"made": "so"}
    late = read(path, role)
    assert all(np.array_equal(a, b) for a, b in zip(arrays_of(early), arrays_of(late), strict=True))
    assert role == "merge_tree" or early.grid == late.grid == GRID


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_the_file_is_the_same_to_the_byte(tmp_path, dtype):
    def parts():
        for z in range(0, 4, 2):
            part = (slice(None), slice(z, z + 2), slice(None), slice(None))
            values = AFFINITIES.array[part]
            yield part, values if dtype == np.float32 else (values * 255).astype(dtype)

    def write(path):
        io.write_affinities(path, parts(), (4, 5, 6), AFFINITIES.neighborhood, GRID, notes={"a": 1}, dtype=dtype)
        io.write_all(path, {"truth": FRAGMENTS, "merge_tree": TREE})

    write(tmp_path / "plain.h5")
    with handing_over():
        write(tmp_path / "held.h5")
        seen = io.read_affinities(tmp_path / "held.h5")
    assert (tmp_path / "held.h5").read_bytes() == (tmp_path / "plain.h5").read_bytes()
    assert np.array_equal(seen.array, io.read_affinities(tmp_path / "plain.h5").array)


def test_nobody_can_change_what_is_held(tmp_path):
    path = tmp_path / "a.h5"
    given = FRAGMENTS.array.copy()
    with held_up():
        io.write(path, Labels(given, GRID), "fragments")
        with io.opened(path, "fragments", ("labels",)) as (stored, _):
            found = stored.read((slice(0, 1),))
        with pytest.raises(ValueError, match="read-only"):
            found[...] = 7
        with io.open_volume(path, "fragments") as volume:
            volume.read((slice(0, 4), slice(0, 5), slice(0, 6)))[...] = 7  # a copy, which may be changed
        assert np.array_equal(io.read_labels(path, "fragments").array, FRAGMENTS.array)


def test_what_is_beside_is_read_from_the_file(tmp_path):
    path = tmp_path / "a.h5"
    io.write_all(path, {"truth": FRAGMENTS, "fragments": FRAGMENTS})
    with handing_over():
        io.write(path, OTHERS, "fragments")
        assert np.array_equal(io.read_labels(path, "fragments").array, OTHERS.array)
        assert np.array_equal(io.read_labels(path, "truth").array, FRAGMENTS.array)
        assert io.datasets(path) == ["volumes/fragments", "volumes/labels/neuron_ids"]
        with pytest.raises(MissingDataset, match="has no affinities"):
            io.read_affinities(path)


def test_what_is_dropped_is_not_held(tmp_path):
    path = tmp_path / "a.h5"
    with held_up():
        io.write(f"{path}:volumes/segmentation_1", FRAGMENTS, "segmentation")
        io.write_all(path, {"merge_tree": TREE}, drop="volumes/segmentation")
        assert io.datasets(path) == ["merge_tree"]
    assert io.datasets(path) == ["merge_tree"]


def test_a_source_sees_the_newest(tmp_path):
    path = tmp_path / "a.h5"
    io.write(path, FRAGMENTS, "fragments")
    source = io.RegionSource(path, "fragments", travels=False)
    box = (slice(0, 4), slice(0, 5), slice(0, 6))
    assert np.array_equal(source.read(box), FRAGMENTS.array)
    with held_up():
        io.write(path, OTHERS, "fragments")
        assert np.array_equal(source.read(box), OTHERS.array)
    assert np.array_equal(source.read(box), OTHERS.array)


def test_other_processes_are_sent_to_a_file_that_is_there(tmp_path):
    path = tmp_path / "a.h5"
    with handing_over() as held:
        held.after(lambda: threading.Event().wait(0.2))
        io.write(path, FRAGMENTS, "fragments")
        io.RegionSource(path, "fragments")
        assert path.exists() and not held.is_pending(path)


def test_a_file_that_somebody_has_changed_is_read_anew(tmp_path):
    path = tmp_path / "a.h5"
    with handing_over() as held:
        io.write(path, FRAGMENTS, "fragments")
        held.settle(path)
        hdf5.write(path, {"volumes/fragments": io.records.encode(OTHERS)})
        assert np.array_equal(io.read_labels(path, "fragments").array, OTHERS.array)
        path.unlink()
        with pytest.raises(MissingFile):
            io.read_labels(path, "fragments")


def test_no_more_is_held_than_may_be(tmp_path):
    size = FRAGMENTS.array.nbytes
    with handing_over(2 * size) as held:
        for name in "abc":
            io.write(tmp_path / f"{name}.h5", FRAGMENTS, "fragments")
            held.settle()
        assert [held.find(tmp_path / f"{name}.h5") is not None for name in "abc"] == [False, True, True]
    with handing_over(size - 1) as held:
        io.write(tmp_path / "d.h5", FRAGMENTS, "fragments")
        assert (tmp_path / "d.h5").exists() and held.find(tmp_path / "d.h5") is None
        assert np.array_equal(io.read_labels(tmp_path / "d.h5", "fragments").array, FRAGMENTS.array)


def test_what_is_passing_is_never_written(tmp_path):
    path = tmp_path / "a.h5"
    with handing_over(2 * FRAGMENTS.array.nbytes) as held:
        held.passing.add(path)
        io.write(path, FRAGMENTS, "fragments")
        for name in "bcd":  # which take its place, were it written
            io.write(tmp_path / f"{name}.h5", FRAGMENTS, "fragments")
        assert np.array_equal(io.read_labels(path, "fragments").array, FRAGMENTS.array)
    with handing_over() as held:
        held.passing.add(path)
        io.write_blocks(
            path, "affinities", io.Blocks((3, 4, 5, 6), np.dtype(np.float32), blocks()), attributes_of(FORM)
        )
        assert np.array_equal(io.read_affinities(path).array, AFFINITIES.array)
    assert not path.exists()


def full(*_):
    raise OSError(28, "No space left on device")


def test_an_error_of_the_background_is_raised_with_the_name_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "_write", full)
    with pytest.raises(StorageError, match=r"a\.h5 cannot be written \(No space left"), handing_over() as held:
        io.write(tmp_path / "a.h5", FRAGMENTS, "fragments")
        done = []
        held.after(lambda: done.append("after"))
    assert not done and not list(tmp_path.iterdir()) and handed.current() is None
    with pytest.raises(StorageError, match=r"a\.h5 cannot be written"), handing_over() as held:
        io.write(tmp_path / "a.h5", FRAGMENTS, "fragments")
        held.settle()
    with pytest.warns(SegkitWarning, match=r"a\.h5 cannot be written"), pytest.raises(KeyError), handing_over():
        io.write(tmp_path / "a.h5", FRAGMENTS, "fragments")
        raise KeyError


def test_what_is_written_is_whole_where_something_else_fails(tmp_path):
    with pytest.raises(KeyError), held_up():
        io.write(tmp_path / "a.h5", FRAGMENTS, "fragments")
        raise KeyError
    assert np.array_equal(io.read_labels(tmp_path / "a.h5", "fragments").array, FRAGMENTS.array)


def blocks(fail_at=9, look=lambda: None):
    for z in range(4):
        look()
        if z == fail_at:
            raise RuntimeError("the network has failed")
        part = (slice(0, 3), slice(z, z + 1), slice(0, 5), slice(0, 6))
        yield part, AFFINITIES.array[part]


@pytest.mark.parametrize("old", [False, True])
def test_blocks_that_fail_leave_what_was_there(tmp_path, old):
    path = tmp_path / "a.h5"
    with handing_over() as held:
        if old:
            io.write(path, FRAGMENTS, "fragments")
        with pytest.raises(RuntimeError, match="the network has failed"):
            io.write_blocks(
                path, "affinities", io.Blocks((3, 4, 5, 6), np.dtype(np.float32), blocks(2)), attributes_of(FORM)
            )
        held.settle()
        assert not old or io.datasets(path) == ["volumes/fragments"]
        io.write(path, TREE)
    assert io.datasets(path) == ["merge_tree", *["volumes/fragments"] * old]
    assert [item.name for item in tmp_path.iterdir()] == ["a.h5"]


def test_the_file_that_blocks_come_into_is_read_meanwhile(tmp_path):
    """As when raw data and affinities share a file."""
    path, seen = tmp_path / "a.h5", []
    io.write(path, OBJECTS["raw"], "raw")
    with handing_over():
        look = lambda: seen.append((io.read_volume(path).array.sum(), io.exists(path, "affinities")))  # noqa: E731
        io.write_blocks(
            path, "affinities", io.Blocks((3, 4, 5, 6), np.dtype(np.float32), blocks(look=look)), attributes_of(FORM)
        )
        assert np.array_equal(io.read_affinities(path).array, AFFINITIES.array)
    assert seen == [(OBJECTS["raw"].array.sum(), False)] * 4
    assert np.array_equal(io.read_affinities(path).array, AFFINITIES.array)


def test_a_fork_holds_nothing(tmp_path, monkeypatch):
    with handing_over() as held:
        io.write(tmp_path / "a.h5", FRAGMENTS, "fragments")
        held.settle()
        monkeypatch.setattr(held, "process", -1)
        assert handed.current() is None and handed.held_at(tmp_path / "a.h5") is None
