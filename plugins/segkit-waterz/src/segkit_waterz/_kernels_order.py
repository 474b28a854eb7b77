"""Greedy merging as waterz does it: a queue of edges whose entries may be stale.

Edge e has two halves, 2e and 2e + 1, one at each end: `end[h]` is the cluster at half h, `end[h ^ 1]` the one across.
The halves at a cluster form a linked list; that of a dead edge stays in the list across until that list is walked.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from segkit.kernels.pair_table import EMPTY, find_slot

from segkit_waterz._kernels_queue import is_empty, make_queue, put, take
from segkit_waterz._kernels_scores import score_of, unite

NONE = -1
FULL = 0.7
"""Slots of a hash table that may be taken, as a share."""


class Graph(NamedTuple):
    """The clusters and the edges between them."""

    alive: np.ndarray
    """Whether an edge still joins two clusters, bool (E,)."""
    end: np.ndarray
    """The cluster at each half, int32 (2E,)."""
    following: np.ndarray
    """The next half at the same cluster, int32 (2E,)."""
    head: np.ndarray
    """The first half at each cluster, int32 (N,)."""
    tail: np.ndarray
    """The last half at each cluster, int32 (N,)."""
    degree: np.ndarray
    """How many edges each cluster has, int32 (N,)."""


class Entries(NamedTuple):
    """What the queue says of each edge, right or not."""

    score: np.ndarray
    """The score with which it entered, float32 (E,)."""
    stale: np.ndarray
    """Whether it has changed since, bool (E,)."""


class Table(NamedTuple):
    """A hash table of the pairs that edges join. Pairs with a cluster that is gone are never asked for."""

    slots: np.ndarray
    """Pairs, or EMPTY, int64."""
    edges: np.ndarray
    """The edge of each pair, int32."""
    taken: np.ndarray
    """How many slots are not EMPTY, int64 (1,)."""


@njit(cache=True, nogil=True)
def merge_all(nodes, edges, statistics, queue_bins):
    """All merges in order: int64 (M, 2) nodes of the tree, float32 (M,) highest score that was seen until then.

    Changes `statistics`. The highest score seen counts stale and dead entries of the queue too, for waterz looks at the
    score of an entry, and stops there, before it asks what became of the edge.

    Two clusters become one that is called by the lower of their two numbers, its `name`, for ties go by that.

    Example: nodes 0 1 2 3 in a square, a queue of 4 bins, scores 0-1: 0.1, 0-2: 0.3, 1-3: 0.34, 2-3: 0.32. The first is
    merged. The others lie in one bin, so 0-2 comes next, for it entered first. Now {0, 1, 2}
    and 3 have two edges, 1-3 and 2-3: that of 0.32 is kept, as a stale entry behind the dead one of 0.34. The dead one
    comes up and is dropped; the stale one is scored anew, 0.33 for the mean, and is merged when it comes up again. The
    highest score seen then is 0.34, that of the dead entry: merges 0-1, 4-2, 5-3 at 0.1, 0.3, 0.34.
    """
    graph = _graph(nodes, edges)
    table = _hashed(graph)
    entries = Entries(np.empty(len(edges), np.float32), np.zeros(len(edges), np.bool_))
    queue = make_queue(len(edges), queue_bins)
    for e in range(len(edges)):
        entries.score[e] = score_of(e, statistics)
        put(queue, e, entries.score[e])
    tree_node, name = np.arange(nodes), np.arange(nodes)
    merges, altitudes, merged = np.empty((nodes, 2), np.int64), np.empty(nodes, np.float32), 0
    highest = np.float32(0)
    while not is_empty(queue):
        e = take(queue)
        highest = max(highest, entries.score[e])
        if not graph.alive[e]:
            continue
        if entries.stale[e]:
            entries.score[e] = score_of(e, statistics)
            entries.stale[e] = False
            put(queue, e, entries.score[e])
            continue
        stays, goes = _take_edge(e, graph)
        merges[merged, 0], merges[merged, 1], altitudes[merged] = tree_node[stays], tree_node[goes], highest
        tree_node[stays] = nodes + merged
        merged += 1
        stays_first = name[stays] < name[goes]
        name[stays] = min(name[stays], name[goes])
        if table.taken[0] + graph.degree[goes] > FULL * len(table.slots):
            table = _hashed(graph)
        _move_edges(stays, goes, stays_first, graph, table, entries, statistics)
    return merges[:merged], altitudes[:merged]


@njit(cache=True, nogil=True)
def _take_edge(e, graph):
    """Remove an edge; its ends, (the cluster that stays, the one that goes).

    Why does the cluster with more edges stay, whatever waterz calls it? So that each edge moves few times.
    """
    graph.alive[e] = False
    stays, goes = graph.end[2 * e], graph.end[2 * e + 1]
    graph.degree[stays] -= 1
    graph.degree[goes] -= 1
    if graph.degree[stays] < graph.degree[goes]:
        return goes, stays
    return stays, goes


@njit(cache=True, nogil=True)
def _move_edges(stays, goes, stays_first, graph, table, entries, statistics):
    """Give the edges of one cluster to another, where each becomes new or is united with the edge to the same cluster.

    Of two that are united the one of lower score is kept, and that of the cluster of higher number if both are equal:
    that of `goes` if `stays_first`.
    """
    half = np.int64(graph.head[goes])
    while half != NONE:
        upcoming = np.int64(graph.following[half])
        e = half >> 1
        if graph.alive[e]:
            across = graph.end[half ^ 1]
            graph.end[half] = stays
            key = _key(stays, across)
            slot = find_slot(table.slots, key)
            if table.slots[slot] == EMPTY:
                table.slots[slot], table.edges[slot] = key, e
                table.taken[0] += 1
                graph.degree[stays] += 1
                _append(half, stays, graph)
            else:
                f = np.int64(table.edges[slot])
                first, second = (f, e) if stays_first else (e, f)
                kept, lost = (first, second) if entries.score[second] > entries.score[first] else (second, first)
                table.edges[slot] = kept
                graph.alive[lost] = False
                graph.degree[across] -= 1
                if kept == e:
                    _append(half, stays, graph)
                if unite(kept, lost, statistics):
                    entries.stale[kept] = True
        half = upcoming


@njit(cache=True, nogil=True)
def _graph(nodes, edges):
    """The graph of the nodes 0..nodes-1, each a cluster."""
    end = np.empty(2 * len(edges), np.int32)
    following = np.full(2 * len(edges), NONE, np.int32)
    head, tail = np.full(nodes, NONE, np.int32), np.full(nodes, NONE, np.int32)
    graph = Graph(np.ones(len(edges), np.bool_), end, following, head, tail, np.zeros(nodes, np.int32))
    for half in range(len(end)):
        node = edges[half >> 1, half & 1]
        end[half] = node
        graph.degree[node] += 1
        _append(half, node, graph)
    return graph


@njit(cache=True, nogil=True)
def _append(half, node, graph):
    """Put a half at the end of the list of a cluster."""
    graph.following[half] = NONE
    if graph.head[node] == NONE:
        graph.head[node] = half
    else:
        graph.following[graph.tail[node]] = half
    graph.tail[node] = half


@njit(cache=True, nogil=True)
def _hashed(graph):
    """The table of the pairs that live edges join."""
    live = np.count_nonzero(graph.alive)
    size = 16
    while size < 2 * live + 1:
        size *= 2
    slots, slot_edges = np.zeros(size, np.int64), np.empty(size, np.int32)
    for e in range(len(graph.alive)):
        if graph.alive[e]:
            key = _key(graph.end[2 * e], graph.end[2 * e + 1])
            slot = find_slot(slots, key)
            slots[slot], slot_edges[slot] = key, e
    return Table(slots, slot_edges, np.full(1, live, np.int64))


@njit(cache=True, nogil=True)
def _key(a, b):
    return (np.int64(min(a, b)) << 32) | np.int64(max(a, b))
