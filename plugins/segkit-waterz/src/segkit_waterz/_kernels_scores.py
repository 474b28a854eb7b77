"""Statistics of the affinities of contacts as waterz computes them, and the scores that it makes of them."""

from typing import NamedTuple

import numpy as np
from numba import njit
from segkit.agglomerate import MILLION

MEAN, MIN, MAX, QUANTILE = 0, 1, 2, 3
NONE = -1


class Statistics(NamedTuple):
    """What the scores of the edges 0..E-1 are made of. Kernels change the arrays."""

    mode: int
    """MEAN, MIN, MAX or QUANTILE."""
    per_million: int
    """The quantile in millionths."""
    bins: int
    """How many bins of 0..1 the histograms have."""
    values: np.ndarray
    """The mean or the extreme of each edge, float32 (E,); empty for QUANTILE."""
    counts: np.ndarray
    """How many affinities each edge has, int64 (E,); empty for MIN and MAX."""
    histograms: tuple
    """Those of `histograms_of`."""


@njit(cache=True, nogil=True)
def running_means(nodes, affinities, steps, stored_here, starts, others):
    """Means, float32 (E,), and counts, int64 (E,), of the affinities of each edge, added up in the order of the scan.

    `nodes` holds numbers from 1, 0 = none. Channel c joins voxel p and p + steps[c], which comes earlier in the scan,
    and is stored at p or, unless stored_here[c], at the earlier end. The edges of node u (from 0) are starts[u] to
    starts[u + 1], to the nodes `others`, increasing.

    Why not sum and divide once? The running mean of waterz rounds at each step, and its order decides the last bit.
    """
    means, counts = np.zeros(len(others), np.float32), np.zeros(len(others), np.int64)
    depth, height, width = nodes.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                here = np.int64(nodes[z, y, x])
                if here == 0:
                    continue
                for c in range(len(steps)):
                    oz, oy, ox = z + steps[c, 0], y + steps[c, 1], x + steps[c, 2]
                    if not (0 <= oz < depth and 0 <= oy < height and 0 <= ox < width):
                        continue
                    there = np.int64(nodes[oz, oy, ox])
                    if there == 0 or there == here:
                        continue
                    value = affinities[c, z, y, x] if stored_here[c] else affinities[c, oz, oy, ox]
                    e = _edge(starts, others, min(here, there) - 1, max(here, there) - 1)
                    n = counts[e]
                    means[e] = (value + means[e] * np.float32(n)) / np.float32(n + 1)
                    counts[e] = n + 1
    return means, counts


@njit(cache=True, nogil=True)
def _edge(starts, others, u, v):
    """The edge of u to v."""
    low, high = starts[u], starts[u + 1]
    while high - low > 1:
        middle = (low + high) >> 1
        if others[middle] <= v:
            low = middle
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def histograms_of(starts, numbers):
    """Histograms from sorted bins, those of edge e at starts[e] to starts[e + 1].

    Each is a linked list of the bins that are not empty: (head of each edge, next, bin, how many). Why not arrays?
    Contacts are small and have few bins, and two lists are merged without taking memory.
    """
    head = np.full(len(starts) - 1, NONE, np.int64)
    following = np.full(len(numbers), NONE, np.int64)
    bins, weights = np.empty(len(numbers), np.int32), np.zeros(len(numbers), np.int64)
    found = 0
    for e in range(len(head)):
        for i in range(starts[e], starts[e + 1]):
            if i == starts[e]:
                head[e] = found
            if i == starts[e] or numbers[i] != numbers[i - 1]:
                bins[found] = numbers[i]
                found += 1
            if i > starts[e] and numbers[i] != numbers[i - 1]:
                following[found - 2] = found - 1
            weights[found - 1] += 1
    return head, following[:found], bins[:found], weights[:found]


@njit(cache=True, nogil=True)
def score_of(e, statistics):
    """1 - the statistic of edge e, rounded to float32 where waterz rounds."""
    if statistics.mode != QUANTILE:
        return np.float32(1.0 - np.float64(statistics.values[e]))
    head, following, bin_numbers, weights = statistics.histograms
    count = statistics.counts[e]
    pivot = min(count * statistics.per_million // MILLION + 1, count)
    entry = head[e]
    below = weights[entry]
    while below < pivot:
        entry = following[entry]
        below += weights[entry]
    return np.float32(1.0 - np.float64(np.float32((bin_numbers[entry] + 0.5) / statistics.bins)))


@njit(cache=True, nogil=True)
def unite(kept, lost, statistics):
    """Add the affinities of edge `lost` to `kept`; whether waterz takes the score of that for stale."""
    mode, values, counts = statistics.mode, statistics.values, statistics.counts
    if mode in (MIN, MAX):
        old = values[kept]
        values[kept] = min(old, values[lost]) if mode == MIN else max(old, values[lost])
        return values[kept] != old
    if mode == MEAN:
        weighted = values[lost] * np.float32(counts[lost]) + values[kept] * np.float32(counts[kept])
        values[kept] = weighted / np.float32(counts[lost] + counts[kept])
    else:
        _merge_histograms(kept, lost, statistics.histograms)
    counts[kept] += counts[lost]
    return True


@njit(cache=True, nogil=True)
def _merge_histograms(kept, lost, histograms):
    """Merge two sorted lists of bins in place: no memory is taken, and equal bins become one."""
    head, following, bins, weights = histograms
    last, a, b = np.int64(NONE), head[kept], head[lost]
    while b != NONE:
        if a != NONE and bins[a] <= bins[b]:
            if bins[a] == bins[b]:
                weights[a] += weights[b]
                b = following[b]
            else:
                last, a = a, following[a]
            continue
        upcoming, following[b] = following[b], a
        if last == NONE:
            head[kept] = b
        else:
            following[last] = b
        last, b = b, upcoming
