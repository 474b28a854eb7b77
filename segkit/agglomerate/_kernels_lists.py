"""Clusters and the lists of their contacts, for :mod:`segkit.agglomerate._kernels_local`.

A piece of the graph is a range of nodes. Whoever merges in a piece changes its nodes, their lists and the contacts
inside alone. Contacts that lead outside stay as they are, several with one cluster perhaps: uniting them later makes
none better, so each is a lower bound.
"""

import numpy as np
from numba import njit

from segkit._kernels_prefetch import prefetch
from segkit.agglomerate._kernels import UNIT, find
from segkit.agglomerate._kernels_bounds import BOUND, DEAD, HUB, NONE, NOTHING, push

UNKNOWN = -1
NODE = np.dtype([(name, "i4") for name in ("parent", "start", "room", "length", "best", "other", "mark", "hub")])
"""Of a cluster, in half a line of the cache: its place in the union-find forest, its list of contacts (start, room and
length), its best contact and a node of the cluster behind it, scratch, and its number among the hubs."""


@njit(cache=True, nogil=True)
def degrees(edges, rooms):
    """Add the number of edges of each node."""
    for e in range(len(edges)):
        rooms[edges[e, 0]] += 1
        rooms[edges[e, 1]] += 1


@njit(cache=True, nogil=True)
def fill_lists(edges, records, starts, rooms, nodes, entries):
    """Nodes (see NODE) and their lists (node across, edge), from place starts[node], with their best contacts."""
    for i in range(len(nodes)):
        node = nodes[i]
        node.parent, node.hub, node.mark, node.length, node.best = i, NONE, NONE, 0, NOTHING
        node.start, node.room = starts[i], rooms[i]
    for e in range(len(edges)):
        for k in range(2):
            node = nodes[edges[e, k]]
            place = node.start + node.length
            entries[place, 0], entries[place, 1] = edges[e, 1 - k], e
            node.length += 1
            if node.best < 0 or records[e].score < records[node.best].score:
                node.best, node.other = e, edges[e, 1 - k]


@njit(cache=True, nogil=True, inline="always")
def fetch_list(cluster, nodes, entries, records):
    """Have the contacts of a cluster and the nodes behind them fetched, all at once."""
    for i in range(nodes[cluster].start, nodes[cluster].start + nodes[cluster].length):
        prefetch(records, np.int64(entries[i, 1]))
        prefetch(nodes, np.int64(entries[i, 0]))


@njit(cache=True, nogil=True)
def scan(cluster, nodes, entries, records):
    """Fill in the best contact of a cluster; contacts that are gone leave its list."""
    node = nodes[cluster]
    for i in range(node.start, node.start + node.length):
        prefetch(records, np.int64(entries[i, 1]))
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
def unite_lists(stays, goes, piece, nodes, entries, records, mean, united, hubs, heap):
    """The contacts of both, each once; how many, or -1 if a united contact is better than its parts."""
    first, last = piece
    fetch_list(stays, nodes, entries, records)
    fetch_list(goes, nodes, entries, records)
    found = 0
    for i in range(nodes[stays].start, nodes[stays].start + nodes[stays].length):
        e = entries[i, 1]
        if records[e].queued != DEAD:
            across = np.int64(entries[i, 0])
            if first <= across < last:
                across = find(nodes, across)
                nodes[across].mark = found
            united[found, 0], united[found, 1] = across, e
            found += 1
    common = found
    for i in range(nodes[goes].start, nodes[goes].start + nodes[goes].length):
        e = np.int64(entries[i, 1])
        if records[e].queued == DEAD:
            continue
        across, place = np.int64(entries[i, 0]), np.int64(NONE)
        if first <= across < last:
            across = find(nodes, across)
            place = np.int64(nodes[across].mark)
        if place < 0:
            united[found, 0], united[found, 1] = across, e
            found += 1
            continue
        f = np.int64(united[place, 1])
        united[place, 1] = min(e, f)
        if unite(e, f, across, nodes, records, mean, hubs, heap) < 0:
            return -1
    for k in range(common):
        across = np.int64(united[k, 0])
        if first <= across < last:
            nodes[across].mark = NONE
    return found


@njit(cache=True, nogil=True)
def unite(e, f, across, nodes, records, mean, hubs, heap):
    """Unite two contacts with `across`. 1 if the score of the one kept is lower now, 0 if not; -1: better than both."""
    kept, lost = min(e, f), max(e, f)
    before, better = records[kept].score, min(records[kept].score, records[lost].score)
    after = _sum_up(records[kept], records[lost], mean)
    if after < better or (after == better and before > better):
        return -1
    if nodes[across].best == kept or nodes[across].best == lost:
        nodes[across].best = UNKNOWN
    if after < before:
        if nodes[across].hub >= 0:
            push(hubs[nodes[across].hub], heap, after, kept)
        return 1
    return 0


@njit(cache=True, nogil=True, inline="always")
def _sum_up(kept, lost, mean):
    if mean:
        kept.count += lost.count
        kept.sum += lost.sum
        kept.score = 1.0 - kept.sum / UNIT / kept.count
    else:
        kept.score = max(kept.score, lost.score)
    lost.queued = DEAD
    return kept.score


@njit(cache=True, nogil=True)
def store(cluster, nodes, entries, records, united):
    """Write the list of a cluster, and find its best contact."""
    node = nodes[cluster]
    node.length = len(united)
    for k in range(len(united)):
        entries[node.start + k, 0], entries[node.start + k, 1] = united[k, 0], united[k, 1]
    scan(cluster, nodes, entries, records)


@njit(cache=True, nogil=True)
def forget_hubs(nodes):
    """Make every cluster one that is no hub."""
    for i in range(len(nodes)):
        nodes[i].hub = NONE


@njit(cache=True, nogil=True)
def settle(cuts, nodes, entries, records, mean):
    """Unite contacts between pieces that join the same clusters. False if one is better than its parts.

    Piece p are the nodes cuts[p] to cuts[p + 1] - 1. No cluster is a hub afterwards.
    """
    forget_hubs(nodes)
    hubs, heap = np.empty(1, HUB), np.empty(1, BOUND)  # not used, as there are none
    for p in range(len(cuts) - 1):
        for cluster in range(cuts[p], cuts[p + 1]):
            if nodes[cluster].parent != cluster:
                continue
            if _settle_list(cluster, cuts[p], cuts[p + 1], nodes, entries, records, mean, hubs, heap) < 0:
                return False
    return True


@njit(cache=True, nogil=True)
def _settle_list(cluster, first, last, nodes, entries, records, mean, hubs, heap):
    """Unite what leads from a cluster out of its piece; -1 as in `unite`, else 0."""
    node = nodes[cluster]
    written, begin = np.int64(node.start), np.int64(node.start)
    outside = False
    for i in range(begin, begin + node.length):
        across, e = np.int64(entries[i, 0]), np.int64(entries[i, 1])
        if not first <= across < last:
            outside = True
            if records[e].queued == DEAD:
                continue
            across = find(nodes, across)
            place = np.int64(nodes[across].mark)
            if place >= 0:
                f = np.int64(entries[place, 1])
                entries[place, 1] = min(e, f)
                if unite(e, f, across, nodes, records, mean, hubs, heap) < 0:
                    return -1
                continue
            nodes[across].mark = written
        entries[written, 0], entries[written, 1] = across, e
        written += 1
    node.length = written - begin
    if outside:
        node.best = UNKNOWN
        for i in range(begin, written):
            across = np.int64(entries[i, 0])
            if not first <= across < last:
                nodes[across].mark = NONE
    return 0
