"""All merges of a graph by best pairs, shared among threads: first inside pieces of it, then across."""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from segkit.agglomerate import _kernels_lists, _kernels_local
from segkit.threads import thread_count

MAX_EDGES = 2**26
"""Lists of contacts are moved when they grow, so they take more places than there are ends of edges."""
MAX_PLACES = 2**31
"""Places in the lists are int32."""
NODES_OF_PIECE = 2**14
"""Least of a piece: in a small one, most clusters have their best neighbour outside."""
ROOM = 3
"""Places for lists, as a multiple of those that the lists take at first; more are made if they do not suffice."""


class _Graph(NamedTuple):
    """What the threads share; each changes its own nodes, and what belongs to them."""

    nodes: np.ndarray
    entries: np.ndarray
    records: np.ndarray
    edges: np.ndarray
    tree: np.ndarray
    mean: bool


def merge_locally(
    count: int, edges: np.ndarray, records: np.ndarray, mean: bool
) -> tuple[np.ndarray, np.ndarray] | None:
    """All merges in order: int64 (M, 2), two nodes of the tree, and float64 (M,) scores.

    `records` as for `merge_all`, with the scores of "mean" or "min"; changed. None if a united contact came before both
    its parts, see `merge_piece`, or if the lists take too many places: then a queue has to do it.

    Nodes of near numbers lie near each other as a rule, so a piece is a range of nodes, one a thread. What the pieces
    leave is merged at the end, by one thread. Best pairs may merge in any order, so the result does not depend on the
    pieces.
    """
    rooms = np.zeros(count, np.int64)
    _kernels_lists.degrees(edges, rooms)
    pieces = max(1, min(thread_count(), count // NODES_OF_PIECE))
    cuts = np.array([count * piece // pieces for piece in range(pieces + 1)])
    ends = np.concatenate([[0], np.cumsum(rooms)])
    spans = ends[cuts]
    starts = ends[:-1] + np.repeat(spans[:-1], np.diff(cuts))  # behind the lists of a piece, as much room again
    entries = np.empty((ROOM * ends[-1], 2), np.int32)
    graph = _Graph(np.empty(count, _kernels_lists.NODE), entries, records, edges, np.arange(count), mean)
    _kernels_lists.fill_lists(edges, records, starts, rooms, graph.nodes, entries)
    if pieces == 1:
        return _merge_rest([], graph, int(ends[-1]))
    bounds = (cuts[:-1], cuts[1:], spans[:-1] + spans[1:], 2 * spans[1:])
    with ThreadPoolExecutor(pieces) as pool:
        found = list(pool.map(lambda *bound: _kernels_local.merge_piece(*bound, *graph), *bounds))
    refused = any(part[2] == _kernels_local.REFUSED for part in found)
    if refused or not _kernels_lists.settle(cuts, graph.nodes, entries, records, mean):
        return None
    return _merge_rest([part[:2] for part in found], graph, 2 * int(ends[-1]))


def _merge_rest(found: list, graph: _Graph, top: int) -> tuple[np.ndarray, np.ndarray] | None:
    """What is left to merge, and then all merges in order; the places of the lists are used up to `top`."""
    state = _kernels_local.FULL
    while state == _kernels_local.FULL:
        bounds = 0, len(graph.nodes), top, len(graph.entries)
        *part, state, top = _kernels_local.merge_piece(*bounds, *graph)
        found.append(part)
        if state == _kernels_local.FULL:
            if 2 * len(graph.entries) > MAX_PLACES:
                return None
            graph = graph._replace(entries=np.concatenate([graph.entries, np.empty_like(graph.entries)]))
    if state == _kernels_local.REFUSED:
        return None
    merges, scores = (np.concatenate(column) for column in zip(*found, strict=True))
    return _in_order(len(graph.nodes), len(graph.edges), merges, scores)


def _in_order(count: int, edges: int, merges: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Merges by (score, edge), renumbered; None if one came before its children."""
    place = np.full(edges, -1)
    place[merges[:, 2]] = np.arange(len(merges))
    order = place[place >= 0]
    order = order[np.argsort(scores[order], kind="stable")]
    own = count + np.arange(len(order))
    number = np.arange(count + edges)
    number[count + merges[order, 2]] = own
    children = number[merges[order, :2]]
    return None if (children >= own[:, None]).any() else (children, scores[order])
