import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import assert_same_tree

from segkit import Affinities, Grid, Labels, RegionAdjacencyGraph
from segkit.agglomerate import greedy
from segkit.agglomerate.greedy import GreedyMerging
from segkit.agglomerate.rag import AffinityLists
from segkit.agglomerate.reference import Reference

PARAMETERS = [
    {"quantile": 0.5},
    {"quantile": 0.85, "histogram_init": "max"},
    {"quantile": 0.5, "bins": 0},
    {"quantile": 0.3, "bins": 4, "histogram_init": "max"},
    {"quantile": 0.0},
    {"quantile": 1.0, "bins": 7},
]


def volume(seed, shape, fragments, levels):
    """Random affinities of `levels` + 1 different values (0: all different), and random fragments."""
    rng = np.random.default_rng(seed)
    values = rng.random((3, *shape), np.float32)
    if levels:
        values = np.round(values * levels) / levels
    return Affinities.convert(values), Labels.convert(rng.integers(0, fragments + 1, shape), Grid())


def columns(number, levels):
    """Columns of one fragment each, between small fragments that touch two of them: hubs."""
    rng = np.random.default_rng(4)
    ids = np.arange(10, 10 + 400 * 2 * number).reshape(1, 400, 2 * number)
    rng.shuffle(ids.reshape(-1))
    ids[0, :, ::2] = np.arange(1, number + 1)
    values = np.round(rng.random((2, *ids.shape)) * levels) / levels
    return Affinities.convert(values, [(0, -1, 0), (0, 0, -1)]), Labels.convert(ids, Grid())


def assert_equals_the_reference(parameters, data):
    tree = GreedyMerging(score="quantile", **parameters).agglomerate(*data)
    expected = Reference(score="quantile", **parameters).agglomerate(*data)
    tree.check()
    assert_same_tree(tree, expected)


@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
@pytest.mark.parametrize("levels", [1, 4, 255])
@pytest.mark.parametrize("fragments", [60, pytest.param(1500, marks=pytest.mark.slow)])
def test_equals_the_reference(parameters, levels, fragments):
    assert_equals_the_reference(parameters, volume(6, (12, 14, 16), fragments, levels))


@pytest.mark.parametrize("parameters", PARAMETERS[:3], ids=str)
@pytest.mark.parametrize("levels", [3, 200])
@pytest.mark.parametrize("number", [1, 2, pytest.param(5, marks=pytest.mark.slow)])
def test_hubs_that_merge(parameters, levels, number):
    assert_equals_the_reference(parameters, columns(number, levels))


def by_the_queue(**parameters):
    """The agglomerator under a constraint that forbids nothing, for which pairs are merged one after the other."""
    return GreedyMerging(score="quantile", mutex_above=1.0, **parameters)


LARGE = [volume(6, (12, 14, 16), 1500, levels) for levels in (1, 4, 255)] + [columns(5, levels) for levels in (3, 200)]


@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
def test_equals_the_queue_on_thousands_of_edges(parameters):
    for number, data in enumerate(LARGE):
        tree, expected = (
            GreedyMerging(score="quantile", **parameters).agglomerate(*data),
            by_the_queue(**parameters).agglomerate(*data),
        )
        assert_same_tree(tree, expected, f"volume {number}")


@pytest.mark.parametrize("data", [volume(6, (24, 28, 32), 3000, 255), columns(100, 30)], ids=["volume", "hubs"])
def test_room_is_made_while_plateaus_are_under_way(data, monkeypatch):
    expected = by_the_queue(**PARAMETERS[1]).agglomerate(*data)
    monkeypatch.setattr(greedy, "ROOM", 1)
    for most in (greedy.MAX_PLACES, 100):  # and if there is no more
        monkeypatch.setattr(greedy, "MAX_PLACES", most)
        assert_same_tree(GreedyMerging(score="quantile", **PARAMETERS[1]).agglomerate(*data), expected)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), nodes=st.integers(2, 8), per_million=st.sampled_from([0, 290_000, 500_000, 850_000, 10**6]))
def test_every_merge_is_the_best_of_all_contacts(data, nodes, per_million):
    # from the definition alone: before each merge the contacts are gathered anew from the clusters
    pairs = np.argwhere(np.triu(np.ones((nodes, nodes), bool), 1))
    values = data.draw(st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=len(pairs), max_size=len(pairs)))
    edges = pairs[[len(value) > 0 for value in values]]
    values = [value for value in values if value]
    histograms = np.array([np.bincount(value, minlength=5) for value in values], np.int32).reshape(-1, 5)
    rag = RegionAdjacencyGraph(np.arange(1, nodes + 1), edges, {"histogram": histograms})
    tree = GreedyMerging(score="quantile", quantile=per_million / 10**6, bins=5).cluster(rag)
    merges, found = tree.merges, np.rint((1 - tree.altitudes) * 5 - 0.5).astype(int)
    clusters = {node: {node} for node in range(nodes)}
    for k in range(len(merges) + 1):
        best = _best_contact(clusters, edges, values, per_million)
        if k == len(merges):
            assert best is None
            break
        a, b = (int(node) for node in merges[k])
        assert best == (-found[k], {a, b})
        clusters[nodes + k] = clusters.pop(a) | clusters.pop(b)


def _best_contact(clusters, edges, values, per_million):
    """Minus the quantile of the best contact, and its two clusters; None if there is none."""
    owner = {leaf: cluster for cluster, leaves in clusters.items() for leaf in leaves}
    contacts = {}
    for e, (u, v) in enumerate(edges.tolist()):
        if owner[u] != owner[v]:
            contact = contacts.setdefault(frozenset((owner[u], owner[v])), (e, []))
            contact[1].extend(values[e])
    keys = []
    for pair, (edge, all_values) in contacts.items():
        place = min(len(all_values) * per_million // 10**6, len(all_values) - 1)
        keys.append((-sorted(all_values)[place], edge, set(pair)))
    return min(keys)[::2] if keys else None


def test_equal_affinities_count_as_often_as_there_are():
    edges, histograms = np.array([[0, 1], [0, 2]]), np.array([[0, 7, 0, 0, 0, 2], [0, 0, 0, 1, 0, 0]], np.int32)
    rag = RegionAdjacencyGraph(np.arange(1, 4), edges, {"histogram": histograms})
    tree = GreedyMerging(score="median", bins=6).cluster(rag)
    assert tree.merges.tolist() == [[0, 2], [1, 3]]
    np.testing.assert_allclose(tree.altitudes, [1 - 3.5 / 6, 1 - 1.5 / 6])


@pytest.mark.parametrize(
    ("histograms", "altitudes"),
    [
        ([[0, 2**29], [2**29, 0], [1, 2**30 - 5]], [0.25, 0.25]),
        ([[0, 2**29], [2**29, 0], [1, 2**30 - 4]], [0.25, 0.25]),
        ([[0, 2**30], [2**30, 0], [1, 2**30]], [0.25, 0.75]),
    ],
)
def test_more_affinities_than_an_int32_can_count(histograms, altitudes):
    edges, counts = np.array([[0, 1], [0, 2], [1, 2]]), np.array(histograms, np.int32)
    rag = RegionAdjacencyGraph(np.arange(1, 4, dtype=np.uint64), edges, {"histogram": counts})
    for agglomerator in (GreedyMerging(score="median", bins=2), by_the_queue(quantile=0.5, bins=2)):
        assert agglomerator.cluster(rag).altitudes.tolist() == altitudes


@pytest.mark.parametrize("count", [2**32 - 1, 2**32, 3 * 2**32 + 5])
@pytest.mark.parametrize(("more", "altitude"), [(0, 0.75), (1, 0.25)])
def test_more_affinities_of_a_value_than_an_entry_can_count(count, more, altitude):
    # once 1 and 2 are merged, their contact with 3 has count + 1 affinities in the lower bin, count + more in the other
    rag = RegionAdjacencyGraph(np.arange(1, 4, dtype=np.uint64), np.array([[0, 1], [0, 2], [1, 2]]), {})
    numbers, weights = np.array([1, 0, 0, 1], np.int32), np.array([1, count, 1, count + more])
    lists = AffinityLists(np.array([0, 1, 2, 4]), numbers, weights)
    for agglomerator in (GreedyMerging(score="median", bins=2), by_the_queue(quantile=0.5, bins=2)):
        assert agglomerator.cluster(rag, lists).altitudes.tolist() == [0.25, altitude]


@pytest.mark.parametrize("parameters", [{"quantile": 0.5}, {"quantile": 0.5, "bins": 0}], ids=str)
def test_lists_of_affinities_that_grow_beyond_the_memory_set_aside(parameters, monkeypatch):
    data = volume(6, (24, 28, 32), 3000, 255)
    expected, grown = by_the_queue(**parameters).agglomerate(*data), []
    monkeypatch.setattr(greedy, "ROOM_OF_AFFINITIES", 0)
    grow = greedy._with_more_runs
    monkeypatch.setattr(greedy, "_with_more_runs", lambda *given: grown.append(given) or grow(*given))
    assert_same_tree(GreedyMerging(score="quantile", **parameters).agglomerate(*data), expected)
    assert grown
    assert_same_tree(by_the_queue(**parameters).agglomerate(*data), expected)


def test_a_plateau_that_a_piece_leaves_half_merged_is_merged_in_order(monkeypatch):
    """A piece of six nodes has too little room for its lists, and leaves the plateau of score 0 half merged."""
    letters = "iglrggsaanlghhmnkohjorcrbsknamjfmmmgkhkirqrgscjphiehepnjd"
    along_y = "302123421011300024231001312134301423431303034012411230103"
    along_x = "233121400321223302240232113312223011221313213140032123213"
    ids = np.array([ord(letter) - ord("a") for letter in letters]).reshape(1, 19, 3)
    values = np.array([[int(digit) / 4 for digit in digits] for digits in (along_y, along_x)], np.float32)
    data = Affinities.convert(values.reshape(2, 1, 19, 3), [(0, -1, 0), (0, 0, -1)]), Labels.convert(ids, Grid())
    monkeypatch.setattr(greedy, "NODES_OF_PIECE", 4)
    monkeypatch.setattr(greedy, "thread_count", lambda: 3)
    tree = GreedyMerging(score="max").agglomerate(*data)
    tree.check()
    assert_same_tree(tree, Reference(score="max").agglomerate(*data))
