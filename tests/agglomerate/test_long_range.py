"""Long edges as evidence for and against a merge."""

from itertools import product
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trees import assert_same_tree

from segkit import Affinities, Grid, Labels, io, load, threads
from segkit.agglomerate.greedy import GreedyMerging
from segkit.agglomerate.rag import region_adjacency_graph
from segkit.agglomerate.reference import Reference
from segkit.agglomerate.stage import agglomerate_files
from segkit.blockwise.component import ComponentSpec
from segkit.blockwise.work import Work
from segkit.errors import InvalidInput, InvalidParameter

NEAREST = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
LONG = [(0, 0, -3), *NEAREST, (0, 2, 3), (1, -1, 0)]
MIXED = [(-1, 0, 0), (0, 2, 0), (0, 0, 1), (0, -1, 0), (0, 0, -3)]
WAYS = [{"long_range": "both"}, {"long_range": "against"}]
MORE = [*WAYS, {"long_range": "both", "mutex_above": 0.6}, {"long_range": "against", "max_size": 20}]


def volume(seed, shape, fragments, levels, neighborhood=LONG):
    """Random affinities of `levels` + 1 values (0: all differ), and random fragments, most in several parts."""
    rng = np.random.default_rng(seed)
    values = rng.random((len(neighborhood), *shape), np.float32)
    values = np.round(values * levels) / levels if levels else values
    return Affinities.convert(values, neighborhood), Labels.convert(rng.integers(0, fragments + 1, shape), Grid())


def row(ids, near, far, reach):
    """Fragments along x; affinities to the voxel before, and to that `reach` voxels before."""
    values = [[[[0, *near]]], [[[0] * reach + far]]]
    return Affinities.convert(values, [(0, 0, -1), (0, 0, -reach)]), Labels.convert([[ids]], Grid())


def merge_by_definition(affinities, fragments, long_range):
    """Sets of fragments that merge, and scores: all edges are looked at anew for each merge."""
    edges = []
    for channel, offset in zip(affinities.array, affinities.neighborhood, strict=True):
        for voxel in np.ndindex(*fragments.shape):
            other = tuple(np.add(voxel, offset))
            if all(0 <= i < size for i, size in zip(other, fragments.shape, strict=True)):
                a, b = sorted(int(fragments.array[place]) for place in (voxel, other))
                near, value = np.abs(offset).sum() == 1, float(channel[voxel])
                weight = value - 1 if long_range == "against" and not near else 2 * value - 1
                edges += [(a, b, weight, near)] if a and a != b else []
    cluster, history = {each: frozenset([each]) for each in map(int, fragments.ids())}, []
    while True:
        found = {}
        for a, b, weight, near in edges:
            if cluster[a] != cluster[b]:
                found.setdefault(frozenset([cluster[a], cluster[b]]), []).append(((a, b), weight, near))
        touching = [
            (round((1 - np.mean([weight for _, weight, _ in contact])) / 2, 9), min(contact)[0], pair)
            for pair, contact in found.items()
            if any(near for _, _, near in contact)
        ]
        if not touching:
            return history
        score, _, pair = min(touching, key=lambda each: each[:2])
        history.append((frozenset.union(*pair), score))
        cluster.update(dict.fromkeys(history[-1][0], history[-1][0]))


@pytest.mark.parametrize("long_range", ["both", "against"])
def test_the_reference_follows_the_definition(long_range):
    falls = 0
    for seed, (count, shape) in enumerate(product((5, 9, 30), ((2, 4, 4), (1, 5, 9), (3, 3, 4)))):
        data = volume(seed, shape, count, 8)
        expected = merge_by_definition(*data, long_range)
        tree = Reference(long_range=long_range).agglomerate(*data)
        members = [frozenset([leaf]) for leaf in tree.leaf_ids.tolist()]
        for a, b in tree.merges:
            members.append(members[a] | members[b])
        assert members[len(tree.leaf_ids) :] == [united for united, _ in expected], f"seed {seed}"
        scores = [score for _, score in expected]
        np.testing.assert_allclose(tree.altitudes, np.maximum.accumulate(scores), atol=1e-8)
        falls += np.any(np.diff(scores) < 0)
    assert falls > 1 or long_range == "against"  # scores that fall are what the queue must cope with


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    fragments=st.sampled_from([3, 20, 200]),
    levels=st.sampled_from([0, 1, 4, 255]),
    neighborhood=st.sampled_from([LONG, MIXED]),
    parameters=st.sampled_from(MORE),
)
@example(0, (1, 1, 1), 3, 0, LONG, MORE[0])
def test_equals_the_reference(seed, shape, fragments, levels, neighborhood, parameters):
    data = volume(seed, shape, fragments, levels, neighborhood)
    tree = GreedyMerging(**parameters).agglomerate(*data)
    tree.check()
    assert_same_tree(tree, Reference(**parameters).agglomerate(*data))


@pytest.mark.parametrize("parameters", MORE, ids=str)
def test_equals_the_reference_on_thousands_of_edges(parameters):
    for fragments, levels in ((60, 0), (1500, 2)):
        data = volume(5, (10, 12, 14), fragments, levels)
        assert_same_tree(GreedyMerging(**parameters).agglomerate(*data), Reference(**parameters).agglomerate(*data))


def test_hand_worked():
    # 1 1 2 2: the edge 1-2 has 0.75; two voxels on, both long edges have 0.25
    data = row([1, 1, 2, 2], [1, 0.75, 1], [0.25, 0.25], 2)
    altitudes = {each: GreedyMerging(long_range=each).agglomerate(*data).altitudes for each in ("both", "against")}
    assert altitudes["both"].tolist() == [pytest.approx((1 - (0.5 - 0.5 - 0.5) / 3) / 2)]
    assert altitudes["against"].tolist() == [pytest.approx((1 - (0.5 - 0.75 - 0.75) / 3) / 2)]


@pytest.mark.parametrize("parameters", WAYS, ids=str)
def test_long_edges_alone_merge_nothing(parameters):
    data = row([1, 0, 2, 2], [0, 0, 1.0], [1, 1], 2)  # background between 1 and 2
    assert GreedyMerging().agglomerate(*data).altitudes.tolist() == [0]
    tree = GreedyMerging(**parameters).agglomerate(*data)
    assert tree.leaf_ids.tolist() == [1, 2] and len(tree.altitudes) == 0


def test_they_count_once_clusters_touch():
    # 1 2 3: 1 and 2 merge at 0.25; 3 touches 2 with 0.5, and a long edge of 1 leads from 1 to it
    data = row([1, 2, 3], [0.75, 0.5], [1], 2)
    assert GreedyMerging(long_range="both").agglomerate(*data).altitudes.tolist() == [0.25, 0.25]
    assert GreedyMerging(long_range="against").agglomerate(*data).altitudes.tolist() == [0.25, 0.5]


def test_mutex_above_sees_fragments_that_do_not_touch():
    data = row([1, 2, 3], [0.75, 0.75], [0], 2)
    for mutex_above, merges in ((None, 2), (0.9, 1)):
        tree = GreedyMerging(long_range="both", mutex_above=mutex_above).agglomerate(*data)
        assert len(tree.altitudes) == merges


@pytest.mark.parametrize("neighborhood", [LONG, MIXED], ids=len)
def test_totals_of_long_edges_are_those_of_these_alone(neighborhood):
    affinities, fragments = volume(3, (5, 7, 9), 30, 0, neighborhood)
    names = ("count", "sum", "far_count", "far_sum")
    rag = region_adjacency_graph(affinities, fragments, names)
    far = np.abs(affinities.neighborhood).sum(axis=1) > 1
    alone = region_adjacency_graph(
        Affinities(affinities.array[far], affinities.neighborhood[far], affinities.grid), fragments
    )
    places = {edge: row for row, edge in enumerate(map(tuple, rag.edge_ids().tolist()))}
    rows = [places[edge] for edge in map(tuple, alone.edge_ids().tolist())]
    for name in ("count", "sum"):
        np.testing.assert_array_equal(rag.features[f"far_{name}"][rows], alone.features[name])
        assert rag.features[f"far_{name}"].sum() == alone.features[name].sum()
    assert (rag.features["count"] > rag.features["far_count"]).any()


@pytest.mark.parametrize("parameters", WAYS, ids=str)
def test_blocks_and_threads_do_not_matter(tmp_path, parameters):
    data = volume(4, (6, 11, 12), 150, 3)
    tree = GreedyMerging(**parameters).agglomerate(*data)
    io.write_all(tmp_path / "data.h5", dict(zip(("affinities", "fragments"), data, strict=True)))
    spec, places = ComponentSpec("agglomerators", "python", parameters), (tmp_path / "data.h5",) * 2
    assert_same_tree(agglomerate_files(*places, tmp_path / "t.zarr", spec, work=Work((3, 5, 6))).tree, tree)
    for count in (1, 3):
        with mock.patch.object(threads, "_limit", [count]):
            assert_same_tree(GreedyMerging(**parameters).agglomerate(*data), tree)


def test_what_makes_no_sense_is_refused(tmp_path):
    nearest = volume(0, (2, 3, 4), 5, 0, NEAREST)
    for make in (GreedyMerging, Reference):
        with pytest.raises(InvalidParameter, match="long_range must be one of alike, both, against"):
            make(long_range="repel")
        with pytest.raises(InvalidParameter, match="must be 'alike' for the score 'max'"):
            make(long_range="both", score="max")
        with pytest.raises(InvalidInput, match=r"longer ones for long_range=both.*neighborhood=long-range"):
            make(long_range="both").agglomerate(*nearest)
        with pytest.raises(InvalidInput, match="edges to direct neighbours and longer"):
            make(long_range="against").agglomerate(*volume(0, (2, 3, 4), 5, 0, [(0, 0, -2)]))
    io.write_all(tmp_path / "data.h5", dict(zip(("affinities", "fragments"), nearest, strict=True)))
    spec, places = ComponentSpec("agglomerators", "python", WAYS[0]), (tmp_path / "data.h5",) * 2
    with pytest.raises(InvalidInput, match="longer ones"):
        agglomerate_files(*places, tmp_path / "t.zarr", spec, work=Work((2, 3, 4)))
    assert load("agglomerators", "python", long_range="both").reducible is False
