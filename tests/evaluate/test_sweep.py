"""A sweep against scoring each segmentation on its own."""

import numpy as np
import pytest

from segkit import Grid, Labels, MergeTree, load
from segkit.errors import InvalidInput
from segkit.evaluate import sweep


def example():
    rng = np.random.default_rng(0)
    fragments = rng.integers(0, 9, (4, 6, 6)).astype(np.uint64) * np.uint64(2**59)
    truth = Labels.convert(rng.integers(0, 4, (4, 6, 6)), Grid())
    merges = [[0, 1], [2, 3], [8, 9], [4, 5], [10, 11]]
    ids = np.arange(1, 9, dtype=np.uint64) * np.uint64(2**59)
    return MergeTree.from_merges(ids, merges, [0.1, 0.3, 0.3, 0.5, 0.9]), Labels(fragments, Grid()), truth


@pytest.mark.parametrize("border", [0.0, 0.5])
def test_a_sweep_is_the_scores_of_every_cut(border):
    tree, fragments, truth = example()
    if border:
        truth = Labels(np.kron(truth.array[:, :2, :2], np.ones((1, 3, 3), np.uint64)), Grid())
    thresholds = [0.0, 0.3, 0.31, 0.7, 1.0]
    rows = sweep(tree, fragments, truth, thresholds, border=border)
    assert [row["threshold"] for row in rows] == thresholds
    for row in rows:
        ids = dict(zip(tree.leaf_ids.tolist(), tree.cut(row["threshold"]).tolist(), strict=True))
        cut = [ids.get(fragment, 0) for fragment in fragments.array.ravel().tolist()]
        segmentation = Labels(np.array(cut, np.uint64).reshape(fragments.shape), Grid())
        expected = load("metrics", "cremi", border=border).score(segmentation, truth)
        assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_a_fragment_that_is_no_leaf_is_named():
    tree, fragments, truth = example()
    with pytest.raises(InvalidInput, match="fragments must be leaves of the merge tree, not 7"):
        sweep(tree, Labels(np.where(fragments.array == 0, np.uint64(7), fragments.array), Grid()), truth, [0.5])
