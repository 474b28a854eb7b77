"""The region adjacency graph: which fragments touch, and what their affinities say about it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segkit.agglomerate import _kernels
from segkit.agglomerate.scores import MAX_BINS
from segkit.data import Affinities, Labels, RegionAdjacencyGraph, check_aligned
from segkit.data.labels import FIRST_OUTSIDE
from segkit.data.rag import frozen
from segkit.errors import InvalidInput, InvalidParameter, sentence

UNIT = _kernels.UNIT
"""Sums of affinities are integers, in units of 1 / UNIT = 2^-30."""

FEATURES = ("count", "sum", "min", "max", "histogram")


def region_adjacency_graph(
    affinities: Affinities,
    fragments: Labels,
    features: Sequence[str] = ("count", "sum"),
    *,
    bins: int = 256,
) -> RegionAdjacencyGraph:
    """A node for every fragment, an edge for every two that at least one affinity edge joins inside the volume.

    Background (0) and voxels outside the annotation are in no node and in no edge. Affinities inside a fragment are
    not read.

    Parameters
    ----------
    affinities
        float32 (C, Z, Y, X) in 0..1, of any neighborhood.
    fragments
        uint64 (Z, Y, X), any ids; aligned with `affinities`.
    features
        The statistics of the affinities between two fragments that the result shall hold:

        - "count": how many there are, int64 (E,).
        - "sum": int64 (E,), in units of 2^-30, each affinity rounded to the nearest. Integers add up to the same sum
          in any order, over any blocks and threads; floats do not. A mean is off by at most 2^-31.
        - "min", "max": float32 (E,).
        - "histogram": how many fall into each of `bins` equal bins of 0..1, int32 (E, bins). It needs 4 * bins bytes
          an edge: 1 KiB for 256.
    bins
        Number of bins of "histogram"; affinity a is in bin floor(a * bins), 1 in the last.

    Raises
    ------
    InvalidInput, InvalidShape
        If both are not aligned, or an affinity between two fragments is NaN or not in 0..1.
    InvalidParameter
        For an unknown feature, or a number of bins that is not in 1..65536.

    Examples
    --------
    >>> from segkit import Grid
    >>> fragments = Labels.convert([[[4, 4, 9]]], Grid())
    >>> affinities = Affinities.convert([[[[0, 0.9, 0.25]]]], [(0, 0, -1)], Grid())
    >>> rag = region_adjacency_graph(affinities, fragments)
    >>> rag.edge_ids().tolist(), mean_affinity(rag).tolist()
    ([[4, 9]], [0.25])
    """
    for feature in features:
        if feature not in FEATURES:
            raise InvalidParameter(sentence("features", f"must be among {', '.join(FEATURES)}", repr(feature)))
    contacts = _collect(affinities, fragments)
    columns = {
        "count": contacts.totals[:, 0],
        "sum": contacts.totals[:, 1],
        "min": contacts.extremes[:, 0],
        "max": contacts.extremes[:, 1],
    }
    found = {name: columns[name][contacts.order] for name in features if name != "histogram"}
    if "histogram" in features:
        found["histogram"] = _kernels.dense_histograms(*_sorted_bins(contacts, bins), bins)
    return _graph(contacts, found)


def contact_bins(
    affinities: Affinities, fragments: Labels, bins: int = 256
) -> tuple[RegionAdjacencyGraph, np.ndarray, np.ndarray]:
    """The graph with the feature "count", and its histograms in little memory: the bin of every affinity, sorted.

    The affinities of edge e lie in the bins numbers[starts[e] : starts[e + 1]]; starts is int64 (E + 1,), numbers
    uint16. For `bins` (at most 65536), arguments and errors see :func:`region_adjacency_graph`. Fragments are many and
    contacts small as a rule: 2 bytes an affinity are far less than `bins` counts an edge.
    """
    contacts = _collect(affinities, fragments)
    graph = _graph(contacts, {"count": contacts.totals[contacts.order, 0]})
    return graph, *_sorted_bins(contacts, bins)


def mean_affinity(rag: RegionAdjacencyGraph) -> np.ndarray:
    """The mean of the affinities of each edge, float64 (E,), from the features "count" and "sum"."""
    return rag.features["sum"] / UNIT / rag.features["count"]


def number_nodes(fragments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted ids of the fragments, uint64 (N,), and for every voxel its position in them + 1, int32; 0 = no fragment.

    Ids in a narrow range, however high, go through a table; others through a binary search.
    """
    fragments = frozen(np.ascontiguousarray(fragments))
    low, high = map(np.uint64, _kernels.range_of_ids(fragments.reshape(-1)))  # not int: above 2^63 Numba refuses it
    if low > high:
        return np.empty(0, np.uint64), frozen(np.zeros(fragments.shape, np.int32))
    if int(high - low) < 4 * fragments.size + 1024:
        ids, nodes = _kernels.number_by_table(fragments.reshape(-1), low, high)
        return ids, frozen(nodes.reshape(fragments.shape))
    import fastremap

    ids = fastremap.unique(fragments)
    ids = ids[(ids > 0) & (ids < FIRST_OUTSIDE)]
    nodes = np.zeros(fragments.shape, np.int32)
    for section, numbers in zip(fragments, nodes, strict=True):  # one at a time: search gives 8 bytes a voxel
        inside = (section > 0) & (section < FIRST_OUTSIDE)
        numbers[inside] = np.searchsorted(ids, section[inside]) + 1
    return ids, frozen(nodes)


class _Contacts(NamedTuple):
    """What one pass over the volume finds; edges are in the order of discovery, and `order` sorts them."""

    node_ids: np.ndarray
    nodes: np.ndarray
    affinities: np.ndarray
    neighborhood: np.ndarray
    keys: np.ndarray
    totals: np.ndarray
    extremes: np.ndarray
    table: tuple[np.ndarray, np.ndarray]
    order: np.ndarray


def _collect(affinities: Affinities, fragments: Labels) -> _Contacts:
    check_aligned(affinities=affinities, fragments=fragments)
    node_ids, nodes = number_nodes(fragments.array)
    values = frozen(np.ascontiguousarray(affinities.array))
    *found, bad = _kernels.collect_edges(nodes, values, affinities.neighborhood)
    if bad >= 0:
        _refuse(affinities, bad)
    return _Contacts(node_ids, nodes, values, affinities.neighborhood, *found, np.argsort(found[0]))


def _graph(contacts: _Contacts, features: dict[str, np.ndarray]) -> RegionAdjacencyGraph:
    keys = contacts.keys[contacts.order]
    edges = np.stack([keys >> 32, keys & 0xFFFFFFFF], axis=1) - 1
    return RegionAdjacencyGraph(contacts.node_ids, edges, features)


def _sorted_bins(contacts: _Contacts, bins: int) -> tuple[np.ndarray, np.ndarray]:
    if not 1 <= bins <= MAX_BINS:
        raise InvalidParameter(sentence("bins", f"must lie in 1..{MAX_BINS}", bins))
    starts = np.concatenate([[0], np.cumsum(contacts.totals[contacts.order, 0])])
    places = np.empty(len(contacts.order), np.int64)
    places[contacts.order] = starts[:-1]
    volume = contacts.nodes, contacts.affinities, contacts.neighborhood
    numbers = _kernels.fill_bins(*volume, *contacts.table, places, starts[-1], bins)
    _kernels.sort_parts(starts, numbers)
    return starts, numbers


def _refuse(affinities: Affinities, position: int) -> None:
    where = tuple(int(i) for i in np.unravel_index(position, affinities.array.shape))
    value = affinities.array[where]
    rule = "must not be NaN" if math.isnan(value) else "must lie in 0..1"
    next_step = "divide by 255 if they come from 8 bits, apply a sigmoid if they are logits"
    raise InvalidInput(sentence("affinities", rule, f"{value} at (channel, z, y, x) {where}", next_step))
