"""Scores against what several annotators made of the same volume."""

import numpy as np
import pytest

from segkit import Grid, Labels, load
from segkit.errors import InvalidInput
from segkit.evaluate import evaluate, evaluate_many

OUTSIDE = 2**64 - 1
METRICS = ("voi", "rand")


def labels(ids) -> Labels:
    return Labels(np.array(ids, np.uint64), Grid())


@pytest.fixture
def metrics():
    return {name: load("metrics", name) for name in METRICS}


def test_several_truths_are_averaged(metrics):
    rng = np.random.default_rng(0)
    segmentation, *truths = (labels(rng.integers(1, 5, (3, 6, 7))) for _ in range(4))
    found = evaluate_many(segmentation, truths, metrics)
    each = [evaluate(segmentation, truth, metrics) for truth in truths]
    assert found == {name: pytest.approx(np.mean([row[name] for row in each])) for name in each[0]}


def test_sections_weigh_the_same_however_many_annotated_them(metrics):
    """Section 0 has two annotators, section 1 one: ((a + b) / 2 + c) / 2, not (a + b + c) / 3."""
    segmentation = labels([[[1, 1, 2, 2]], [[1, 1, 1, 1]]])
    first = labels([[[1, 1, 2, 2]], [[1, 1, 2, 2]]])
    second = labels([[[1, 1, 1, 1]], [[OUTSIDE] * 4]])
    found = evaluate_many(segmentation, [first, second], metrics, per_section=True)
    assert found["voi_split"] == pytest.approx((0 + 1) / 2 / 2) and found["voi_merge"] == pytest.approx(1 / 2)
    assert found["rand_index"] == pytest.approx(((1 + 2 / 3) / 2 + 2 / 3) / 2)


def test_one_truth_is_evaluate(metrics):
    one, other = labels([[[1, 1, 2]], [[3, 3, 3]]]), labels([[[1, 2, 2]], [[4, 4, 4]]])
    for per_section in (False, True):
        assert evaluate_many(one, [other], metrics, per_section) == evaluate(one, other, metrics, per_section)


@pytest.mark.parametrize("per_section", [False, True])
def test_annotators_of_nothing_here_do_not_count(metrics, per_section):
    segmentation, truth = labels([[[1, 1, 2, 2]]]), labels([[[1, 1, 1, 1]]])
    nobody = labels([[[OUTSIDE] * 4]])
    found = evaluate_many(segmentation, [nobody, truth], metrics, per_section)
    assert found == evaluate(segmentation, truth, metrics, per_section)
    with pytest.raises(InvalidInput, match="truth must hold at least one object"):
        evaluate_many(segmentation, [nobody, nobody], metrics, per_section)


def test_no_truth_is_refused(metrics):
    with pytest.raises(InvalidInput, match="truths must be at least one"):
        evaluate_many(labels([[[1]]]), [], metrics)
