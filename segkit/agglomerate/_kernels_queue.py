"""Greedy merging of the nodes of a graph by a queue of its contacts, whatever decides.

A cluster goes by the number of one of its nodes, found by union and find, so an edge keeps its ends and its place in
the lists of its nodes when its clusters merge: only contacts that are united are touched. When two are, the edge of the
lower number survives. So an edge's number is the lowest in its contact, which is the tie rule.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from segkit.agglomerate._kernels_contacts import APART, END, NONE, has_room, unite
from segkit.kernels.growable import doubled
from segkit.kernels.pair_table import EMPTY, find_slot, pair_key
from segkit.kernels.union_find import find_root

MAX_EDGES = 2**30  # places in the lists of edges are int32
SHORT = 64
"""A cluster with more entries in its list is a hub."""
MOST_BUCKETS = 2**16


class Lists(NamedTuple):
    """The contacts of each cluster: a chain of the lists of its nodes."""

    starts: np.ndarray
    """Where the list of a node begins, int64 (N + 1,)."""
    entries: np.ndarray
    """(node across, edge), int32 (2 E, 2)."""
    length: np.ndarray
    following: np.ndarray
    """The next node of the chain."""
    last: np.ndarray
    """The last node of the chain of a cluster."""
    parent: np.ndarray
    """The union-find forest."""
    alive: np.ndarray
    """Whether an edge still joins two clusters by itself, bool (E,)."""


class Hubs(NamedTuple):
    """What is known of the length of lists, and scratch."""

    hub: np.ndarray
    stored: np.ndarray
    """How many entries a cluster has."""
    mark: np.ndarray
    near: np.ndarray
    other: np.ndarray


class Contacts(NamedTuple):
    """What is known of contacts: see :mod:`segkit.agglomerate._kernels_contacts`."""

    records: np.ndarray
    runs: np.ndarray
    blocked: np.ndarray
    """Whether a contact keeps its clusters apart, bool (E,), or empty."""


@njit(cache=True, nogil=True)
def merge_all(nodes, edges, rule, contacts, sizes, max_size):
    """All merges in order: int64 (M, 2) nodes of the tree, float64 (M,) scores. Changes all but `edges`.

    Clusters whose `sizes` sum up above `max_size` are not merged, nor are those with a blocked contact between them;
    `sizes` may be empty. Contacts that score APART never merge, but may be united with others, and then have a score.

    Why no list of neighbours that is always up to date, nor a hash of all pairs? Either is changed at all contacts of a
    cluster whenever it merges. Here the shorter list is walked, at most E log N steps in all; the neighbours of the
    other cluster are marked, if it is small, or else looked for in the lists of the neighbours. Only pairs of hubs,
    both of whose lists are long, are hashed.

    Why buckets before the heap? The scores of most contacts are too high to be of interest soon, and many will have
    changed by then: they lie unsorted until their bucket's turn comes. An edge is not moved either when its score
    rises: its entry stays as a lower bound, and goes back with the true score when it comes up.

    Take four nodes and contacts a-b of score 0.1, b-c of 0.3, a-c of 0.5 and c-d of 0.6 (edges 0, 1, 2, 3). First a-b
    merge. Both touch c: edges 1 and 2 are united into 1, whose score, a mean of 0.4 say, is above the 0.3 by which the
    queue holds it. It comes up, goes back, comes up again at 0.4, and ab-c merge; then abc-d.
    """
    lists, hubs = _make_lists(nodes, edges)
    tree_node = np.arange(nodes)
    table = _hash_hubs(edges, hubs.hub)
    records, queue = contacts.records, make_buckets(contacts.records)
    merges, scores, merged = np.empty((max(nodes, 1), 2), np.int64), np.empty(max(nodes, 1)), 0
    while True:
        m = take_lowest(queue, records, lists.alive)
        if m == NONE or records[m].score == APART:
            break
        stays, goes = _sides(find_root(lists.parent, edges[m, 0]), find_root(lists.parent, edges[m, 1]), hubs)
        if len(contacts.blocked) and contacts.blocked[m]:
            continue
        if len(sizes):
            if sizes[stays] + sizes[goes] > max_size:
                continue
            sizes[stays] = sizes[goes] = sizes[stays] + sizes[goes]
        lists.alive[m] = False
        merges[merged, 0], merges[merged, 1], scores[merged] = tree_node[stays], tree_node[goes], records[m].score
        tree_node[stays] = nodes + merged
        merged += 1
        found = _gather(goes, lists, hubs.near)
        hubs.stored[goes] = found
        while not has_room(rule, found, contacts.runs):
            contacts = Contacts(records, doubled(contacts.runs), contacts.blocked)
            contacts.runs[rule.home + END] = len(contacts.runs)
        if table[2][0] + found > 0.5 * len(table[0]):
            table = _hash_again(table, lists.parent, found)
        _unite_neighbours(stays, found, lists, hubs, table, rule, contacts, queue)
        lists.parent[goes] = stays
        lists.following[lists.last[stays]] = goes
        lists.last[stays] = lists.last[goes]
        hubs.stored[stays] += found
        if hubs.stored[stays] > SHORT and not hubs.hub[stays]:
            table = _become_hub(stays, lists, hubs, table)
    return merges[:merged], scores[:merged]


@njit(cache=True, nogil=True)
def _sides(a, b, hubs):
    """The cluster that stays, a hub or the one of the longer list, and the one that goes."""
    if (hubs.hub[b] and not hubs.hub[a]) or (hubs.hub[b] == hubs.hub[a] and hubs.stored[b] > hubs.stored[a]):
        return b, a
    return a, b


@njit(cache=True, nogil=True)
def _unite_neighbours(stays, found, lists, hubs, table, rule, contacts, queue):
    """Unite the contacts of a cluster with those in `near`, of the one that goes into it."""
    slots, slot_edges, used = table
    hub, mark, near, alive, parent = hubs.hub, hubs.mark, hubs.near, lists.alive, lists.parent
    records, runs, blocked, own = contacts.records, contacts.runs, contacts.blocked, 0
    if not hub[stays]:
        own = _gather(stays, lists, hubs.other)
        hubs.stored[stays] = own
        for k in range(own):
            mark[hubs.other[k, 0]] = hubs.other[k, 1]
    for k in range(found):
        across, e = np.int64(near[k, 0]), np.int64(near[k, 1])
        slot = np.int64(NONE)
        if not hub[stays]:
            f = np.int64(mark[across])
        elif hub[across]:
            slot = find_slot(slots, pair_key(stays, across))
            f = np.int64(NONE) if slots[slot] == EMPTY else np.int64(slot_edges[slot])
        else:
            f = _edge_to(stays, across, lists, alive, parent)
        kept = e
        if f != NONE:
            kept, lost = min(e, f), max(e, f)
            alive[lost] = False
            if len(blocked):
                blocked[kept] |= blocked[lost]
            unite(rule, kept, lost, records, runs)
            if records[kept].score < records[kept].queued:
                records[kept].queued = records[kept].score
                put(queue, records[kept].score, kept)
        if slot != NONE:
            used[0] += slots[slot] == EMPTY
            slots[slot], slot_edges[slot] = pair_key(stays, across), kept
    for k in range(own):
        mark[hubs.other[k, 0]] = NONE


@njit(cache=True, nogil=True)
def _become_hub(cluster, lists, hubs, table):
    """Enter the pairs of a cluster whose list has become long, unless it is short once cleaned; the hash table."""
    found = _gather(cluster, lists, hubs.near)
    hubs.stored[cluster] = found
    if found <= SHORT:
        return table
    hubs.hub[cluster] = True
    if table[2][0] + found > 0.5 * len(table[0]):
        table = _hash_again(table, lists.parent, found)
    for k in range(found):
        if hubs.hub[hubs.near[k, 0]]:
            _enter_pair(table, pair_key(cluster, hubs.near[k, 0]), hubs.near[k, 1])
    return table


@njit(cache=True, nogil=True)
def _make_lists(nodes, edges):
    """The lists of all nodes, each a cluster."""
    starts, entries = _incidence(nodes, edges)
    length = (starts[1:] - starts[:-1]).astype(np.int32)
    chains = np.full(nodes, NONE, np.int32), np.arange(nodes).astype(np.int32)
    lists = Lists(
        starts, entries, length, chains[0], chains[1], np.arange(nodes).astype(np.int32), np.ones(len(edges), np.bool_)
    )
    near, other = np.empty((nodes, 2), np.int32), np.empty((SHORT + 1, 2), np.int32)
    return lists, Hubs(length > SHORT, length.copy(), np.full(nodes, NONE, np.int32), near, other)


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
def _gather(cluster, lists, found):
    """Copy the live entries (cluster across, edge) of a cluster to `found`, and close the gaps in its list.

    The list of a cluster is a chain of the lists of its nodes. What is read is written back in front of it.
    """
    starts, entries, length = lists.starts, lists.entries, lists.length
    following, alive, parent = lists.following, lists.alive, lists.parent
    count, written, target = 0, 0, cluster
    node = cluster
    while node != NONE:
        upcoming = following[node]
        for i in range(starts[node], starts[node] + length[node]):
            e = entries[i, 1]
            if not alive[e]:
                continue
            across = find_root(parent, entries[i, 0])
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
    lists.last[cluster] = target
    return count


@njit(cache=True, nogil=True)
def _edge_to(cluster, across, lists, alive, parent):
    """The live edge to `cluster` in the list of `across`, or NONE."""
    starts, entries, length, following = lists.starts, lists.entries, lists.length, lists.following
    node = across
    while node != NONE:
        for i in range(starts[node], starts[node] + length[node]):
            if alive[entries[i, 1]] and find_root(parent, entries[i, 0]) == cluster:
                return np.int64(entries[i, 1])
        node = np.int64(following[node])
    return np.int64(NONE)


@njit(cache=True, nogil=True)
def _hash_hubs(edges, hub):
    """The hash table of the pairs of hubs among the nodes: keys, edges, and how many slots are used, int64 (1,)."""
    pairs = 0
    for e in range(len(edges)):
        pairs += hub[edges[e, 0]] and hub[edges[e, 1]]
    table = _empty_table(pairs)
    for e in range(len(edges)):
        if hub[edges[e, 0]] and hub[edges[e, 1]]:
            _enter_pair(table, pair_key(edges[e, 0], edges[e, 1]), e)
    return table


@njit(cache=True, nogil=True)
def _hash_again(table, parent, room):
    """A table of the pairs of hubs that still are clusters, with room for more."""
    slots, slot_edges, _ = table
    pairs = 0
    for key in slots:
        pairs += key != EMPTY and parent[key >> 32] == key >> 32 and parent[key & 0xFFFFFFFF] == key & 0xFFFFFFFF
    larger = _empty_table(pairs + room)
    for i in range(len(slots)):
        key = slots[i]
        if key != EMPTY and parent[key >> 32] == key >> 32 and parent[key & 0xFFFFFFFF] == key & 0xFFFFFFFF:
            _enter_pair(larger, key, slot_edges[i])
    return larger


@njit(cache=True, nogil=True)
def _empty_table(pairs):
    size = 1024
    while size < 4 * pairs:
        size *= 2
    return np.zeros(size, np.int64), np.empty(size, np.int32), np.zeros(1, np.int64)


@njit(cache=True, nogil=True)
def _enter_pair(table, key, edge):
    slots, slot_edges, used = table
    slot = find_slot(slots, key)
    used[0] += slots[slot] == EMPTY
    slots[slot], slot_edges[slot] = key, edge


@njit(cache=True, nogil=True)
def _bucket(score, buckets):
    return max(min(np.int64(score * buckets), buckets - 1), 0)


@njit(cache=True, nogil=True)
def make_buckets(records):
    """Buckets of edges by score: those of the start in `first`, later ones in lists; the current one is a heap.

    State: current bucket, entries in the heap, first free place of the lists, places used so far. There are never more
    than two entries an edge: one of the start, and one for each time that a contact was united.
    """
    edges = len(records)
    buckets = max(min(edges // 32, MOST_BUCKETS), 1)
    places = np.zeros(buckets + 2, np.int64)
    for e in range(edges):
        places[_bucket(records[e].score, buckets) + 2] += 1
    places = np.cumsum(places)
    first = np.empty(edges, np.int32)
    for e in range(edges):
        bucket = _bucket(records[e].score, buckets)
        first[places[bucket + 1]] = e
        places[bucket + 1] += 1
    heads, following = np.full(buckets, NONE, np.int32), np.empty(2 * edges, np.int32)
    later, heap_scores, heap_edges = np.empty(2 * edges, np.int32), np.empty(2 * edges), np.empty(2 * edges, np.int32)
    state = np.array([NONE, 0, NONE, 0])
    return places[:-1], first, heads, following, later, heap_scores, heap_edges, state


@njit(cache=True, nogil=True)
def put(queue, score, edge):
    """Enter an edge: into the heap, if its bucket is the current one or has passed."""
    _, _, heads, following, later, heap_scores, heap_edges, state = queue
    bucket = _bucket(score, len(heads))
    if bucket <= state[0]:
        state[1] = _push(heap_scores, heap_edges, state[1], score, edge)
        return
    place = state[2]
    if place == NONE:
        place = state[3]
        state[3] += 1
    else:
        state[2] = following[place]
    later[place], following[place] = edge, heads[bucket]
    heads[bucket] = place


@njit(cache=True, nogil=True)
def _enter(queue, records, alive, edge):
    """Enter an edge of the current bucket with its true score, unless it is dead or entered elsewhere."""
    state, buckets = queue[7], len(queue[2])
    if alive[edge] and _bucket(records[edge].queued, buckets) == state[0]:
        records[edge].queued = records[edge].score
        put(queue, records[edge].score, edge)


@njit(cache=True, nogil=True)
def take_lowest(queue, records, alive):
    """Take the live edge of the lowest score, then number, out of the queue; NONE if there is none."""
    starts, first, heads, following, later, heap_scores, heap_edges, state = queue
    while True:
        while state[1] == 0:
            state[0] += 1
            bucket = state[0]
            if bucket >= len(heads):
                return np.int64(NONE)
            for i in range(starts[bucket], starts[bucket + 1]):
                _enter(queue, records, alive, np.int64(first[i]))
            while heads[bucket] != NONE:
                place, edge = heads[bucket], np.int64(later[heads[bucket]])
                heads[bucket] = following[place]
                following[place] = state[2]
                state[2] = place
                _enter(queue, records, alive, edge)
        bound, edge = heap_scores[0], np.int64(heap_edges[0])
        state[1] = _pop(heap_scores, heap_edges, state[1])
        if not alive[edge] or bound != records[edge].queued:
            continue
        if records[edge].score == bound:
            return edge
        records[edge].queued = records[edge].score
        put(queue, records[edge].score, edge)


@njit(cache=True, nogil=True)
def _before(score, edge, other_score, other_edge):
    return score < other_score or (score == other_score and edge < other_edge)


@njit(cache=True, nogil=True)
def _push(scores, edges, size, score, edge):
    place = size
    while place > 0:
        above = (place - 1) >> 2
        if not _before(score, edge, scores[above], edges[above]):
            break
        scores[place], edges[place] = scores[above], edges[above]
        place = above
    scores[place], edges[place] = score, edge
    return size + 1


@njit(cache=True, nogil=True)
def _pop(scores, edges, size):
    """Remove the first; four children a node, for they lie in one line of the cache."""
    size -= 1
    score, edge = scores[size], edges[size]
    place = 0
    while 4 * place + 1 < size:
        child = 4 * place + 1
        for other in range(child + 1, min(child + 4, size)):
            if _before(scores[other], edges[other], scores[child], edges[child]):
                child = other
        if not _before(scores[child], edges[child], score, edge):
            break
        scores[place], edges[place] = scores[child], edges[child]
        place = child
    scores[place], edges[place] = score, edge
    return size
