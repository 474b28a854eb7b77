"""Skeletons: what is refused, lengths, and the voxels of nodes."""

import numpy as np
import pytest

from segkit import Grid
from segkit.data.skeletons import Skeletons
from segkit.errors import InvalidInput

LINE = [[0, 0, 0], [0, 3, 4], [0, 3, 5]]


@pytest.mark.parametrize(
    ("nodes", "edges", "ids", "said"),
    [
        ([[0, 0]], [[0, 0]], [1], "nodes must be of shape"),
        (LINE, [[0, 1, 2]], [1, 1, 1], "edges must be of shape"),
        (LINE, [[0, 1]], [1, 1], "ids must be one a node"),
        (LINE, [[0, 3]], [1, 1, 1], "edges must join two of 3 nodes, not 3"),
        (LINE, [[-1, 0]], [1, 1, 1], "edges must join two of 3 nodes, not -1"),
        (LINE, [[0, 1], [1, 2]], [1, 1, 2], "edges must join nodes of one skeleton, not of 1 and 2"),
        ([[0, 0, np.nan]], np.empty((0, 2)), [1], "nodes must be finite"),
    ],
)
def test_what_is_no_skeleton_is_refused(nodes, edges, ids, said):
    with pytest.raises(InvalidInput, match=said):
        Skeletons(nodes, edges, ids).check()


def test_lengths_in_a_wrong_unit_are_refused():
    with pytest.raises(InvalidInput, match="shorter than 4 km"):
        _ = Skeletons([[0, 0, 0], [0, 0, 5e12]], [[0, 1]], [1, 1]).steps


def test_lengths_and_parts():
    line = Skeletons(LINE, [[0, 1], [1, 2]], [2**64 - 1, 2**64 - 1, 2**64 - 1])
    assert line.lengths.tolist() == [5, 1] and line.skeleton_ids.tolist() == [2**64 - 1]
    part = line.only(np.array([False, True, True]))
    assert part.nodes.tolist() == LINE[1:] and part.edges.tolist() == [[0, 1]] and len(part.ids) == 2


def test_nodes_on_corners_lie_in_the_voxel_that_begins_there():
    grid = Grid((40, 4.6, 4.6), (80, -4.6, 0))
    corners = np.array([[z, y, x] for z in range(3) for y in range(9) for x in range(99)])
    for dtype in (np.float32, np.float64):
        nodes = (corners * grid.voxel_size + grid.offset).astype(dtype)
        found = Skeletons(nodes, np.empty((0, 2)), np.ones(len(nodes), int)).voxels(grid)
        assert np.array_equal(found, corners)
    inside = Skeletons(
        corners * grid.voxel_size + grid.offset + [39, 4.5, 4.5], np.empty((0, 2)), np.ones(len(nodes), int)
    )
    assert np.array_equal(inside.voxels(grid), corners)
    with pytest.raises(InvalidInput, match="unit of the voxels must be nm, not 'um'"):
        inside.voxels(Grid(unit="um"))
