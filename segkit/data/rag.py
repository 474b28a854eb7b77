"""The graph of regions that touch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from segkit.data.volume import native
from segkit.errors import InvalidInput, sentence


@dataclass(frozen=True, eq=False)
class RegionAdjacencyGraph:
    """One node a fragment, one edge a pair of fragments that share an affinity edge.

    >>> rag = RegionAdjacencyGraph([3, 8, 2**63], [[0, 1], [0, 2]], {"count": np.array([4, 1])})
    >>> rag.edge_ids().tolist()
    [[3, 8], [3, 9223372036854775808]]
    """

    node_ids: NDArray[np.uint64]
    """Ids of the fragments, uint64 (N,), strictly increasing; 0 (background) is no node."""
    edges: NDArray[np.int64]
    """Positions in `node_ids`, int64 (E, 2), u < v, unique, in lexicographic order."""
    features: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Statistics of the contacts, by name, each of length E along its first axis."""
    node_features: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Statistics of the fragments, by name, each of length N along its first axis: "size" in voxels, say."""

    def __post_init__(self) -> None:
        node_ids = frozen(self.node_ids, np.uint64)
        edges = frozen(self.edges, np.int64)
        if edges.size == 0:
            edges = edges.reshape(0, 2)
        if node_ids.ndim != 1:
            raise InvalidInput(sentence("node_ids", "must have one dimension", node_ids.ndim))
        if edges.ndim != 2 or edges.shape[1] != 2:
            raise InvalidInput(sentence("edges", "must have the shape (E, 2)", edges.shape))
        features = _columns(self.features, len(edges), "an edge")
        node_features = _columns(self.node_features, len(node_ids), "a node")
        object.__setattr__(self, "node_ids", node_ids)
        object.__setattr__(self, "edges", edges)
        object.__setattr__(self, "features", MappingProxyType(features))
        object.__setattr__(self, "node_features", MappingProxyType(node_features))

    def edge_ids(self) -> NDArray[np.uint64]:
        """The fragment ids at both ends of each edge, uint64 (E, 2)."""
        return self.node_ids[self.edges]

    def check(self) -> None:
        """Raise InvalidInput unless nodes and edges are sorted, unique and in range. O(n)."""
        if (self.node_ids[1:] <= self.node_ids[:-1]).any() or (len(self.node_ids) and self.node_ids[0] == 0):
            raise InvalidInput(sentence("node_ids", "must be positive and strictly increasing"))
        u, v = self.edges.T
        if len(u) == 0:
            return
        if u.min() < 0 or v.max() >= len(self.node_ids) or (u >= v).any():
            raise InvalidInput(sentence("edges", f"must be pairs u < v of positions in 0..{len(self.node_ids) - 1}"))
        if ((u[1:] < u[:-1]) | ((u[1:] == u[:-1]) & (v[1:] <= v[:-1]))).any():
            raise InvalidInput(sentence("edges", "must be unique and in lexicographic order"))


def _columns(features: Mapping[str, np.ndarray], rows: int, what: str) -> dict[str, np.ndarray]:
    columns = {}
    for name, values in features.items():
        values = frozen(values)
        if values.ndim == 0 or len(values) != rows:
            rule = f"must have one row {what}, {rows}"
            raise InvalidInput(sentence(f"feature {name!r}", rule, f"the shape {values.shape}"))
        columns[name] = values
    return columns


def frozen(values: ArrayLike, dtype: DTypeLike | None = None) -> np.ndarray:
    """A read-only view of `values`, converted where need be; values that do not fit the dtype are refused."""
    given = np.asarray(values)
    if given.dtype.kind == "f" and given is not values and np.dtype(dtype).kind in "ui":
        given = np.asarray(values, object)  # a list of small and large integers, say, which floats would round
    if given.size == 0 and dtype is not None:
        given = given.astype(dtype)
    try:
        with np.errstate(invalid="ignore"):
            array = native(given) if dtype is None else given.astype(dtype, copy=False)
        floats_for_ids = given.dtype.kind == "f" and array.dtype.kind in "ui" and given.size > 0  # whole or not
        fits = array.dtype == given.dtype or (np.array_equal(array, given) and not floats_for_ids)
    except (OverflowError, TypeError, ValueError):
        fits = False
    if not fits:
        raise InvalidInput(sentence("values", f"must fit {np.dtype(dtype)}", np.asarray(values).dtype))
    array = array.view()
    array.flags.writeable = False
    return array
