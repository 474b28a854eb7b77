"""The strategies give valid containers that shrink, and carry tests of the components against each other."""

import numpy as np
import pytest
import torch
from hypothesis import find, given, settings
from hypothesis import strategies as st

import segkit
from segkit.data import NEAREST, Grid
from segkit.data.affinities import as_neighborhood
from segkit.testing import strategies
from segkit.testing.predictions import item_of, predictions, random_prediction

SMALL = strategies.shapes(3)
FEW = settings(max_examples=40, deadline=None)


@FEW
@given(data=st.data())
def test_containers_are_valid(data):
    shape = data.draw(strategies.shapes())
    grid = data.draw(strategies.grids())
    affinities, fragments = data.draw(strategies.fragmented(shape, strategies.neighborhoods(), grid))
    volume = data.draw(strategies.volumes(shape, np.float32, grid))
    for container in (affinities, fragments, volume):
        container.check()
        assert container.shape == shape and container.grid == grid
    assert data.draw(strategies.masks(shape, grid)).array.dtype == bool
    segmentation, truth = data.draw(strategies.segmented(shape, grid))
    assert segmentation.inside.all() and len(truth.ids())


@FEW
@given(rag=strategies.region_graphs(), tree=strategies.merge_trees(), neighborhood=strategies.neighborhoods())
def test_graphs_and_trees_are_valid(rag, tree, neighborhood):
    rag.check()
    tree.check()
    as_neighborhood(neighborhood)
    features = {name: values.astype(float) for name, values in rag.features.items()}
    means = features["sum"] / strategies.UNIT / features["count"]
    assert (means <= features["max"] + 1e-6).all() and (means >= features["min"] - 1e-6).all()


@pytest.mark.parametrize(
    ("strategy", "wanted", "smallest"),
    [
        (strategies.labels(SMALL, Grid()), lambda labels: labels.array.any(), [[[1]]]),
        (strategies.affinities(SMALL, grid=Grid()), lambda affinities: affinities.array.any(), None),
    ],
)
def test_they_shrink(strategy, wanted, smallest):
    found = find(strategy, wanted, settings=settings(max_examples=100, derandomize=True)).array
    if smallest is not None:
        assert found.tolist() == smallest
    else:
        assert found.size == 6 and np.count_nonzero(found) == 1 and found.max() == np.float32(1 / 255)


def test_trees_shrink_to_one_merge():
    tree = find(strategies.merge_trees(), lambda tree: len(tree.altitudes), settings=settings(derandomize=True))
    assert tree.leaf_ids.tolist() == [1, 2] and tree.altitudes.tolist() == [0.0]


def test_all_ids_that_are_hard_occur():
    for id_ in (2**53 + 1, 2**64 - 1):
        find(strategies.labels(SMALL, Grid()), lambda labels, id_=id_: (labels.array == id_).any())


@FEW
@given(rag=strategies.region_graphs(), score=st.sampled_from(["mean", "min"]))
def test_graphs_cluster_alike(rag, score):
    components = (("python", {}), ("gpu", {"device": "cpu"}))
    trees = [segkit.load("agglomerators", name, score=score, **more).cluster(rag) for name, more in components]
    for name in ("leaf_ids", "parents", "altitudes"):
        assert np.array_equal(getattr(trees[0], name), getattr(trees[1], name))


@FEW
@given(tree=strategies.merge_trees(), threshold=st.integers(0, 256).map(lambda step: step / 255))
def test_a_cut_is_the_merges_below_it(tree, threshold):
    segments = {leaf: {leaf} for leaf in range(len(tree.leaf_ids))}
    for number, ((a, b), altitude) in enumerate(zip(tree.merges.tolist(), tree.altitudes, strict=True)):
        if altitude < threshold:
            segments[len(tree.leaf_ids) + number] = segments.pop(a) | segments.pop(b)
    expected = np.zeros(len(tree.leaf_ids), np.uint64)
    for members in segments.values():
        expected[sorted(members)] = tree.leaf_ids[min(members)]
    assert np.array_equal(tree.cut(threshold), expected)


@FEW
@given(prediction=predictions(strategies.neighborhoods()))
def test_malis_counts_alike(prediction):
    one, other = (segkit.load("losses", name)(prediction)[0] for name in ("constrained-malis", "malis-higra"))
    assert torch.equal(one, other)


def test_predictions():
    prediction = random_prediction()
    assert (prediction.edges == prediction.edges[:1]).all() and not prediction.edges.all()
    assert not prediction.target[~prediction.edges].any() and 0 < prediction.target[prediction.edges].mean() < 1
    for logits in prediction.logits:
        spaces = torch.diff(logits.reshape(-1).sort().values)
        assert spaces.min() > 0.02
    alone = item_of(prediction, 1)
    assert torch.equal(alone.labels[0], prediction.labels[1]) and len(alone.target) == 1
    assert prediction.neighborhood.tolist() == np.array(NEAREST).tolist()
