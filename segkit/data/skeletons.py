"""Skeletons: the course of neurons as nodes and edges."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from segkit.data.grid import Grid
from segkit.data.rag import frozen
from segkit.errors import InvalidInput, sentence

STEP = 2.0**-20
"""Lengths are counted in this part of a nm, so that their sums are exact in any order."""
LONGEST = 2.0**42
"""All edges together must be shorter than this, in nm."""
SHARE = 1e-3
"""Share of a voxel by which a node may lie before the voxel that it was placed on the corner of: rounding."""


@dataclass(frozen=True, eq=False)
class Skeletons:
    """Nodes in the world, the edges between them, and the neuron that each node belongs to.

    A neuron may be in several pieces. Nodes without an edge are allowed.

    >>> line = Skeletons([[0, 0, 5], [0, 0, 15], [0, 0, 35]], [[0, 1], [1, 2]], [7, 7, 7])
    >>> line.lengths.tolist(), line.skeleton_ids.tolist()
    ([10.0, 20.0], [7])
    """

    nodes: NDArray[np.float64]
    """Positions z, y, x in nm, float64 (N, 3)."""
    edges: NDArray[np.int64]
    """Rows of `nodes` that an edge joins, int64 (E, 2); each row counts, so that an edge stands here once."""
    ids: NDArray[np.uint64]
    """The neuron of each node, uint64 (N,), any number."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", frozen(self.nodes, np.float64))
        object.__setattr__(self, "edges", frozen(self.edges, np.int64))
        object.__setattr__(self, "ids", frozen(self.ids, np.uint64))
        if self.nodes.ndim != 2 or self.nodes.shape[1] != 3:
            raise InvalidInput(sentence("nodes", "must be of shape (N, 3), z, y, x", self.nodes.shape))
        if self.edges.ndim != 2 or self.edges.shape[1] != 2:
            raise InvalidInput(sentence("edges", "must be of shape (E, 2)", self.edges.shape))
        if self.ids.shape != (len(self.nodes),):
            raise InvalidInput(sentence("ids", f"must be one a node, ({len(self.nodes)},)", self.ids.shape))

    @cached_property
    def skeleton_ids(self) -> NDArray[np.uint64]:
        """The neurons, uint64 (S,), increasing."""
        return np.unique(self.ids)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Where in `skeleton_ids` the neuron of each node is, int64 (N,)."""
        return np.searchsorted(self.skeleton_ids, self.ids)

    @cached_property
    def lengths(self) -> NDArray[np.float64]:
        """Length of each edge in nm, float64 (E,), to 2^-20 nm."""
        return np.asarray(self.steps * STEP, np.float64)

    @cached_property
    def steps(self) -> NDArray[np.int64]:
        """Length of each edge in 2^-20 nm, int64 (E,). Raises InvalidInput where these are too many to be added."""
        ends = self.nodes[self.edges]
        lengths = np.sqrt(np.square(ends[:, 1] - ends[:, 0]).sum(axis=1))
        if not lengths.sum() < LONGEST:
            rule, next_step = "must be shorter than 4 km together", "check the unit of the nodes"
            raise InvalidInput(sentence("edges", rule, f"{lengths.sum():.3g} nm", next_step))
        steps: NDArray[np.int64] = np.rint(lengths / STEP).astype(np.int64)
        return steps

    def check(self) -> None:
        """Raise InvalidInput unless nodes are finite and edges join nodes that exist, of one neuron. O(n)."""
        if not np.isfinite(self.nodes).all():
            raise InvalidInput(sentence("nodes", "must be finite"))
        wrong = (self.edges < 0) | (self.edges >= len(self.nodes))
        if wrong.any():
            raise InvalidInput(sentence("edges", f"must join two of {len(self.nodes)} nodes", self.edges[wrong][0]))
        apart = np.flatnonzero(np.diff(self.ids[self.edges], axis=1))
        if len(apart):
            ends = self.ids[self.edges[apart[0]]].tolist()
            raise InvalidInput(sentence("edges", "must join nodes of one skeleton", f"of {ends[0]} and {ends[1]}"))

    def voxels(self, grid: Grid) -> NDArray[np.int64]:
        """The voxel z, y, x of `grid` that each node lies in, int64 (N, 3), wherever that is.

        Nodes that lie less than a thousandth of a voxel before a corner are taken to lie on it. Raises InvalidInput
        if the unit of the grid is not nm.
        """
        if grid.unit != "nm":
            raise InvalidInput(sentence("the unit of the voxels", "must be nm", repr(grid.unit), "correct the file"))
        places = np.floor((self.nodes - grid.offset) / grid.voxel_size + SHARE)
        found: NDArray[np.int64] = np.clip(places, -1e15, 1e15).astype(np.int64)
        return found

    def only(self, kept: NDArray[np.bool_]) -> "Skeletons":
        """The nodes that are `kept`, bool (N,), and the edges between them."""
        both = kept[self.edges].all(axis=1)
        places = np.cumsum(kept) - 1
        return Skeletons(self.nodes[kept], places[self.edges[both]], self.ids[kept])
