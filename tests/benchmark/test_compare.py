"""Comparisons against brute force on voxels."""

import numpy as np
import pytest

from segkit.benchmark.compare import compare_labels, compare_scores, compare_trees, partition_distance
from segkit.data import Grid, Labels, MergeTree
from segkit.registry import load
from segkit.segment import segment

CREMI = load("metrics", "cremi")


def labels(array) -> Labels:
    return Labels.convert(np.asarray(array).reshape(1, 1, -1), Grid())


def voi(a: Labels, b: Labels) -> float:
    """Variation of information of two volumes without 0, voxel by voxel, in bits."""
    total = 0.0
    for x, y in zip(a.array.ravel(), b.array.ravel(), strict=True):
        both = np.count_nonzero((a.array == x) & (b.array == y))
        total -= np.log2(both / np.count_nonzero(a.array == x)) + np.log2(both / np.count_nonzero(b.array == y))
    return total / a.array.size


def random_tree(rng, leaf_ids) -> MergeTree:
    nodes, merges = list(range(len(leaf_ids))), []
    for k in range(len(leaf_ids) - 1):
        a, b = sorted(rng.choice(len(nodes), 2, replace=False))
        merges.append([nodes[a], nodes[b]])
        nodes = [n for i, n in enumerate(nodes) if i not in (a, b)] + [len(leaf_ids) + k]
    return MergeTree.from_merges(leaf_ids, merges, np.sort(rng.random(len(merges))))


@pytest.mark.parametrize("seed", range(5))
def test_trees_against_voxels(seed):
    rng = np.random.default_rng(seed)
    fragments = labels(rng.integers(1, 9, 60) * 11)
    truth = labels(rng.integers(1, 4, 60))
    trees = {name: random_tree(rng, fragments.ids()) for name in ("a", "b")}
    thresholds = (0.0, 0.3, 0.6, 1.0)
    columns = compare_trees(trees, fragments, truth, thresholds)
    for name, tree in trees.items():
        cuts = [segment(tree, fragments, threshold) for threshold in thresholds]
        first = [segment(trees["a"], fragments, threshold) for threshold in thresholds]
        rows = columns[name]["thresholds"]
        for row, threshold, cut, other in zip(rows, thresholds, cuts, first, strict=True):
            assert row["threshold"] == threshold and row["segments"] == len(cut.ids())
            assert row["identical_to"] == {"a": bool(np.array_equal(cut.array, other.array))}
            assert row["voi_to"]["a"] == pytest.approx(voi(cut, other), abs=1e-9)
            assert {key: row[key] for key in CREMI.score(cut, truth)} == pytest.approx(
                CREMI.score(cut, truth), abs=1e-9
            )
        assert columns[name]["identical_to"] == {"a": all(row["identical_to"]["a"] for row in rows)}
        assert columns[name]["voi_to"] == {"a": max(row["voi_to"]["a"] for row in rows)}
        best = columns[name]["best"]
        assert best["cremi_score"] <= min(row["cremi_score"] for row in rows)
        chosen = CREMI.score(segment(tree, fragments, best["threshold"]), truth)
        assert best["cremi_score"] == pytest.approx(chosen["cremi_score"], abs=1e-9)


def test_without_truth_there_are_no_scores():
    fragments = labels([1, 2, 3])
    tree = MergeTree.from_merges([1, 2, 3], [[0, 1]], [0.5])
    column = compare_trees({"a": tree}, fragments, None, (0.5,))["a"]
    assert "best" not in column and "voi_split" not in column["thresholds"][0]
    assert column["identical_to"] == {"a": True}


def test_distance_of_partitions_is_weighted_by_voxels():
    assert partition_distance(np.array([1, 1, 3]), np.array([1, 2, 3]), np.array([2, 2, 4])) == pytest.approx(0.5)


def test_fragments_are_equal_whatever_their_numbers():
    first, renamed, other = labels([1, 1, 2, 0]), labels([9, 9, 4, 0]), labels([1, 1, 2, 3])
    columns = compare_labels({"a": first, "b": renamed, "c": other}, None)
    assert [column["identical_to"]["a"] for column in columns.values()] == [True, True, False]
    assert columns["b"]["voi_to"] == {"a": 0.0}


def test_fragments_that_split_and_merge():
    first, other, truth = labels([1, 1, 2, 2]), labels([1, 2, 3, 3]), labels([5, 5, 6, 6])
    columns = compare_labels({"a": first, "b": other}, truth)
    assert columns["b"]["identical_to"] == {"a": False}
    assert columns["b"]["voi_to"]["a"] == pytest.approx(voi(first, other))
    assert columns["a"]["cremi_score"] == 0 and columns["b"]["voi_split"] == pytest.approx(0.5)


def test_scores_in_common():
    columns = compare_scores({"a": {"x": 1.0, "y": 2.0}, "b": {"y": 2.0, "z": 3.0}, "c": {"y": 2.5}, "d": {"w": 0.0}})
    assert [column["identical_to"]["a"] for column in columns.values()] == [True, True, False, None]


def test_scores_that_are_no_numbers_are_the_same():
    columns = compare_scores({"a": {"x": float("nan")}, "b": {"x": float("nan")}, "c": {"x": 1.0}})
    assert [column["identical_to"]["a"] for column in columns.values()] == [True, True, False]
