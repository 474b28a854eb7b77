"""Greedy merging of the nodes of a graph.

A cluster goes by the number of one of its nodes, found by union and find, so an edge keeps its ends and its place in
the lists of its nodes when its clusters merge: only contacts that are united are touched. When two are, the edge of the
lower number survives. So an edge's number is the lowest in its contact, which is the tie rule.
"""

import numpy as np
from numba import njit

from segkit.agglomerate._kernels import EMPTY, UNIT, find_slot
from segkit.agglomerate._kernels_buckets import NONE, make_buckets, put, take_lowest
from segkit.agglomerate.scores import MILLION

MEAN, MIN, MAX, QUANTILE = 0, 1, 2, 3
MAX_EDGES = 2**30  # places in the lists of edges are int32
RECORD = np.dtype([("count", "i8"), ("sum", "i8"), ("score", "f8"), ("queued", "f8")])
"""Of an edge, in half a line of the cache: statistics, score, and the score at which the queue holds it, if lower."""
HUB = 64
"""A cluster with more entries in its list is a hub."""


@njit(cache=True, nogil=True)
def score_edges(mode, records, lists, levels, per_million, bins):
    """Fill in the score of each edge; see `merge_all` for the arguments. MIN and MAX have it already."""
    for e in range(len(records)):
        if mode in (MEAN, QUANTILE):
            records[e].score = _score(e, mode, records, lists, levels, per_million, bins)
        records[e].queued = records[e].score


@njit(cache=True, nogil=True)
def merge_all(nodes, edges, mode, records, lists, levels, per_million, bins, sizes, max_size, blocked):
    """All merges in order: int64 (M, 2) nodes of the tree, float64 (M,) scores. Changes all but `edges`.

    `records` (see RECORD): MEAN needs count and sum, QUANTILE the count, and all their scores. `lists` = (head of edge,
    next, bin, count): QUANTILE's histograms, each a list of the bins that are not empty, in increasing order; `levels`
    the value of each entry, or empty where it is the middle of its bin. Clusters whose `sizes` sum up above `max_size`
    are not merged, nor are those with a `blocked` edge between them; both may be empty.

    Why no list of neighbours that is always up to date, nor a hash of all pairs? Either is changed at all contacts of a
    cluster whenever it merges. Here the shorter list is walked, at most E log N steps in all; the neighbours of the
    other cluster are marked, if it is small, or else looked for in the lists of the neighbours. Only pairs of hubs,
    both of whose lists are long, are hashed.

    Why buckets before the heap? The scores of most contacts are too high to be of interest soon, and many will have
    changed by then: they lie unsorted until their bucket's turn comes. An edge is not moved either when its score
    rises: its entry stays as a lower bound, and goes back with the true score when it comes up.
    """
    alive = np.ones(len(edges), np.bool_)
    starts, entries = _incidence(nodes, edges)
    length = (starts[1:] - starts[:-1]).astype(np.int32)
    graph = (starts, entries, length, np.full(nodes, NONE, np.int32), np.arange(nodes, dtype=np.int32))
    stored = length.copy()
    parent, tree_node = np.arange(nodes, dtype=np.int32), np.arange(nodes)
    hub, mark = stored > HUB, np.full(nodes, NONE, np.int32)
    near, other = np.empty((nodes, 2), np.int32), np.empty((HUB + 1, 2), np.int32)
    slots, slot_edges, used = _hash_hubs(edges, hub)
    queue = make_buckets(records)
    merges, scores, merged = np.empty((max(nodes, 1), 2), np.int64), np.empty(max(nodes, 1)), 0
    while True:
        m = take_lowest(queue, records, alive)
        if m == NONE:
            break
        stays, goes = _find(parent, edges[m, 0]), _find(parent, edges[m, 1])
        if len(blocked) and blocked[m]:
            continue
        if len(sizes):
            if sizes[stays] + sizes[goes] > max_size:
                continue
            sizes[stays] = sizes[goes] = sizes[stays] + sizes[goes]
        alive[m] = False
        if (hub[goes] and not hub[stays]) or (hub[goes] == hub[stays] and stored[goes] > stored[stays]):
            stays, goes = goes, stays
        merges[merged, 0], merges[merged, 1], scores[merged] = tree_node[stays], tree_node[goes], records[m].score
        tree_node[stays] = nodes + merged
        merged += 1

        found = _gather(goes, graph, alive, parent, near)
        stored[goes] = found
        if used + found > 0.5 * len(slots):
            slots, slot_edges, used = _hash_again(slots, slot_edges, parent, found)
        if not hub[stays]:
            stored[stays] = _gather(stays, graph, alive, parent, other)
            for k in range(stored[stays]):
                mark[other[k, 0]] = other[k, 1]
        for k in range(found):
            across, e = np.int64(near[k, 0]), np.int64(near[k, 1])
            slot = np.int64(NONE)
            if not hub[stays]:
                f = np.int64(mark[across])
            elif hub[across]:
                slot = find_slot(slots, _key(stays, across))
                f = np.int64(NONE) if slots[slot] == EMPTY else np.int64(slot_edges[slot])
            else:
                f = _edge_to(stays, across, graph, alive, parent)
            kept = e
            if f != NONE:
                kept, lost = min(e, f), max(e, f)
                alive[lost] = False
                if len(blocked):
                    blocked[kept] |= blocked[lost]
                _unite(kept, lost, mode, records, lists, levels, per_million, bins)
                if records[kept].score < records[kept].queued:
                    records[kept].queued = records[kept].score
                    put(queue, records[kept].score, kept)
            if slot != NONE:
                used += slots[slot] == EMPTY
                slots[slot], slot_edges[slot] = _key(stays, across), kept
        if not hub[stays]:
            for k in range(stored[stays]):
                mark[other[k, 0]] = NONE
        parent[goes] = stays
        _join(stays, goes, graph)
        stored[stays] += found
        if stored[stays] > HUB and not hub[stays]:
            stored[stays] = _gather(stays, graph, alive, parent, near)
            if stored[stays] > HUB:
                hub[stays] = True
                if used + stored[stays] > 0.5 * len(slots):
                    slots, slot_edges, used = _hash_again(slots, slot_edges, parent, stored[stays])
                for k in range(stored[stays]):
                    if hub[near[k, 0]]:
                        key = _key(stays, near[k, 0])
                        slot = find_slot(slots, key)
                        used += slots[slot] == EMPTY
                        slots[slot], slot_edges[slot] = key, near[k, 1]
    return merges[:merged], scores[:merged]


@njit(cache=True, nogil=True)
def lists_of_bins(starts, numbers, weights):
    """Lists for `merge_all` from sorted bins, those of edge e at starts[e] to starts[e + 1], and how often each counts.

    Equal bins become one entry. No weights: each counts once.
    """
    head = np.full(len(starts) - 1, NONE, np.int64)
    following = np.full(len(numbers), NONE, np.int64)
    bins, counts = np.empty(len(numbers), np.int32), np.empty(len(numbers), np.int64)
    found = 0
    for e in range(len(head)):
        for i in range(starts[e], starts[e + 1]):
            weight = weights[i] if len(weights) else 1
            if i > starts[e] and bins[found - 1] == numbers[i]:
                counts[found - 1] += weight
                continue
            bins[found], counts[found] = numbers[i], weight
            if i == starts[e]:
                head[e] = found
            else:
                following[found - 1] = found
            found += 1
    return head, following[:found], bins[:found], counts[:found]


@njit(cache=True, nogil=True)
def _score(e, mode, records, lists, levels, per_million, bins):
    count = records[e].count
    if mode == MEAN:
        return 1.0 - records[e].sum / UNIT / count
    head, following, bin_numbers, counts = lists
    pivot = min(count * per_million // MILLION + 1, count)
    entry = head[e]
    below = counts[entry]
    while below < pivot:
        entry = following[entry]
        below += counts[entry]
    if len(levels):
        return 1.0 - np.float64(levels[entry])
    return 1.0 - (bin_numbers[entry] + 0.5) / bins


@njit(cache=True, nogil=True)
def _unite(kept, lost, mode, records, lists, levels, per_million, bins):
    """Unite the statistics of two contacts in the first, and score it."""
    one, two = records[kept], records[lost]
    if mode == MAX:
        one.score = min(one.score, two.score)
    elif mode == MIN:
        one.score = max(one.score, two.score)
    else:
        one.count += two.count
        one.sum += two.sum
        if mode == QUANTILE:
            _merge_lists(kept, lost, lists)
        one.score = _score(kept, mode, records, lists, levels, per_million, bins)


@njit(cache=True, nogil=True)
def _merge_lists(kept, lost, lists):
    """Merge two sorted lists of bins in place: no memory is taken, and equal bins become one."""
    head, following, bins, counts = lists
    a, b = head[kept], head[lost]
    last = np.int64(NONE)
    while b != NONE:
        if a != NONE and bins[a] == bins[b]:
            counts[a] += counts[b]
            b = following[b]
            continue
        if a != NONE and bins[a] < bins[b]:
            last, a = a, following[a]
            continue
        upcoming = following[b]
        following[b] = a
        if last == NONE:
            head[kept] = b
        else:
            following[last] = b
        last, b = b, upcoming
    head[lost] = NONE


@njit(cache=True, nogil=True)
def _incidence(nodes, edges):
    """Where each node's list begins, int64 (nodes + 1,), and the entries (node across, edge), int32 (2 E, 2)."""
    places = np.zeros(nodes + 2, np.int64)
    for e in range(len(edges)):
        places[edges[e, 0] + 2] += 1
        places[edges[e, 1] + 2] += 1
    places = np.cumsum(places)
    entries = np.empty((2 * len(edges), 2), np.int32)
    for e in range(len(edges)):
        for side in range(2):
            node = edges[e, side]
            entries[places[node + 1], 0], entries[places[node + 1], 1] = edges[e, 1 - side], e
            places[node + 1] += 1
    return places[:-1], entries


@njit(cache=True, nogil=True)
def _find(parent, node):
    """The cluster of a node; paths are halved on the way."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return np.int64(node)


@njit(cache=True, nogil=True)
def _gather(cluster, graph, alive, parent, found):
    """Copy the live entries (cluster across, edge) of a cluster to `found`, and close the gaps in its list.

    The list of a cluster is a chain of the lists of its nodes. What is read is written back in front of it.
    """
    starts, entries, length, following, last = graph
    count, written, target = 0, 0, cluster
    node = cluster
    while node != NONE:
        upcoming = following[node]
        for i in range(starts[node], starts[node] + length[node]):
            e = entries[i, 1]
            if not alive[e]:
                continue
            across = _find(parent, entries[i, 0])
            while written == starts[target + 1] - starts[target]:
                length[target] = written
                target, written = np.int64(following[target]), 0
            place = starts[target] + written
            entries[place, 0], entries[place, 1] = across, e
            written += 1
            found[count, 0], found[count, 1] = across, e
            count += 1
        node = np.int64(upcoming)
    length[target] = written
    following[target] = NONE
    last[cluster] = target
    return count


@njit(cache=True, nogil=True)
def _join(stays, goes, graph):
    """Append one chain to another."""
    _, _, _, following, last = graph
    following[last[stays]] = goes
    last[stays] = last[goes]


@njit(cache=True, nogil=True)
def _edge_to(cluster, across, graph, alive, parent):
    """The live edge to `cluster` in the list of `across`, or NONE."""
    starts, entries, length, following, _ = graph
    node = across
    while node != NONE:
        for i in range(starts[node], starts[node] + length[node]):
            if alive[entries[i, 1]] and _find(parent, entries[i, 0]) == cluster:
                return np.int64(entries[i, 1])
        node = np.int64(following[node])
    return np.int64(NONE)


@njit(cache=True, nogil=True)
def _hash_hubs(edges, hub):
    """Keys, edges, and number of the pairs of hubs among the nodes."""
    used = 0
    for e in range(len(edges)):
        used += hub[edges[e, 0]] and hub[edges[e, 1]]
    size = 1024
    while size < 4 * used:
        size *= 2
    slots, slot_edges = np.zeros(size, np.int64), np.empty(size, np.int32)
    for e in range(len(edges)):
        if hub[edges[e, 0]] and hub[edges[e, 1]]:
            key = _key(edges[e, 0], edges[e, 1])
            slot = find_slot(slots, key)
            slots[slot], slot_edges[slot] = key, e
    return slots, slot_edges, used


@njit(cache=True, nogil=True)
def _hash_again(slots, slot_edges, parent, room):
    """A table of the pairs of hubs that still are clusters, with room for more."""
    used = 0
    for key in slots:
        used += key != EMPTY and parent[key >> 32] == key >> 32 and parent[key & 0xFFFFFFFF] == key & 0xFFFFFFFF
    size = 1024
    while size < 4 * (used + room):
        size *= 2
    new_slots, new_edges = np.zeros(size, np.int64), np.empty(size, np.int32)
    for i in range(len(slots)):
        key = slots[i]
        if key != EMPTY and parent[key >> 32] == key >> 32 and parent[key & 0xFFFFFFFF] == key & 0xFFFFFFFF:
            slot = find_slot(new_slots, key)
            new_slots[slot], new_edges[slot] = key, slot_edges[i]
    return new_slots, new_edges, used


@njit(cache=True, nogil=True)
def _key(a, b):
    return (np.int64(min(a, b)) << 32) | np.int64(max(a, b))
