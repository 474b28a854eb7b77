"""Merging of plateaus: clusters that are each other's best neighbours, ties included, without a queue.

A quantile of a united contact lies between those of its parts. It is the k(n)-th of n affinities, k(n) = floor(q n) + 1
or n: k(n) + k(m) >= k(n + m) of both are not above the larger quantile. So no contact gets better than the better of
its parts (the linkage is reducible: M. Bruynooghe 1977). Clusters that contacts of one score join, and none of which
has a better contact, are a plateau: whatever merges elsewhere before, they are found as they are when the greedy order
comes to their score, and merge then by the lowest edge among themselves. So they may merge at once. Why not each best
pair, without its ties? A tied contact that is united with a worse one of a lower edge would be preferred by then.

From any cluster one gets to a plateau by going to a neighbour that has a better contact, as long as there is one. All
that is touched lies near each other in memory, as long as clusters are small.
"""

import numpy as np
from numba import njit

from segkit.agglomerate._kernels import find
from segkit.agglomerate._kernels_borrowed import borrowed
from segkit.agglomerate._kernels_bounds import DEAD, NONE, tied
from segkit.agglomerate._kernels_clusters import (
    BEGIN,
    ENTRIES,
    FRAMES,
    FREE,
    HELD,
    LAST,
    MEMBERS,
    MERGES,
    NOTHING,
    PENDING,
    SHORT,
    SLOTS,
    START,
    STUCK,
    TIES,
    UNKNOWN,
    absorb,
    become_hub,
    look,
    put_tie,
    take_tie,
    unite_lists,
)

DONE, MORE_ENTRIES, MORE_SLOTS, MORE_HEAP = 0, 1, 2, 3
"""What `advance` comes back for."""
MERGING = -1
FRAME = np.dtype([(name, "i4") for name in ("score", "at", "members", "pending", "ties")])
"""Of a plateau under way: its score, the next member to look at (or MERGING), and where its parts of stacks begin."""
MERGE = np.dtype([(name, "i4") for name in ("stays", "goes", "score", "edge")])
"""A merge of two clusters, at a score; `edge` is the highest of those that the plateau merged by until then. So merges
sorted by score and edge, those of a plateau as they came, are in the greedy order."""


@njit(cache=True, nogil=True)
def advance(limit, counts, nodes, entries, edges, contacts, runs, per_million, stacks, merges, hub_tables):
    """Merge all plateaus whose members have no more than `limit` entries in their lists, until room is needed.

    Plateaus under way are stacked, each better than the one below. To go on, call it again. Why is room not made here?
    Arrays that are exchanged inside a loop are counted as used and unused at every turn of it.
    """
    counts, nodes, entries, edges = borrowed(counts), borrowed(nodes), borrowed(entries), borrowed(edges)
    contacts, runs, merges = borrowed(contacts), borrowed(runs), borrowed(merges)
    frames, members, pending, ties = borrowed(stacks[0]), borrowed(stacks[1]), borrowed(stacks[2]), borrowed(stacks[3])
    hubs, heap = borrowed(hub_tables[0]), borrowed(hub_tables[1])
    slots, pairs = borrowed(hub_tables[2]), borrowed(hub_tables[3])
    while True:
        if counts[FRAMES] == 0:
            c = counts[START] if counts[START] != NONE else counts[BEGIN]
            if c == len(nodes):
                return DONE
            node = nodes[c]
            waits = node.parent != c or node.state == STUCK
            if not waits and node.best == UNKNOWN and not look(c, counts, nodes, entries, contacts, hubs, heap):
                return MORE_HEAP
            if not waits and node.best != NOTHING:
                _open(c, counts, nodes, frames, members)
            elif counts[START] == NONE:
                counts[BEGIN] += 1
            counts[START] = NONE
            continue
        frame = frames[counts[FRAMES] - 1]
        if frame.at == MERGING:
            if counts[TIES] == frame.ties:
                _close(frame, counts, nodes, members)
                continue
            m = take_tie(ties, frame.ties, counts)
            if contacts[m].queued == DEAD or contacts[m].score != frame.score:
                continue
            stays, goes = _sides(find(nodes, edges[m, 0]), find(nodes, edges[m, 1]), nodes)
            expected = np.int64(nodes[stays].length) + nodes[goes].length
            short_of = _short_of(expected, counts, entries, slots)
            if short_of:
                put_tie(ties, frame.ties, counts, m)
                return short_of
            counts[LAST] = max(counts[LAST], m)
            merge = merges[counts[MERGES]]
            merge.stays, merge.goes, merge.score, merge.edge = stays, goes, frame.score, counts[LAST]
            counts[MERGES] += 1
            contacts[m].queued = DEAD
            if nodes[stays].hub == NONE:
                found = unite_lists(
                    stays, goes, frame.score, counts, nodes, entries, contacts, runs, per_million, hubs, heap, ties,
                    frame.ties,
                )  # fmt: skip
                nodes[goes].parent = stays
                _store(nodes[stays], found, counts, entries)
                if found > SHORT:
                    become_hub(stays, counts, nodes, entries, contacts, hubs, slots, pairs)
            else:
                _make_room(nodes[stays], expected, counts, entries)
                absorb(
                    stays, goes, frame.score, counts, nodes, entries, contacts, runs, per_million, hubs, heap, ties,
                    frame.ties, slots, pairs,
                )  # fmt: skip
                nodes[goes].parent = stays
                nodes[stays].best = UNKNOWN
        elif counts[PENDING] > frame.pending:
            e, across = np.int64(pending[counts[PENDING] - 1, 0]), np.int64(pending[counts[PENDING] - 1, 1])
            while contacts[e].queued == DEAD:
                e = np.int64(contacts[e].head)
            if contacts[e].score != frame.score:
                counts[PENDING] -= 1
                continue
            c = np.int64(members[frame.at - 1])
            d = find(nodes, across if across != NONE else np.int64(edges[e, 0]))
            d = d if d != c else find(nodes, edges[e, 1])
            if nodes[d].state == STUCK:
                _give_up(counts, nodes, members)
                continue
            if nodes[d].state == FREE:
                if nodes[d].best == UNKNOWN and not look(d, counts, nodes, entries, contacts, hubs, heap):
                    return MORE_HEAP
                if nodes[d].best < frame.score:
                    _open(d, counts, nodes, frames, members)
                    continue
                _hold(d, counts, nodes, members)
            counts[PENDING] -= 1
            if c < d:  # the other end will see it too
                ties[counts[TIES]] = e
                counts[TIES] += 1
        elif frame.at < counts[MEMBERS]:
            node = nodes[members[frame.at]]
            if node.hub == NONE:
                _list_ties(node, frame.score, counts, entries, contacts, pending)
            else:
                if not look(members[frame.at], counts, nodes, entries, contacts, hubs, heap):
                    return MORE_HEAP
                counts[PENDING] = tied(hubs[node.hub], heap, contacts, frame.score, pending, counts[PENDING])
            frame.at += 1
        elif _entries_of(members[frame.members : counts[MEMBERS]], nodes) > limit:
            _give_up(counts, nodes, members)
        else:
            found = ties[frame.ties : counts[TIES]]
            if len(found) > 1:
                found.sort()  # a heap, then
            frame.at, counts[LAST] = MERGING, NONE


@njit(cache=True, nogil=True)
def _hold(c, counts, nodes, members):
    """Make a cluster a member of the plateau on top."""
    members[counts[MEMBERS]] = c
    counts[MEMBERS] += 1
    nodes[c].state = HELD


@njit(cache=True, nogil=True)
def _open(c, counts, nodes, frames, members):
    """Begin a plateau on top of the others."""
    frame = frames[counts[FRAMES]]
    frame.score, frame.at, frame.members = nodes[c].best, counts[MEMBERS], counts[MEMBERS]
    frame.pending, frame.ties = counts[PENDING], counts[TIES]
    counts[FRAMES] += 1
    _hold(c, counts, nodes, members)


@njit(cache=True, nogil=True)
def _close(frame, counts, nodes, members):
    """End the plateau on top; if it was the last, go on with its cluster."""
    for k in range(frame.members, counts[MEMBERS]):
        nodes[members[k]].state = FREE
    counts[START] = find(nodes, members[frame.members])
    counts[MEMBERS], counts[PENDING], counts[TIES] = frame.members, frame.pending, frame.ties
    counts[FRAMES] -= 1


@njit(cache=True, nogil=True)
def _give_up(counts, nodes, members):
    """End all plateaus under way: they wait for the next sweep."""
    for k in range(counts[MEMBERS]):
        nodes[members[k]].state = STUCK
    counts[FRAMES] = counts[MEMBERS] = counts[PENDING] = counts[TIES] = 0


@njit(cache=True, nogil=True)
def _sides(a, b, nodes):
    """The cluster that stays, a hub or the one of the longer list, and the one that goes."""
    hub, other = nodes[a].hub != NONE, nodes[b].hub != NONE
    if other > hub or (other == hub and nodes[b].length > nodes[a].length):
        return b, a
    return a, b


@njit(cache=True, nogil=True)
def _short_of(expected, counts, entries, slots):
    """What there is too little room of, for a merge of clusters with so many entries."""
    if counts[ENTRIES] + 3 * expected > len(entries):
        return MORE_ENTRIES
    if 2 * (counts[SLOTS] + expected) > len(slots):
        return MORE_SLOTS
    return DONE


@njit(cache=True, nogil=True)
def _store(node, found, counts, entries):
    """Make the list behind all entries that of a cluster."""
    top = counts[ENTRIES]
    if found > node.room:
        node.start, node.room = top, 2 * found
        counts[ENTRIES] += 2 * found
    else:
        entries[node.start : node.start + found] = entries[top : top + found]
    node.length, node.best = found, UNKNOWN


@njit(cache=True, nogil=True)
def _make_room(node, expected, counts, entries):
    """Move the list of a hub, unless it has room for so many entries."""
    if expected <= node.room:
        return
    top = counts[ENTRIES]
    entries[top : top + node.length] = entries[node.start : node.start + node.length]
    node.start, node.room = top, 2 * expected
    counts[ENTRIES] += 2 * expected


@njit(cache=True, nogil=True)
def _list_ties(node, score, counts, entries, contacts, pending):
    """Stack the contacts of a cluster that have this score."""
    for i in range(node.start, node.start + node.length):
        e = entries[i, 1]
        if contacts[e].score == score and contacts[e].queued != DEAD:
            pending[counts[PENDING], 0], pending[counts[PENDING], 1] = e, entries[i, 0]
            counts[PENDING] += 1


@njit(cache=True, nogil=True)
def _entries_of(members, nodes):
    """How long the lists of these clusters are together."""
    total = np.int64(0)
    for c in members:
        total += nodes[c].length
    return total


@njit(cache=True, nogil=True)
def number_merges(nodes, merges):
    """The two nodes of the tree that each merge joins, int64 (M, 2), from merges in order."""
    tree, children = np.arange(nodes), np.empty((len(merges), 2), np.int64)
    for k in range(len(merges)):
        stays, goes = merges[k].stays, merges[k].goes
        children[k, 0], children[k, 1] = tree[stays], tree[goes]
        tree[stays] = nodes + k
    return children
