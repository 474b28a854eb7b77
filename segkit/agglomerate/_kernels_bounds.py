"""Heaps of lower bounds: the best contact of a cluster with many.

A contact that is united with another is dead, or has another score. If that is higher, its entry stays as a lower bound
until it comes up; if it is lower, the contact is entered again.
"""

import numpy as np
from numba import njit

from segkit.agglomerate._kernels_contacts import DEAD, NONE

NOTHING = -2

HUB = np.dtype([("start", "i8"), ("room", "i8"), ("size", "i8")])
"""Of a hub: its heap of contacts; the size is NONE when the heap has to be built anew."""
BOUND = np.dtype([("score", "f8"), ("edge", "i8")])
"""An entry of a heap: the score of the contact is not lower, or it is entered elsewhere as well."""


@njit(cache=True, nogil=True)
def build(hub, heap, entries, records):
    """A heap of the true scores of a list."""
    hub.size = len(entries)
    for k in range(len(entries)):
        heap[hub.start + k].score = records[entries[k, 1]].score
        heap[hub.start + k].edge = entries[k, 1]
    for place in range((len(entries) - 2) // 4, -1, -1):
        _sink(hub, heap, place)


@njit(cache=True, nogil=True)
def lowest(hub, heap, records):
    """The best contact of a hub, NOTHING if there is none. Bounds that are not true any more are mended or go."""
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
    return np.int64(NOTHING)


@njit(cache=True, nogil=True)
def tied(hub, heap, records, score, found, top):
    """Write all contacts of this score, the best of the hub, to found[top:, 0]; where they end. Some may come twice."""
    if lowest(hub, heap, records) < 0:
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
def push(hub, heap, score, edge):
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
