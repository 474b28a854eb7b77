import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pieces_of_volumes import boxes, cropped, volumes

from segkit import Affinities, Grid, Labels, RegionAdjacencyGraph
from segkit.agglomerate.pieces import AffinityLists, Piece, contract, unite
from segkit.agglomerate.rag import contact_bins, region_adjacency_graph
from segkit.errors import InvalidInput

EVERYTHING = ("count", "sum", "min", "max", "histogram", "size")


def assert_same_graph(one, other):
    np.testing.assert_array_equal(one.node_ids, other.node_ids)
    np.testing.assert_array_equal(one.edges, other.edges)
    for mine, theirs in ((one.features, other.features), (one.node_features, other.node_features)):
        assert sorted(mine) == sorted(theirs)
        for name, values in mine.items():
            np.testing.assert_array_equal(values, theirs[name])
            assert values.dtype == theirs[name].dtype


@settings(max_examples=40, deadline=None)
@given(data=volumes(), block=st.tuples(*[st.integers(2, 9)] * 3))
def test_graphs_of_boxes_make_the_graph_of_the_whole(data, block):
    affinities, fragments = data
    parts = [cropped(affinities, fragments, inner) for inner in boxes(fragments.shape, block).values()]
    graphs = [region_adjacency_graph(*part, EVERYTHING, bins=5, inner=inner) for *part, inner in parts]
    united = unite([Piece(graph) for graph in graphs])
    assert united.lists is None and united.lowest is None
    assert_same_graph(united.graph, region_adjacency_graph(affinities, fragments, EVERYTHING, bins=5))
    lists = [contact_bins(*part, 0, sizes=True, inner=inner) for *part, inner in parts]
    united = unite([Piece(graph, AffinityLists.of_contacts(*rest)) for graph, *rest in lists])
    graph, starts, numbers = contact_bins(affinities, fragments, 0, sizes=True)
    assert_same_graph(united.graph, graph)
    np.testing.assert_array_equal(np.repeat(united.lists.numbers, united.lists.weights), numbers)
    edge = np.repeat(np.arange(len(graph.edges)), np.diff(united.lists.starts))
    np.testing.assert_array_equal(np.bincount(edge, united.lists.weights, len(graph.edges)), np.diff(starts))


def test_a_box_holds_the_fragments_with_a_voxel_or_an_edge():
    # the box is the middle; 1 lies outside and no edge of the box leads there, 4 is where the edge of 3 leads
    fragments = Labels.convert([[[1, 2, 3, 4]]], Grid())
    affinities = Affinities(np.full((1, 1, 1, 2), 0.25, np.float32), [(0, 0, 1)], Grid().crop((0, 0, 1)))
    inner = (slice(0, 1), slice(0, 1), slice(1, 3))
    rag = region_adjacency_graph(affinities, fragments, ("count", "size"), inner=inner)
    assert rag.node_ids.tolist() == [2, 3, 4] and rag.edge_ids().tolist() == [[2, 3], [3, 4]]
    assert rag.node_features["size"].tolist() == [1, 1, 0]
    with pytest.raises(InvalidInput, match="same place"):
        region_adjacency_graph(affinities, fragments, inner=(slice(0, 1), slice(0, 1), slice(0, 2)))
    with pytest.raises(InvalidInput, match="inner must be a part"):
        region_adjacency_graph(affinities, fragments, inner=(slice(0, 1), slice(0, 1), slice(3, 5)))


def test_contacts_of_clusters_hand_worked():
    # 10 and 30 become one: their contacts with 20 are united, in the place of the lower one
    edges, count = [[0, 1], [0, 3], [1, 2], [2, 3]], np.array([1, 2, 4, 8])
    lists = AffinityLists(np.array([0, 1, 2, 4, 5]), np.array([3, 1, 2, 3, 0], np.int32), np.array([1, 2, 1, 3, 8]))
    sizes = {"size": np.array([5, 6, 7, 8])}
    graph = RegionAdjacencyGraph([10, 20, 30, 40], edges, {"count": count, "min": count / 10}, sizes)
    found = contract(Piece(graph, lists), np.array([0, 1, 0, 3]))
    assert found.graph.node_ids.tolist() == [10, 20, 40]
    assert found.graph.edge_ids().tolist() == [[10, 20], [10, 40]]
    assert found.ties.tolist() == [[10, 20], [10, 40]]
    assert found.graph.features["count"].tolist() == [5, 10]
    assert found.graph.features["min"].tolist() == [0.1, 0.2]
    assert found.graph.node_features["size"].tolist() == [12, 6, 8]
    assert found.lists.starts.tolist() == [0, 2, 4]
    assert found.lists.numbers.tolist() == [2, 3, 0, 1] and found.lists.weights.tolist() == [1, 4, 8, 2]


def test_a_cluster_may_have_a_lower_id_than_its_edges_rows():
    graph = RegionAdjacencyGraph([1, 2, 3, 4], [[0, 1], [1, 2], [2, 3], [0, 3]], {"count": np.array([1, 1, 1, 1])})
    found = contract(Piece(graph, None, np.array([[1, 2], [2, 3], [3, 4], [5, 6]])), np.array([0, 1, 1, 0]))
    assert found.graph.edge_ids().tolist() == [[1, 2]] and found.ties.tolist() == [[1, 2]]
    assert found.graph.features["count"].tolist() == [2]


def test_only_the_largest_of_equal_contacts_stays_on_request():
    graph = RegionAdjacencyGraph([1, 2], [[0, 1]])
    pieces = [Piece(graph, AffinityLists(np.array([0, 1]), np.array([n], np.int32), np.array([1]))) for n in (3, 9, 9)]
    assert unite(pieces, largest=True).lists.numbers.tolist() == [9]
    assert unite(pieces, largest=True).lists.weights.tolist() == [1]
    assert unite(pieces).lists.weights.tolist() == [1, 2]


def test_what_cannot_be_united_is_refused():
    with pytest.raises(InvalidInput, match="at least one"):
        unite([])
    graph = RegionAdjacencyGraph([1, 2], [[0, 1]], {"colour": np.array([0.5])})
    with pytest.raises(InvalidInput, match="'colour'"):
        unite([Piece(graph), Piece(graph)])


def test_integers_of_any_name_add_up():
    graph = RegionAdjacencyGraph([1, 2], [[0, 1]], {"pits": np.array([[1, 2]])}, {"place": np.array([[3, 4], [5, 6]])})
    found = unite([Piece(graph), Piece(graph)]).graph
    assert found.features["pits"].tolist() == [[2, 4]]
    assert found.node_features["place"].tolist() == [[6, 8], [10, 12]]
