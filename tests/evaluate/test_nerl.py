"""The metric nerl: skeletons that kimimaro makes of the truth."""

import numpy as np
import pytest

from segkit import Grid, Labels, load
from segkit.errors import InvalidInput, InvalidParameter
from segkit.evaluate import skeletonize

GRID = Grid((20, 10, 10), (100, 0, -50))
MADE = {"dust": 20, "const": 20.0}


def tubes() -> Labels:
    """Two tubes along x, 40 voxels long; 0 and outside around them."""
    array = np.zeros((6, 9, 40), np.uint64)
    array[1:4, 1:4], array[1:4, 5:8] = 2**64 - 3, 7
    array[5] = 2**64 - 1
    return Labels(array, GRID)


@pytest.fixture
def kimimaro():
    pytest.importorskip("kimimaro", reason="needs kimimaro")


def test_skeletons_run_through_the_middle_of_objects(kimimaro):
    made = load("metrics", "nerl", **MADE).skeletons(tubes())
    assert made.skeleton_ids.tolist() == [7, 2**64 - 3]
    voxels = made.voxels(GRID)
    assert np.array_equal(tubes().array[tuple(voxels.T)], made.ids)
    centres = np.array([GRID.centre(voxel) for voxel in voxels])
    assert np.abs(centres - made.nodes).max() < 1e-6
    for neuron in made.skeleton_ids:
        along = made.lengths[made.ids[made.edges[:, 0]] == neuron]
        assert along.sum() >= 370 and len(along) == (made.ids == neuron).sum() - 1


def test_equal_labels_give_equal_skeletons_whatever_their_names(kimimaro):
    metric = load("metrics", "nerl", **MADE)
    one, other = metric.skeletons(tubes()), metric.skeletons(tubes())
    assert np.array_equal(one.nodes, other.nodes) and np.array_equal(one.edges, other.edges)
    renamed = Labels(np.where(tubes().array == 7, 2**64 - 4, tubes().array), GRID)
    assert np.array_equal(metric.skeletons(renamed).nodes, one.nodes)


def test_perfect_split_and_merged(kimimaro):
    metric, truth = load("metrics", "nerl", tolerances=[0, 10**6], **MADE), tubes()
    assert {metric.score(truth, truth)[name] for name in ("nerl_0", "nerl_1000000")} == {1.0}
    x = np.arange(40) < 20
    other = np.where(truth.array == 7, np.uint64(8), np.uint64(9))
    halves = metric.score(Labels(np.where(x, truth.array, other), GRID), truth)
    assert halves["nerl_0"] == pytest.approx(0.5, abs=0.05) == halves["nerl_1000000"]
    merged = metric.score(Labels(np.ones_like(truth.array), GRID), truth)
    assert merged["nerl_0"] == 0 and merged["nerl_1000000"] == 1


def test_a_truth_without_an_object_of_that_size_is_refused(kimimaro):
    with pytest.raises(InvalidInput, match=r"truth must hold an object .*; lower `dust`"):
        load("metrics", "nerl", dust=10**6).score(tubes(), tubes())
    empty = Labels(np.zeros((2, 3, 4), np.uint64), GRID)
    with pytest.raises(InvalidInput, match=r"truth must hold an object .*annotation"):
        load("metrics", "nerl").score(empty, empty)


def test_without_kimimaro_it_says_what_to_install(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(skeletonize, "import_module", missing)
    with pytest.raises(ImportError, match=r"needs the package kimimaro; pip install 'segkit-em\[skeletons\]'"):
        load("metrics", "nerl").score(tubes(), tubes())


@pytest.mark.parametrize("tolerances", [[], [-1], [0, 0]])
def test_tolerances_are_numbers_of_nodes(tolerances):
    with pytest.raises(InvalidParameter, match="tolerances must be numbers of nodes"):
        load("metrics", "nerl", tolerances=tolerances)


@pytest.mark.parametrize("name", ["scale", "const", "dust"])
def test_other_parameters_are_not_negative(name):
    with pytest.raises(InvalidParameter, match=f"{name} must be a number from 0 on"):
        load("metrics", "nerl", **{name: -1})
