"""The mean of several sweeps against scoring every volume on its own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit import Grid, Labels, MergeTree, load
from segkit.errors import InvalidInput
from segkit.evaluate import mean_sweep, sweep
from segkit.segment import segment


def random_case(seed, fragments, altitudes):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, fragments + 1, (2, 3, 6)).astype(np.uint64)
    truth = rng.integers(0, 4, ids.shape).astype(np.uint64)
    truth[0, 0, 0] = 1
    roots, merges = list(range(fragments)), []
    while len(roots) > 1:
        pair = [roots.pop(int(rng.integers(len(roots)))) for _ in range(2)]
        roots.append(fragments + len(merges))
        merges.append(sorted(pair))
    scores = np.sort(rng.integers(0, altitudes + 1, len(merges)) / altitudes)
    tree = MergeTree.from_merges(np.arange(1, fragments + 1), merges, scores)
    return tree, Labels(ids, Grid()), Labels(truth, Grid())


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 8)), min_size=1, max_size=3), st.sampled_from([2, 100]))
def test_means_at_every_threshold(seeds, altitudes):
    cases = [random_case(seed, fragments, altitudes) for seed, fragments in seeds]
    found = mean_sweep([sweep(*case) for case in cases])
    everywhere = np.unique(np.concatenate([tree.altitudes for tree, _, _ in cases]))
    assert np.array_equal(found.thresholds[:-1], everywhere) and (np.diff(found.thresholds) > 0).all()
    metric = load("metrics", "cremi")
    for row in found.at([-1.0, *found.thresholds, 2.0]):
        single = [metric.score(segment(tree, ids, row["threshold"]), truth) for tree, ids, truth in cases]
        expected = {name: np.mean([scores[name] for scores in single]) for name in single[0]}
        assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    best = found.best()
    assert best["cremi_score"] == min(row["cremi_score"] for row in found.at(found.thresholds))
    apart = [metric.score(ids, truth)["voi_merge"] for _, ids, truth in cases]
    assert found.fragments["voi_merge"] == pytest.approx(np.mean(apart))


def test_no_sweeps_are_refused():
    with pytest.raises(InvalidInput, match="at least one"):
        mean_sweep([])
