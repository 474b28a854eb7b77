import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pieces_of_volumes import NEAREST, tree_by_reduction, volumes
from trees import assert_same_tree

from segkit import Affinities, Grid, Labels, MergeTree, RegionAdjacencyGraph
from segkit.agglomerate.greedy import GreedyMerging
from segkit.agglomerate.pieces import MERGE, Linkage, reduce_piece, tree_of
from segkit.agglomerate.reference import Reference
from segkit.errors import InvalidInput, InvalidParameter

PARAMETERS = [
    {"score": "mean"},
    {"score": "max"},
    {"score": "min"},
    {"score": "median"},
    {"score": "quantile", "quantile": 0.85, "histogram_init": "max"},
    {"score": "quantile", "quantile": 0.3, "histogram_init": "max", "bins": 0},
    {"score": "quantile", "quantile": 0.29, "bins": 10},
    {"score": "quantile", "quantile": 1.0},
    {"score": "quantile", "quantile": 0.0, "bins": 3},
    {"score": "median", "bins": 0},
]


@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
@settings(max_examples=12, deadline=None)
@given(data=volumes(), block=st.tuples(*[st.integers(2, 5)] * 3))
def test_the_tree_is_that_of_the_whole(parameters, data, block):
    found = tree_by_reduction(*data, block, Linkage(GreedyMerging(**parameters)))
    found.check()
    assert_same_tree(found, Reference(**parameters).agglomerate(*data))


@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
def test_most_of_what_lies_inside_merges_before_the_rest_is_known(parameters):
    affinities, fragments = small_fragments(0, 12)
    linkage = Linkage(GreedyMerging(**parameters))
    piece = linkage.piece(affinities, fragments)
    complete = ~np.isin(piece.graph.node_ids, np.unique(fragments.array[[0, -1]]))
    reduction = reduce_piece(piece, complete, linkage)
    assert 0.35 * complete.sum() < len(reduction.merges) < complete.sum()
    left = reduction.piece.graph
    assert np.isin(piece.graph.node_ids[~complete], left.node_ids).all()
    assert len(left.edges) < 0.8 * len(piece.graph.edges)


def small_fragments(seed, size):
    """Fragments of two voxels along x; affinities of 8 bits."""
    rng = np.random.default_rng(seed)
    ids = np.arange(1, 1 + size**3 // 2).repeat(2).reshape(size, size, size).astype(np.uint64)
    values = rng.integers(0, 256, (3, *ids.shape)) / 255
    return Affinities.convert(values, NEAREST), Labels(ids, Grid())


def test_nothing_merges_at_the_score_of_the_way_out():
    # 1 - 2 - 3: 3 is not complete. At equal scores the lower edge might be outside.
    affinities = Affinities.convert([[[[0, 0.5, 0.5]]]], [(0, 0, -1)])
    linkage = Linkage(GreedyMerging())
    piece = linkage.piece(affinities, Labels.convert([[[1, 2, 3]]], Grid()))
    assert len(reduce_piece(piece, np.array([True, True, False]), linkage).merges) == 0
    better = Affinities.convert([[[[0, 0.75, 0.5]]]], [(0, 0, -1)])
    piece = linkage.piece(better, Labels.convert([[[1, 2, 3]]], Grid()))
    found = reduce_piece(piece, np.array([True, True, False]), linkage)
    assert found.merges.tolist() == [(0.25, 1, 2, 1, 2)]
    assert found.piece.graph.edge_ids().tolist() == [[1, 3]] and found.piece.ties.tolist() == [[2, 3]]


def test_rows_of_a_graph_may_be_in_any_order():
    # what a reduced graph has: ties go by the row, not by the ids
    affinities, fragments = small_fragments(1, 6)
    coarse = Affinities.convert(np.round(affinities.array * 3) / 3, NEAREST)
    for parameters in PARAMETERS[:3]:
        agglomerator = GreedyMerging(**parameters)
        rag = Linkage(agglomerator).piece(coarse, fragments).graph
        order = np.random.default_rng(2).permutation(len(rag.edges))
        turned = RegionAdjacencyGraph(rag.node_ids, rag.edges[order], {k: v[order] for k, v in rag.features.items()})
        assert_same_partitions_by_queue(agglomerator, turned)


def assert_same_partitions_by_queue(agglomerator, rag):
    """The tree of merging pair by pair, the statistics of two contacts added up."""
    clusters, merges, scores = {n: n for n in range(len(rag.node_ids))}, [], []
    contacts = {frozenset(edge): [k] for k, edge in enumerate(rag.edges.tolist())}
    rules = {"count": np.sum, "sum": np.sum, "min": np.min, "max": np.max}

    def score(rows):
        values = {name: np.array([rules[name](rag.features[name][rows])]) for name in rag.features}
        return agglomerator.scores(RegionAdjacencyGraph([1, 2], [[0, 1]], values))[0]

    scored = {pair: score(rows) for pair, rows in contacts.items()}
    while contacts:
        pair = min(contacts, key=lambda p: (scored[p], min(contacts[p])))
        new = len(clusters)
        clusters[new] = new
        merges.append(sorted(pair))
        scores.append(scored.pop(pair))
        del contacts[pair]
        for old in [p for p in contacts if p & pair]:
            joined = (old - pair) | {new}
            contacts[joined] = contacts.get(joined, []) + contacts.pop(old)
            scored.pop(old)
            scored[joined] = score(contacts[joined])
    assert_same_tree(agglomerator.cluster(rag), MergeTree.from_merges(rag.node_ids, merges, scores))


def test_merges_that_make_no_tree_are_refused():
    ids = np.array([3, 5, 9], np.uint64)
    once = np.array([(0.1, 3, 5, 3, 5)], MERGE)
    assert tree_of(ids, once).altitudes.tolist() == [0.1]
    for merges in (np.concatenate([once, once]), np.array([(0.1, 3, 5, 3, 6)], MERGE)):
        with pytest.raises(InvalidInput, match="join two clusters"):
            tree_of(ids, merges)


def test_agglomerators_that_see_no_graph_are_refused():
    with pytest.raises(InvalidParameter, match=r"region adjacency graph .*'python'"):
        Linkage(Reference())
    assert Linkage(GreedyMerging()).reducible and not Linkage(GreedyMerging(max_size=5)).reducible
