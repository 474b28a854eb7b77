"""Probabilistic Rand index and covering by brute force, alone and as means over annotators and blocks."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from segkit import Grid, Labels, io, load
from segkit.blockwise import Work
from segkit.evaluate import evaluate, evaluate_many
from segkit.evaluate.stage import evaluate_files

OUTSIDE = 2**64 - 1
SMALL = arrays(np.uint64, (2, 2, 3), elements=st.sampled_from([0, 1, 2, 5, OUTSIDE]))
METRICS = ("voi", "probabilistic-rand", "segmentation-covering")


@pytest.fixture
def metrics():
    return {name: load("metrics", name) for name in METRICS}


def labels(ids) -> Labels:
    return Labels(np.array(ids, np.uint64), Grid())


def counted(segmentation: np.ndarray, truth: np.ndarray) -> list[tuple[object, int]]:
    """The pairs (segment, object) of the voxels that count; each unsegmented voxel has a name of its own."""
    pairs = zip(segmentation.ravel().tolist(), truth.ravel().tolist(), strict=True)
    named = [(s if 0 < s < 2**64 - 2 else ("alone", i), t) for i, (s, t) in enumerate(pairs)]
    return [(s, t) for s, t in named if 0 < t < 2**64 - 2]


@settings(deadline=None)
@given(SMALL, SMALL)
def test_the_rand_index_is_the_share_of_pairs_that_agree(segmentation, truth):
    voxels = counted(segmentation, truth)
    if not voxels:
        return
    agree = [(s == other_s) == (t == other_t) for (s, t), (other_s, other_t) in combinations(voxels, 2)]
    found = load("metrics", "probabilistic-rand").score(labels(segmentation), labels(truth))
    assert found["probabilistic_rand"] == pytest.approx(sum(agree) / len(agree) if agree else 1)


@settings(deadline=None)
@given(SMALL, SMALL)
def test_covering_is_the_best_overlap_of_each_object(segmentation, truth):
    voxels = counted(segmentation, truth)
    if not voxels:
        return
    segments, objects = (
        [{i for i, v in enumerate(voxels) if v[k] == name} for name in {v[k] for v in voxels}] for k in (0, 1)
    )
    covering = sum(len(o) * max(len(o & s) / len(o | s) for s in segments) for o in objects) / len(voxels)
    found = load("metrics", "segmentation-covering").score(labels(segmentation), labels(truth))
    assert found["segmentation_covering"] == pytest.approx(covering)


def test_sections_weigh_the_same_however_many_annotated_them(metrics):
    """Section 0 has two annotators, section 1 one: ((a + b) / 2 + c) / 2, not (a + b + c) / 3."""
    segmentation = labels([[[1, 1, 2, 2]], [[1, 1, 1, 1]]])
    first = labels([[[1, 1, 2, 2]], [[1, 1, 2, 2]]])
    second = labels([[[1, 1, 1, 1]], [[OUTSIDE] * 4]])
    found = evaluate_many(segmentation, [first, second], metrics, per_section=True)
    assert found["voi_split"] == pytest.approx((0 + 1) / 2 / 2) and found["voi_merge"] == pytest.approx(1 / 2)
    assert found["segmentation_covering"] == pytest.approx(((1 + 0.5) / 2 + 0.5) / 2)
    assert found["probabilistic_rand"] == pytest.approx(((1 + 1 / 3) / 2 + 1 / 3) / 2)


@pytest.mark.parametrize("block", [(2, 3, 4), (1, 5, 9)])
def test_blocks_give_the_scores_of_the_whole(tmp_path, block, metrics):
    rng = np.random.default_rng(0)
    segmentation, truth = (labels(rng.integers(0, 5, (3, 6, 9))) for _ in range(2))
    for role, each in (("segmentation", segmentation), ("truth", truth)):
        io.write(tmp_path / f"{role}.zarr", each, role)
    for per_section in (False, True):
        paths = tmp_path / "segmentation.zarr", [tmp_path / "truth.zarr"]
        found = evaluate_files(*paths, metrics, per_section=per_section, work=Work(block)).scores
        assert found == evaluate(segmentation, truth, metrics, per_section)
