"""Graphs that several threads share: what one of them merges does not depend on what the others do."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import assert_same_tree

from segkit import Affinities, Grid, Labels, MergeTree, RegionAdjacencyGraph, threads
from segkit.agglomerate import greedy
from segkit.agglomerate.greedy import GreedyMerging
from segkit.agglomerate.rag import region_adjacency_graph
from segkit.agglomerate.reference import Reference

UNIT = 2**30
NODES = 5 * 2**14
"""So many that each of up to five threads gets some."""


def graph(seed, nodes, edges, levels, near=None):
    """Random contacts of up to 9 affinities of `levels` + 1 values (0: all different), near in number if wanted."""
    rng = np.random.default_rng(seed)
    one = rng.integers(0, nodes, edges)
    other = (one + rng.integers(1, near + 1, edges)) % nodes if near else rng.integers(0, nodes, edges)
    pairs = np.unique(np.sort(np.stack([one, other], axis=1), axis=1), axis=0)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    counts = rng.integers(1, 10, len(pairs))
    values = rng.integers(0, levels + 1, len(pairs)) * (UNIT // levels) if levels else rng.integers(0, UNIT, len(pairs))
    extreme = (values / UNIT).astype(np.float32)
    histogram = np.zeros((len(pairs), 256), np.int32)
    histogram[np.arange(len(pairs)), np.minimum(values * 256 // UNIT, 255)] = counts
    features = {"count": counts, "sum": counts * values, "min": extreme, "max": extreme, "histogram": histogram}
    return RegionAdjacencyGraph(np.arange(1, nodes + 1, dtype=np.uint64), pairs, features)


def tree_in_pieces(rag, pieces, score="mean"):
    """The tree made by so many threads, each with its part of the nodes, that lie among others without any contact."""
    count = len(rag.node_ids)
    places = np.linspace(0, NODES - 1, count).astype(np.int64)
    spread = RegionAdjacencyGraph(np.arange(1, NODES + 1, dtype=np.uint64), places[rag.edges], rag.features)
    with mock.patch.object(threads, "_limit", [pieces]):
        tree = GreedyMerging(score=score).cluster(spread)
    number = np.full(NODES + len(tree.merges), -1)
    number[places] = np.arange(count)
    number[NODES:] = count + np.arange(len(tree.merges))
    return MergeTree.from_merges(rag.node_ids, number[tree.merges], tree.altitudes)


def tree_by_the_queue(rag, score):
    """The tree under a constraint that forbids nothing, for which pairs are merged one after the other."""
    return GreedyMerging(score=score, mutex_above=1.0).cluster(rag)


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    fragments=st.sampled_from([3, 20, 200]),
    levels=st.sampled_from([0, 1, 4, 255]),
    blocks=st.booleans(),
    score=st.sampled_from(["mean", "min", "max", "median"]),
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
    rag = region_adjacency_graph(*data, ("count", "sum", "min", "max", "histogram"))
    assert_same_tree(tree_in_pieces(rag, pieces, score), Reference(score=score).agglomerate(*data))


@pytest.mark.parametrize("score", ["mean", "min", "max", "median"])
@pytest.mark.parametrize("levels", [0, 3])
@pytest.mark.parametrize("near", [None, 40])
def test_pieces_of_a_large_graph_equal_the_queue(score, levels, near):
    rag = graph(1, 6000, 40000, levels, near)
    expected = tree_by_the_queue(rag, score)
    assert len(expected.altitudes) > 5000
    for pieces in (1, 2, 3):
        assert_same_tree(tree_in_pieces(rag, pieces, score), expected)


@pytest.mark.parametrize("score", ["mean", "min", "max"])
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
    extreme = (sums / counts / UNIT).astype(np.float32)
    features = {"count": counts, "sum": sums, "min": extreme, "max": extreme}
    rag = RegionAdjacencyGraph(np.arange(1, nodes + 1, dtype=np.uint64), pairs, features)
    expected = tree_by_the_queue(rag, score)
    for pieces in (1, 2, 3):
        assert_same_tree(tree_in_pieces(rag, pieces, score), expected)


@pytest.mark.parametrize("pieces", [1, 3])
def test_lists_of_contacts_that_grow_beyond_the_memory_set_aside(pieces, monkeypatch):
    rag = graph(5, 2000, 12000, 0)
    expected = tree_by_the_queue(rag, "mean")
    assert_same_tree(tree_in_pieces(rag, pieces), expected)
    monkeypatch.setattr(greedy, "ROOM", 2)
    assert_same_tree(tree_in_pieces(rag, pieces), expected)
    monkeypatch.setattr(greedy, "MAX_PLACES", 3 * len(rag.edges))  # and beyond what can be numbered
    assert_same_tree(tree_in_pieces(rag, pieces), expected)


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_mean_rounded_to_the_better_of_its_parts(pieces):
    # Once 1 and 2 are merged, 2^24 affinities of 0.25 are united with a single lower one, of a lower edge; with two
    # pieces, 3 and 4 lie in the other.
    edges = np.array([[0, 1], [0, 2], [1, 2], [2, 3]])
    features = {"count": np.array([1, 1, 2**24, 1]), "sum": np.array([2**30, 2**28 - 1, 2**52, 0])}
    rag = RegionAdjacencyGraph(np.arange(1, 5, dtype=np.uint64), edges, features)
    assert tree_in_pieces(rag, pieces).altitudes.tolist() == [0.0, 0.75, 1.0]
