"""Loops over parts of a graph: lists of affinities, how far merging is certain, and what the merges were."""

import numpy as np
from numba import njit

from segkit.kernels.union_find import find_root, find_root_unchanged

NONE = -1


@njit(cache=True, nogil=True)
def runs_of(starts, numbers):
    """Each number of an edge once, and how often it is there, from sorted numbers at starts[e] to starts[e + 1]."""
    found = np.int64(0)
    places = np.empty(len(starts), np.int64)
    distinct, weights = np.empty(len(numbers), np.int32), np.empty(len(numbers), np.int64)
    for e in range(len(starts) - 1):
        places[e] = found
        for i in range(starts[e], starts[e + 1]):
            if found > places[e] and distinct[found - 1] == numbers[i]:
                weights[found - 1] += 1
                continue
            distinct[found], weights[found] = numbers[i], 1
            found += 1
    places[len(starts) - 1] = found
    return places, distinct[:found].copy(), weights[:found].copy()


@njit(cache=True, nogil=True)
def unite_runs(order, begins, ends, starts, numbers, weights, largest):
    """The lists of groups of edges: group g are the edges order[begins[g] : ends[g]].

    Equal numbers become one, their weights are added. With `largest`, a list has one number, and of a group the largest
    stays, once.
    """
    total = np.int64(0)
    for g in range(len(begins)):
        for i in range(begins[g], ends[g]):
            total += starts[order[i] + 1] - starts[order[i]]
    places, found = np.empty(len(begins) + 1, np.int64), np.int64(0)
    united, counts = np.empty(total, np.int32), np.empty(total, np.int64)
    for g in range(len(begins)):
        places[g] = found
        for i in range(begins[g], ends[g]):
            for k in range(starts[order[i]], starts[order[i] + 1]):
                united[found], counts[found] = numbers[k], weights[k]
                found += 1
        if ends[g] - begins[g] > 1:
            part, part_counts = united[places[g] : found], counts[places[g] : found]
            if largest:
                part[0] = part.max()
                found = places[g] + 1
            else:
                found = places[g] + _sum_up(part, part_counts)
    places[len(begins)] = found
    return places, united[:found].copy(), counts[:found].copy()


@njit(cache=True, nogil=True)
def _sum_up(numbers, weights):
    """Sort numbers in place, each once, with the sum of its weights; how many there are."""
    order = np.argsort(numbers)
    sorted_numbers, sorted_weights = numbers[order], weights[order]
    found = 0
    for i in range(len(order)):
        if found and numbers[found - 1] == sorted_numbers[i]:
            weights[found - 1] += sorted_weights[i]
            continue
        numbers[found], weights[found] = sorted_numbers[i], sorted_weights[i]
        found += 1
    return found


@njit(cache=True, nogil=True)
def certain_below(edges, order, scores, frozen):
    """For each node the score at which single linkage joins it with a frozen one, and the cluster that it is in before.

    `order` sorts the edges by score. float64 (N,), infinity where that never happens, and int32 (N,): one of the nodes
    of the cluster, the same for all of them; NONE for what is frozen.
    """
    nodes = len(frozen)
    parent, sizes, stamp = np.arange(nodes).astype(np.int32), np.ones(nodes, np.int32), np.full(nodes, np.inf)
    for e in order:
        u, v = find_root_unchanged(parent, edges[e, 0]), find_root_unchanged(parent, edges[e, 1])
        if u == v or (frozen[u] and frozen[v]):
            continue
        if frozen[u] or (not frozen[v] and sizes[u] > sizes[v]):
            u, v = v, u
        parent[u], stamp[u] = v, scores[e]
        sizes[v] += sizes[u]
    limits, clusters = np.full(nodes, np.inf), np.full(nodes, NONE, np.int32)
    for i in range(nodes):
        node = np.int64(i)
        while parent[node] != node and not frozen[parent[node]]:  # not halved: the last link tells the score
            node = np.int64(parent[node])
        if not frozen[i]:
            limits[i], clusters[i] = stamp[node], node
    return limits, clusters


@njit(cache=True, nogil=True)
def certain_merges(leaves, parents, altitudes, limits, edges):
    """The merges of a tree that lie below the limits of their leaves, in order.

    `edges`, int64 (E, 2), are the leaves that the rows of the graph join. Gives the score of each merge; its row, see
    below; the lowest leaf on either side, int64 (M, 2); and for each leaf the lowest one of its cluster.

    The row of a merge is the lowest of the contact, which is the lowest of all rows whose ends the merge brings
    together, or that of an earlier merge of the same score, if it is higher: for that was needed first.
    """
    merges = len(altitudes)
    children = np.full((merges, 2), NONE, np.int64)
    for node in range(len(parents)):
        above = parents[node] - leaves
        if parents[node] != node:
            children[above, 0 if children[above, 0] == NONE else 1] = node
    lowest = np.empty(leaves + merges, np.int64)
    lowest[:leaves] = np.arange(leaves)
    head = lowest.copy()  # of a node of the tree: the root of the forest below, a leaf
    forest, stamp, size = np.arange(leaves), np.full(leaves, merges), np.ones(leaves, np.int64)
    rows, accepted = np.full(merges, NONE, np.int64), 0
    for k in range(merges):
        a, b = children[k]
        lowest[leaves + k] = min(lowest[a], lowest[b])
        if not altitudes[k] < limits[lowest[a]]:
            continue
        u, v = head[a], head[b]
        if size[u] > size[v]:
            u, v = v, u
        forest[u], stamp[u] = v, k
        size[v] += size[u]
        head[leaves + k] = v
        children[accepted, 0], children[accepted, 1] = lowest[a], lowest[b]
        rows[k] = len(edges)
        accepted += 1
    for e in range(len(edges)):
        k = _meeting(forest, stamp, edges[e, 0], edges[e, 1], merges)
        if k < merges:
            rows[k] = min(rows[k], e)
    scores, written = np.empty(accepted), 0
    for k in range(merges):
        if rows[k] == NONE:
            continue
        scores[written], row = altitudes[k], rows[k]
        if written and scores[written - 1] == scores[written]:
            row = max(row, rows[written - 1])
        rows[written] = row
        written += 1
    clusters = np.full(leaves, leaves)
    for leaf in range(leaves):
        root = find_root_unchanged(forest, leaf)
        clusters[root] = min(clusters[root], leaf)
    for leaf in range(leaves):
        clusters[leaf] = clusters[find_root_unchanged(forest, leaf)] if forest[leaf] != leaf else clusters[leaf]
    return scores, rows[:accepted].copy(), children[:accepted].copy(), clusters


@njit(cache=True, nogil=True)
def _meeting(forest, stamp, one, other, never):
    """The merge that brought two leaves together: stamps grow on the way up, so the lower one is followed."""
    last = np.int64(never)
    while one != other:
        if stamp[one] > stamp[other]:
            one, other = other, one
        last = stamp[one]
        if last == never:
            return last
        one = forest[one]
    return last


@njit(cache=True, nogil=True)
def replay(leaves, pairs):
    """The two nodes of the tree that each merge joins, from a leaf on either side, in order; int64 (M, 2)."""
    parent, node = np.arange(leaves), np.arange(leaves)
    merges = np.empty((len(pairs), 2), np.int64)
    for k in range(len(pairs)):
        u, v = find_root(parent, pairs[k, 0]), find_root(parent, pairs[k, 1])
        if u == v:
            return merges[:0]
        merges[k, 0], merges[k, 1] = node[u], node[v]
        parent[v] = u
        node[u] = leaves + k
    return merges
