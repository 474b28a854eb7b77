"""Clusters and the lists of their contacts: finding the best, uniting two lists, giving one to a hub."""

import numpy as np
from numba import njit

from segkit._kernels_prefetch import prefetch
from segkit.agglomerate._kernels import EMPTY, MULTIPLIER, find, find_slot
from segkit.agglomerate._kernels_bounds import DEAD, NONE, build, lowest, push
from segkit.agglomerate._kernels_contacts import unite

UNKNOWN, NOTHING = 1, 2  # scores are not above 0
FREE, HELD, STUCK = 0, 1, 2
SHORT = 96
"""A cluster with more entries in its list is a hub."""
NODE = np.dtype([(name, "i4") for name in ("parent", "start", "room", "length", "best", "state", "mark", "hub")])
"""Of a cluster, in half a line of the cache: its place in the union-find forest, its list of contacts (start, room and
length), its best score, whether it is HELD by a plateau or STUCK, scratch, and its number among the hubs."""
FRAMES, MEMBERS, PENDING, TIES, ENTRIES, RUNS, HEAP, SLOTS, HUBS, MERGES, BEGIN, START, LAST = range(13)
"""What is counted: entries used of each array; where to begin and to go on; the highest edge of a plateau so far."""


@njit(cache=True, nogil=True)
def fill_lists(edges, nodes, entries):
    """Fill in all nodes, and the lists (node across, edge); the places used."""
    for i in range(len(nodes)):
        node = nodes[i]
        node.parent, node.room, node.length, node.best = i, 0, 0, UNKNOWN
        node.state, node.mark, node.hub = FREE, NONE, NONE
    for e in range(len(edges)):
        nodes[edges[e, 0]].room += 1
        nodes[edges[e, 1]].room += 1
    top = 0
    for i in range(len(nodes)):
        nodes[i].start = top
        top += nodes[i].room
    for e in range(len(edges)):
        for k in range(2):
            node = nodes[edges[e, k]]
            place = node.start + node.length
            entries[place, 0], entries[place, 1] = edges[e, 1 - k], e
            node.length += 1
    return top


@njit(cache=True, nogil=True)
def look(cluster, counts, nodes, entries, contacts, hubs, heap):
    """Fill in the best score of a cluster. False if there is no room for the heap of a hub."""
    node = nodes[cluster]
    if node.hub == NONE:
        _scan(node, entries, contacts)
        return True
    hub = hubs[node.hub]
    if hub.size == NONE:
        if 2 * node.length > hub.room:
            room = 2 * np.int64(node.length) + 16
            if counts[HEAP] + room > len(heap):
                return False
            hub.start, hub.room = counts[HEAP], room
            counts[HEAP] += room
        _scan(node, entries, contacts)
        build(hub, heap, entries[node.start : node.start + node.length], contacts)
    m = lowest(hub, heap, contacts)
    node.best = contacts[m].score if m >= 0 else NOTHING
    return True


@njit(cache=True, nogil=True)
def _scan(node, entries, contacts):
    """Fill in the best score; contacts that are gone leave the list."""
    written, best = np.int64(node.start), np.int32(NOTHING)
    for i in range(node.start, node.start + node.length):
        prefetch(contacts, np.int64(entries[i, 1]))
    for i in range(node.start, node.start + node.length):
        e = entries[i, 1]
        if contacts[e].queued == DEAD:
            continue
        entries[written, 0], entries[written, 1] = entries[i, 0], e
        written += 1
        best = min(best, contacts[e].score)
    node.length, node.best = written - node.start, best


@njit(cache=True, nogil=True)
def fetch(cluster, nodes, entries, contacts):
    """Ask for what `refresh` reads."""
    node = nodes[cluster]
    for i in range(node.start, node.start + node.length):
        prefetch(contacts, np.int64(entries[i, 1]))
        prefetch(nodes, np.int64(entries[i, 0]))


@njit(cache=True, nogil=True)
def refresh(cluster, nodes, entries, contacts):
    """The contacts of a cluster, those that are gone left out, and with the clusters across as they are now.

    Why a loop of its own? Its turns do not depend on each other, so the processor waits for memory once, not at each.
    """
    node = nodes[cluster]
    written = np.int64(node.start)
    fetch(cluster, nodes, entries, contacts)
    for i in range(node.start, node.start + node.length):
        e = entries[i, 1]
        if contacts[e].queued != DEAD:
            entries[written, 0], entries[written, 1] = find(nodes, entries[i, 0]), e
            written += 1
    node.length = written - node.start
    return entries[node.start : written]


@njit(cache=True, nogil=True)
def unite_lists(stays, goes, score, counts, nodes, entries, contacts, runs, per_million, hubs, heap, ties, first):
    """Put the contacts of both, each once, behind all entries; how many. For the last arguments see `_unite`."""
    top = counts[ENTRIES]
    fetch(goes, nodes, entries, contacts)
    own = refresh(stays, nodes, entries, contacts)
    for k in range(len(own)):
        nodes[own[k, 0]].mark = k
        entries[top + k, 0], entries[top + k, 1] = own[k, 0], own[k, 1]
    found = len(own)
    theirs = refresh(goes, nodes, entries, contacts)
    for k in range(len(theirs)):
        place = nodes[theirs[k, 0]].mark
        if place != NONE:
            e, f = theirs[k, 1], entries[top + place, 1]
            prefetch(runs, np.int64(contacts[e].head))
            prefetch(runs, np.int64(contacts[f].head))
    for k in range(len(theirs)):
        across, e = np.int64(theirs[k, 0]), np.int64(theirs[k, 1])
        place = nodes[across].mark
        if place == NONE:
            entries[top + found, 0], entries[top + found, 1] = across, e
            found += 1
            continue
        f = np.int64(entries[top + place, 1])
        entries[top + place, 1] = min(e, f)
        _unite(e, f, across, score, counts, nodes, contacts, runs, per_million, hubs, heap, ties, first)
    for k in range(len(own)):
        nodes[own[k, 0]].mark = NONE
    return found


@njit(cache=True, nogil=True)
def absorb(
    stays, goes, score, counts, nodes, entries, contacts, runs, per_million, hubs, heap, ties, first, slots, pairs
):
    """Give the contacts of a cluster to a hub, whose list is not walked. For the arguments see `unite_lists`."""
    node, hub = nodes[stays], hubs[nodes[stays].hub]
    theirs = refresh(goes, nodes, entries, contacts)
    top = counts[ENTRIES]
    for k in range(len(theirs)):
        _fetch_contact_with(theirs[k, 0], stays, nodes, entries, slots, pairs)
    for k in range(len(theirs)):
        f = _contact_with(theirs[k, 0], stays, nodes, entries, contacts, slots, pairs)
        entries[top + k, 0] = f
        prefetch(contacts, np.int64(f))
        prefetch(runs, np.int64(contacts[theirs[k, 1]].head))
    for k in range(len(theirs)):
        f = np.int64(entries[top + k, 0])
        if f != NONE:
            prefetch(runs, np.int64(contacts[f].head))
    for k in range(len(theirs)):
        across, e, f = np.int64(theirs[k, 0]), np.int64(theirs[k, 1]), np.int64(entries[top + k, 0])
        kept = e
        if f != NONE:
            kept = min(e, f)
            lower = _unite(e, f, across, score, counts, nodes, contacts, runs, per_million, hubs, heap, ties, first)
            if lower and kept == f:
                push(hub, heap, contacts[f].score, f)
        if nodes[across].hub != NONE:
            _enter_pair(stays, across, kept, counts, slots, pairs)
        if kept == e:
            push(hub, heap, contacts[e].score, e)
            place = node.start + node.length
            entries[place, 0], entries[place, 1] = across, e
            node.length += 1


@njit(cache=True, nogil=True)
def _fetch_contact_with(cluster, hub, nodes, entries, slots, pairs):
    """Ask for what `_contact_with` reads first."""
    node = nodes[cluster]
    if node.hub != NONE:
        slot = np.int64((np.uint64(pair_key(cluster, hub)) * MULTIPLIER) >> np.uint64(32)) & (len(slots) - 1)
        prefetch(slots, slot)
        prefetch(pairs, slot)
        return
    for i in range(node.start, node.start + node.length, 8):
        prefetch(entries, np.int64(2 * i))


@njit(cache=True, nogil=True)
def _contact_with(cluster, hub, nodes, entries, contacts, slots, pairs):
    """The live contact of a cluster and a hub, or NONE."""
    node = nodes[cluster]
    if node.hub != NONE:
        slot = find_slot(slots, pair_key(cluster, hub))
        return np.int64(NONE) if slots[slot] == EMPTY else np.int64(pairs[slot])
    for i in range(node.start, node.start + node.length):
        if entries[i, 0] == hub and contacts[entries[i, 1]].queued != DEAD:  # as it was written the last time
            return np.int64(entries[i, 1])
    theirs = refresh(cluster, nodes, entries, contacts)
    for k in range(len(theirs)):
        if theirs[k, 0] == hub:
            return np.int64(theirs[k, 1])
    return np.int64(NONE)


@njit(cache=True, nogil=True)
def _unite(e, f, across, score, counts, nodes, contacts, runs, per_million, hubs, heap, ties, first):
    """Unite two contacts with `across`; whether the score of the one kept is lower now.

    If it has the `score` of the plateau now, it is one more of its ties, a heap from `first` on.
    """
    kept, lost = min(e, f), max(e, f)
    before, better = contacts[kept].score, min(contacts[kept].score, contacts[lost].score)
    counts[RUNS] = unite(kept, lost, contacts, runs, counts[RUNS], per_million)
    now = contacts[kept].score
    if now > better and nodes[across].best == better:
        nodes[across].best = UNKNOWN
    if now < before:
        if now == score:
            put_tie(ties, first, counts, kept)
        if nodes[across].hub != NONE:
            push(hubs[nodes[across].hub], heap, now, kept)
    return now < before


@njit(cache=True, nogil=True)
def pair_key(a, b):
    """What the hash table has for a pair of clusters."""
    return (np.int64(min(a, b)) << 32) | np.int64(max(a, b))


@njit(cache=True, nogil=True)
def _enter_pair(a, b, edge, counts, slots, pairs):
    """Write the contact of two hubs to the hash table."""
    slot = find_slot(slots, pair_key(a, b))
    counts[SLOTS] += slots[slot] == EMPTY
    slots[slot], pairs[slot] = pair_key(a, b), edge


@njit(cache=True, nogil=True)
def become_hub(cluster, counts, nodes, entries, contacts, hubs, slots, pairs):
    """Enter a cluster among the hubs, and its contacts with others into the hash table."""
    number = counts[HUBS]
    counts[HUBS] += 1
    nodes[cluster].hub, nodes[cluster].best = number, UNKNOWN
    hubs[number].size, hubs[number].room = NONE, 0
    theirs = refresh(cluster, nodes, entries, contacts)
    for k in range(len(theirs)):
        if nodes[theirs[k, 0]].hub != NONE:
            _enter_pair(cluster, theirs[k, 0], theirs[k, 1], counts, slots, pairs)


@njit(cache=True, nogil=True)
def copy_pairs(counts, nodes, slots, pairs, new_slots, new_pairs):
    """Copy the pairs that still are clusters to an empty hash table."""
    counts[SLOTS] = 0
    for i in range(len(slots)):
        a, b = slots[i] >> 32, slots[i] & 0xFFFFFFFF
        if slots[i] != EMPTY and nodes[a].parent == a and nodes[b].parent == b:
            _enter_pair(a, b, pairs[i], counts, new_slots, new_pairs)


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
