"""Reciprocal merging against the greedy order, on the CPU, and on a GPU where there is one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit import Affinities, Grid, Labels
from segkit.agglomerate.gpu import Gpu
from segkit.agglomerate.greedy import GreedyMerging
from segkit.agglomerate.rag import region_adjacency_graph
from segkit.agglomerate.reference import Reference
from segkit.data import RegionAdjacencyGraph
from segkit.errors import InvalidInput, InvalidParameter

NEAREST = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
LONG = [*NEAREST, (0, 2, 3), (1, -1, 0)]


def volume(seed, shape, fragments, levels, neighborhood=NEAREST):
    """Random affinities of `levels` + 1 different values (0: all different), and random fragments."""
    rng = np.random.default_rng(seed)
    values = rng.random((len(neighborhood), *shape), np.float32)
    if levels:
        values = np.round(values * levels) / levels
    ids = rng.integers(0, fragments + 1, shape)
    return Affinities.convert(values, neighborhood), Labels.convert(ids, Grid())


def assert_agree(tree, other, score):
    """The same tree; for "max" the same altitudes, and the same segments at each of them."""
    tree.check()
    np.testing.assert_array_equal(tree.leaf_ids, other.leaf_ids)
    np.testing.assert_array_equal(tree.altitudes, other.altitudes)
    if score != "max":
        np.testing.assert_array_equal(tree.parents, other.parents)
        return
    for threshold in [*np.unique(tree.altitudes)[:50], 0.5, 2.0]:
        np.testing.assert_array_equal(tree.cut(threshold), other.cut(threshold))


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    fragments=st.sampled_from([1, 3, 20, 200]),
    levels=st.sampled_from([0, 1, 4, 255]),
    neighborhood=st.sampled_from([NEAREST, LONG]),
    score=st.sampled_from(["mean", "max", "min"]),
)
def test_volumes_give_the_tree_of_python(seed, shape, fragments, levels, neighborhood, score):
    data = volume(seed, shape, fragments, levels, neighborhood)
    assert_agree(
        Gpu(score=score, device="cpu").agglomerate(*data), GreedyMerging(score=score).agglomerate(*data), score
    )


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    nodes=st.integers(0, 40),
    density=st.sampled_from([0.03, 0.1, 0.5, 1.0]),
    levels=st.sampled_from([1, 3, 2**30]),
    score=st.sampled_from(["mean", "max", "min"]),
)
def test_graphs_give_the_tree_of_python(seed, nodes, density, levels, score):
    rng = np.random.default_rng(seed)
    edges = np.stack(np.triu_indices(nodes, 1), 1)
    edges = edges[rng.random(len(edges)) < density]
    count = rng.integers(1, 5, len(edges))
    sums = np.rint(rng.integers(0, levels + 1, len(edges)) / levels * 2**30).astype(np.int64) * count
    value = (rng.integers(0, levels + 1, len(edges)) / levels).astype(np.float32)
    rag = RegionAdjacencyGraph(
        np.arange(1, nodes + 1), edges, {"count": count, "sum": sums, "min": value, "max": value}
    )
    assert_agree(Gpu(score=score, device="cpu").cluster(rag), GreedyMerging(score=score).cluster(rag), score)


@pytest.mark.parametrize("score", ["mean", "max", "min"])
@pytest.mark.parametrize("levels", [0, 3])
def test_thousands_of_contacts_give_the_tree_of_the_reference(score, levels):
    data = volume(5, (10, 12, 14), 900, levels)
    assert_agree(Gpu(score=score, device="cpu").agglomerate(*data), Reference(score=score).agglomerate(*data), score)


@pytest.mark.parametrize("score", ["mean", "max", "min"])
def test_a_chain_of_ever_better_contacts_takes_a_round_each(score):
    values = np.zeros((1, 1, 1, 300))
    values[0, 0, 0, 1:] = np.linspace(0.1, 0.9, 299)
    data = Affinities.convert(values, [(0, 0, -1)]), Labels.convert(np.arange(1, 301).reshape(1, 1, 300), Grid())
    tree = Gpu(score=score, device="cpu").agglomerate(*data)
    assert_agree(tree, GreedyMerging(score=score).agglomerate(*data), score)
    np.testing.assert_allclose(tree.altitudes, np.linspace(0.1, 0.9, 299), atol=1e-6)


@pytest.mark.parametrize("features", ["mean", "max", "min"])
def test_its_region_graph_is_the_graph(features):
    affinities, fragments = volume(6, (5, 6, 7), 60, 4, LONG)
    high = np.arange(61, dtype=np.uint64) * np.uint64(2**58 - 1)
    high[[0, 60]] = [0, 2**64 - 1]
    renamed = Labels(high[fragments.array], fragments.grid)
    agglomerator = Gpu(score=features, device="cpu")
    rag = region_adjacency_graph(affinities, renamed, agglomerator.features)
    tree, other = agglomerator.agglomerate(affinities, renamed), agglomerator.cluster(rag)
    np.testing.assert_array_equal(tree.leaf_ids, other.leaf_ids)
    np.testing.assert_array_equal(tree.parents, other.parents)
    np.testing.assert_array_equal(tree.altitudes, other.altitudes)
    np.testing.assert_array_equal(tree.leaf_ids, renamed.ids())


@pytest.mark.parametrize("ids", [[0], [7], [4, 0, 9], [2**64 - 1, 2**64 - 2]])
@pytest.mark.parametrize("score", ["mean", "max", "min"])
def test_nothing_to_merge(ids, score):
    fragments = Labels(np.array([[ids]], np.uint64), Grid())
    affinities = Affinities(np.ones((3, *fragments.shape), np.float32), NEAREST, Grid())
    tree = Gpu(score=score, device="cpu").agglomerate(affinities, fragments)
    tree.check()
    assert tree.leaf_ids.tolist() == [i for i in ids if 0 < i < 2**63]
    assert len(tree.altitudes) == 0


def test_inputs_stay_as_they_are():
    affinities, fragments = volume(7, (5, 6, 7), 60, 4)
    agglomerator = Gpu(device="cpu")
    rag = region_adjacency_graph(affinities, fragments, agglomerator.features)
    before = {name: values.copy() for name, values in rag.features.items()}, fragments.array.copy()
    agglomerator.agglomerate(affinities, fragments)
    tree = agglomerator.cluster(rag)
    assert not np.shares_memory(tree.leaf_ids, rag.node_ids)
    np.testing.assert_array_equal(fragments.array, before[1])
    for name, values in rag.features.items():
        np.testing.assert_array_equal(values, before[0][name])


def test_bad_input_is_refused():
    affinities, fragments = volume(8, (3, 3, 3), 9, 4)
    with pytest.raises(InvalidParameter, match="reducible"):
        Gpu(score="median")
    with pytest.raises(InvalidInput, match="device"):
        Gpu(device="abacus").agglomerate(affinities, fragments)
    with pytest.raises(InvalidInput, match="'max'"):
        Gpu(score="max", device="cpu").cluster(region_adjacency_graph(affinities, fragments))
    broken = affinities.array.copy()
    broken[2, 0, 0, 1:] = np.nan
    cells = Labels.convert(np.arange(1, 28).reshape(3, 3, 3), Grid())
    with pytest.raises(InvalidInput, match="NaN"):
        Gpu(device="cpu").agglomerate(Affinities(broken, NEAREST, Grid()), cells)


@pytest.mark.gpu
@pytest.mark.parametrize("score", ["mean", "max", "min"])
def test_a_gpu_gives_the_same(score):
    for levels in (0, 4):
        data = volume(9, (12, 14, 16), 1500, levels)
        tree, other = (Gpu(score=score, device=device).agglomerate(*data) for device in ("cuda", "cpu"))
        np.testing.assert_array_equal(tree.parents, other.parents)
        np.testing.assert_array_equal(tree.altitudes, other.altitudes)


def test_a_graph_whose_scores_are_not_finite_is_refused():
    rag = RegionAdjacencyGraph([1, 2], [[0, 1]], {"count": np.array([0]), "sum": np.array([0])})
    with pytest.raises(InvalidInput, match="finite"):
        Gpu(device="cpu").cluster(rag)
