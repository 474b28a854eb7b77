"""Many segmentations of the same fragments: each as the tree says, and what anybody holds stays as it is."""

import gc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit import Grid, Labels, MergeTree
from segkit.errors import InvalidInput
from segkit.segment import segment, segmentations
from segkit.segment.runs import CHUNK, Runs
from segkit.segment.storage import Storage

OUTSIDE = 2**64 - 1
IDS = np.array([2, 5, 9, 40, 41, 2**40], np.uint64)
TREE = MergeTree.from_merges(IDS, [[0, 1], [2, 3], [4, 6], [7, 8], [5, 9]], [0.1, 0.3, 0.5, 0.5, 0.8])
THRESHOLDS = [0.05, 0.2, 0.4, 0.6, 1.0]


def expected(array: np.ndarray, threshold: float) -> np.ndarray:
    """By a dictionary from the tree's own cut."""
    known = dict(zip(IDS.tolist(), TREE.cut(threshold).tolist(), strict=True))
    ids, place = np.unique(array, return_inverse=True)
    return np.array([known.get(i, i) for i in ids.tolist()], np.uint64)[place].reshape(array.shape)


def volume(shape, longest: int, seed: int) -> Labels:
    """Runs of random length, of fragments, background and outside."""
    rng = np.random.default_rng(seed)
    values = np.append(IDS, np.array([0, OUTSIDE, OUTSIDE - 1], np.uint64))
    lengths = rng.integers(1, longest + 1, 40 + 4 * int(np.prod(shape)) // longest)
    runs = np.repeat(rng.choice(values, len(lengths)), lengths)[: int(np.prod(shape))]
    return Labels(runs.reshape(shape), Grid((40, 4, 4), (0, 8, 0)))


@pytest.mark.parametrize("longest", [1, 3, 20, 300, 10**5])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 7), (2, 3, 64), (1, 1, 65), (5, 41, 43), (3, 300, 331)])
def test_equal_to_a_dictionary_at_any_size_and_length_of_run(shape, longest):
    """The last shape goes beyond a chunk, by what is no multiple of a line of the cache."""
    assert CHUNK < 3 * 300 * 331 and (3 * 300 * 331) % 8
    fragments = volume(shape, longest, seed=longest)
    for threshold, labels in zip(THRESHOLDS, segmentations(TREE, fragments, THRESHOLDS), strict=True):
        np.testing.assert_array_equal(labels.array, expected(fragments.array, threshold))
        assert labels.grid == fragments.grid and not labels.array.flags.writeable


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_equal_at_any_number_of_threads(monkeypatch, threads):
    monkeypatch.setattr("segkit.threads.thread_count", lambda: threads)
    fragments = volume((6, 400, 400), 9, seed=3)
    np.testing.assert_array_equal(segment(TREE, fragments, 0.4).array, expected(fragments.array, 0.4))


@settings(max_examples=60, deadline=None)
@given(actions=st.lists(st.sampled_from(["drop", "keep", "view", "row", "memory"]), min_size=8, max_size=8))
def test_what_is_held_never_changes(actions):
    """Whatever the caller keeps: the labels, the array, a view of a view, a memoryview; the rest is used again."""
    fragments = volume((2, 5, 16), 4, seed=1)
    thresholds = [0.05, 1.0, 0.2, 0.6, 0.05, 0.4, 1.0, 0.2]
    held = []
    for threshold, action, labels in zip(thresholds, actions, segmentations(TREE, fragments, thresholds), strict=True):
        right = expected(fragments.array, threshold)
        np.testing.assert_array_equal(labels.array, right)
        if action == "keep":
            held.append((labels.array, right))
        elif action == "view":
            held.append((labels.array.view(np.int64).T[::-1], right.view(np.int64).T[::-1]))
        elif action == "row":
            held.append((labels.array[1].reshape(-1)[3:], right[1].reshape(-1)[3:]))
        elif action == "memory":
            held.append((memoryview(labels.array), right))
    for found, right in held:
        np.testing.assert_array_equal(np.asarray(found), right)


def places(keep: bool, **loop) -> list[int]:
    """Where in memory each of the segmentations lies."""
    fragments, found, held = volume((4, 64, 64), 4, seed=2), [], []
    gc.collect()
    for labels in segmentations(TREE, fragments, THRESHOLDS):
        found.append(labels.array.ctypes.data)
        if keep:
            held.append(labels)
        if loop.get("delete"):
            del labels
    return found


def test_memory_is_used_again_where_nothing_is_held():
    assert len(set(places(keep=False, delete=True))) == 1
    assert len(set(places(keep=False))) == 2
    assert len(set(places(keep=True))) == len(THRESHOLDS)


def test_a_list_holds_them_all():
    fragments = volume((2, 5, 16), 4, seed=4)
    for threshold, labels in zip(THRESHOLDS, list(segmentations(TREE, fragments, THRESHOLDS)), strict=True):
        np.testing.assert_array_equal(labels.array, expected(fragments.array, threshold))
        assert not np.shares_memory(labels.array, fragments.array)


def test_bad_calls_are_refused_before_the_first_is_asked_for():
    fragments = volume((1, 2, 8), 3, seed=5)
    with pytest.raises(InvalidInput, match="threshold must be a number, not nan"):
        segmentations(TREE, fragments, [0.5, float("nan")])
    with pytest.raises(InvalidInput, match="fragments must be leaves of the tree, not 7;"):
        segmentations(TREE, Labels.convert([[[2, 7]]], Grid()), [0.5])
    assert list(segmentations(TREE, fragments, [])) == []


def test_runs_end_where_labels_change_and_where_chunks_do():
    fragments = volume((1, 700, 1000), 50, seed=6)
    flat, runs = fragments.array.reshape(-1), Runs.of(fragments, IDS)
    ends = np.concatenate([k * CHUNK + runs.chunk(k)[0].astype(np.int64) for k in range(len(runs.starts) - 1)])
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    assert ends.tolist() == sorted({*changes.tolist(), *range(CHUNK, flat.size, CHUNK), flat.size})


def test_a_storage_is_free_when_the_last_view_is_gone():
    storage = Storage(5)
    assert storage.free
    view = storage.lend().reshape(1, 5)[:, ::2]
    assert not storage.free and storage._bytes.nbytes == 40
    view = view[:, :1].view(np.int64)
    assert not storage.free
    del view
    assert storage.free and storage.lend().ctypes.data % 64 == 0
