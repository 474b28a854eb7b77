"""Clusters and the lists of their contacts: finding the best, uniting two lists, giving one to a hub.

A piece of the graph is a range of nodes. Whoever merges in a piece changes its nodes, their lists, and the contacts
inside alone. Contacts that lead outside stay as they are, several with one cluster perhaps: uniting them later makes
none better, so each is a lower bound.

The best contact of a hub comes from a heap of lower bounds. A contact that is united with another is dead, or has
another score. If that is higher, its entry stays as a lower bound until it comes up; if it is lower, the contact is
entered again.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from segkit.agglomerate._kernels_contacts import DEAD, NONE, has_room, unite
from segkit.kernels.borrowed import borrowed
from segkit.kernels.pair_table import EMPTY, MULTIPLIER, find_slot, pair_key
from segkit.kernels.prefetch import prefetch
from segkit.kernels.union_find import find_in_records as find

UNKNOWN, NOTHING = -np.inf, np.inf
FREE, HELD, STUCK = 0, 1, 2
SHORT = 96
"""A cluster with more entries in its list is a hub."""
NODE = np.dtype([("best", "f8"), *((name, "i4") for name in ("parent", "start", "length", "mark", "hub", "edge"))])
"""Of a cluster, in half a line of the cache: its best score; its place in the union-find forest; its list of contacts
(start and length); scratch; its number among the hubs; and its best contact, NONE if there are several."""

HUB = np.dtype([("start", "i8"), ("room", "i8"), ("size", "i8")])
"""Of a hub: its heap of contacts; the size is NONE when the heap has to be built anew."""
BOUND = np.dtype([("score", "f8"), ("edge", "i8")])
"""An entry of a heap: the score of the contact is not lower, or it is entered elsewhere as well."""
FIRST, LAST, FRAMES, MEMBERS, PENDING, TIES, ENTRIES, END, HEAP, SLOTS, HUBS, MERGES, BEGIN, START, EDGE, BROKEN = (
    range(16)
)
COUNTS = 16
"""What is counted: the nodes of the piece, first to last - 1; how much is used of each array, of the entries up to an
end; where to begin and to go on; the highest edge of a plateau so far; whether a united contact came before both its
parts."""


class Work(NamedTuple):
    """All that merging in a piece reads and writes."""

    edges: np.ndarray
    """The two nodes of each contact, (E, 2)."""
    records: np.ndarray
    runs: np.ndarray
    nodes: np.ndarray
    rooms: np.ndarray
    """How many entries the list of a cluster may have, int32 (N,)."""
    others: np.ndarray
    """A node of the cluster behind the best contact of each, int32 (N,)."""
    state: np.ndarray
    """Of a cluster: whether it is HELD by a plateau or STUCK; int8 (N,)."""
    entries: np.ndarray
    """The lists: a node of the cluster across, and the contact; int32 (.., 2)."""
    hubs: np.ndarray
    heap: np.ndarray
    slots: np.ndarray
    pairs: np.ndarray
    """The hash table of pairs of hubs, and the contact of each."""
    frames: np.ndarray
    members: np.ndarray
    pending: np.ndarray
    ties: np.ndarray
    """The stacks of plateaus under way."""
    merges: np.ndarray
    counts: np.ndarray


@njit(cache=True, nogil=True, inline="always")
def borrow(work):
    """The same, for the time of the call."""
    return Work(
        borrowed(work.edges),
        borrowed(work.records),
        borrowed(work.runs),
        borrowed(work.nodes),
        borrowed(work.rooms),
        borrowed(work.others),
        borrowed(work.state),
        borrowed(work.entries),
        borrowed(work.hubs),
        borrowed(work.heap),
        borrowed(work.slots),
        borrowed(work.pairs),
        borrowed(work.frames),
        borrowed(work.members),
        borrowed(work.pending),
        borrowed(work.ties),
        borrowed(work.merges),
        borrowed(work.counts),
    )


@njit(cache=True, nogil=True)
def degrees(edges, rooms):
    """Add the number of edges of each node."""
    for e in range(len(edges)):
        rooms[edges[e, 0]] += 1
        rooms[edges[e, 1]] += 1


@njit(cache=True, nogil=True)
def fill_lists(edges, starts, nodes, entries):
    """Fill in all nodes, and their lists, from place starts[node]."""
    for i in range(len(nodes)):
        node = nodes[i]
        node.parent, node.start, node.length, node.edge = i, starts[i], 0, NONE
        node.best, node.mark, node.hub = UNKNOWN, NONE, NONE
    for e in range(len(edges)):
        for k in range(2):
            node = nodes[edges[e, k]]
            place = node.start + node.length
            entries[place, 0], entries[place, 1] = edges[e, 1 - k], e
            node.length += 1


@njit(cache=True, nogil=True, inline="always")
def is_inside(node, counts):
    """Whether a node is one of the piece."""
    return counts[FIRST] <= node < counts[LAST]


@njit(cache=True, nogil=True)
def look(cluster, work):
    """Fill in the best score of a cluster. False if there is no room for the heap of a hub."""
    node, counts = work.nodes[cluster], work.counts
    if node.hub == NONE:
        work.others[cluster] = _scan(node, work.entries, work.records)
        return True
    hub = work.hubs[node.hub]
    if hub.size == NONE:
        if 2 * node.length > hub.room:
            room = 2 * np.int64(node.length) + 16
            if counts[HEAP] + room > len(work.heap):
                return False
            hub.start, hub.room = counts[HEAP], room
            counts[HEAP] += room
        _scan(node, work.entries, work.records)
        _build(hub, work.heap, work.entries[node.start : node.start + node.length], work.records)
    m = _lowest(hub, work.heap, work.records)
    node.best, node.edge = work.records[m].score if m >= 0 else NOTHING, NONE
    return True


@njit(cache=True, nogil=True)
def _scan(node, entries, records):
    """Fill in the best score and contact; a node behind it. Contacts that are gone leave the list."""
    written, best, edge, other = np.int64(node.start), NOTHING, np.int32(NONE), np.int32(NONE)
    for i in range(node.start, node.start + node.length):
        prefetch(records, np.int64(entries[i, 1]))
    for i in range(node.start, node.start + node.length):
        e, across = entries[i, 1], entries[i, 0]
        if records[e].queued == DEAD:
            continue
        entries[written, 0], entries[written, 1] = across, e
        written += 1
        score = records[e].score
        if score < best:
            best, edge, other = score, e, across
        elif score == best:
            edge = np.int32(NONE)
    node.length, node.best, node.edge = written - node.start, best, edge
    return other


@njit(cache=True, nogil=True, inline="always")
def _fetch(cluster, nodes, entries, records):
    """Ask for the contacts of a cluster and the nodes behind them, before they are needed."""
    node = nodes[cluster]
    for i in range(node.start, node.start + node.length):
        prefetch(records, np.int64(entries[i, 1]))
        prefetch(nodes, np.int64(entries[i, 0]))


@njit(cache=True, nogil=True, inline="always")
def _fetch_lists(node, entries, records, runs):
    """Ask for the lists of affinities of the contacts of a cluster, if they have some."""
    if len(runs) > 0:
        for i in range(node.start, node.start + node.length):
            prefetch(runs, ~records[entries[i, 1]].sum)


@njit(cache=True, nogil=True)
def refresh(cluster, nodes, entries, records, counts):
    """Bring the list of a cluster up to date: contacts that are gone leave it, clusters across get their names."""
    node, first, last = nodes[cluster], counts[FIRST], counts[LAST]
    written = np.int64(node.start)
    _fetch(cluster, nodes, entries, records)
    for i in range(node.start, node.start + node.length):
        e, across = entries[i, 1], entries[i, 0]
        if records[e].queued != DEAD:
            if first <= across < last:
                across = np.int32(find(nodes, across))
            entries[written, 0], entries[written, 1] = across, e
            written += 1
    node.length = written - node.start
    return entries[node.start : written]


@njit(cache=True, nogil=True)
def unite_lists(stays, goes, frame, rule, work):
    """Put the contacts of both, each once, behind all entries; how many. For `frame` see `_unite`."""
    nodes, entries, records, counts = work.nodes, work.entries, work.records, work.counts
    runs, hubs, heap, ties, top = work.runs, work.hubs, work.heap, work.ties, work.counts[ENTRIES]
    _fetch(goes, nodes, entries, records)
    first, last, own, found = counts[FIRST], counts[LAST], nodes[stays], 0
    _fetch(stays, nodes, entries, records)
    for i in range(own.start, own.start + own.length):
        across, e = np.int64(entries[i, 0]), entries[i, 1]
        if records[e].queued == DEAD:
            continue
        if first <= across < last:
            across = find(nodes, across)
            nodes[across].mark = found
        entries[top + found, 0], entries[top + found, 1] = across, e
        found += 1
    marked, theirs = found, nodes[goes]
    _fetch_lists(theirs, entries, records, runs)
    for i in range(theirs.start, theirs.start + theirs.length):
        across, e, place = np.int64(entries[i, 0]), np.int64(entries[i, 1]), np.int64(NONE)
        if records[e].queued == DEAD:
            continue
        if first <= across < last:
            across = find(nodes, across)
            place = np.int64(nodes[across].mark)
        if place == NONE:
            entries[top + found, 0], entries[top + found, 1] = across, e
            found += 1
            continue
        f = np.int64(entries[top + place, 1])
        entries[top + place, 1] = min(e, f)
        _unite(e, f, across, frame, rule, nodes, records, runs, hubs, heap, ties, counts)
    for k in range(marked):
        across = entries[top + k, 0]
        if first <= across < last:
            nodes[across].mark = NONE
    return found


@njit(cache=True, nogil=True)
def absorb(stays, goes, frame, rule, work):
    """Give the contacts of a cluster to a hub, whose list is not walked. For `frame` see `_unite`."""
    nodes, entries, records, counts = work.nodes, work.entries, work.records, work.counts
    runs, hubs, heap, ties = work.runs, work.hubs, work.heap, work.ties
    slots, pairs, node, hub = work.slots, work.pairs, nodes[stays], work.hubs[nodes[stays].hub]
    first, last, theirs = counts[FIRST], counts[LAST], nodes[goes]
    _fetch(goes, nodes, entries, records)
    for i in range(theirs.start, theirs.start + theirs.length):
        across = np.int64(entries[i, 0])
        if first <= across < last:
            across = find(nodes, across)
            entries[i, 0] = across
            _fetch_contact_with(across, stays, nodes, entries, slots, pairs)
    _fetch_lists(theirs, entries, records, runs)
    for i in range(theirs.start, theirs.start + theirs.length):
        across, e, f = np.int64(entries[i, 0]), np.int64(entries[i, 1]), np.int64(NONE)
        if records[e].queued == DEAD:
            continue
        kept, inside, slot = e, first <= across < last, np.int64(NONE)
        if inside and nodes[across].hub == NONE:
            f = _rename(across, stays, e, nodes, entries)
        elif inside:
            slot = find_slot(slots, pair_key(across, stays))
            if slots[slot] == EMPTY:
                slots[slot] = pair_key(across, stays)
                counts[SLOTS] += 1
            else:
                f = np.int64(pairs[slot])
        if f != NONE:
            kept = min(e, f)
            lower = _unite(e, f, across, frame, rule, nodes, records, runs, hubs, heap, ties, counts)
            if lower and kept == f:
                _push(hub, heap, records[f].score, f)
        if slot != NONE:
            pairs[slot] = kept
        if kept == e:
            _push(hub, heap, records[e].score, e)
            place = node.start + node.length
            entries[place, 0], entries[place, 1] = across, e
            node.length += 1


@njit(cache=True, nogil=True, inline="always")
def _fetch_contact_with(cluster, hub, nodes, entries, slots, pairs):
    """Ask for what is read first to find the contact of a cluster and a hub."""
    node = nodes[cluster]
    if node.hub != NONE:
        slot = np.int64((np.uint64(pair_key(cluster, hub)) * MULTIPLIER) >> np.uint64(32)) & (len(slots) - 1)
        prefetch(slots, slot)
        prefetch(pairs, slot)
        return
    for i in range(node.start, node.start + node.length, 8):
        prefetch(entries, np.int64(2 * i))


@njit(cache=True, nogil=True)
def _rename(cluster, hub, e, nodes, entries):
    """Let the list of a cluster say that contact e leads to `hub`. If another one does, give it, and keep the lower.

    So a cluster that is no hub names each hub beside it once, and its list needs no search for the clusters behind.
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
def _name_once(hub, node, e, entries):
    """Let contact e alone lead to `hub`; other entries that do are gone."""
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


@njit(cache=True, nogil=True, inline="always")
def _unite(e, f, across, frame, rule, nodes, records, runs, hubs, heap, ties, counts):  # noqa: PLR0913 (see below)
    """Unite two contacts with `across`; whether the score of the one kept is lower now.

    If it has the score of the plateau `frame` now, it is one more of its ties. Why pass arrays one by one, and not
    :class:`Work`? This is called once a contact, and a tuple of arrays is taken apart and put together at each call.
    """
    node = nodes[across]
    kept, lost = min(e, f), max(e, f)
    before, better = records[kept].score, min(records[kept].score, records[lost].score)
    unite(rule, kept, lost, records, runs)
    now = records[kept].score
    if now < better:
        counts[BROKEN] = 1
    if now > better and node.best == better:
        node.best = UNKNOWN
    if now < before:
        if now == frame.score:
            put_tie(ties, frame.ties, counts, kept)
        if node.hub != NONE:
            _push(hubs[node.hub], heap, now, kept)
    return now < before


@njit(cache=True, nogil=True)
def _enter_pair(key, edge, slots, pairs, counts):
    """Write the contact of two hubs to the hash table."""
    slot = find_slot(slots, key)
    counts[SLOTS] += slots[slot] == EMPTY
    slots[slot], pairs[slot] = key, edge


@njit(cache=True, nogil=True)
def become_hub(cluster, work):
    """Enter a cluster among the hubs, and its contacts with others into the hash table."""
    counts = work.counts
    number = counts[HUBS]
    counts[HUBS] += 1
    work.nodes[cluster].hub, work.nodes[cluster].best = number, UNKNOWN
    work.hubs[number].size, work.hubs[number].room = NONE, 0
    theirs = refresh(cluster, work.nodes, work.entries, work.records, counts)
    for k in range(len(theirs)):
        across = theirs[k, 0]
        if not is_inside(across, counts):
            continue
        if work.nodes[across].hub != NONE:
            _enter_pair(pair_key(cluster, across), theirs[k, 1], work.slots, work.pairs, counts)
        else:
            _name_once(cluster, work.nodes[across], theirs[k, 1], work.entries)


@njit(cache=True, nogil=True)
def copy_pairs(nodes, slots, pairs, new_slots, new_pairs, counts):
    """Copy the pairs that still are clusters to an empty hash table."""
    counts[SLOTS] = 0
    for i in range(len(slots)):
        a, b = slots[i] >> 32, slots[i] & 0xFFFFFFFF
        if slots[i] != EMPTY and nodes[a].parent == a and nodes[b].parent == b:
            _enter_pair(slots[i], pairs[i], new_slots, new_pairs, counts)


@njit(cache=True, nogil=True)
def put_tie(ties, first, counts, edge):
    """Enter an edge into the heap ties[first : counts[TIES]]."""
    place = counts[TIES]
    counts[TIES] += 1
    while place > first:
        above = first + ((place - first - 1) >> 1)
        if ties[above] <= edge:
            break
        ties[place] = ties[above]
        place = above
    ties[place] = edge


@njit(cache=True, nogil=True)
def take_tie(ties, first, counts):
    """Take the lowest edge out of the heap."""
    counts[TIES] -= 1
    part = ties[first : counts[TIES]]
    found, edge, place = np.int64(ties[first]), ties[counts[TIES]], 0
    while 2 * place + 1 < len(part):
        child = 2 * place + 1
        if child + 1 < len(part) and part[child + 1] < part[child]:
            child += 1
        if part[child] >= edge:
            break
        part[place] = part[child]
        place = child
    if len(part):
        part[place] = edge
    return found


@njit(cache=True, nogil=True)
def settle(cuts, begin, rule, work):
    """Unite contacts between pieces that join the same clusters, of the clusters from `begin` on.

    Piece p are the nodes cuts[p] to cuts[p + 1] - 1; `work` is one on all nodes. Gives the cluster to go on with when
    there is room for its lists, or how many nodes there are.
    """
    nodes = work.nodes
    for p in range(len(cuts) - 1):
        for cluster in range(max(begin, cuts[p]), cuts[p + 1]):
            if nodes[cluster].parent == cluster:
                if not has_room(rule, np.int64(nodes[cluster].length), work.runs):
                    return cluster
                _settle_list(nodes[cluster], cuts[p], cuts[p + 1], rule, work)
    return len(nodes)


@njit(cache=True, nogil=True)
def _settle_list(node, first, last, rule, work):
    """Unite what leads from a cluster out of its piece."""
    nodes, entries, records = work.nodes, work.entries, work.records
    written, begin = np.int64(node.start), np.int64(node.start)
    for i in range(begin, begin + node.length):
        across, e = np.int64(entries[i, 0]), np.int64(entries[i, 1])
        if records[e].queued == DEAD:
            continue
        if not first <= across < last:
            across = find(nodes, across)
            place = np.int64(nodes[across].mark)
            if place != NONE:
                f = np.int64(entries[place, 1])
                entries[place, 1] = min(e, f)
                better = min(records[e].score, records[f].score)
                unite(rule, min(e, f), max(e, f), records, work.runs)
                if records[min(e, f)].score < better:
                    work.counts[BROKEN] = 1
                continue
            nodes[across].mark = written
        entries[written, 0], entries[written, 1] = across, e
        written += 1
    node.length = written - begin
    for i in range(begin, written):
        across = np.int64(entries[i, 0])
        if not first <= across < last:
            nodes[across].mark = NONE


@njit(cache=True, nogil=True)
def _build(hub, heap, entries, records):
    """A heap of the true scores of a list."""
    hub.size = len(entries)
    for k in range(len(entries)):
        heap[hub.start + k].score = records[entries[k, 1]].score
        heap[hub.start + k].edge = entries[k, 1]
    for place in range((len(entries) - 2) // 4, -1, -1):
        _sink(hub, heap, place)


@njit(cache=True, nogil=True)
def _lowest(hub, heap, records):
    """The best contact of a hub, NONE if there is none. Bounds that are not true any more are mended or go."""
    while hub.size > 0:
        bound = heap[hub.start]
        e = bound.edge
        if records[e].queued != DEAD:
            if records[e].score == bound.score:
                return e
            if records[e].score > bound.score:
                bound.score = records[e].score
                _sink(hub, heap, 0)
                continue
        hub.size -= 1
        last = heap[hub.start + hub.size]
        bound.score, bound.edge = last.score, last.edge
        _sink(hub, heap, 0)
    return np.int64(NONE)


@njit(cache=True, nogil=True)
def tied(hub, heap, records, score, found, top):
    """Write all contacts of this score, the best of the hub, to found[top:, 0]; where they end. Some may come twice."""
    if _lowest(hub, heap, records) < 0:
        return top
    found[top, 0] = 0
    end = top + 1
    place = top
    while place < end:  # the places of the heap that hold such bounds lie above all others
        child = 4 * np.int64(found[place, 0]) + 1
        for other in range(child, min(child + 4, hub.size)):
            if heap[hub.start + other].score == score:
                found[end, 0] = other
                end += 1
        place += 1
    written = top
    for place in range(top, end):
        e = heap[hub.start + found[place, 0]].edge
        if records[e].queued != DEAD and records[e].score == score:
            found[written, 0], found[written, 1] = e, NONE
            written += 1
    return written


@njit(cache=True, nogil=True)
def _push(hub, heap, score, edge):
    """Enter a contact into the heap of a hub; if it is full, it will be built anew."""
    if hub.size == NONE or hub.size == hub.room:
        hub.size = NONE
        return
    place = hub.size
    hub.size += 1
    while place > 0:
        above = heap[hub.start + ((place - 1) >> 2)]
        if above.score < score or (above.score == score and above.edge < edge):
            break
        heap[hub.start + place].score, heap[hub.start + place].edge = above.score, above.edge
        place = (place - 1) >> 2
    heap[hub.start + place].score, heap[hub.start + place].edge = score, edge


@njit(cache=True, nogil=True)
def _sink(hub, heap, place):
    """Move an entry down to where it belongs; four children a place, for they lie in one line of the cache."""
    part = heap[hub.start : hub.start + hub.size]
    if place >= hub.size:
        return
    score, edge = part[place].score, part[place].edge
    while 4 * place + 1 < len(part):
        child = 4 * place + 1
        for other in range(child + 1, min(child + 4, len(part))):
            if part[other].score < part[child].score or (
                part[other].score == part[child].score and part[other].edge < part[child].edge
            ):
                child = other
        if score < part[child].score or (score == part[child].score and edge < part[child].edge):
            break
        part[place].score, part[place].edge = part[child].score, part[child].edge
        place = child
    part[place].score, part[place].edge = score, edge
