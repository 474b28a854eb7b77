"""Merging of plateaus: clusters that are each other's best neighbours, ties included, without a queue.

No united contact is better than the better of its parts (the linkage is reducible: M. Bruynooghe 1977). That is plain
for the mean, the least and the largest affinity. A quantile of a united contact lies between those of its parts: it is
the k(n)-th of n affinities, k(n) = floor(q n) + 1 or n, and k(n) + k(m) >= k(n + m) of both are not above the larger
quantile. Clusters that contacts of one score join, and none of which has a better contact, are a plateau: whatever
merges elsewhere before, they are found as they are when the greedy order comes to their score, and merge then by the
lowest edge among themselves. So they may merge at once. Why not each best pair, without its ties? A tied contact that
is united with a worse one of a lower edge would be preferred by then.

From any cluster one gets to a plateau by going to a neighbour that has a better contact, as long as there is one. All
that is touched lies near each other in memory, as long as clusters are small.
"""

import numpy as np
from numba import njit

from segkit.agglomerate._kernels_clusters import (
    BEGIN,
    BROKEN,
    EDGE,
    END,
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
    borrow,
    is_inside,
    look,
    put_tie,
    take_tie,
    tied,
    unite_lists,
)
from segkit.agglomerate._kernels_contacts import DEAD, NONE, has_room
from segkit.kernels.union_find import find_in_records as find

DONE, GO_ON, MORE_ENTRIES, MORE_SLOTS, MORE_HEAP, MORE_RUNS = range(6)
"""What `advance` comes back for, and what its steps give."""
MERGING = -1
FRAME = np.dtype([("score", "f8"), ("at", "i4"), ("members", "i4"), ("pending", "i4"), ("ties", "i4")])
"""Of a plateau under way: its score, the next member to look at (or MERGING), and where its parts of stacks begin."""
MERGE = np.dtype([("score", "f8"), ("stays", "i4"), ("goes", "i4"), ("edge", "i8")])
"""A merge of two clusters, at a score; `edge` is the highest of those that the plateau merged by until then. So merges
sorted by score and edge, those of a plateau as they came, are in the greedy order."""


@njit(cache=True, nogil=True)
def advance(limit, rule, work):
    """Merge all plateaus whose members have no more than `limit` entries in their lists, until room is needed.

    Plateaus under way are stacked, each better than the one below. To go on, call it again. Why is room not made here?
    Arrays that are exchanged inside a loop are counted as used and unused at every turn of it.

    Take four nodes, and contacts a-b of score 0.3, b-c of 0.2, c-d of 0.2 (edges 0, 1, 2). The best contact of a leads
    to b, whose best is better: a plateau of score 0.2 is opened on top of that of 0.3. Its members are b, then c, which
    a tie leads to, then d. None has a better contact: the ties, edges 1 and 2, are merged in this order. The plateau
    closes; in the one below, a and the cluster b-c-d are left.
    """
    work = borrow(work)
    counts = work.counts
    while counts[BROKEN] == 0:
        if counts[FRAMES] == 0:
            wanted = _begin(work)
        else:
            frame = work.frames[counts[FRAMES] - 1]
            if frame.at == MERGING:
                wanted = _merge_tie(frame, rule, work)
            elif counts[PENDING] > frame.pending:
                wanted = _follow_tie(frame, work)
            elif frame.at < counts[MEMBERS]:
                wanted = _list_ties(frame, work)
            else:
                wanted = _decide(frame, limit, work)
        if wanted != GO_ON:
            return wanted
    return DONE


@njit(cache=True, nogil=True, inline="always")
def _begin(work):
    """Open a plateau at the next cluster that has a contact."""
    counts = work.counts
    c = counts[START] if counts[START] != NONE else counts[BEGIN]
    if c == counts[LAST]:
        return DONE
    node = work.nodes[c]
    waits = node.parent != c or work.state[c] == STUCK
    if not waits and node.best == UNKNOWN and not look(c, work):
        return MORE_HEAP
    if not waits and node.best != NOTHING:
        _open(c, work)
    elif counts[START] == NONE:
        counts[BEGIN] += 1
    counts[START] = NONE
    return GO_ON


@njit(cache=True, nogil=True, inline="always")
def _merge_tie(frame, rule, work):
    """Merge by the lowest edge of the plateau on top; close it if there is none."""
    counts, nodes, records, edges = work.counts, work.nodes, work.records, work.edges
    if counts[TIES] == frame.ties:
        _close(frame, work)
        return GO_ON
    m = take_tie(work.ties, frame.ties, counts)
    if records[m].queued == DEAD or records[m].score != frame.score:
        return GO_ON
    stays, goes = _sides(find(nodes, edges[m, 0]), find(nodes, edges[m, 1]), nodes)
    expected = np.int64(nodes[stays].length) + nodes[goes].length
    if counts[ENTRIES] + 3 * expected > counts[END]:
        put_tie(work.ties, frame.ties, counts, m)
        return MORE_ENTRIES
    if 2 * (counts[SLOTS] + expected) > len(work.slots):
        put_tie(work.ties, frame.ties, counts, m)
        return MORE_SLOTS
    if not has_room(rule, np.int64(nodes[goes].length), work.runs):
        put_tie(work.ties, frame.ties, counts, m)
        return MORE_RUNS
    counts[EDGE] = max(counts[EDGE], m)
    merge = work.merges[counts[MERGES]]
    merge.stays, merge.goes, merge.score, merge.edge = stays, goes, frame.score, counts[EDGE]
    counts[MERGES] += 1
    records[m].queued = DEAD
    if nodes[stays].hub == NONE:
        found = unite_lists(stays, goes, frame, rule, work)
        nodes[goes].parent = stays
        _store(stays, found, work)
        if found > SHORT:
            become_hub(stays, work)
    else:
        _make_room(stays, expected, work)
        absorb(stays, goes, frame, rule, work)
        nodes[goes].parent = stays
        nodes[stays].best = UNKNOWN
    return GO_ON


@njit(cache=True, nogil=True, inline="always")
def _follow_tie(frame, work):
    """See where the last tie that is pending leads: to a member, to one that becomes it, or to a better plateau."""
    counts, nodes, records, edges, pending = work.counts, work.nodes, work.records, work.edges, work.pending
    e, across = np.int64(pending[counts[PENDING] - 1, 0]), np.int64(pending[counts[PENDING] - 1, 1])
    while records[e].queued == DEAD:
        e = records[e].sum
    if records[e].score != frame.score:
        counts[PENDING] -= 1
        return GO_ON
    c = np.int64(work.members[frame.at - 1])
    if across == NONE:
        across = np.int64(edges[e, 0])
        if is_inside(across, counts) and find(nodes, across) == c:
            across = np.int64(edges[e, 1])
    if not is_inside(across, counts):
        _give_up(work)
        return GO_ON
    d = find(nodes, across)
    if work.state[d] == STUCK:
        _give_up(work)
        return GO_ON
    if work.state[d] == FREE:
        if nodes[d].best == UNKNOWN and not look(d, work):
            return MORE_HEAP
        if nodes[d].best < frame.score:
            _open(d, work)
            return GO_ON
        _hold(d, work)
    counts[PENDING] -= 1
    if c < d:  # the other end will see it too
        work.ties[counts[TIES]] = e
        counts[TIES] += 1
    return GO_ON


@njit(cache=True, nogil=True, inline="always")
def _list_ties(frame, work):
    """Stack the contacts of the next member that have the score of the plateau."""
    counts, pending, entries, records = work.counts, work.pending, work.entries, work.records
    c = work.members[frame.at]
    node = work.nodes[c]
    if node.hub != NONE:
        if not look(c, work):
            return MORE_HEAP
        counts[PENDING] = tied(work.hubs[node.hub], work.heap, records, frame.score, pending, counts[PENDING])
    elif node.best == frame.score and node.edge != NONE:
        pending[counts[PENDING], 0], pending[counts[PENDING], 1] = node.edge, work.others[c]
        counts[PENDING] += 1
    else:
        for i in range(node.start, node.start + node.length):
            e = entries[i, 1]
            if records[e].score == frame.score and records[e].queued != DEAD:
                pending[counts[PENDING], 0], pending[counts[PENDING], 1] = e, entries[i, 0]
                counts[PENDING] += 1
    frame.at += 1
    return GO_ON


@njit(cache=True, nogil=True, inline="always")
def _decide(frame, limit, work):
    """Merge the plateau on top, of which all members are known, unless their lists are too long for now."""
    counts = work.counts
    total = np.int64(0)
    for c in work.members[frame.members : counts[MEMBERS]]:
        total += work.nodes[c].length
    if total > limit:
        _give_up(work)
        return GO_ON
    found = work.ties[frame.ties : counts[TIES]]
    if len(found) > 1:
        found.sort()  # a heap, then
    frame.at, counts[EDGE] = MERGING, NONE
    return GO_ON


@njit(cache=True, nogil=True)
def _hold(c, work):
    """Make a cluster a member of the plateau on top."""
    work.members[work.counts[MEMBERS]] = c
    work.counts[MEMBERS] += 1
    work.state[c] = HELD


@njit(cache=True, nogil=True)
def _open(c, work):
    """Begin a plateau on top of the others."""
    counts = work.counts
    frame = work.frames[counts[FRAMES]]
    frame.score, frame.at, frame.members = work.nodes[c].best, counts[MEMBERS], counts[MEMBERS]
    frame.pending, frame.ties = counts[PENDING], counts[TIES]
    counts[FRAMES] += 1
    _hold(c, work)


@njit(cache=True, nogil=True)
def _close(frame, work):
    """End the plateau on top; if it was the last, go on with its cluster."""
    counts = work.counts
    for k in range(frame.members, counts[MEMBERS]):
        work.state[work.members[k]] = FREE
    counts[START] = find(work.nodes, work.members[frame.members])
    counts[MEMBERS], counts[PENDING], counts[TIES] = frame.members, frame.pending, frame.ties
    counts[FRAMES] -= 1


@njit(cache=True, nogil=True)
def _give_up(work):
    """End all plateaus under way: they wait for the next sweep."""
    counts = work.counts
    for k in range(counts[MEMBERS]):
        work.state[work.members[k]] = STUCK
    counts[FRAMES] = counts[MEMBERS] = counts[PENDING] = counts[TIES] = 0


@njit(cache=True, nogil=True)
def _sides(a, b, nodes):
    """The cluster that stays, a hub or the one of the longer list, and the one that goes."""
    hub, other = nodes[a].hub != NONE, nodes[b].hub != NONE
    if other > hub or (other == hub and nodes[b].length > nodes[a].length):
        return b, a
    return a, b


@njit(cache=True, nogil=True)
def _store(cluster, found, work):
    """Make the list behind all entries that of a cluster."""
    node, entries, top = work.nodes[cluster], work.entries, work.counts[ENTRIES]
    if found > work.rooms[cluster]:
        node.start, work.rooms[cluster] = top, 2 * found
        work.counts[ENTRIES] += 2 * found
    else:
        entries[node.start : node.start + found] = entries[top : top + found]
    node.length, node.best = found, UNKNOWN


@njit(cache=True, nogil=True)
def _make_room(cluster, expected, work):
    """Move the list of a hub, unless it has room for so many entries."""
    if expected <= work.rooms[cluster]:
        return
    node, entries, top = work.nodes[cluster], work.entries, work.counts[ENTRIES]
    entries[top : top + node.length] = entries[node.start : node.start + node.length]
    node.start, work.rooms[cluster] = top, 2 * expected
    work.counts[ENTRIES] += 2 * expected


@njit(cache=True, nogil=True)
def carry_edges(count, merges):
    """Give merges the highest edge of those of the same score that made what they merge, if that is higher; in place.

    A piece that runs out of room leaves a plateau half merged, and who goes on does not know its highest edge so far.
    """
    last = np.full(count, NONE, np.int32)
    for k in range(len(merges)):
        merge = merges[k]
        for made in (last[merge.stays], last[merge.goes]):
            if made != NONE and merges[made].score == merge.score:
                merge.edge = max(merge.edge, merges[made].edge)
        last[merge.stays] = k


@njit(cache=True, nogil=True)
def order_by_edge(merges, edges):
    """Positions of merges by edge, of equal ones as they came; the edges are numbered below `edges`."""
    places = np.zeros(edges + 1, np.int64)
    for k in range(len(merges)):
        places[merges[k].edge + 1] += 1
    places = np.cumsum(places)
    order = np.empty(len(merges), np.int64)
    for k in range(len(merges)):
        order[places[merges[k].edge]] = k
        places[merges[k].edge] += 1
    return order


@njit(cache=True, nogil=True)
def number_merges(nodes, merges, order):
    """The two nodes of the tree that each merge joins, int64 (M, 2), in this order of the merges."""
    tree, children = np.arange(nodes), np.empty((len(order), 2), np.int64)
    for k in range(len(order)):
        stays, goes = merges[order[k]].stays, merges[order[k]].goes
        children[k, 0], children[k, 1] = tree[stays], tree[goes]
        tree[stays] = nodes + k
    return children
