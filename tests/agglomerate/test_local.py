from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit import Affinities, Grid, Labels, RegionAdjacencyGraph
from segkit.agglomerate import _kernels_local, local, python
from segkit.agglomerate.python import Python
from segkit.agglomerate.rag import region_adjacency_graph
from segkit.agglomerate.reference import Reference

UNIT = 2**30


def graph(seed, nodes, edges, levels, near=None):
    """Random contacts of up to 9 affinities of `levels` + 1 values (0: all different), near in number if wanted."""
    rng = np.random.default_rng(seed)
    one = rng.integers(0, nodes, edges)
    other = (one + rng.integers(1, near + 1, edges)) % nodes if near else rng.integers(0, nodes, edges)
    pairs = np.unique(np.sort(np.stack([one, other], axis=1), axis=1), axis=0)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    counts = rng.integers(1, 10, len(pairs))
    values = rng.integers(0, levels + 1, len(pairs)) * (UNIT // levels) if levels else rng.integers(0, UNIT, len(pairs))
    features = {"count": counts, "sum": counts * values, "min": (values / UNIT).astype(np.float32)}
    return RegionAdjacencyGraph(np.arange(1, nodes + 1, dtype=np.uint64), pairs, features)


def tree_in_pieces(rag, pieces, score="mean", room=local.ROOM):
    """The tree by this many pieces, each by its thread, and no queue that would hide a mistake."""
    with (
        mock.patch.object(local, "NODES_OF_PIECE", 1),
        mock.patch.object(local, "ROOM", room),
        mock.patch.object(local, "thread_count", lambda: pieces),
        mock.patch.object(python.kernels, "merge_all", None),
    ):
        return Python(score=score).cluster(rag)


def tree_by_the_queue(rag, score):
    with mock.patch.object(Python, "_by_best_pairs", False):
        return Python(score=score).cluster(rag)


def assert_same_tree(one, other):
    np.testing.assert_array_equal(one.parents, other.parents)
    np.testing.assert_array_equal(one.altitudes, other.altitudes)


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    fragments=st.sampled_from([3, 20, 200]),
    levels=st.sampled_from([0, 1, 4, 255]),
    blocks=st.booleans(),
    score=st.sampled_from(["mean", "min"]),
    pieces=st.integers(1, 5),
)
def test_pieces_equal_the_reference(seed, shape, fragments, levels, blocks, score, pieces):
    rng = np.random.default_rng(seed)
    values = rng.random((4, *shape), np.float32)
    values = np.round(values * levels) / levels if levels else values
    ids = rng.integers(0, fragments + 1, shape)
    if blocks:  # near in space, near in number
        ids = np.sort(ids, axis=None).reshape(shape)
    data = Affinities.convert(values, [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 2, 3)]), Labels.convert(ids, Grid())
    rag = region_adjacency_graph(*data, ("count", "sum", "min"))
    assert_same_tree(tree_in_pieces(rag, pieces, score), Reference(score=score).agglomerate(*data))


@pytest.mark.parametrize("score", ["mean", "min"])
@pytest.mark.parametrize("levels", [0, 3])
@pytest.mark.parametrize("near", [None, 40])
def test_pieces_of_a_large_graph_equal_the_queue(score, levels, near):
    rag = graph(1, 6000, 40000, levels, near)
    expected = tree_by_the_queue(rag, score)
    assert len(expected.altitudes) > 5000
    for pieces in (1, 2, 3):
        assert_same_tree(tree_in_pieces(rag, pieces, score), expected)


@pytest.mark.parametrize("score", ["mean", "min"])
def test_hubs_of_several_pieces(score):
    # each of some nodes, all over the range, touches nearly all others, and many of the others touch each other
    rng = np.random.default_rng(2)
    hubs, nodes = np.array([3, 400, 700, 701, 1100, 1499]), 1500
    spokes = np.stack([np.repeat(hubs, 1200), rng.integers(0, nodes, 1200 * len(hubs))], axis=1)
    near = graph(3, nodes, 5000, 0, 9).edges
    pairs = np.unique(np.sort(np.concatenate([spokes, near]), axis=1), axis=0)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    counts = rng.integers(1, 10, len(pairs))
    sums = rng.integers(0, UNIT, len(pairs)) * counts
    features = {"count": counts, "sum": sums, "min": (sums / counts / UNIT).astype(np.float32)}
    rag = RegionAdjacencyGraph(np.arange(1, nodes + 1, dtype=np.uint64), pairs, features)
    expected = tree_by_the_queue(rag, score)
    for pieces in (1, 2, 3):
        assert_same_tree(tree_in_pieces(rag, pieces, score), expected)


def test_most_is_merged_inside_the_pieces():
    rag, merged = graph(4, 6000, 20000, 0, 5), []

    def counting(first, last, *arguments):
        found = merge_piece(first, last, *arguments)
        merged.append((last - first, len(found[0])))
        return found

    merge_piece = _kernels_local.merge_piece
    with mock.patch.object(_kernels_local, "merge_piece", counting):
        tree_in_pieces(rag, 2)
    assert sorted(size for size, _ in merged) == [3000, 3000, 6000]
    assert sum(count for size, count in merged if size == 3000) > 4000


@pytest.mark.parametrize("pieces", [1, 3])
def test_lists_that_outgrow_their_room(pieces):
    rag, states = graph(5, 2000, 12000, 0), []

    def watching(*arguments):
        found = merge_piece(*arguments)
        states.append(found[2])
        return found

    merge_piece = _kernels_local.merge_piece
    with mock.patch.object(_kernels_local, "merge_piece", watching):
        tree = tree_in_pieces(rag, pieces, room=min(pieces, 2))
    assert _kernels_local.FULL in states
    assert_same_tree(tree, tree_by_the_queue(rag, "mean"))


def test_lists_that_take_too_many_places_go_to_the_queue(monkeypatch):
    rag = graph(5, 2000, 12000, 0)
    expected = tree_by_the_queue(rag, "mean")
    monkeypatch.setattr(local, "ROOM", 1)
    monkeypatch.setattr(local, "thread_count", lambda: 1)
    monkeypatch.setattr(local, "MAX_PLACES", 3 * len(rag.edges))
    calls, merge_all = [], python.kernels.merge_all
    monkeypatch.setattr(python.kernels, "merge_all", lambda *arguments: calls.append(1) or merge_all(*arguments))
    assert_same_tree(Python().cluster(rag), expected)
    assert calls


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_mean_rounded_to_the_better_of_its_parts_goes_to_the_queue(monkeypatch, pieces):
    # Once 1 and 2 are merged, 2^24 affinities of 0.25 are united with a single lower one, of a lower edge; with two
    # pieces, 3 and 4 lie in the other.
    edges = np.array([[0, 1], [0, 2], [1, 2], [2, 3]])
    features = {"count": np.array([1, 1, 2**24, 1]), "sum": np.array([2**30, 2**28 - 1, 2**52, 0])}
    rag = RegionAdjacencyGraph(np.arange(1, 5, dtype=np.uint64), edges, features)
    monkeypatch.setattr(local, "NODES_OF_PIECE", 1)
    monkeypatch.setattr(local, "thread_count", lambda: pieces)
    calls, merge_all = [], python.kernels.merge_all
    monkeypatch.setattr(python.kernels, "merge_all", lambda *arguments: calls.append(1) or merge_all(*arguments))
    assert Python().cluster(rag).altitudes.tolist() == [0.0, 0.75, 1.0]
    assert calls
