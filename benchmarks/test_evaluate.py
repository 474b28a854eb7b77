"""Scores beside scikit-image's, sweeps beside scores: pytest benchmarks/test_evaluate.py --benchmark-enable."""

import numpy as np
import pytest
from skimage.metrics import adapted_rand_error, variation_of_information

from segkit.evaluate import sweep, worst
from segkit.registry import load
from segkit.segment import segment

SIZE = 96


@pytest.fixture(scope="module")
def case(volume):
    """Truth, fragments, their merge tree, and a segmentation."""
    truth, affinities, fragments = volume(SIZE)
    tree = load("agglomerators", "python").agglomerate(affinities, fragments)
    return truth, fragments, tree, segment(tree, fragments, 0.5)


@pytest.mark.benchmark(group="scores")
def test_segkit(benchmark, case):
    truth, _, _, segmentation = case
    metric = load("metrics", "cremi")
    metric.score(segmentation, truth)  # compiles
    scores = benchmark(metric.score, segmentation, truth)
    information = scores["voi_split"] + scores["voi_merge"]
    assert scores["cremi_score"] == pytest.approx((information * scores["adapted_rand_error"]) ** 0.5)


@pytest.mark.benchmark(group="scores")
def test_scikit_image(benchmark, case):
    truth, segmentation = (labels.array.astype(np.int64) for labels in (case[0], case[3]))

    def both():
        return variation_of_information(truth, segmentation), adapted_rand_error(truth, segmentation)

    information, _ = benchmark(both)  # with 0 as an object of the truth
    ours = load("metrics", "voi", ignore_background=False).score(case[3], case[0])
    assert sum(information) == pytest.approx(sum(ours.values()))


@pytest.mark.benchmark(group="sweep")
def test_single_score_of_the_fragments(benchmark, case):
    truth, fragments, tree, _ = case
    scores = benchmark(load("metrics", "cremi").score, fragments, truth)
    assert scores == pytest.approx(sweep(tree, fragments, truth).fragments)


@pytest.mark.benchmark(group="sweep")
def test_sweep_over_all_thresholds(benchmark, case):
    truth, fragments, tree, _ = case
    sweep(tree, fragments, truth)  # compiles
    found = benchmark(sweep, tree, fragments, truth)
    assert found.best()["cremi_score"] <= found.fragments["cremi_score"]


@pytest.mark.benchmark(group="worst")
def test_worst(benchmark, case):
    truth, _, _, segmentation = case
    worst(segmentation, truth)  # compiles
    splits, _ = benchmark(worst, segmentation, truth)
    bits = [split.bits for split in splits]
    assert (
        bits == sorted(bits, reverse=True)
        and sum(bits) <= load("metrics", "voi").score(segmentation, truth)["voi_split"]
    )
