"""VOI, Rand and CREMI against scikit-image, hand-worked values and counts over all pairs of voxels."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import adapted_rand_error, variation_of_information

from segkit import Grid, Labels, load
from segkit.errors import InvalidParameter

OUTSIDE = 2**64 - 1
METRICS = ["voi", "rand", "cremi"]
SMALL = arrays(np.uint64, (2, 2, 3), elements=st.sampled_from([0, 1, 2, 5, 2**64 - 3, OUTSIDE]))


def labels(ids) -> Labels:
    return Labels(np.array(ids, np.uint64), Grid())


def row(*ids) -> Labels:
    return labels([[ids]])


def score(name, segmentation, truth, **parameters) -> dict[str, float]:
    return load("metrics", name, **parameters).score(segmentation, truth)


def counted(segmentation: np.ndarray, truth: np.ndarray) -> list[tuple[int, int]]:
    """The pairs (segment, object) of the voxels that count, with outside read as 0 in the segmentation."""
    pairs = zip(segmentation.ravel().tolist(), truth.ravel().tolist(), strict=True)
    return [(s if s < 2**64 - 2 else 0, t) for s, t in pairs if 0 < t < 2**64 - 2]


def rand_over_all_pairs(voxels) -> Fraction:
    both = segment = truth = 0
    for i, (s, t) in enumerate(voxels):
        for j, (other_s, other_t) in enumerate(voxels):
            one_segment = i == j or (s == other_s and s != 0)
            segment += one_segment
            truth += t == other_t
            both += one_segment and t == other_t
    return Fraction(2 * both, segment + truth)


def entropy(items) -> float:
    probabilities = [items.count(item) / len(items) for item in set(items)]
    return -sum(p * math.log2(p) for p in probabilities)


@settings(deadline=None)
@given(SMALL, SMALL)
def test_scores_are_their_definitions(segmentation, truth):
    voxels = counted(segmentation, truth)
    if not voxels:
        return
    found = score("cremi", labels(segmentation), labels(truth))
    rand = rand_over_all_pairs(voxels)
    assert found["rand_index"] == float(rand)
    assert found["adapted_rand_error"] == float(1 - rand)
    joint, (segments, objects) = entropy(voxels), zip(*voxels, strict=True)
    assert found["voi_split"] == pytest.approx(joint - entropy(objects), abs=1e-9)
    assert found["voi_merge"] == pytest.approx(joint - entropy(segments), abs=1e-9)
    information = found["voi_split"] + found["voi_merge"]
    assert found["cremi_score"] == pytest.approx(math.sqrt(information * found["adapted_rand_error"]))


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_scikit_image(seed):
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, 9, (4, 4, 4)), np.ones((5, 5, 5), int))
    segmentation = np.where(rng.random(truth.shape) < 0.3, rng.integers(1, 20, truth.shape), truth + 30)
    found = score("cremi", Labels.convert(segmentation, Grid()), Labels.convert(truth, Grid()))
    split, merge = variation_of_information(truth[truth > 0], segmentation[truth > 0])
    assert found["voi_split"] == pytest.approx(split, abs=1e-9)
    assert found["voi_merge"] == pytest.approx(merge, abs=1e-9)
    error = adapted_rand_error(truth, segmentation)[0]  # leaves out the pairs of a voxel with itself
    assert found["adapted_rand_error"] == pytest.approx(error, abs=1e-3)


def test_false_splits_and_false_merges_by_hand():
    halves, whole = row(1, 1, 2, 2), row(5, 5, 5, 5)
    assert score("voi", halves, whole) == {"voi_split": 1.0, "voi_merge": 0.0}
    assert score("voi", whole, halves) == {"voi_split": 0.0, "voi_merge": 1.0}
    assert score("rand", halves, whole) == {"rand_index": 2 / 3, "adapted_rand_error": 1 / 3}
    assert score("cremi", halves, whole)["cremi_score"] == pytest.approx(math.sqrt(1 / 3))


@settings(deadline=None)
@given(
    arrays(np.uint64, (2, 3, 4), elements=st.integers(1, 4)), arrays(np.uint64, (2, 3, 4), elements=st.integers(1, 4))
)
def test_exchanging_the_two_exchanges_split_and_merge(a, b):
    there, back = score("cremi", labels(a), labels(b)), score("cremi", labels(b), labels(a))
    assert there["voi_split"] == pytest.approx(back["voi_merge"], abs=1e-12)
    assert there["rand_index"] == back["rand_index"]


@settings(deadline=None)
@given(arrays(np.uint64, (2, 3, 4), elements=st.integers(1, 5)))
def test_a_renamed_truth_is_perfect(truth):
    found = score("cremi", labels(np.uint64(2**64 - 3) - truth), labels(truth))
    assert found == {
        "rand_index": 1.0, "adapted_rand_error": 0.0, "voi_split": 0.0, "voi_merge": 0.0, "cremi_score": 0.0
    }  # fmt: skip


@pytest.mark.parametrize("name", METRICS)
def test_only_the_metric_cremi_returns_everything_and_all_agree(name):
    rng = np.random.default_rng(3)
    segmentation, truth = (labels(rng.integers(0, 5, (3, 4, 5))) for _ in range(2))
    everything = score("cremi", segmentation, truth)
    assert score(name, segmentation, truth).items() <= everything.items()


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("ignored", [0, 2**64 - 2, OUTSIDE])
def test_truth_0_and_outside_do_not_count(name, ignored):
    expected = score(name, row(1, 1, 2, 2), row(5, 5, 5, 6))
    assert score(name, row(1, 1, 2, 2, 1, 2, 9), row(5, 5, 5, 6, ignored, ignored, ignored)) == expected


@pytest.mark.parametrize("name", METRICS)
def test_truth_0_is_an_object_if_wanted_and_outside_never_is(name):
    expected = score(name, row(1, 1, 2, 2), row(5, 5, 5, 6))
    found = score(name, row(1, 1, 2, 2, 7), row(5, 5, 5, 0, OUTSIDE), ignore_background=False)
    assert found == expected


@pytest.mark.parametrize("empty", [0, 2**64 - 2, OUTSIDE])
def test_segmentation_0_is_one_segment_in_voi_and_single_voxels_in_rand(empty):
    truth = row(5, 5, 5, 6)
    assert score("voi", row(1, 1, empty, empty), truth) == score("voi", row(1, 1, 2, 2), truth)
    assert score("rand", row(1, 1, empty, empty), truth) == score("rand", row(1, 1, 2, 3), truth)


@pytest.mark.parametrize("name", METRICS)
def test_the_border_is_left_out(name):
    segmentation, truth = row(1, 1, 1, 1, 2, 2), row(5, 5, 5, 6, 6, 6)
    assert next(iter(score(name, segmentation, truth, border=1).values())) in (0.0, 1.0)
    assert score(name, segmentation, truth) != score(name, segmentation, truth, border=1)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("border", [-1.0, float("nan"), float("inf")])
def test_a_border_is_a_distance(name, border):
    with pytest.raises(InvalidParameter, match="border"):
        load("metrics", name, border=border)
