import numpy as np
import pytest

from segkit import Affinities, Grid, Labels
from segkit.agglomerate.higra import Higra
from segkit.agglomerate.rag import region_adjacency_graph
from segkit.agglomerate.reference import Reference
from segkit.errors import InvalidInput, InvalidParameter


def volume(seed, background=True):
    """Random affinities without ties between contacts, and fragments in several components."""
    rng = np.random.default_rng(seed)
    values = rng.random((3, 5, 6, 7), np.float32)
    ids = rng.integers(0 if background else 1, 60, (5, 6, 7))
    if background:
        ids[2] = ids[:, 3] = 0
    return Affinities.convert(values), Labels.convert(ids, Grid())


@pytest.mark.parametrize(("linkage", "score"), [("average", "mean"), ("single", "max"), ("complete", "min")])
@pytest.mark.parametrize("background", [False, True])
def test_gives_the_partitions_of_the_reference(linkage, score, background):
    for seed in range(5):
        data = volume(seed, background)
        tree = Higra(linkage=linkage).agglomerate(*data)
        expected = Reference(score=score).agglomerate(*data)
        tree.check()
        np.testing.assert_allclose(tree.altitudes, expected.altitudes, atol=1e-12, err_msg=f"seed {seed}")
        middles = (expected.altitudes[1:] + expected.altitudes[:-1]) / 2
        for threshold in [0, *middles[np.diff(expected.altitudes) > 1e-9], 2]:
            np.testing.assert_array_equal(tree.cut(threshold), expected.cut(threshold), f"seed {seed}, at {threshold}")


def test_exponential_weighs_bad_contacts_more():
    # 1 and 2 meet 3 with scores 0.25 and 0.75; 1 and 2 are merged first
    affinities = Affinities.convert([[[[0, 0.75, 1, 0.25]]]], [(0, 0, -1)])
    fragments = Labels.convert([[[3, 1, 2, 3]]], Grid())
    scores, weights = np.array([0.25, 0.75]), np.exp(2 * np.array([0.25, 0.75]))
    tree = Higra(linkage="exponential", alpha=2).agglomerate(affinities, fragments)
    np.testing.assert_allclose(tree.altitudes, [0, (scores * weights).sum() / weights.sum()])
    assert Higra(linkage="exponential", alpha=0).agglomerate(affinities, fragments).altitudes.tolist() == [0, 0.5]


@pytest.mark.parametrize("linkage", ["average", "single", "complete", "exponential"])
@pytest.mark.parametrize("values", [[0], [7], [7, 0, 9], [7, 9, 0, 4, 4]])
def test_tiny_graphs(linkage, values):
    ids = [*values, 0]
    affinities = Affinities.convert([[[[0] + [0.5] * (len(ids) - 1)]]], [(0, 0, -1)])
    tree = Higra(linkage=linkage).agglomerate(affinities, Labels.convert([[ids]], Grid()))
    tree.check()
    assert tree.leaf_ids.tolist() == sorted({v for v in values if v})
    assert tree.altitudes.tolist() == [0.5] * (values[:2] == [7, 9])


def test_graph_is_not_changed_and_equal_inputs_give_equal_trees():
    rag = region_adjacency_graph(*volume(3))
    before = rag.edges.copy(), rag.features["sum"].copy()
    first, second = Higra().cluster(rag), Higra().cluster(rag)
    np.testing.assert_array_equal(first.parents, second.parents)
    assert not np.shares_memory(first.leaf_ids, rag.node_ids)
    np.testing.assert_array_equal(rag.edges, before[0])
    np.testing.assert_array_equal(rag.features["sum"], before[1])


def test_bad_calls():
    with pytest.raises(InvalidParameter, match="linkage"):
        Higra(linkage="ward")
    with pytest.raises(InvalidParameter, match="alpha"):
        Higra(alpha=float("nan"))
    with pytest.raises(InvalidInput, match="'max'"):
        Higra(linkage="single").cluster(region_adjacency_graph(*volume(0)))
