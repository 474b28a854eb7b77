"""Merges to look at, against a replay of the tree that keeps sets of voxels."""

import numpy as np
import pytest

from segkit.data import Grid, MergeTree
from segkit.errors import InvalidInput, InvalidParameter
from segkit.segment import uncertain
from segkit.segment.uncertainty import contacts, described_nodes, joining_merge

GRID = Grid((40, 4, 4), (400, 0, 8))


def random_case(seed, shape=(5, 9, 11), fragments=25):
    """Fragments, some voxels of none, and a forest of random merges."""
    rng = np.random.default_rng(seed)
    volume = rng.integers(0, fragments + 1, shape).astype(np.uint64) * 7
    ids = np.unique(volume[volume > 0])
    nodes, merges = list(range(len(ids))), []
    while len(nodes) > 3:
        pair = [nodes.pop(int(rng.integers(len(nodes)))) for _ in range(2)]
        nodes.append(len(ids) + len(merges))
        merges.append(pair)
    return volume, MergeTree.from_merges(ids, merges, np.sort(rng.random(len(merges))))


def replayed(volume, tree):
    """For every merge the voxels of both sides, as sets."""
    sides = [set(map(tuple, np.argwhere(volume == each).tolist())) for each in tree.leaf_ids]
    merged = []
    for first, second in tree.merges.tolist():
        merged.append((sides[first], sides[second]))
        sides.append(sides[first] | sides[second])
    return merged


def touching(first, second):
    """Voxels of either side with a neighbour before them, along some axis, on the other."""
    steps = np.eye(3, dtype=int)
    pairs = ((first, second), (second, first))
    return {voxel for one, other in pairs for voxel in one for step in steps if tuple(np.array(voxel) - step) in other}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("box", [3, 64])
def test_sides_weights_and_places(monkeypatch, seed, box):
    monkeypatch.setattr("segkit.segment.uncertainty.BOX", box)
    volume, tree = random_case(seed)
    merges = replayed(volume, tree)
    found = uncertain(tree, volume.__getitem__, volume.shape, GRID, 0.4, count=99)
    assert sorted(each.merge for each in found) == list(range(len(merges)))
    assert [each.weight for each in found] == sorted((each.weight for each in found), reverse=True)
    for each in found:
        sides = sorted(merges[each.merge], key=len, reverse=True)
        assert each.voxels == tuple(map(len, sides)) and each.done == (tree.altitudes[each.merge] < 0.4)
        if len(sides[0]) != len(sides[1]):
            assert each.sides == tuple(min(int(volume[voxel]) for voxel in side) for side in sides)
        assert each.weight == pytest.approx(len(sides[1]) * np.exp(-abs(tree.altitudes[each.merge] - 0.4) / 0.05))
        among = touching(*sides)
        assert (each.voxel in among) if among else each.voxel is None
        if each.voxel:
            expected = np.array(GRID.offset) + (np.array(each.voxel) + 0.5) * GRID.voxel_size
            assert each.position == tuple(expected)


def test_the_place_is_in_the_middle_of_the_contact(monkeypatch):
    monkeypatch.setattr("segkit.segment.uncertainty.BOX", 4)
    volume = np.ones((9, 9, 6), np.uint64)
    volume[:, :, 3:] = 2
    tree = MergeTree.from_merges([1, 2], [[0, 1]], [0.5])
    assert contacts(tree, volume.__getitem__, volume.shape, [0]) == [(4, 4, 3)]


def test_the_merge_that_joins_two_fragments():
    volume, tree = random_case(7)
    ids, (_, names) = tree.leaf_ids.tolist(), described_nodes(tree, volume.__getitem__, volume.shape)
    above = np.nextafter(tree.altitudes, 1)
    cuts = [tree.cut(threshold) for threshold in above]
    for first in range(0, len(ids), 3):
        for second in range(first + 1, len(ids), 4):
            together = [number for number, cut in enumerate(cuts) if cut[first] == cut[second]]
            assert joining_merge(tree, ids[first], ids[second]) == (together[0] if together else None)
    assert joining_merge(tree, ids[0], 3) is None
    assert names[: len(ids)].tolist() == ids and names[-1] in tree.cut(2)


def test_what_is_refused():
    volume, tree = random_case(1)
    with pytest.raises(InvalidParameter, match="count must be 1 or more, not 0"):
        uncertain(tree, volume.__getitem__, volume.shape, GRID, 0.5, count=0)
    with pytest.raises(InvalidInput, match="threshold must be a number"):
        uncertain(tree, volume.__getitem__, volume.shape, GRID, float("nan"))


def test_fragments_of_another_tree_are_refused():
    volume, tree = random_case(1)
    strange = np.where(volume == tree.leaf_ids[3], 99999, volume)
    for wanted in (
        lambda: uncertain(tree, strange.__getitem__, volume.shape, GRID, 0.5),
        lambda: contacts(tree, strange.__getitem__, volume.shape, [0]),
    ):
        with pytest.raises(InvalidInput, match="fragments must be leaves of the merge tree, not 99999; use the"):
            wanted()
    outside = np.where(volume == 0, 2**64 - 1, volume)
    assert uncertain(tree, outside.__getitem__, volume.shape, GRID, 0.5)


def test_no_merge_at_all():
    tree = MergeTree.from_merges([4], np.zeros((0, 2)), [])
    assert uncertain(tree, np.full((2, 2, 2), 4, np.uint64).__getitem__, (2, 2, 2), GRID, 0.5) == []
