"""Segmentations of files, whole and by blocks, against those of containers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit import Grid, Labels, MergeTree, io
from segkit.blockwise.work import Work
from segkit.errors import BlocksFailed, InvalidInput
from segkit.segment import cut, segment, storage
from segkit.segment.stage import segment_files
from segkit.testing import strategies

GRID = Grid((40, 4, 4), (0, 80, 8))
TREE = MergeTree.from_merges([1, 2, 2**63, 2**64 - 3], [[0, 1], [2, 4], [3, 5]], [0.2, 0.5, 0.9])
IDS = np.array([0, *TREE.leaf_ids, 2**64 - 1], np.uint64)


def fragments(shape=(6, 9, 20), seed=0) -> Labels:
    return Labels(np.random.default_rng(seed).choice(IDS, shape), GRID)


def by_blocks(*addresses, block=(256, 256, 256), executor=None, **options):
    """What came of it, and the reports of the stages."""
    work = Work(block, executor=executor)
    return segment_files(*addresses, **options, work=work), work.ended


def stored(path, labels, tree=TREE):
    io.write_all(path, {"fragments": labels, "merge_tree": tree})
    return path


@settings(max_examples=12, deadline=None)
@given(strategies.merge_trees(), st.data())
def test_it_is_the_segmentation_of_the_whole(tmp_path_factory, tree, data):
    folder = tmp_path_factory.mktemp("any")
    shape = data.draw(st.tuples(*[st.integers(1, 9)] * 3))
    ids = np.array([0, *tree.leaf_ids, 2**64 - 2], np.uint64)
    places = data.draw(
        st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).integers(0, len(ids), shape))
    )
    labels = Labels(ids[places], GRID)
    thresholds = data.draw(
        st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.99, 1.5]), min_size=1, max_size=3, unique=True)
    )
    block = data.draw(st.none() | st.tuples(*[st.integers(3, 12)] * 3))
    path = stored(folder / data.draw(st.sampled_from(["a.h5", "a.zarr"])), labels, tree)
    found, _ = by_blocks(path, folder / "b.zarr", thresholds, block=block)
    for threshold, row in zip(thresholds, found.rows, strict=True):
        name = "segmentation" if len(thresholds) == 1 else f"segmentation_{threshold!r}"
        found = io.read_labels(f"{folder}/b.zarr:volumes/{name}", role="segmentation")
        np.testing.assert_array_equal(found.array, segment(tree, labels, threshold).array)
        assert found.grid == GRID
        there = np.isin(tree.leaf_ids, labels.ids()) if block is None else slice(None)
        assert row == {"threshold": threshold, "segments": len(set(tree.cut(threshold)[there].tolist()))}
    assert not list(folder.rglob("*segkit-work*"))


def test_a_dataset_may_be_named_for_one(tmp_path):
    path = stored(tmp_path / "a.zarr", fragments())
    by_blocks(path, f"{path}:volumes/mine", [0.4], block=(4, 4, 16))
    assert io.exists(f"{path}:volumes/mine", "segmentation") and not io.exists(path, "segmentation")
    with pytest.raises(InvalidInput, match="must name a file only"):
        by_blocks(path, f"{path}:volumes/mine", [0.4, 0.5])


def test_a_crop_of_the_fragments(tmp_path):
    path = stored(tmp_path / "a.zarr", fragments())
    crop = "volumes/fragments[1:5,:,3:17]"
    by_blocks(path, tmp_path / "b.zarr", [0.4], fragments=f"{path}:{crop}", block=(4, 4, 16))
    expected = segment(TREE, io.read_labels(f"{path}:{crop}", role="fragments"), 0.4)
    found = io.read_labels(tmp_path / "b.zarr", role="segmentation")
    np.testing.assert_array_equal(found.array, expected.array)
    assert found.grid == expected.grid


def test_the_same_again_computes_nothing_but_what_was_damaged(tmp_path):
    path, place = stored(tmp_path / "a.zarr", fragments()), (tmp_path / "b.zarr", [0.4, 0.6])
    by_blocks(path, *place, block=(4, 4, 16))
    _, (report,) = by_blocks(path, *place, block=(4, 4, 16))
    assert report.kept == len(report.results) == 2 * 3 * 2
    shard = tmp_path / "b.zarr/volumes/segmentation_0.6/0/c/1/2/0"
    shard.write_bytes(shard.read_bytes()[:-1])
    _, (report,) = by_blocks(path, *place, block=(4, 4, 16))
    assert report.kept == len(report.results) - 1
    found = io.read_labels(f"{tmp_path}/b.zarr:volumes/segmentation_0.6", role="segmentation")
    np.testing.assert_array_equal(found.array, segment(TREE, fragments(), 0.6).array)


@pytest.mark.parametrize("change", ["fragments", "tree"])
def test_other_inputs_begin_anew(tmp_path, change):
    path = stored(tmp_path / "a.zarr", fragments())
    by_blocks(path, tmp_path / "b.zarr", [0.4], block=(4, 4, 16))
    tree = MergeTree.from_merges(TREE.leaf_ids, [[2, 3]], [0.3]) if change == "tree" else TREE
    labels = fragments(seed=1) if change == "fragments" else fragments()
    stored(path, labels, tree)
    _, (report,) = by_blocks(path, tmp_path / "b.zarr", [0.4], block=(4, 4, 16))
    assert report.kept == 0
    found = io.read_labels(tmp_path / "b.zarr", role="segmentation")
    np.testing.assert_array_equal(found.array, segment(tree, labels, 0.4).array)


def test_refusals(tmp_path):
    path = stored(tmp_path / "a.zarr", fragments(), MergeTree.from_merges([1, 2], [], []))
    for thresholds in ([], [float("nan")], [0.5, 0.5]):
        with pytest.raises(InvalidInput, match="thresholds must be numbers"):
            by_blocks(path, tmp_path / "b.zarr", thresholds)
    from segkit.blockwise.engine import Patience, inline

    with pytest.raises(BlocksFailed, match="fragments must be leaves of the tree, not 9223372036854775808"):
        by_blocks(path, tmp_path / "b.zarr", [0.5], executor=inline(Patience(tries=1)))
    assert not io.exists(tmp_path / "b.zarr", "segmentation")


@pytest.mark.parametrize("name", ["out.h5", "out.zarr"])
def test_no_two_segmentations_are_held_at_once(tmp_path, monkeypatch, name):
    """Each is gone before the one after the next is made: what loops over them holds one while the next is made."""
    thresholds = [0.1, 0.3, 0.6, 0.8, 0.95]
    rooms = []
    monkeypatch.setattr(cut, "Storage", lambda size: rooms.append(storage.Storage(size)) or rooms[-1])
    labels = fragments()
    segment_files(stored(tmp_path / "in.h5", labels), tmp_path / name, thresholds)
    assert len(rooms) <= 2
    for threshold in thresholds:
        found = io.read_labels(f"{tmp_path / name}:volumes/segmentation_{threshold!r}", role="segmentation")
        np.testing.assert_array_equal(found.array, segment(TREE, labels, threshold).array)
