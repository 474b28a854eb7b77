import numpy as np
import pytest

from segkit.data import RegionAdjacencyGraph
from segkit.errors import InvalidInput


def test_edge_ids_of_64_bits():
    ids = np.array([1, 2**63 + 1, 2**64 - 3], np.uint64)
    rag = RegionAdjacencyGraph(ids, [[0, 2], [1, 2]], {"sum": [0.5, 1.5]})
    rag.check()
    assert rag.edge_ids().tolist() == [[1, 2**64 - 3], [2**63 + 1, 2**64 - 3]] and rag.edge_ids().dtype == np.uint64


def test_everything_is_read_only_and_the_input_is_not():
    ids, edges, count = np.array([1, 2]), np.array([[0, 1]]), np.array([4])
    features = {"count": count}
    rag = RegionAdjacencyGraph(ids, edges, features)
    for array in (rag.node_ids, rag.edges, rag.features["count"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(TypeError):
        rag.features["count"] = count
    features["more"] = count
    assert list(rag.features) == ["count"] and count.flags.writeable


def test_no_edges_and_no_nodes():
    for nodes in ([], [3]):
        rag = RegionAdjacencyGraph(nodes, [])
        rag.check()
        assert rag.edges.shape == rag.edge_ids().shape == (0, 2)


@pytest.mark.parametrize(
    ("nodes", "edges", "message"),
    [
        ([2, 1], [], "increasing"),
        ([0, 1], [], "positive"),
        ([1, 1], [], "increasing"),
        ([1, 2], [[1, 0]], "u < v"),
        ([1, 2], [[0, 0]], "u < v"),
        ([1, 2], [[0, 2]], r"0\.\.1"),
        ([1, 2], [[-1, 1]], r"0\.\.1"),
        ([1, 2, 3], [[0, 1], [0, 1]], "unique"),
        ([1, 2, 3], [[1, 2], [0, 1]], "lexicographic"),
        ([1, 2, 3], [[0, 2], [0, 1]], "lexicographic"),
    ],
)
def test_graphs_that_are_none(nodes, edges, message):
    with pytest.raises(InvalidInput, match=message):
        RegionAdjacencyGraph(nodes, edges).check()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1, 2]], []), "one dimension"),
        (([1, 2], [0, 1]), r"shape \(E, 2\)"),
        (([1, 2], [[0, 1, 0, 1]]), r"shape \(E, 2\)"),
        (([1, 2], [[0, 1]], {"count": [1, 2]}), "feature 'count' must have one row an edge, 1"),
        (([1, 2], [[0, 1]], {"count": 1}), "feature 'count'"),
        (([1, -2], []), "fit uint64"),
        (([1, 2], [[0, 0.5]]), "fit int64"),
    ],
)
def test_shapes_and_dtypes(arguments, message):
    with pytest.raises(InvalidInput, match=message):
        RegionAdjacencyGraph(*arguments)


def test_statistics_of_nodes():
    rag = RegionAdjacencyGraph([3, 8], [[0, 1]], node_features={"size": np.array([5, 6])})
    assert rag.node_features["size"].tolist() == [5, 6]
    assert RegionAdjacencyGraph([3, 8], [[0, 1]]).node_features == {}
    with pytest.raises(InvalidInput, match="one row a node, 2"):
        RegionAdjacencyGraph([3, 8], [[0, 1]], node_features={"size": np.array([5])})
