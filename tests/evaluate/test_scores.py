"""Several metrics, sections, and the score of a known oversegmentation."""

import os
from pathlib import Path

import numpy as np
import pytest

from segkit import Grid, Labels, load
from segkit.errors import BrokenComponent, InvalidInput, SegkitWarning
from segkit.evaluate import evaluate
from segkit.protocols import Metric


class Constant(Metric):
    """A metric that knows its answer."""

    def __init__(self, value: float) -> None:
        self.value = value

    def score(self, segmentation, truth):
        return {"constant": self.value}


def labels(ids) -> Labels:
    return Labels(np.array(ids, np.uint64), Grid((40, 4, 4), (80, 0, 0)))


def test_scores_of_all_metrics_are_joined():
    segmentation, truth = labels([[[1, 1, 2, 2]]]), labels([[[5, 5, 5, 5]]])
    found = evaluate(segmentation, truth, {"voi": load("metrics", "voi"), "rand": load("metrics", "rand")})
    assert found == {"voi_split": 1.0, "voi_merge": 0.0, "rand_index": 2 / 3, "adapted_rand_error": 1 / 3}


def test_sections_are_scored_alone_and_averaged_where_there_is_an_object():
    outside = 2**64 - 1
    truth = labels([[[5, 5, 6, 6]], [[0, outside, 0, outside]], [[5, 5, 5, 5]]])
    segmentation = labels([[[1, 1, 2, 2]], [[1, 2, 3, 4]], [[1, 1, 2, 2]]])
    found = evaluate(segmentation, truth, {"cremi": load("metrics", "cremi")}, per_section=True)
    assert found["voi_split"] == pytest.approx((0 + 1) / 2)
    assert found["rand_index"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["cremi_score"] == pytest.approx((0 + (1 / 3) ** 0.5) / 2)


def test_sections_within_the_border_are_left_out_and_named():
    truth = labels([[[5, 5, 5, 5]], [[5, 6, 5, 6]], [[5, 5, 5, 5]], [[0, 0, 0, 5]]])
    segmentation = labels([[[1, 1, 2, 2]], [[1, 1, 1, 1]], [[1, 1, 1, 1]], [[1, 1, 1, 1]]])
    metrics = {"voi": load("metrics", "voi", border=4), "rand": load("metrics", "rand")}
    with pytest.warns(SegkitWarning, match="sections 1, 3 are left out"):
        found = evaluate(segmentation, truth, metrics, per_section=True)
    assert found["voi_split"] == 0.5 and found["rand_index"] == pytest.approx((2 / 3 + 1) / 2)
    metrics = {"voi": load("metrics", "voi", border=4, ignore_background=False)}
    with pytest.warns(SegkitWarning, match="sections 1 are left out"):
        evaluate(segmentation, truth, metrics, per_section=True)  # in section 3 the background counts


def test_no_section_outside_the_border_is_refused():
    truth = labels([[[5, 6, 5, 6]], [[5, 6, 5, 6]]])
    with pytest.raises(InvalidInput, match=r"section 0: truth must hold a voxel that counts.*lower the border"):
        evaluate(truth, truth, {"voi": load("metrics", "voi", border=4)}, per_section=True)


def test_the_failing_section_is_named():
    class Fails(Metric):
        def score(self, segmentation, truth):
            if truth.grid.offset[0] > 80:
                raise InvalidInput("truth must be simpler")
            return {}

    truth = labels([[[5, 5]], [[5, 6]]])
    with pytest.raises(InvalidInput, match="section 1: truth must be simpler"):
        evaluate(truth, truth, {"fails": Fails()}, per_section=True)


@pytest.mark.parametrize("per_section", [False, True])
def test_a_truth_without_objects_is_refused(per_section):
    nothing = labels([[[0, 2**64 - 1]]])
    with pytest.raises(InvalidInput, match="truth must hold at least one object"):
        evaluate(nothing, nothing, {"voi": load("metrics", "voi")}, per_section)


def test_misaligned_volumes_are_refused():
    moved = Labels(np.ones((1, 1, 2), np.uint64), Grid((40, 4, 4)))
    with pytest.raises(InvalidInput, match="lie at the same place"):
        evaluate(labels([[[1, 1]]]), moved, {})


def test_two_metrics_may_share_a_name_only_if_they_agree():
    volume = labels([[[1]]])
    assert evaluate(volume, volume, {"a": Constant(1), "b": Constant(1)}) == {"constant": 1}
    with pytest.raises(InvalidInput, match="metric 'b' must not return constant = 2"):
        evaluate(volume, volume, {"a": Constant(1), "b": Constant(2)})


def test_no_number_agrees_with_no_number():
    volume, nan = labels([[[1]]]), float("nan")
    assert np.isnan(evaluate(volume, volume, {"a": Constant(nan), "b": Constant(nan)})["constant"])
    with pytest.raises(InvalidInput, match="metric 'b' must not return constant = 1"):
        evaluate(volume, volume, {"a": Constant(nan), "b": Constant(1)})


def test_a_metric_that_returns_no_scores_is_named():
    class Silent(Metric):
        def score(self, segmentation, truth):
            return None

    volume = labels([[[1]]])
    with pytest.raises(BrokenComponent, match="must return a mapping of names to numbers from score"):
        evaluate(volume, volume, {"silent": Silent()})


@pytest.mark.data
def test_neuroproofs_fragments_of_fib25():
    import h5py

    with h5py.File(Path(os.environ["SEGKIT_DATA"], "fib25_train.h5")) as file:
        arrays = [file[f"volumes/labels/{name}"][110:150] for name in ("neuroproof_fragments", "neuron_ids")]
    segmentation, truth = (Labels.convert(array, Grid((10, 10, 10))) for array in arrays)
    found = evaluate(segmentation, truth, {"cremi": load("metrics", "cremi")})
    assert found["cremi_score"] == pytest.approx(0.552, abs=5e-4)
