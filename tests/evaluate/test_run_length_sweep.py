"""Run lengths of a merge tree at all thresholds, against those of each of its segmentations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit import MergeTree
from segkit.data.skeletons import Skeletons
from segkit.errors import InvalidInput, InvalidParameter
from segkit.evaluate.run_length import run_length_scores
from segkit.evaluate.run_length_sweep import sweep_run_lengths
from segkit.segment.cut import segments_at
from segkit.testing import strategies

TOLERANCES = [0, 1, 3]


@settings(deadline=None, max_examples=300)
@given(strategies.skeletons(), strategies.merge_trees(), st.data())
def test_all_thresholds_equal_one_after_the_other(skeletons, tree, data):
    names = st.sampled_from([0, 2**64 - 1, *tree.leaf_ids.tolist()])
    fragments = data.draw(st.lists(names, min_size=len(skeletons.ids), max_size=len(skeletons.ids)))
    fragments = np.array(fragments, np.uint64)
    if not skeletons.steps.sum():
        with pytest.raises(InvalidInput, match="skeletons must hold an edge"):
            sweep_run_lengths(tree, skeletons, fragments, TOLERANCES)
        return
    found = sweep_run_lengths(tree, skeletons, fragments, TOLERANCES)
    assert found.thresholds.tolist() == sorted({*tree.altitudes.tolist(), max(1.0, *found.thresholds)})
    for threshold, scores in zip(found.thresholds, found.at(found.thresholds), strict=True):
        table = dict(zip(tree.leaf_ids.tolist(), segments_at(tree, threshold).tolist(), strict=True))
        segments = np.array([table.get(each, 0) for each in fragments.tolist()], np.uint64)
        assert scores == {"threshold": threshold} | run_length_scores(skeletons, segments, TOLERANCES)
    assert found.fragments == run_length_scores(skeletons, fragments, TOLERANCES)
    for score in ("nerl_0", "nerl_3"):
        assert found.best(score)[score] == found.scores[score].max()
        assert found.at([found.best(score)["threshold"]])[0] == found.best(score)


def chain(leaves: int, order) -> tuple[MergeTree, Skeletons]:
    """A neuron of ten nodes a fragment, and the fragments merged in an order, the largest segment first or last."""
    nodes = np.stack([np.zeros(10 * leaves), np.zeros(10 * leaves), np.arange(10.0 * leaves)], axis=1)
    edges = np.stack([np.arange(10 * leaves - 1), np.arange(1, 10 * leaves)], axis=1)
    merges, root = [], order[0]
    for k, leaf in enumerate(order[1:]):
        merges.append([root, leaf])
        root = leaves + k
    tree = MergeTree.from_merges(np.arange(1, leaves + 1), merges, np.arange(1, leaves) / leaves)
    return tree, Skeletons(nodes, edges, np.ones(10 * leaves, np.uint64))


@pytest.mark.parametrize("seed", range(3))
def test_a_long_chain(seed):
    order = np.random.default_rng(seed).permutation(200)
    tree, skeletons = chain(200, order.tolist())
    fragments = np.repeat(np.arange(1, 201), 10).astype(np.uint64)
    found = sweep_run_lengths(tree, skeletons, fragments, [0])
    for k in (0, 1, 77, 150, 199):
        segments = np.where(np.isin(fragments - np.uint64(1), order[: k + 1]), np.uint64(999), fragments)
        assert found.scores["nerl_0"][k] == run_length_scores(skeletons, segments)["nerl_0"]
    assert found.best() == {"threshold": 1.0, "nerl_0": 1.0, "erl_um_0": 1.999, "erl_um_perfect": 1.999}


def test_the_oracle_merges_by_the_most_nodes():
    ids = [1] * 6 + [2] * 6
    nodes = [[0, 100 * neuron, 10 * k] for k, neuron in enumerate(ids)]
    skeletons = Skeletons(nodes, [[k, k + 1] for k in range(11) if k != 5], ids)
    fragments = np.array([1, 1, 1, 2, 2, 2, 2, 3, 3, 0, 4, 4], np.uint64)
    tree = MergeTree.from_merges([1, 2, 3, 4], np.empty((0, 2)), [])
    found = sweep_run_lengths(tree, skeletons, fragments, [0, 1])
    assert found.oracle["nerl_0"] == 20**2 / (2 * 50**2)  # a node of the second neuron goes to the first
    assert found.oracle["nerl_1"] == (50**2 + 20**2) / (2 * 50**2)


def test_what_is_refused():
    tree, skeletons = chain(2, [0, 1])
    with pytest.raises(InvalidInput, match="fragments must be leaves of the merge tree, not 9"):
        sweep_run_lengths(tree, skeletons, np.full(20, 9, np.uint64), [0])
    found = sweep_run_lengths(tree, skeletons, np.full(20, 1, np.uint64), [0])
    with pytest.raises(InvalidParameter, match="score must be one of nerl_0, erl_um_0, erl_um_perfect"):
        found.best("voi_split")
    with pytest.raises(InvalidInput, match="threshold must be a number"):
        found.at([float("nan")])
