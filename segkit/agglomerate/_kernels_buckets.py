"""A queue of edges by score: buckets, the current one of which is a heap."""

import numpy as np
from numba import njit

from segkit.agglomerate._kernels_contacts import NONE

MOST_BUCKETS = 2**16


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
