"""The edges of all slabs become one graph: sorted together, those that join the same fragments united.

Sums are integers, so it does not matter which slab an affinity belongs to.
"""

import numpy as np
from numba import njit

from segkit.agglomerate._kernels import bin_of
from segkit.kernels.pair_table import find_id

EDGE = np.dtype([("key", "i8"), ("sum", "i8"), ("count", "i4"), ("min", "i4"), ("max", "i4"), ("padding", "i4")])
"""What a slab knows of an edge, in half a line of the cache. Key: u << 32 | v, u < v, ranks of the ids, from 0. The
extremes are the bits of floats that are not negative, which are in order."""


@njit(cache=True, nogil=True)
def rank_ids(ids, order):
    """Sorted distinct ids, and the position in them of each of `ids`, which `order` sorts."""
    ranks, distinct, found = np.empty(len(ids), np.int32), np.empty(len(ids), np.uint64), 0
    for i in order:
        if found == 0 or distinct[found - 1] != ids[i]:
            distinct[found] = ids[i]
            found += 1
        ranks[i] = found - 1
    return distinct[:found].copy(), ranks


@njit(cache=True, nogil=True)
def rename_pairs(pairs, least, ids, slots, ranks, edges):
    """Fill `edges` with what is known of `pairs` of a slab, which has `ids`, of these `ranks`."""
    for e in range(len(pairs)):
        pair, edge = pairs[e], edges[e]
        low = ranks[slots[find_id(slots, ids, pair.low)] - 1]
        high = ranks[slots[find_id(slots, ids, pair.high)] - 1]
        edge.key = (np.int64(low) << 32) | np.int64(high)
        edge.sum, edge.count, edge.min, edge.max = pair.sum, pair.count, least[e] if len(least) else 0, pair.max


@njit(cache=True, nogil=True)
def bucket_edges(edges, nodes):
    """Positions of the records by their lower node, int32 (R,), and where those of each begin, int64 (nodes + 1,)."""
    starts = np.zeros(nodes + 2, np.int64)
    for e in range(len(edges)):
        starts[(edges[e].key >> 32) + 2] += 1
    starts = np.cumsum(starts)
    order = np.empty(len(edges), np.int32)
    for e in range(len(edges)):
        node = edges[e].key >> 32
        order[starts[node + 1]] = e
        starts[node + 1] += 1
    return order, starts[:-1]


@njit(cache=True, nogil=True)
def sort_buckets(edges, order, starts):
    """Sort order[starts[n] : starts[n + 1]] for each n by key; count the distinct ones, and their affinities."""
    distinct, contacts = 0, 0
    for n in range(len(starts) - 1):
        part = order[starts[n] : starts[n + 1]]
        gap = 1
        while 9 * gap // 4 + 1 < len(part):
            gap = 9 * gap // 4 + 1
        while gap > 0:  # Shell's way: buckets are short, and mostly in order
            for i in range(gap, len(part)):
                e, place = part[i], i
                key = edges[e].key
                while place >= gap and edges[part[place - gap]].key > key:
                    part[place] = part[place - gap]
                    place -= gap
                part[place] = e
            gap = 4 * gap // 9
        for i in range(len(part)):
            distinct += i == 0 or edges[part[i - 1]].key != edges[part[i]].key
            contacts += edges[part[i]].count
    return distinct, contacts


@njit(cache=True, nogil=True)
def unite_edges(edges, order, pairs, totals, extremes):
    """Unite records of the same key, in `order`, into pairs (E, 2), totals (count, sum) and extremes (or none)."""
    found = -1
    last = np.int64(-1)
    for e in order:
        edge = edges[e]
        if edge.key != last:
            last = edge.key
            found += 1
            pairs[found, 0], pairs[found, 1] = last >> 32, last & 0xFFFFFFFF
            totals[0, found] = totals[1, found] = 0
            if extremes.shape[1]:
                extremes[0, found], extremes[1, found] = edge.min, edge.max
        totals[0, found] += edge.count
        totals[1, found] += edge.sum
        if extremes.shape[1]:
            extremes[0, found] = min(extremes[0, found], edge.min)
            extremes[1, found] = max(extremes[1, found], edge.max)


@njit(cache=True, nogil=True)
def gather_numbers(edges, order, places, values, bins, starts, numbers):
    """The sorted numbers, int32, of the affinities of each edge: bins, or, where `bins` is 0, the bits of the float.

    The values of record e begin at places[e]; the numbers of edge k belong to numbers[starts[k] : starts[k + 1]].
    """
    bits = values.view(np.int32)
    written = 0
    for e in order:
        for i in range(places[e], places[e] + edges[e].count):
            numbers[written] = bin_of(values[i], bins) if bins else bits[i]
            written += 1
    for k in range(len(starts) - 1):
        part = numbers[starts[k] - starts[0] : starts[k + 1] - starts[0]]
        if len(part) <= 32:
            _insertion_sort(part)
        else:
            part.sort()


@njit(cache=True, nogil=True)
def _insertion_sort(numbers):
    for i in range(1, len(numbers)):
        number, place = numbers[i], i
        while place > 0 and numbers[place - 1] > number:
            numbers[place] = numbers[place - 1]
            place -= 1
        numbers[place] = number
