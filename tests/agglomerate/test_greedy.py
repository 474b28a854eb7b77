import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trees import assert_same_tree

from segkit import Affinities, Grid, Labels, RegionAdjacencyGraph
from segkit.agglomerate.greedy import GreedyMerging
from segkit.agglomerate.rag import region_adjacency_graph
from segkit.agglomerate.reference import Reference
from segkit.errors import InvalidInput, InvalidParameter

NEAREST = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
LONG = [*NEAREST, (0, 2, 3), (1, -1, 0)]
PARAMETERS = [
    {"score": "mean"},
    {"score": "max"},
    {"score": "min"},
    {"score": "median"},
    {"score": "quantile", "quantile": 0.85, "histogram_init": "max"},
    {"score": "quantile", "quantile": 0.29, "bins": 10},
    {"score": "quantile", "quantile": 0.0},
    {"score": "quantile", "quantile": 1.0},
]
MORE = [
    {"score": "median", "bins": 0},
    {"score": "quantile", "quantile": 0.85, "histogram_init": "max", "bins": 0},
    {"max_size": 30},
    {"mutex_above": 0.8},
    {"score": "median", "max_size": 20, "mutex_above": 0.9},
]
"""Exact quantiles and constraints."""


def volume(seed, shape, fragments, levels, neighborhood=NEAREST):
    """Random affinities of `levels` + 1 different values (0: all different), and random fragments."""
    rng = np.random.default_rng(seed)
    values = rng.random((len(neighborhood), *shape), np.float32)
    if levels:
        values = np.round(values * levels) / levels
    ids = rng.integers(0, fragments + 1, shape)
    return Affinities.convert(values, neighborhood), Labels.convert(ids, Grid())


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    fragments=st.sampled_from([3, 20, 200]),
    levels=st.sampled_from([0, 1, 4, 255]),
    neighborhood=st.sampled_from([NEAREST, LONG]),
    parameters=st.sampled_from([*PARAMETERS, *MORE]),
)
@example(0, (1, 1, 1), 3, 0, NEAREST, PARAMETERS[0])
def test_equals_the_reference(seed, shape, fragments, levels, neighborhood, parameters):
    data = volume(seed, shape, fragments, levels, neighborhood)
    tree = GreedyMerging(**parameters).agglomerate(*data)
    tree.check()
    assert_same_tree(tree, Reference(**parameters).agglomerate(*data))


FEW = [PARAMETERS[0], PARAMETERS[1], PARAMETERS[3], MORE[1], MORE[-1]]
"""A mean, a maximum, a quantile from bins, an exact one of largest affinities, and both constraints at once."""


@pytest.mark.parametrize(
    ("parameters", "levels"),
    [
        *((few, 2) for few in FEW),
        *(pytest.param(each, 2, marks=pytest.mark.slow) for each in [*PARAMETERS, *MORE] if each not in FEW),
        *(pytest.param(each, 0, marks=pytest.mark.slow) for each in [*PARAMETERS, *MORE]),
    ],
    ids=str,
)
def test_equals_the_reference_on_thousands_of_edges(parameters, levels):
    data = volume(5, (12, 14, 16), 1500, levels)
    assert_same_tree(GreedyMerging(**parameters).agglomerate(*data), Reference(**parameters).agglomerate(*data))


@pytest.mark.parametrize("score", ["mean", "min"])
@pytest.mark.parametrize("levels", [0, 1, 255])
@pytest.mark.parametrize("fragments", [60, 1500])
def test_equals_the_reference_with_a_long_range(score, levels, fragments):
    data = volume(6, (12, 14, 16), fragments, levels, LONG)
    assert_same_tree(GreedyMerging(score=score).agglomerate(*data), Reference(score=score).agglomerate(*data))


@pytest.mark.parametrize("score", ["mean", "min"])
@pytest.mark.parametrize("columns", [1, 2, pytest.param(5, marks=pytest.mark.slow)])
def test_hubs_that_merge(score, columns):
    # columns of one fragment each, between small fragments that touch two of them
    rng = np.random.default_rng(4)
    ids = np.arange(10, 10 + 400 * 2 * columns).reshape(1, 400, 2 * columns)
    rng.shuffle(ids.reshape(-1))
    ids[0, :, ::2] = np.arange(1, columns + 1)
    data = Affinities.convert(rng.random((2, *ids.shape)), [(0, -1, 0), (0, 0, -1)]), Labels.convert(ids, Grid())
    assert_same_tree(GreedyMerging(score=score).agglomerate(*data), Reference(score=score).agglomerate(*data))


def test_a_mean_rounded_to_the_better_of_its_parts():
    # Once 1 and 2 are merged, 2^24 affinities of 0.25 are united with a single lower one, of a lower edge.
    edges, counts = np.array([[0, 1], [0, 2], [1, 2]]), np.array([1, 1, 2**24])
    rag = RegionAdjacencyGraph(
        np.arange(1, 4, dtype=np.uint64), edges, {"count": counts, "sum": np.array([2**30, 2**28 - 1, 2**52])}
    )
    assert GreedyMerging().cluster(rag).altitudes.tolist() == [0.0, 0.75]


@pytest.mark.parametrize("value", [0, 1])
def test_affinities_all_equal(value):
    affinities = Affinities.convert(np.full((3, 3, 3, 3), float(value)))
    fragments = Labels.convert(np.arange(1, 28).reshape(3, 3, 3), Grid())
    tree = GreedyMerging().agglomerate(affinities, fragments)
    assert tree.altitudes.tolist() == [1.0 - value] * 26
    assert_same_tree(tree, Reference().agglomerate(affinities, fragments))


def test_a_hub_that_touches_everything():
    # Fragment 1 is a column; the others, in falling order, lie beside it and touch each other. Each merge can give
    # the cluster that holds 1 hundreds of contacts to unite.
    size = 600
    ids = np.ones((1, size, 2), np.int64)
    ids[0, :, 1] = np.arange(size, 0, -1) + 1
    values = np.random.default_rng(3).random((2, 1, size, 2))
    data = Affinities.convert(values, [(0, -1, 0), (0, 0, -1)]), Labels.convert(ids, Grid())
    for parameters in [*PARAMETERS[:4], *MORE]:
        assert_same_tree(GreedyMerging(**parameters).agglomerate(*data), Reference(**parameters).agglomerate(*data))


def test_order_preserving_ids_give_the_same_tree():
    affinities, fragments = volume(7, (5, 6, 7), 50, 4)
    high = np.sort(np.random.default_rng(0).choice(2**62, 51).astype(np.uint64) * 4 + 1)
    high[0] = 0
    renamed = Labels(high[fragments.array.astype(np.int64)], fragments.grid)
    tree, other = GreedyMerging().agglomerate(affinities, fragments), GreedyMerging().agglomerate(affinities, renamed)
    np.testing.assert_array_equal(other.leaf_ids, high[tree.leaf_ids.astype(np.int64)])
    np.testing.assert_array_equal(other.parents, tree.parents)
    np.testing.assert_array_equal(other.altitudes, tree.altitudes)


@pytest.mark.parametrize("score", ["mean", "max", "min"])
def test_permuted_ids_give_the_same_partitions(score):
    affinities, fragments = volume(8, (6, 6, 6), 80, 0)
    permuted = np.concatenate([[0], np.random.default_rng(1).permutation(80) + 1]).astype(np.uint64)
    renamed = Labels(permuted[fragments.array.astype(np.int64)], fragments.grid)
    tree = GreedyMerging(score=score).agglomerate(affinities, fragments)
    other = GreedyMerging(score=score).agglomerate(affinities, renamed)
    np.testing.assert_array_equal(tree.altitudes, other.altitudes)
    place = np.searchsorted(other.leaf_ids, permuted[tree.leaf_ids.astype(np.int64)])
    for threshold in np.quantile(tree.altitudes, [0.1, 0.5, 0.9]):
        one, two = tree.cut(threshold), other.cut(threshold)[place]
        pairs = {*zip(one.tolist(), two.tolist(), strict=True)}
        assert len(pairs) == len(set(one.tolist())) == len(set(two.tolist()))


def test_cut_equals_replaying_the_merges():
    affinities, fragments = volume(9, (5, 6, 7), 60, 8)
    tree = GreedyMerging().agglomerate(affinities, fragments)
    for threshold in [-1, 0, 0.3, 0.5, float(tree.altitudes[10]), 1, 2]:
        segment = {node: {node} for node in range(len(tree.leaf_ids))}
        for k, (a, b) in enumerate(tree.merges):
            if tree.altitudes[k] >= threshold:
                break
            segment[len(tree.leaf_ids) + k] = segment.pop(int(a)) | segment.pop(int(b))
        expected = np.empty_like(tree.leaf_ids)
        for members in segment.values():
            expected[list(members)] = tree.leaf_ids[min(members)]
        np.testing.assert_array_equal(tree.cut(threshold), expected)


@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
def test_graph_is_not_changed_and_can_be_used_again(parameters):
    agglomerator = GreedyMerging(**parameters)
    data = volume(10, (4, 5, 6), 30, 4)
    rag = region_adjacency_graph(*data, agglomerator.features, bins=agglomerator.bins)
    before = {name: values.copy() for name, values in rag.features.items()}
    first, second = agglomerator.cluster(rag), agglomerator.cluster(rag)
    assert_same_tree(first, second)
    assert_same_tree(first, agglomerator.agglomerate(*data))
    assert not np.shares_memory(first.parents, second.parents)
    assert not np.shares_memory(first.leaf_ids, rag.node_ids)
    for name, values in rag.features.items():
        np.testing.assert_array_equal(values, before[name])


def test_no_fragments_and_a_single_one():
    affinities = Affinities.convert(np.ones((3, 2, 2, 2)))
    for value in (0, 6):
        tree = GreedyMerging().agglomerate(affinities, Labels.convert(np.full((2, 2, 2), value), Grid()))
        tree.check()
        assert tree.leaf_ids.tolist() == [value] * (value > 0)
        assert len(tree.altitudes) == 0


def test_a_graph_without_the_statistics_is_refused():
    data = volume(11, (3, 3, 3), 9, 4)
    with pytest.raises(InvalidInput, match="'max'"):
        GreedyMerging(score="max").cluster(region_adjacency_graph(*data))
    with pytest.raises(InvalidInput, match="256 bins"):
        GreedyMerging(score="median").cluster(region_adjacency_graph(*data, ("histogram",), bins=16))


@pytest.mark.parametrize(
    "parameters, features",
    [
        ({}, {"count": np.array([2, 0]), "sum": np.array([5, 0])}),
        ({"score": "median", "bins": 2}, {"histogram": np.array([[3, 1], [0, 0]], np.int32)}),
    ],
)
def test_a_contact_without_affinities_is_refused(parameters, features):
    rag = RegionAdjacencyGraph([1, 2, 3], [[0, 1], [1, 2]], features)
    with pytest.raises(InvalidInput, match=r"of rag must .* for every edge, not 0"):
        GreedyMerging(**parameters).cluster(rag)


@pytest.mark.parametrize("score", ["mean", "max", "median"])
@pytest.mark.parametrize("ids", [[], [7], [7, 9]])
def test_graphs_without_edges(score, ids):
    empty = {"count": np.zeros(0, np.int64), "sum": np.zeros(0, np.int64), "max": np.zeros(0, np.float32)}
    rag = RegionAdjacencyGraph(ids, np.empty((0, 2), np.int64), empty | {"histogram": np.zeros((0, 256), np.int32)})
    tree = GreedyMerging(score=score).cluster(rag)
    assert tree.leaf_ids.tolist() == ids and tree.parents.tolist() == list(range(len(ids)))


def test_constraints_are_kept():
    affinities, fragments = volume(12, (6, 7, 8), 60, 0)
    sizes = np.bincount(fragments.array.ravel().astype(np.int64), minlength=61)
    tree = GreedyMerging(max_size=40).agglomerate(affinities, fragments)
    segments = tree.cut(2)
    assert max(sizes[tree.leaf_ids[segments == s].astype(np.int64)].sum() for s in np.unique(segments)) <= 40
    rag = region_adjacency_graph(affinities, fragments)
    segments = GreedyMerging(mutex_above=0.7).cluster(rag).cut(2)
    apart = 1 - rag.features["sum"] / 2**30 / rag.features["count"] > 0.7
    assert apart.any()
    assert (segments[rag.edges[apart, 0]] != segments[rag.edges[apart, 1]]).all()
    assert len(np.unique(segments)) > len(np.unique(GreedyMerging().cluster(rag).cut(2)))


def test_exact_quantiles_hand_worked():
    # the contact of 1 and 2 has the affinities 0.125, 0.3, 0.9
    affinities = Affinities.convert([[[[0, 0.125, 0.9, 0.3]]]], [(0, 0, -1)])
    fragments = Labels.convert([[[1, 2, 1, 2]]], Grid())
    tree = GreedyMerging(score="median", bins=0).agglomerate(affinities, fragments)
    assert tree.altitudes.tolist() == [1 - float(np.float32(0.3))]


def test_bad_parameters_are_refused():
    with pytest.raises(InvalidParameter, match="quantile"):
        GreedyMerging(score="quantile", quantile=-0.1)
    with pytest.raises(InvalidParameter, match="max_size"):
        GreedyMerging(max_size=0)
    with pytest.raises(InvalidParameter, match="mutex_above"):
        GreedyMerging(mutex_above=1.5)
    rag = region_adjacency_graph(*volume(11, (3, 3, 3), 9, 4), ("histogram",))
    with pytest.raises(InvalidInput, match="exact quantiles"):
        GreedyMerging(score="median", bins=0).cluster(rag)
    with pytest.raises(InvalidInput, match="'size'"):
        GreedyMerging(max_size=9).cluster(region_adjacency_graph(*volume(11, (3, 3, 3), 9, 4)))


def test_a_largest_size_beyond_all_volumes_is_none():
    labels = Labels(np.array([[[1, 1, 2, 3]]], np.uint64), Grid())
    affinities = Affinities.from_labels(labels)
    free, bound = (GreedyMerging(max_size=size).agglomerate(affinities, labels) for size in (None, 10**24))
    assert np.array_equal(free.parents, bound.parents) and len(bound.altitudes) == 2
