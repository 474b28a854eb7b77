import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segkit.data import MergeTree
from segkit.errors import InvalidInput


@st.composite
def histories(draw):
    """Leaf ids, merges and scores of a random forest; scores have ties and may decrease."""
    ids = sorted(draw(st.sets(st.integers(1, 2**64 - 3), max_size=12)))
    alive, merges = list(range(len(ids))), []
    for _ in range(draw(st.integers(0, max(len(ids) - 1, 0)))):
        u, v = draw(st.permutations(alive))[:2]
        alive = [node for node in alive if node not in (u, v)] + [len(ids) + len(merges)]
        merges.append((u, v))
    scores = draw(st.lists(st.sampled_from([0, 0.1, 0.25, 0.5, 1]), min_size=len(merges), max_size=len(merges)))
    return np.array(ids, np.uint64), merges, scores


def replay(ids, merges, scores, threshold):
    """The smallest id in the segment of each leaf, merging until the first score that is not below the threshold."""
    members = {leaf: [leaf] for leaf in range(len(ids))}
    for number, ((u, v), score) in enumerate(zip(merges, scores, strict=True)):
        if score >= threshold:
            break
        members[len(ids) + number] = members.pop(u) + members.pop(v)
    segment = {leaf: min(int(ids[m]) for m in group) for group in members.values() for leaf in group}
    return [segment[leaf] for leaf in range(len(ids))]


@given(histories(), st.sampled_from([-np.inf, 0, 0.05, 0.1, 0.25, 0.3, 0.5, 1, 1.5, np.inf]))
def test_cut_equals_replaying(history, threshold):
    tree = MergeTree.from_merges(*history)
    tree.check()
    assert tree.cut(threshold).tolist() == replay(*history, threshold)
    assert tree.cut(threshold).dtype == np.uint64


@given(histories())
def test_merges_come_back(history):
    tree = MergeTree.from_merges(*history)
    assert tree.merges.tolist() == [sorted(pair) for pair in history[1]]
    assert len(np.unique(tree.roots(np.inf))) == len(history[0]) - len(history[1])


@given(histories(), st.floats(0, 1))
def test_results_share_nothing(history, threshold):
    tree = MergeTree.from_merges(*history)
    first, roots = tree.cut(threshold), tree.roots(threshold)
    before = first.tolist(), roots.tolist(), tree.leaf_ids.tolist(), tree.parents.tolist()
    second = tree.cut(threshold)
    second[:] = 0
    tree.roots(threshold)[:] = 0
    assert before == (first.tolist(), roots.tolist(), tree.leaf_ids.tolist(), tree.parents.tolist())


def test_a_long_chain():
    n = 5000
    merges = [(0, 1)] + [(n + k - 1, k + 1) for k in range(1, n - 1)]
    tree = MergeTree.from_merges(np.arange(1, n + 1), merges, np.linspace(0, 1, n - 1))
    assert (tree.cut(np.inf) == 1).all()


def test_no_leaves():
    tree = MergeTree([], [], [])
    tree.check()
    assert tree.cut(0.5).tolist() == [] and tree.merges.shape == (0, 2)


def test_a_threshold_must_be_a_number():
    with pytest.raises(InvalidInput, match="threshold"):
        MergeTree.from_merges([1, 2], [[0, 1]], [0.5]).cut(np.nan)


def test_arrays_are_read_only():
    tree = MergeTree.from_merges([1, 2], [[0, 1]], [0.5])
    for array in (tree.leaf_ids, tree.parents, tree.altitudes):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize(
    ("ids", "parents", "altitudes", "message"),
    [
        ([2, 1], [2, 2, 2], [0.5], "increasing"),
        ([1, 1], [2, 2, 2], [0.5], "increasing"),
        ([0, 1], [2, 2, 2], [0.5], "positive"),
        ([1, 2, 3], [3, 3, 4, 4, 4], [0.6, 0.5], "never decrease"),
        ([1, 2], [2, 2, 2], [np.nan], "finite"),
        ([1, 2], [2, 2, 2], [np.inf], "finite"),
        ([1, 2], [2, 2, 0], [0.5], "after their children"),
        ([1, 2], [2, 2, 3], [0.5], "after their children"),
        ([1, 2], [0, 2, 2], [0.5], "exactly two children"),
        ([1, 2, 3], [3, 3, 3, 3], [0.5], "exactly two children"),
        ([1, 2], [1, 1], [], "no leaf any"),
    ],
)
def test_trees_that_are_none(ids, parents, altitudes, message):
    with pytest.raises(InvalidInput, match=message):
        MergeTree(ids, parents, altitudes).check()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], [2, 2], [0.5]), "one entry a leaf and one a merge, 3"),
        (([[1], [2]], [2, 2, 2], [0.5]), "one dimension"),
        (([1.5, 2], [2, 2, 2], [0.5]), "fit uint64"),
        (([-1, 2], [2, 2, 2], [0.5]), "fit uint64"),
        ((np.array([1.0, 2.0]), [2, 2, 2], [0.5]), "fit uint64"),
        (([1, 2], np.array([2.0, 2.0, 2.0]), [0.5]), "fit int64"),
        (([1, 2], [2, 2, 2.5], [0.5]), "fit int64"),
        ((np.array([1, np.nan]), [2, 2, 2], [0.5]), "fit uint64"),
        (([1, 2**64], [2, 2, 2], [0.5]), "fit uint64"),
    ],
)
def test_arrays_that_do_not_fit(arguments, message):
    with pytest.raises(InvalidInput, match=message):
        MergeTree(*arguments)


def test_a_list_of_small_and_large_ids_is_not_rounded():
    assert MergeTree([1, 2**63 + 1], [0, 1], []).leaf_ids.tolist() == [1, 2**63 + 1]
    assert MergeTree.from_merges([1, 2**63 + 1], [], []).leaf_ids.tolist() == [1, 2**63 + 1]
