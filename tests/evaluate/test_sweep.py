"""A sweep against scoring each segmentation on its own."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit import Grid, Labels, MergeTree, load
from segkit.errors import InvalidInput, InvalidParameter
from segkit.evaluate import contingency, sweep
from segkit.evaluate._kernels_sweep import LIMB, add_product
from segkit.evaluate.sweep import SCORES, _exact_sum, _shortest, oracle
from segkit.segment import segment

OUTSIDE = 2**64 - 1


def random_case(seed: int, fragments: int, objects: int, shape=(4, 8, 8), altitudes: int = 1000, large: int = 1):
    """A random tree over random fragments, 0 and outside among them; some leaves hold no voxel; ids in steps."""
    rng = np.random.default_rng(seed)
    ids = rng.choice([*range(fragments + 1)], shape).astype(np.uint64) * np.uint64(large)
    truth = rng.integers(0, objects + 1, shape).astype(np.uint64)
    truth[rng.random(shape) < 0.05] = OUTSIDE
    roots, merges = list(range(fragments + 3)), []
    while len(roots) > 1 + seed % 3:
        pair = [roots.pop(int(rng.integers(len(roots)))) for _ in range(2)]
        roots.append(fragments + 3 + len(merges))
        merges.append(sorted(pair))
    scores = np.sort(rng.integers(0, altitudes, len(merges)) / altitudes)
    leaves = np.arange(1, fragments + 4, dtype=np.uint64) * np.uint64(large)
    return MergeTree.from_merges(leaves, merges, scores), Labels(ids, Grid()), Labels(truth, Grid())


def assert_equals_single_scores(tree, fragments, truth, thresholds, found, **options):
    metric = load("metrics", "cremi", **options)
    for row in found.at(thresholds):
        expected = metric.score(segment(tree, fragments, row["threshold"]), truth)
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-13, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 5), st.sampled_from([2, 5, 1000]), st.booleans())
def test_a_sweep_is_the_scores_of_every_cut(seed, fragments, objects, altitudes, ignore_background):
    case = random_case(seed, fragments, objects, (2, 3, 8), altitudes, large=2**58)
    found = sweep(*case, ignore_background=ignore_background)
    assert np.array_equal(found.thresholds[:-1], np.unique(case[0].altitudes))
    assert (np.diff(found.thresholds) > 0).all()
    thresholds = [-1.0, *found.thresholds.tolist(), 2.0]
    assert_equals_single_scores(*case, thresholds, found, ignore_background=ignore_background)


@pytest.mark.parametrize(("fragments", "objects"), [(700, 3), (400, 300), (30, 200), (2000, 40)])
def test_long_rows_and_many_merges(fragments, objects):
    case = random_case(fragments, fragments, objects, (8, 30, 30))
    found = sweep(*case)
    assert len(found.thresholds) > min(fragments, 600) / 2
    assert_equals_single_scores(*case, found.thresholds[:: len(found.thresholds) // 12], found)


def test_the_border_is_left_out():
    tree, fragments, truth = random_case(2, 9, 3, (4, 6, 6))
    truth = Labels(np.kron(truth.array[:, :2, :2], np.ones((1, 3, 3), np.uint64)), Grid())
    found = sweep(tree, fragments, truth, border=0.5)
    assert_equals_single_scores(tree, fragments, truth, found.thresholds, found, border=0.5)


def test_the_number_of_threads_leaves_no_trace(monkeypatch):
    case = random_case(5, 3000, 50, (40, 64, 64))
    found = []
    for threads in (1, 3):
        monkeypatch.setattr("segkit.threads._limit", [threads])
        found.append(sweep(*case))
    for name in ("thresholds", *SCORES):
        assert np.array_equal(getattr(found[0], name), getattr(found[-1], name))


def test_fragments_and_oracle_bound_the_sweep():
    ids, objects = ([[[1, 1, 2, 3, 3, 4, 0]]], [[[5, 5, 5, 6, 5, 6, 6]]])
    fragments, truth = (Labels.convert(array, Grid()) for array in (ids, objects))
    tree = MergeTree.from_merges([1, 2, 3, 4], [[0, 1], [2, 3], [4, 5]], [0.2, 0.4, 0.6])
    found = sweep(tree, fragments, truth)
    metric = load("metrics", "cremi")
    assert found.fragments == metric.score(fragments, truth) == {name: getattr(found, name)[0] for name in SCORES}
    by_hand = Labels.convert([[[1, 1, 1, 1, 1, 2, 0]]], Grid())  # 3 overlaps 5 and 6 alike: the lower one
    assert found.oracle == metric.score(by_hand, truth)


def test_the_oracle_of_fragments_inside_objects_is_perfect():
    rng = np.random.default_rng(4)
    truth = Labels(rng.integers(1, 5, (3, 6, 6), np.uint64), Grid())
    fragments = Labels(truth.array * np.uint64(100) + rng.integers(0, 9, truth.shape, np.uint64), Grid())
    assert load("metrics", "cremi").of(oracle(contingency(fragments, truth)))["cremi_score"] == 0
    background = Labels(np.where(truth.array == 1, np.uint64(0), truth.array), Grid())
    table = oracle(contingency(fragments, background, ignore_background=False))
    assert 0 not in table.segments and len(table.counts) == 4


@pytest.mark.parametrize("score", SCORES)
def test_the_best_threshold_leads_to_the_best_scores(score):
    tree, fragments, truth = random_case(11, 200, 5, (4, 20, 20))
    found = sweep(tree, fragments, truth)
    best = found.best(score)
    values = getattr(found, score)
    assert best[score] == (values.max() if score == "rand_index" else values.min())
    assert found.at([best["threshold"]]) == [best]
    scored = load("metrics", "cremi").score(segment(tree, fragments, best["threshold"]), truth)
    assert scored[score] == pytest.approx(best[score], abs=1e-12)


def test_a_tree_without_merges_has_one_threshold():
    _, fragments, truth = random_case(1, 4, 2)
    found = sweep(MergeTree.from_merges([1, 2, 3, 4], [], []), fragments, truth)
    assert found.thresholds.tolist() == [1.0]
    assert found.best() == {"threshold": 1.0} | found.fragments


@pytest.mark.parametrize(
    ("below", "threshold", "short"),
    [(0.25, 1.0, 1.0), (0.31234, 0.31239, 0.31239), (0.31234, 0.3125, 0.3125), (-np.inf, 0.1, 0.0)],
)
def test_thresholds_are_short(below, threshold, short):
    assert _shortest(below, threshold) == short


@given(st.lists(st.tuples(st.integers(1, 2**40), st.integers(1, 2**40), st.sampled_from([2, -4])), max_size=20))
@settings(deadline=None)
def test_sums_of_products_are_exact(products):
    sums, expected = np.zeros(2, np.int64), 0
    for a, b, times in products:
        scaled = min(a, b) >> 6  # as if all of them belonged to one volume
        add_product(sums, max(a, b), scaled, times)
        expected += times * max(a, b) * scaled
    assert (int(sums[0]) << LIMB) + int(sums[1]) == expected
    start = 2**82
    rounded = float(_exact_sum(start, sums[None])[0])
    assert abs(Fraction(rounded) - (start + expected)) <= Fraction(start + expected, 2**51)


def test_a_fragment_that_is_no_leaf_is_named():
    tree, fragments, truth = random_case(3, 8, 4)
    with pytest.raises(InvalidInput, match="fragments must be leaves of the merge tree, not 77"):
        sweep(tree, Labels(np.where(fragments.array == 2, np.uint64(77), fragments.array), Grid()), truth)


def test_what_makes_no_sense_is_refused():
    tree, fragments, truth = random_case(3, 8, 4)
    found = sweep(tree, fragments, truth)
    with pytest.raises(InvalidInput, match="fragments and truth must have the same shape"):
        sweep(tree, fragments, Labels(truth.array[:, :, :1], truth.grid))
    with pytest.raises(InvalidInput, match="threshold must be a number"):
        found.at([0.5, float("nan")])
    with pytest.raises(InvalidParameter, match="score must be one of rand_index"):
        found.best("f1")
