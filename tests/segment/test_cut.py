import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit import Grid, Labels, MergeTree
from segkit.errors import InvalidInput
from segkit.segment import segment

OUTSIDE = 2**64 - 1
TREE = MergeTree.from_merges([2, 5, 9], [[0, 1], [2, 3]], [0.1, 0.6])


def labels(ids):
    return Labels(np.array([[ids]], np.uint64), Grid((4, 2, 2), (8, 0, 0)))


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (0.1, [9, 5, 0, 2, OUTSIDE]),  # a merge at the threshold is not done
        (0.11, [9, 2, 0, 2, OUTSIDE]),
        (0.6, [9, 2, 0, 2, OUTSIDE]),
        (1, [2, 2, 0, 2, OUTSIDE]),
        (-np.inf, [9, 5, 0, 2, OUTSIDE]),
        (np.inf, [2, 2, 0, 2, OUTSIDE]),
    ],
)
def test_hand_worked(threshold, expected):
    fragments = labels([9, 5, 0, 2, OUTSIDE])
    result = segment(TREE, fragments, threshold)
    assert result.array.ravel().tolist() == expected
    assert result.grid == fragments.grid


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    ids=st.one_of(
        st.sets(st.integers(1, 2**64 - 3), min_size=1, max_size=20),
        st.sets(st.integers(2**63, 2**63 + 40), min_size=1, max_size=20),
        st.sets(st.integers(1, 40), min_size=1, max_size=20),
        st.sets(st.integers(2**64 - 40, 2**64 - 3), min_size=1, max_size=20),
    ),
    threshold=st.floats(0, 1),
)
def test_equals_a_dictionary(seed, ids, threshold):
    rng = np.random.default_rng(seed)
    ids, roots, merges = sorted(ids), list(range(len(ids))), []
    while len(roots) > 1:
        a, b = (roots.pop(rng.integers(len(roots))) for _ in range(2))
        merges.append((a, b))
        roots.append(len(ids) + len(merges) - 1)
    tree = MergeTree.from_merges(np.array(ids, np.uint64), merges, np.sort(rng.random(len(merges))))
    lookup = {
        **dict(zip(ids, tree.cut(threshold).tolist(), strict=True)),
        0: 0,
        OUTSIDE: OUTSIDE,
        OUTSIDE - 1: OUTSIDE - 1,
    }
    array = rng.choice(np.array(list(lookup), np.uint64), (3, 4, 5))
    result = segment(tree, Labels(array, Grid()), threshold)
    assert result.array.ravel().tolist() == [lookup[i] for i in array.ravel().tolist()]


@pytest.mark.parametrize("leaf_ids", [[2, 5, 9], [2, 5, 2**63], [2**63, 2**63 + 1, 2**63 + 2]])
@pytest.mark.parametrize("stranger", [1, 3, 10, 2**62, 2**63 + 9, 2**64 - 3])
def test_a_fragment_that_is_no_leaf_is_named(leaf_ids, stranger):
    tree = MergeTree.from_merges(np.array(leaf_ids, np.uint64), [[0, 1]], [0.1])
    with pytest.raises(InvalidInput, match=f"fragments must be leaves of the tree, not {stranger};"):
        segment(tree, labels([leaf_ids[0], stranger]), 0.5)


def test_nothing_changes_and_nothing_is_shared():
    array = np.array([[[9, 5, 0, 2]]], np.uint64)
    fragments = Labels(array, Grid())
    first, second = segment(TREE, fragments, 0), segment(TREE, fragments, 0)
    assert not np.shares_memory(first.array, array)
    assert not np.shares_memory(first.array, second.array)
    assert array.ravel().tolist() == [9, 5, 0, 2]


@pytest.mark.parametrize("arrange", [np.asfortranarray, lambda a: np.repeat(a, 2, axis=2)[:, :, ::2]])
def test_any_layout(arrange):
    array = np.random.default_rng(0).choice(np.array([0, 2, 5, 9], np.uint64), (3, 4, 5))
    expected = segment(TREE, Labels(array, Grid()), 0.5).array
    np.testing.assert_array_equal(segment(TREE, Labels(arrange(array), Grid()), 0.5).array, expected)


def test_empty_tree():
    tree = MergeTree(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0))
    assert segment(tree, labels([0, OUTSIDE]), 0.5).array.ravel().tolist() == [0, OUTSIDE]
    with pytest.raises(InvalidInput, match="not 7"):
        segment(tree, labels([0, 7]), 0.5)


@pytest.mark.parametrize("forest", [False, True])
def test_many_merges_are_cut_as_by_the_tree(forest):
    rng = np.random.default_rng(2)
    ids, merges = np.unique(rng.integers(1, 10**6, 700)).astype(np.uint64), []
    roots = list(range(len(ids)))
    while len(roots) > (40 if forest else 1):
        merges.append([roots.pop(rng.integers(len(roots))) for _ in range(2)])
        roots.append(len(ids) + len(merges) - 1)
    tree = MergeTree.from_merges(ids, merges, np.round(rng.random(len(merges)) ** 2, 2))
    fragments = Labels(ids[None, None], Grid())
    for threshold in [-1, 0, 0.005, 0.01, 0.2, *tree.altitudes[::100], 1, 2]:
        np.testing.assert_array_equal(segment(tree, fragments, threshold).array.ravel(), tree.cut(threshold))


def test_threshold_must_be_a_number():
    with pytest.raises(InvalidInput, match="threshold"):
        segment(TREE, labels([2]), float("nan"))
