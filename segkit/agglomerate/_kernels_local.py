"""Merging of clusters that are each other's best neighbours, without a queue.

For the scores "mean" and "min" a united contact is never better than the better of its parts (the linkage is reducible:
M. Bruynooghe 1977). So two clusters that are each other's best neighbours stay so until the greedy order comes to them,
and may merge at once, whatever else has merged by then. The chain from any cluster to its best neighbour, to that one's
best and so on ends at such a pair. All that is touched lies near each other in memory, as long as clusters are small.
"""

import numpy as np
from numba import njit

from segkit._kernels_prefetch import prefetch
from segkit.agglomerate._kernels import EMPTY, doubled, find, find_slot
from segkit.agglomerate._kernels_bounds import BOUND, DEAD, HUB, NONE, build, lowest, push
from segkit.agglomerate._kernels_lists import UNKNOWN, fetch_list, forget_hubs, scan, store, unite, unite_lists

SHORT = 96
"""A cluster with more entries in its list is a hub."""
SWEEPS = (SHORT, 2048, 2**40)
"""Pairs with more entries than this in both lists wait for the next sweep: first what is near, then what is large."""
DONE, FULL, REFUSED = 0, 1, 2
"""Nothing is left to merge; no room for longer lists; a united contact came before its parts."""


@njit(cache=True, nogil=True)
def merge_piece(first, last, top, end, nodes, entries, records, edges, tree, mean):
    """Merge what can be merged among the nodes first to last - 1, without looking at the others.

    Two clusters merge if each is the other's best neighbour and lies in the piece. Lists that grow move to the places
    top to end - 1 of `entries`. Gives the merges, not in order: int64 (M, 3), two nodes of the tree and the edge, and
    float64 (M,) scores; how it ended (see DONE); and the places used. The merge by edge m is node len(nodes) + m of the
    tree; `tree` has the node of each cluster.

    Refuses if a united contact came before both its parts by (score, edge), against what is said above: a mean can be
    rounded to the better of its parts, where a contact has very many affinities, and take the lower edge of the other.

    The lists of hubs are not walked: the list of the other cluster is, and the contact of the hub is looked for in the
    lists of the neighbours, or in a hash table of pairs of hubs. The best contact of a hub comes from a heap of lower
    bounds.
    """
    piece = (first, last)
    forget_hubs(nodes[first:last])
    hubs, hub_count, heap, heap_top = np.empty(last - first + 1, HUB), 0, np.empty(1024, BOUND), 0
    slots, slot_edges, used = np.zeros(1024, np.int64), np.empty(1024, np.int32), 0
    merges, scores, merged = np.empty((last - first, 3), np.int64), np.empty(last - first), 0
    chain, united = np.empty(last - first + 1, np.int32), np.empty((2 * SHORT + 1, 2), np.int32)
    for c in range(first, last):
        if nodes[c].length > SHORT and nodes[c].parent == c:
            slots, slot_edges, used = _room_for(nodes[c].length, nodes, slots, slot_edges, used)
            used += _become_hub(c, hub_count, piece, nodes, entries, records, hubs, slots, slot_edges)
            hub_count += 1
    for limit in SWEEPS:
        for begin in range(first, last):
            if nodes[begin].parent != begin:
                continue
            chain[0], length = begin, 1
            while length:
                c = np.int64(chain[length - 1])
                if nodes[c].best == UNKNOWN:
                    heap, heap_top = _look_for_best(c, piece, nodes, entries, records, hubs, heap, heap_top, edges)
                m = np.int64(nodes[c].best)
                d = np.int64(nodes[c].other)
                if m < 0 or not first <= d < last:
                    break
                d = find(nodes, d)
                if nodes[d].best == UNKNOWN:
                    heap, heap_top = _look_for_best(d, piece, nodes, entries, records, hubs, heap, heap_top, edges)
                if nodes[d].best != m:
                    chain[length] = d
                    length += 1
                    continue
                expected = nodes[c].length + nodes[d].length
                if expected > limit:
                    break
                if top + 2 * expected > end:
                    return merges[:merged], scores[:merged], FULL, top
                length -= 2 if length > 1 and chain[length - 2] == d else 1
                stays, goes = c, d
                hub, other = nodes[c].hub >= 0, nodes[d].hub >= 0
                if other > hub or (other == hub and nodes[d].length > nodes[c].length):
                    stays, goes = d, c
                merges[merged, 0], merges[merged, 1], merges[merged, 2] = tree[stays], tree[goes], m
                scores[merged] = records[m].score
                tree[stays] = len(nodes) + m
                merged += 1
                records[m].queued = DEAD
                if nodes[stays].hub < 0:
                    found = unite_lists(stays, goes, piece, nodes, entries, records, mean, united, hubs, heap)
                    if found < 0:
                        return merges[:0], scores[:0], REFUSED, top
                    if found > nodes[stays].room:
                        nodes[stays].start, nodes[stays].room = top, 2 * found
                        top += 2 * found
                    nodes[goes].parent = stays
                    store(stays, nodes, entries, records, united[:found])
                    if found > SHORT:
                        slots, slot_edges, used = _room_for(found, nodes, slots, slot_edges, used)
                        used += _become_hub(stays, hub_count, piece, nodes, entries, records, hubs, slots, slot_edges)
                        hub_count += 1
                else:
                    if expected > nodes[stays].room:
                        start = nodes[stays].start
                        entries[top : top + nodes[stays].length] = entries[start : start + nodes[stays].length]
                        nodes[stays].start, nodes[stays].room = top, 2 * expected
                        top += 2 * expected
                    slots, slot_edges, used = _room_for(nodes[goes].length, nodes, slots, slot_edges, used)
                    new = _absorb(stays, goes, piece, nodes, entries, records, mean, hubs, heap, slots, slot_edges)
                    if new < 0:
                        return merges[:0], scores[:0], REFUSED, top
                    used += new
                    nodes[goes].parent = stays
                    nodes[stays].best = UNKNOWN
                if length == 0:
                    chain[0], length = stays, 1
    return merges[:merged], scores[:merged], DONE, top


@njit(cache=True, nogil=True)
def _look_for_best(cluster, piece, nodes, entries, records, hubs, heap, heap_top, edges):
    """Fill in the best contact of a cluster; contacts that are gone leave its list. The heap, and its places used."""
    node = nodes[cluster]
    if node.hub >= 0:
        hub = hubs[node.hub]
        if hub.size == NONE:
            scan(cluster, nodes, entries, records)
            if 2 * node.length > hub.room:
                hub.start, hub.room = heap_top, 2 * node.length + 16
                heap_top += hub.room
                while heap_top > len(heap):
                    heap = doubled(heap)
            build(hub, heap, entries[node.start : node.start + node.length], records)
        node.best = lowest(hub, heap, records)
        if node.best >= 0:
            one, other = edges[node.best, 0], edges[node.best, 1]
            node.other = other if piece[0] <= one < piece[1] and find(nodes, one) == cluster else one
    else:
        scan(cluster, nodes, entries, records)
    return heap, heap_top


@njit(cache=True, nogil=True)
def _absorb(stays, goes, piece, nodes, entries, records, mean, hubs, heap, slots, slot_edges):
    """Give the contacts of a cluster to a hub; new pairs in the hash table, or -1 as in `unite_lists`."""
    node, hub = nodes[stays], hubs[nodes[stays].hub]
    new = 0
    fetch_list(goes, nodes, entries, records)
    for i in range(nodes[goes].start, nodes[goes].start + nodes[goes].length):
        across = np.int64(entries[i, 0])
        if piece[0] <= across < piece[1]:
            across = find(nodes, across)
            entries[i, 0] = across
            prefetch(entries, np.int64(nodes[across].start) * 2)
            prefetch(entries, np.int64(nodes[across].start) * 2 + 16)
    for i in range(nodes[goes].start, nodes[goes].start + nodes[goes].length):
        e = np.int64(entries[i, 1])
        if records[e].queued == DEAD:
            continue
        across, kept = np.int64(entries[i, 0]), e
        if piece[0] <= across < piece[1]:
            slot, f = np.int64(NONE), np.int64(NONE)
            if nodes[across].hub >= 0:
                slot = find_slot(slots, _key(stays, across))
                if slots[slot] == EMPTY:
                    new += 1
                    slots[slot] = _key(stays, across)
                else:
                    f = np.int64(slot_edges[slot])
            else:
                f = _rename(across, stays, e, nodes, entries)
            if f != NONE:
                kept = min(e, f)
                dropped = unite(e, f, across, nodes, records, mean, hubs, heap)
                if dropped < 0:
                    return -1
                if dropped and kept == f:
                    push(hub, heap, records[f].score, f)
            if slot != NONE:
                slot_edges[slot] = kept
        if kept == e:
            push(hub, heap, records[e].score, e)
            place = node.start + node.length
            entries[place, 0], entries[place, 1] = across, e
            node.length += 1
    return new


@njit(cache=True, nogil=True)
def _rename(cluster, hub, e, nodes, entries):
    """Let the list of a cluster say that edge e leads to `hub`. If another edge does, give it, and keep the lower one.

    So a cluster that is no hub names each hub beside it once, and its lists need no search for the clusters behind.
    """
    node = nodes[cluster]
    place, own, last = np.int64(NONE), np.int64(NONE), np.int64(node.start) + node.length - 1
    for i in range(node.start, last + 1):
        if entries[i, 0] == hub:
            place = i
        if entries[i, 1] == e:
            own = i
    if place == NONE:
        entries[own, 0] = hub
        return np.int64(NONE)
    f = np.int64(entries[place, 1])
    entries[place, 1] = min(e, f)
    entries[own, 0], entries[own, 1] = entries[last, 0], entries[last, 1]
    node.length -= 1
    return f


@njit(cache=True, nogil=True)
def _key(a, b):
    return ((np.int64(min(a, b)) + 1) << 32) | np.int64(max(a, b))


@njit(cache=True, nogil=True)
def _become_hub(cluster, number, piece, nodes, entries, records, hubs, slots, slot_edges):
    """Enter a cluster among the hubs; new pairs in the hash table."""
    node = nodes[cluster]
    node.hub, node.best = number, UNKNOWN
    hubs[number].size, hubs[number].room = NONE, 0
    new = 0
    for i in range(node.start, node.start + node.length):
        across, e = np.int64(entries[i, 0]), np.int64(entries[i, 1])
        if records[e].queued == DEAD or not piece[0] <= across < piece[1]:
            continue
        across = find(nodes, across)
        if nodes[across].hub >= 0:
            slot = find_slot(slots, _key(cluster, across))
            new += slots[slot] == EMPTY
            slots[slot], slot_edges[slot] = _key(cluster, across), e
        else:
            _name_once(cluster, nodes[across], entries, e)
    return new


@njit(cache=True, nogil=True)
def _name_once(hub, node, entries, e):
    """Let edge e alone lead to `hub`; other entries that do are gone."""
    i = np.int64(node.start)
    while i < node.start + node.length:
        if entries[i, 1] == e:
            entries[i, 0] = hub
        elif entries[i, 0] == hub:
            node.length -= 1
            last = node.start + node.length
            entries[i, 0], entries[i, 1] = entries[last, 0], entries[last, 1]
            continue
        i += 1


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
    a, b = (key >> 32) - 1, key & 0xFFFFFFFF
    return nodes[a].parent == a and nodes[b].parent == b
