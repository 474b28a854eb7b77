"""Greedy merging of the nodes of a graph.

Edges are numbered as in the graph. Edge e has two halves, 2e and 2e + 1, one at each end: `end[h]` is the cluster at
half h, `end[h ^ 1]` the one across. The halves at a cluster form a linked list, so that two lists become one in
constant time; a dead edge stays in the list across until that list is walked.

When two contacts are united, the edge of the lower number survives. So an edge's number is the lowest in its contact,
which is the tie rule, and no entry of the queue changes when a cluster only changes its name.
"""

import numpy as np
from numba import njit

from segkit.agglomerate._kernels import EMPTY, UNIT, find_slot
from segkit.agglomerate.scores import MILLION

MEAN, MIN, MAX, QUANTILE = 0, 1, 2, 3
NONE = -1
MAX_EDGES = 2**30  # halves are int32


@njit(cache=True, nogil=True)
def score_edges(mode, statistics, lists, per_million, bins, scores):
    """Fill `scores` float64 (E,) with the score of each edge; see `merge_all` for the arguments."""
    for e in range(len(scores)):
        scores[e] = _score(e, mode, statistics, lists, per_million, bins)


@njit(cache=True, nogil=True)
def merge_all(nodes, edges, mode, statistics, lists, per_million, bins, score, order):
    """All merges in order: int64 (M, 2) nodes of the tree, float64 (M,) scores. Changes statistics, lists and score.

    `statistics` = (totals int64 (E, 2), extremes float32 (E,)): MEAN needs count and sum, QUANTILE the count, MIN and
    MAX the extreme. `lists` = (head of edge, next, bin, count): QUANTILE's histograms, each a list of the bins that
    are not empty, in increasing order. `score` belongs to the edges, and `order` sorts it.

    Why a hash of pairs of clusters, and not the incidence lists alone? To see which neighbours two clusters share, both
    lists would be walked at each merge, and a large cluster merges often. With the hash only the shorter one is: at
    most E log N steps in all.

    Why is an edge not moved in the queue when its score rises? Contacts are united many times before they come up. Its
    entry stays as a lower bound (`queued`), and is put back with the true score when it comes up.
    """
    live = np.arange(len(edges), dtype=np.int32)
    alive = np.ones(len(edges), np.bool_)
    end, following, head, tail, degree = _incidence(nodes, edges)
    slots, slot_edges = _hash_live(end, live)
    used = len(live)
    queued, initial, first = score.copy(), score[order], 0  # initial scores are read in order, later ones are heaped
    heap_scores, heap_edges, size = np.empty(2 * len(edges)), np.empty(2 * len(edges), np.int32), 0
    tree_node = np.arange(nodes)
    merges, scores, merged = np.empty((nodes, 2), np.int64), np.empty(nodes), 0
    while True:
        if first < len(order) and (size == 0 or _before(initial[first], order[first], heap_scores[0], heap_edges[0])):
            bound, m = initial[first], np.int64(order[first])
            first += 1
        elif size > 0:
            bound, m = heap_scores[0], np.int64(heap_edges[0])
            size = _pop(heap_scores, heap_edges, size)
        else:
            break
        if not alive[m] or bound != queued[m]:
            continue
        if score[m] > bound:
            queued[m] = score[m]
            size = _push(heap_scores, heap_edges, size, score[m], m)
            continue

        alive[m] = False
        stays, goes = end[2 * m], end[2 * m + 1]
        degree[stays] -= 1
        degree[goes] -= 1
        if degree[stays] < degree[goes]:
            stays, goes = goes, stays
        merges[merged, 0], merges[merged, 1], scores[merged] = tree_node[stays], tree_node[goes], score[m]
        tree_node[stays] = nodes + merged
        merged += 1

        if used + degree[goes] > 0.7 * len(slots):
            live = live[alive[live]]
            slots, slot_edges = _hash_live(end, live)
            used = len(live)
        half = np.int64(head[goes])
        while half != NONE:
            upcoming = np.int64(following[half])
            e = half >> 1
            if alive[e]:
                across = end[half ^ 1]
                key = _key(stays, across)
                slot = find_slot(slots, key)
                end[half] = stays
                if slots[slot] == EMPTY:
                    slots[slot], slot_edges[slot] = key, e
                    used += 1
                    degree[stays] += 1
                    _append(half, stays, head, tail, following)
                else:
                    f = np.int64(slot_edges[slot])
                    kept, lost = min(e, f), max(e, f)
                    slot_edges[slot] = kept
                    alive[lost] = False
                    degree[across] -= 1
                    if kept == e:
                        _append(half, stays, head, tail, following)
                    _unite(kept, lost, mode, statistics, lists)
                    score[kept] = _score(kept, mode, statistics, lists, per_million, bins)
                    if score[kept] < queued[kept]:
                        queued[kept] = score[kept]
                        size = _push(heap_scores, heap_edges, size, score[kept], kept)
            half = upcoming
    return merges[:merged], scores[:merged]


@njit(cache=True, nogil=True)
def lists_of_bins(starts, numbers, weights):
    """Lists for `merge_all` from sorted bins, those of edge e at starts[e] to starts[e + 1], and how often each counts.

    Equal bins become one entry. No weights: each counts once.
    """
    head = np.full(len(starts) - 1, NONE, np.int64)
    following = np.full(len(numbers), NONE, np.int64)
    bins, counts = np.empty(len(numbers), np.int32), np.empty(len(numbers), np.int64)
    found = 0
    for e in range(len(head)):
        for i in range(starts[e], starts[e + 1]):
            weight = weights[i] if len(weights) else 1
            if i > starts[e] and bins[found - 1] == numbers[i]:
                counts[found - 1] += weight
                continue
            bins[found], counts[found] = numbers[i], weight
            if i == starts[e]:
                head[e] = found
            else:
                following[found - 1] = found
            found += 1
    return head, following[:found], bins[:found], counts[:found]


@njit(cache=True, nogil=True)
def _score(e, mode, statistics, lists, per_million, bins):
    totals, extremes = statistics
    if mode == MEAN:
        return 1.0 - totals[e, 1] / UNIT / totals[e, 0]
    if mode != QUANTILE:
        return 1.0 - np.float64(extremes[e])
    head, following, bin_numbers, counts = lists
    pivot = min(totals[e, 0] * per_million // MILLION + 1, totals[e, 0])
    entry = head[e]
    below = counts[entry]
    while below < pivot:
        entry = following[entry]
        below += counts[entry]
    return 1.0 - (bin_numbers[entry] + 0.5) / bins


@njit(cache=True, nogil=True)
def _unite(kept, lost, mode, statistics, lists):
    totals, extremes = statistics
    if mode == MIN:
        extremes[kept] = min(extremes[kept], extremes[lost])
    elif mode == MAX:
        extremes[kept] = max(extremes[kept], extremes[lost])
    else:
        totals[kept, 0] += totals[lost, 0]
        totals[kept, 1] += totals[lost, 1]
    if mode == QUANTILE:
        _merge_lists(kept, lost, lists)


@njit(cache=True, nogil=True)
def _merge_lists(kept, lost, lists):
    """Merge two sorted lists of bins in place: no memory is taken, and equal bins become one."""
    head, following, bins, counts = lists
    a, b = head[kept], head[lost]
    last = np.int64(NONE)
    while b != NONE:
        if a != NONE and bins[a] == bins[b]:
            counts[a] += counts[b]
            b = following[b]
            continue
        if a != NONE and bins[a] < bins[b]:
            last, a = a, following[a]
            continue
        upcoming = following[b]
        following[b] = a
        if last == NONE:
            head[kept] = b
        else:
            following[last] = b
        last, b = b, upcoming
    head[lost] = NONE


@njit(cache=True, nogil=True)
def _incidence(nodes, edges):
    """Ends of the halves, their linked lists (next; first and last of each node), degrees of the nodes."""
    end = np.empty(2 * len(edges), np.int32)
    following = np.full(2 * len(edges), NONE, np.int32)
    head, tail = np.full(nodes, NONE, np.int32), np.full(nodes, NONE, np.int32)
    degree = np.zeros(nodes, np.int32)
    for half in range(len(end)):
        node = edges[half >> 1, half & 1]
        end[half] = node
        degree[node] += 1
        _append(half, node, head, tail, following)
    return end, following, head, tail, degree


@njit(cache=True, nogil=True)
def _append(half, node, head, tail, following):
    following[half] = NONE
    if head[node] == NONE:
        head[node] = half
    else:
        following[tail[node]] = half
    tail[node] = half


@njit(cache=True, nogil=True)
def _hash_live(end, live):
    """A hash table of the pairs that live edges join. Pairs with a cluster that is gone are never asked for."""
    size = 16
    while size < 2 * len(live) + 1:
        size *= 2
    slots, slot_edges = np.zeros(size, np.int64), np.empty(size, np.int32)
    for e in live:
        key = _key(end[2 * e], end[2 * e + 1])
        slot = find_slot(slots, key)
        slots[slot], slot_edges[slot] = key, e
    return slots, slot_edges


@njit(cache=True, nogil=True)
def _key(a, b):
    return (np.int64(min(a, b)) << 32) | np.int64(max(a, b))


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
