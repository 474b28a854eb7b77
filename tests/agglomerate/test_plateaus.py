import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit import Affinities, Grid, Labels, RegionAdjacencyGraph
from segkit.agglomerate import plateaus, python
from segkit.agglomerate.python import Python
from segkit.agglomerate.reference import Reference

PARAMETERS = [
    {"quantile": 0.5},
    {"quantile": 0.85, "histogram_init": "max"},
    {"quantile": 0.5, "bins": 0},
    {"quantile": 0.3, "bins": 4, "histogram_init": "max"},
    {"quantile": 0.0},
    {"quantile": 1.0, "bins": 7},
]

MERGE_ALL = python.kernels.merge_all


@pytest.fixture(autouse=True)
def without_a_queue(monkeypatch):
    """Another way to the same tree would hide a mistake."""
    monkeypatch.setattr(python.kernels, "merge_all", None)


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
    tree = Python(score="quantile", **parameters).agglomerate(*data)
    expected = Reference(score="quantile", **parameters).agglomerate(*data)
    tree.check()
    np.testing.assert_array_equal(tree.parents, expected.parents)
    np.testing.assert_array_equal(tree.altitudes, expected.altitudes)


@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
@pytest.mark.parametrize("levels", [1, 4, 255])
@pytest.mark.parametrize("fragments", [60, 1500])
def test_equals_the_reference(parameters, levels, fragments):
    assert_equals_the_reference(parameters, volume(6, (12, 14, 16), fragments, levels))


@pytest.mark.parametrize("parameters", PARAMETERS[:3], ids=str)
@pytest.mark.parametrize("levels", [3, 200])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_hubs_that_merge(parameters, levels, number):
    assert_equals_the_reference(parameters, columns(number, levels))


def test_room_is_made_while_plateaus_are_under_way(monkeypatch):
    codes, advance = [], plateaus.kernels.advance

    def counted(*arguments):
        codes.append(advance(*arguments))
        return codes[-1]

    monkeypatch.setattr(plateaus, "INITIAL", 16)
    monkeypatch.setattr(plateaus.kernels, "advance", counted)
    for data in volume(6, (12, 14, 16), 1500, 255), columns(5, 30):
        assert_equals_the_reference(PARAMETERS[1], data)
    assert {plateaus.kernels.MORE_ENTRIES, plateaus.kernels.MORE_HEAP, plateaus.kernels.MORE_SLOTS} <= set(codes)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), nodes=st.integers(2, 8), per_million=st.sampled_from([0, 290_000, 500_000, 850_000, 10**6]))
def test_every_merge_is_the_best_of_all_contacts(data, nodes, per_million):
    # from the definition alone: before each merge the contacts are gathered anew from the clusters
    pairs = np.argwhere(np.triu(np.ones((nodes, nodes), bool), 1))
    values = data.draw(st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=len(pairs), max_size=len(pairs)))
    edges = pairs[[len(value) > 0 for value in values]]
    values = [sorted(value) for value in values if value]
    starts = np.cumsum([0, *map(len, values)])
    numbers = np.array([number for value in values for number in value], np.int32)
    merges, found = plateaus.merge_plateaus(nodes, edges, starts, numbers, np.empty(0, np.int64), per_million)
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


def test_weights_count_as_often_as_they_say():
    edges, starts = np.array([[0, 1], [0, 2]]), np.array([0, 2, 3])
    numbers, weights = np.array([1, 5, 3], np.int32), np.array([7, 2, 1])
    merges, found = plateaus.merge_plateaus(3, edges, starts, numbers, weights, 500_000)
    assert merges.tolist() == [[0, 2], [3, 1]] and found.tolist() == [3, 1]


def test_more_affinities_than_can_be_counted_go_to_the_queue(monkeypatch):
    rag = RegionAdjacencyGraph(
        np.arange(1, 4, dtype=np.uint64),
        np.array([[0, 1], [0, 2], [1, 2]]),
        {"histogram": np.array([[0, 2**30], [2**30, 0], [1, 2**30]], np.int32)},
    )
    calls, merge_all = [], MERGE_ALL
    monkeypatch.setattr(python.kernels, "merge_all", lambda *arguments: calls.append(1) or merge_all(*arguments))
    assert Python(score="median", bins=2).cluster(rag).altitudes.tolist() == [0.25, 0.75]
    assert calls


def test_room_is_left_for_the_runs_of_united_contacts(monkeypatch):
    # 6 affinities, and 3 contacts that may take a run each when they are united
    affinities = Affinities.convert([[[[0, 0.1, 0.4, 0.3, 0.8, 0.5, 0.9]]]], [(0, 0, -1)])
    data = affinities, Labels.convert([[[1, 2, 3, 1, 2, 3, 1]]], Grid())
    calls, merge_all = [], MERGE_ALL
    monkeypatch.setattr(python.kernels, "merge_all", lambda *arguments: calls.append(1) or merge_all(*arguments))
    for most, expected in ((9, 0), (8, 1)):
        monkeypatch.setattr(plateaus, "MOST", most)
        assert_equals_the_reference({}, data)
        assert len(calls) == expected


def test_lists_that_outgrow_their_places_go_to_the_queue(monkeypatch):
    calls, merge_all = [], MERGE_ALL
    monkeypatch.setattr(python.kernels, "merge_all", lambda *arguments: calls.append(1) or merge_all(*arguments))
    monkeypatch.setattr(plateaus, "INITIAL", 16)
    monkeypatch.setattr(plateaus, "MAX_PLACES", 100)
    assert_equals_the_reference(PARAMETERS[1], volume(6, (12, 14, 16), 1500, 255))
    assert calls
