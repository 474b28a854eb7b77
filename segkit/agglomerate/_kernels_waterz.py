"""Greedy merging as waterz does it: a queue of edges whose entries may be stale.

Edge e has two halves, 2e and 2e + 1, one at each end: `end[h]` is the cluster at half h, `end[h ^ 1]` the one across.
The halves at a cluster form a linked list; that of a dead edge stays in the list across until that list is walked.
"""

import numpy as np
from numba import njit

from segkit.agglomerate._kernels import EMPTY, MULTIPLIER, find_slot
from segkit.agglomerate._kernels_queue import is_empty, make_queue, put, take
from segkit.agglomerate.scores import MILLION

MEAN, MIN, MAX, QUANTILE = 0, 1, 2, 3
NONE = -1


@njit(cache=True, nogil=True)
def number_nodes(fragments, node_ids):
    """For every voxel the position of its id in `node_ids` + 1, int32; 0 = not among them."""
    size = 16
    while size < 2 * len(node_ids) + 1:
        size *= 2
    slots = np.zeros(size, np.int32)
    for i in range(len(node_ids)):
        slots[_slot_of_id(slots, node_ids, node_ids[i])] = i + 1
    nodes = np.empty(fragments.shape, np.int32)
    for z in range(fragments.shape[0]):
        for y in range(fragments.shape[1]):
            fragment, number = np.uint64(0), np.int32(0)
            for x in range(fragments.shape[2]):
                if fragments[z, y, x] != fragment:
                    fragment = fragments[z, y, x]
                    number = slots[_slot_of_id(slots, node_ids, fragment)]
                nodes[z, y, x] = number
    return nodes


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
def merge_all(nodes, edges, mode, values, counts, lists, per_million, bins, queue_bins):
    """All merges in order: int64 (M, 2) nodes of the tree, float32 (M,) highest score that was seen until then.

    Changes `values` float32 (E,), the mean or the extreme of each edge, `counts` int64 (E,) and `lists`, the histograms
    of QUANTILE. The highest score seen counts stale and dead entries of the queue too, for waterz looks at the score
    of an entry, and stops there, before it asks what became of the edge.

    Two clusters become one of the lower number, u. A neighbour of both keeps the edge of lower score, and that of the
    other cluster, v, if both are equal. Here the cluster with more contacts keeps its lists; `name` is its number.
    """
    score = np.empty(len(edges), np.float32)
    stale, alive = np.zeros(len(edges), np.bool_), np.ones(len(edges), np.bool_)
    end, following, head, tail, degree = _incidence(nodes, edges)
    slots, slot_edges = _hashed(end, alive)
    used = len(edges)
    queue = make_queue(len(edges), queue_bins)
    for e in range(len(edges)):
        score[e] = _score(e, mode, values, counts, lists, per_million, bins)
        put(queue, e, score[e])
    tree_node, name = np.arange(nodes), np.arange(nodes)
    merges, altitudes, merged = np.empty((nodes, 2), np.int64), np.empty(nodes, np.float32), 0
    highest = np.float32(0)
    while not is_empty(queue):
        m = take(queue)
        highest = max(highest, score[m])
        if not alive[m]:
            continue
        if stale[m]:
            score[m] = _score(m, mode, values, counts, lists, per_million, bins)
            stale[m] = False
            put(queue, m, score[m])
            continue

        alive[m] = False
        stays, goes = end[2 * m], end[2 * m + 1]
        degree[stays] -= 1
        degree[goes] -= 1
        if degree[stays] < degree[goes]:
            stays, goes = goes, stays
        merges[merged, 0], merges[merged, 1], altitudes[merged] = tree_node[stays], tree_node[goes], highest
        tree_node[stays] = nodes + merged
        merged += 1
        first_stays = name[stays] < name[goes]
        name[stays] = min(name[stays], name[goes])

        if used + degree[goes] > 0.7 * len(slots):
            slots, slot_edges = _hashed(end, alive)
            used = np.count_nonzero(alive)
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
                    of_first, of_second = (f, e) if first_stays else (e, f)
                    kept, lost = (of_first, of_second) if score[of_second] > score[of_first] else (of_second, of_first)
                    slot_edges[slot] = kept
                    alive[lost] = False
                    degree[across] -= 1
                    if kept == e:
                        _append(half, stays, head, tail, following)
                    if _unite(kept, lost, mode, values, counts, lists):
                        stale[kept] = True
            half = upcoming
    return merges[:merged], altitudes[:merged]


@njit(cache=True, nogil=True)
def lists_of_bins(starts, numbers):
    """Histograms for `merge_all` from sorted bins, those of edge e at starts[e] to starts[e + 1].

    Each is a list of the bins that are not empty: (head of each edge, next, bin, how many).
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
def _score(e, mode, values, counts, lists, per_million, bins):
    if mode != QUANTILE:
        return np.float32(1.0 - np.float64(values[e]))
    head, following, bin_numbers, weights = lists
    pivot = min(counts[e] * per_million // MILLION + 1, counts[e])
    entry = head[e]
    below = weights[entry]
    while below < pivot:
        entry = following[entry]
        below += weights[entry]
    return np.float32(1.0 - np.float64(np.float32((bin_numbers[entry] + 0.5) / bins)))


@njit(cache=True, nogil=True)
def _unite(kept, lost, mode, values, counts, lists):
    """Add the affinities of one edge to another; whether waterz takes the score of that for stale."""
    if mode in (MIN, MAX):
        old = values[kept]
        values[kept] = min(old, values[lost]) if mode == MIN else max(old, values[lost])
        return values[kept] != old
    if mode == MEAN:
        weighted = values[lost] * np.float32(counts[lost]) + values[kept] * np.float32(counts[kept])
        values[kept] = weighted / np.float32(counts[lost] + counts[kept])
    else:
        _merge_lists(kept, lost, lists)
    counts[kept] += counts[lost]
    return True


@njit(cache=True, nogil=True)
def _merge_lists(kept, lost, lists):
    """Merge two sorted lists of bins in place: no memory is taken, and equal bins become one."""
    head, following, bins, weights = lists
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
def _hashed(end, alive):
    """A hash table of the pairs that live edges join. Pairs with a cluster that is gone are never asked for."""
    size = 16
    while size < 2 * np.count_nonzero(alive) + 1:
        size *= 2
    slots, slot_edges = np.zeros(size, np.int64), np.empty(size, np.int32)
    for e in range(len(alive)):
        if alive[e]:
            key = _key(end[2 * e], end[2 * e + 1])
            slot = find_slot(slots, key)
            slots[slot], slot_edges[slot] = key, e
    return slots, slot_edges


@njit(cache=True, nogil=True)
def _key(a, b):
    return (np.int64(min(a, b)) << 32) | np.int64(max(a, b))


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
def _slot_of_id(slots, node_ids, fragment):
    """The slot of the position + 1 of an id in `node_ids`, or the empty one where it belongs."""
    mask = len(slots) - 1
    slot = np.int64((fragment * MULTIPLIER) >> np.uint64(32)) & mask
    while slots[slot] and node_ids[slots[slot] - 1] != fragment:
        slot = (slot + 1) & mask
    return slot
