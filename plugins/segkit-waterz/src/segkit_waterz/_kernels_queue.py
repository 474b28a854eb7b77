"""The queue of edges of waterz: bins, first come first served in each, or a heap."""

import numpy as np
from numba import njit

NONE = -1


@njit(cache=True, nogil=True)
def make_queue(size, bins):
    """(first of each bin, last of each bin, next edge in the bin, state, edges and scores of a heap).

    No edge is in the queue twice, so the bins are linked lists. Without bins there is a heap. state = (the lowest bin
    that is not empty, entries of the heap).
    """
    first, last = np.full(bins, NONE, np.int64), np.full(bins, NONE, np.int64)
    room = 0 if bins else size
    following = np.full(size - room, NONE, np.int64)
    state = np.array([bins, 0])
    return first, last, following, state, np.empty(room, np.int64), np.empty(room, np.float32)


@njit(cache=True, nogil=True)
def is_empty(queue):
    """Whether no edge is left."""
    first, _, _, state, _, _ = queue
    return state[0] == len(first) and state[1] == 0


@njit(cache=True, nogil=True)
def put(queue, e, score):
    """Add edge e, which must not be in the queue."""
    first, last, following, state, heap_edges, heap_scores = queue
    bins = len(first)
    if bins == 0:
        state[1] += 1
        _rise(heap_edges, heap_scores, state[1] - 1, e, score)
        return
    place = min(np.int64(score * np.float32(bins)), bins - 1)  # the scores lie in 0..1
    following[e] = NONE
    if first[place] == NONE:
        first[place] = e
    else:
        following[last[place]] = e
    last[place] = e
    state[0] = min(state[0], place)


@njit(cache=True, nogil=True)
def take(queue):
    """Remove the first edge of the lowest bin, or the top of the heap."""
    first, _, following, state, heap_edges, heap_scores = queue
    bins = len(first)
    if bins == 0:
        e = heap_edges[0]
        state[1] -= 1
        _fall(heap_edges, heap_scores, state[1])
        return e
    e = first[state[0]]
    first[state[0]] = following[e]
    while state[0] < bins and first[state[0]] == NONE:
        state[0] += 1
    return e


@njit(cache=True, nogil=True)
def _rise(edges, scores, place, e, score):
    """Put an entry into a free place, or above."""
    while place > 0 and scores[(place - 1) >> 1] > score:
        above = (place - 1) >> 1
        edges[place], scores[place] = edges[above], scores[above]
        place = above
    edges[place], scores[place] = e, score


@njit(cache=True, nogil=True)
def _fall(edges, scores, size):
    """Fill the gap at the top with the entry at `size`.

    Why does the gap sink to the bottom first, when the entry may belong above? It is the order of equal scores that
    counts: std::pop_heap of the GNU library leaves them so.
    """
    place = 0
    while 2 * place + 1 < size:
        child = 2 * place + 2
        if child == size or scores[child] > scores[child - 1]:
            child -= 1
        edges[place], scores[place] = edges[child], scores[child]
        place = child
    if size > 0:
        _rise(edges, scores, place, edges[size], scores[size])
