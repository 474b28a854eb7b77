"""Merging of clusters that are each other's best neighbours, without a queue.

For the scores "mean" and "min" a united contact is never better than the better of its parts (the linkage is reducible:
M. Bruynooghe 1977). So two clusters that are each other's best neighbours stay so until the greedy order comes to them,
and may merge at once. The chain from any cluster to its best neighbour, to that one's best and so on ends at such a
pair. All that is touched lies near each other in memory, as long as clusters are small.
"""

import numpy as np
from numba import njit

from segkit.agglomerate._kernels import EMPTY, UNIT, doubled, find_slot
from segkit.agglomerate._kernels_bounds import BOUND, DEAD, HUB, NONE, NOTHING, build, lowest, push

UNKNOWN = -1
MAX_EDGES = 2**26  # places in the lists of contacts are int32, and lists are moved when they grow
SHORT = 96
"""A cluster with more entries in its list is a hub."""
SWEEPS = (SHORT, 2048, 2**40)
"""Pairs with more entries than this in both lists wait for the next sweep: first what is near, then what is large."""
NODE = np.dtype([(name, "i4") for name in ("parent", "start", "room", "length", "best", "other", "mark", "hub")])
"""Of a cluster, in half a line of the cache: its place in the union-find forest, its list of contacts (start, room and
length), its best contact and a node of the cluster behind it, scratch, and its number among the hubs."""


@njit(cache=True, nogil=True)
def merge_locally(count, edges, records, mean):
    """All merges, not in order: int64 (M, 3), two nodes of the tree and the edge, and float64 (M,) scores.

    `records` as for `merge_all`; changed. No merges if a united contact came before both its parts by (score, edge),
    against what is said above: a mean can be rounded to the better of its parts, where a contact has very many
    affinities, and take the lower edge of the other.

    The lists of hubs are not walked: the list of the other cluster is, and the contact of the hub is looked for in the
    lists of the neighbours, or in a hash table of pairs of hubs. The best contact of a hub comes from a heap of lower
    bounds.
    """
    nodes, entries, top = _lists(count, edges)
    tree = np.arange(count)
    hubs, hub_count, heap, heap_top = np.empty(count + 1, HUB), 0, np.empty(1024, BOUND), 0
    slots, slot_edges, used = np.zeros(1024, np.int64), np.empty(1024, np.int32), 0
    merges, scores, merged = np.empty((count, 3), np.int64), np.empty(count), 0
    chain, united = np.empty(count + 1, np.int32), np.empty((2 * SHORT + 1, 2), np.int32)
    for c in range(count):
        if nodes[c].length > SHORT:
            slots, slot_edges, used = _room_for(nodes[c].length, nodes, slots, slot_edges, used)
            used += _become_hub(c, hub_count, nodes, entries, records, hubs, slots, slot_edges)
            hub_count += 1
    for limit in SWEEPS:
        for begin in range(count):
            if nodes[begin].parent != begin:
                continue
            chain[0], length = begin, 1
            while length:
                c = np.int64(chain[length - 1])
                if nodes[c].best == UNKNOWN:
                    heap, heap_top = _look_for_best(c, nodes, entries, records, hubs, heap, heap_top, edges)
                m = np.int64(nodes[c].best)
                if m < 0:
                    break
                d = _find(nodes, nodes[c].other)
                if nodes[d].best == UNKNOWN:
                    heap, heap_top = _look_for_best(d, nodes, entries, records, hubs, heap, heap_top, edges)
                if nodes[d].best != m:
                    chain[length] = d
                    length += 1
                    continue
                expected = nodes[c].length + nodes[d].length
                if expected > limit:
                    break
                length -= 2 if length > 1 and chain[length - 2] == d else 1
                stays, goes = c, d
                hub, other = nodes[c].hub >= 0, nodes[d].hub >= 0
                if other > hub or (other == hub and nodes[d].length > nodes[c].length):
                    stays, goes = d, c
                merges[merged, 0], merges[merged, 1], merges[merged, 2] = tree[stays], tree[goes], m
                scores[merged] = records[m].score
                tree[stays] = count + merged
                merged += 1
                records[m].queued = DEAD
                if nodes[stays].hub < 0:
                    found = _unite_lists(stays, goes, nodes, entries, records, mean, united, hubs, heap)
                    if found < 0:
                        return merges[:0], scores[:0]
                    if found > nodes[stays].room:
                        entries = _enough(entries, top + 2 * found)
                        nodes[stays].start, nodes[stays].room = top, 2 * found
                        top += 2 * found
                    nodes[goes].parent = stays
                    _store(stays, nodes, entries, records, united[:found])
                    if found > SHORT:
                        slots, slot_edges, used = _room_for(found, nodes, slots, slot_edges, used)
                        used += _become_hub(stays, hub_count, nodes, entries, records, hubs, slots, slot_edges)
                        hub_count += 1
                else:
                    if expected > nodes[stays].room:
                        entries = _enough(entries, top + 2 * expected)
                        start = nodes[stays].start
                        entries[top : top + nodes[stays].length] = entries[start : start + nodes[stays].length]
                        nodes[stays].start, nodes[stays].room = top, 2 * expected
                        top += 2 * expected
                    slots, slot_edges, used = _room_for(nodes[goes].length, nodes, slots, slot_edges, used)
                    new = _absorb(stays, goes, nodes, entries, records, mean, hubs, heap, slots, slot_edges)
                    if new < 0:
                        return merges[:0], scores[:0]
                    used += new
                    nodes[goes].parent = stays
                    nodes[stays].best = UNKNOWN
                if length == 0:
                    chain[0], length = stays, 1
    return merges[:merged], scores[:merged]


@njit(cache=True, nogil=True)
def _lists(count, edges):
    """Nodes (see NODE), the lists (node across, edge) of all with room for more, and the places used."""
    nodes = np.empty(count, NODE)
    for i in range(count):
        node = nodes[i]
        node.parent, node.hub, node.mark, node.length, node.room, node.best = i, NONE, NONE, 0, 0, UNKNOWN
    for e in range(len(edges)):
        nodes[edges[e, 0]].room += 1
        nodes[edges[e, 1]].room += 1
    top = 0
    for i in range(count):
        nodes[i].start = top
        top += nodes[i].room
    entries = np.empty((2 * top, 2), np.int32)
    for e in range(len(edges)):
        for k in range(2):
            node = nodes[edges[e, k]]
            place = node.start + node.length
            entries[place, 0], entries[place, 1] = edges[e, 1 - k], e
            node.length += 1
    return nodes, entries, top


@njit(cache=True, nogil=True)
def _enough(array, size):
    """The array, or a longer copy."""
    while size > len(array):
        array = doubled(array)
    return array


@njit(cache=True, nogil=True)
def _find(nodes, node):
    """The cluster that a node is in; halves the path."""
    while nodes[node].parent != node:
        above = nodes[node].parent
        nodes[node].parent = nodes[above].parent
        node = nodes[node].parent
    return np.int64(node)


@njit(cache=True, nogil=True)
def _look_for_best(cluster, nodes, entries, records, hubs, heap, heap_top, edges):
    """Fill in the best contact of a cluster; contacts that are gone leave its list. The heap, and its places used."""
    node = nodes[cluster]
    if node.hub >= 0:
        hub = hubs[node.hub]
        if hub.size == NONE:
            _scan(cluster, nodes, entries, records)
            if 2 * node.length > hub.room:
                hub.start, hub.room = heap_top, 2 * node.length + 16
                heap_top += hub.room
                heap = _enough(heap, heap_top)
            build(hub, heap, entries[node.start : node.start + node.length], records)
        node.best = lowest(hub, heap, records)
        if node.best >= 0:
            e = node.best
            node.other = edges[e, 0] if _find(nodes, edges[e, 0]) != cluster else edges[e, 1]
    else:
        _scan(cluster, nodes, entries, records)
    return heap, heap_top


@njit(cache=True, nogil=True)
def _scan(cluster, nodes, entries, records):
    """Fill in the best contact of a cluster; contacts that are gone leave its list."""
    node = nodes[cluster]
    written, best, other, score = np.int64(node.start), np.int64(NOTHING), np.int64(0), np.inf
    for i in range(node.start, node.start + node.length):
        e = np.int64(entries[i, 1])
        if records[e].queued == DEAD:
            continue
        entries[written, 0], entries[written, 1] = entries[i, 0], e
        written += 1
        if records[e].score < score or (records[e].score == score and e < best):
            best, other, score = e, np.int64(entries[i, 0]), records[e].score
    node.length, node.best, node.other = written - node.start, best, other


@njit(cache=True, nogil=True)
def _unite_lists(stays, goes, nodes, entries, records, mean, united, hubs, heap):
    """The contacts of both, each once; how many, or -1 if a united contact is better than its parts."""
    found = 0
    for i in range(nodes[stays].start, nodes[stays].start + nodes[stays].length):
        e = entries[i, 1]
        if records[e].queued != DEAD:
            across = _find(nodes, entries[i, 0])
            nodes[across].mark = found
            united[found, 0], united[found, 1] = across, e
            found += 1
    common = found
    for i in range(nodes[goes].start, nodes[goes].start + nodes[goes].length):
        e = np.int64(entries[i, 1])
        if records[e].queued == DEAD:
            continue
        across = _find(nodes, entries[i, 0])
        place = nodes[across].mark
        if place < 0:
            united[found, 0], united[found, 1] = across, e
            found += 1
            continue
        f = np.int64(united[place, 1])
        united[place, 1] = min(e, f)
        if _unite(e, f, across, nodes, records, mean, hubs, heap) < 0:
            return -1
    for k in range(common):
        nodes[united[k, 0]].mark = NONE
    return found


@njit(cache=True, nogil=True)
def _absorb(stays, goes, nodes, entries, records, mean, hubs, heap, slots, slot_edges):
    """Give the contacts of a cluster to a hub; new pairs in the hash table, or -1 as in `_unite_lists`."""
    node, hub = nodes[stays], hubs[nodes[stays].hub]
    new = 0
    for i in range(nodes[goes].start, nodes[goes].start + nodes[goes].length):
        e = np.int64(entries[i, 1])
        if records[e].queued == DEAD:
            continue
        across = _find(nodes, entries[i, 0])
        slot = np.int64(NONE)
        if nodes[across].hub >= 0:
            slot = find_slot(slots, _key(stays, across))
            f = np.int64(NONE) if slots[slot] == EMPTY else np.int64(slot_edges[slot])
        else:
            f = _contact_of(across, stays, nodes, entries, records)
        kept = e
        if f != NONE:
            kept = min(e, f)
            dropped = _unite(e, f, across, nodes, records, mean, hubs, heap)
            if dropped < 0:
                return -1
            if dropped and kept == f:
                push(hub, heap, records[f].score, f)
        if slot != NONE:
            new += slots[slot] == EMPTY
            slots[slot], slot_edges[slot] = _key(stays, across), kept
        if kept == e:
            push(hub, heap, records[e].score, e)
            place = node.start + node.length
            entries[place, 0], entries[place, 1] = across, e
            node.length += 1
    return new


@njit(cache=True, nogil=True)
def _contact_of(cluster, hub, nodes, entries, records):
    """The live edge to `hub` in the list of a cluster, or NONE."""
    node = nodes[cluster]
    for i in range(node.start, node.start + node.length):
        if records[entries[i, 1]].queued != DEAD and _find(nodes, entries[i, 0]) == hub:
            return np.int64(entries[i, 1])
    return np.int64(NONE)


@njit(cache=True, nogil=True)
def _unite(e, f, across, nodes, records, mean, hubs, heap):
    """Unite two contacts with `across`. 1 if the score of the one kept is lower now, 0 if not; -1: better than both."""
    kept, lost = min(e, f), max(e, f)
    one, two = records[kept], records[lost]
    before, better = one.score, min(one.score, two.score)
    if mean:
        one.count += two.count
        one.sum += two.sum
        one.score = 1.0 - one.sum / UNIT / one.count
    else:
        one.score = max(one.score, two.score)
    two.queued = DEAD
    if one.score < better or (one.score == better and before > better):
        return -1
    if nodes[across].best == kept or nodes[across].best == lost:
        nodes[across].best = UNKNOWN
    if one.score < before:
        if nodes[across].hub >= 0:
            push(hubs[nodes[across].hub], heap, one.score, kept)
        return 1
    return 0


@njit(cache=True, nogil=True)
def _store(cluster, nodes, entries, records, united):
    """Write the list of a cluster, and find its best contact."""
    node = nodes[cluster]
    node.length = len(united)
    for k in range(len(united)):
        entries[node.start + k, 0], entries[node.start + k, 1] = united[k, 0], united[k, 1]
    _scan(cluster, nodes, entries, records)


@njit(cache=True, nogil=True)
def _key(a, b):
    return (np.int64(min(a, b)) << 32) | np.int64(max(a, b))


@njit(cache=True, nogil=True)
def _become_hub(cluster, number, nodes, entries, records, hubs, slots, slot_edges):
    """Enter a cluster among the hubs; new pairs in the hash table."""
    node = nodes[cluster]
    node.hub, node.best = number, UNKNOWN
    hubs[number].size, hubs[number].room = NONE, 0
    new = 0
    for i in range(node.start, node.start + node.length):
        across = _find(nodes, entries[i, 0])
        if records[entries[i, 1]].queued != DEAD and nodes[across].hub >= 0:
            slot = find_slot(slots, _key(cluster, across))
            new += slots[slot] == EMPTY
            slots[slot], slot_edges[slot] = _key(cluster, across), entries[i, 1]
    return new


@njit(cache=True, nogil=True)
def _room_for(more, nodes, slots, slot_edges, used):
    """The hash table and its used slots, or one of the pairs that still are clusters, with room for more."""
    if used + more <= 0.5 * len(slots):
        return slots, slot_edges, used
    used = 0
    for key in slots:
        used += key != EMPTY and _both_are(nodes, key)
    size = 1024
    while size < 4 * (used + more):
        size *= 2
    new_slots, new_edges = np.zeros(size, np.int64), np.empty(size, np.int32)
    for i in range(len(slots)):
        if slots[i] != EMPTY and _both_are(nodes, slots[i]):
            slot = find_slot(new_slots, slots[i])
            new_slots[slot], new_edges[slot] = slots[i], slot_edges[i]
    return new_slots, new_edges, used


@njit(cache=True, nogil=True)
def _both_are(nodes, key):
    a, b = key >> 32, key & 0xFFFFFFFF
    return nodes[a].parent == a and nodes[b].parent == b
