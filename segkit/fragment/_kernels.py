"""Loops of the watershed on the affinity graph, over flat arrays.

`edges[axis, v]` is the affinity between voxel v and its predecessor along z, y or x, negative where there is no edge;
so the edge to the successor along that axis is `edges[axis, v + stride]`, and rows and planes need no bounds of their
own: an edge that would wrap around is negative.
"""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _neighbour(edges, strides, voxel, direction):
    """Neighbour of a voxel and the affinity of the edge; directions 0..5 are in ascending order of the neighbour."""
    axis = direction if direction < 3 else 5 - direction
    if direction < 3:
        return voxel - strides[axis], edges[axis, voxel]
    other = voxel + strides[axis]
    if other >= edges.shape[1]:
        return other, np.float32(-1)
    return other, edges[axis, other]


@njit(cache=True, nogil=True)
def _steepest(edges, strides):
    """The highest affinity of each voxel's edges; negative for a voxel without any."""
    best = np.full(edges.shape[1], -1, np.float32)
    for axis in range(3):
        for voxel in range(strides[axis], edges.shape[1]):
            affinity = edges[axis, voxel]
            best[voxel] = max(best[voxel], affinity)
            best[voxel - strides[axis]] = max(best[voxel - strides[axis]], affinity)
    return best


@njit(cache=True, nogil=True)
def _ascend(edges, strides, best, uphill, queue):
    """Point every voxel that is in no basin's summit to the neighbour it drains to.

    A plateau (voxels joined by edges that are steepest for both ends) drains through its exits. Breadth-first search
    from all exits at once divides it: the textbook's recursion over bits of a direction mask does the same, but needs
    a second array and as many passes as there are directions.
    """
    filled = 0
    for voxel in range(edges.shape[1]):
        for direction in range(6):
            other, affinity = _neighbour(edges, strides, voxel, direction)
            if affinity >= 0 and affinity == best[voxel] and best[other] > affinity:
                uphill[voxel] = other
                queue[filled] = voxel
                filled += 1
                break
    taken = 0
    while taken < filled:
        voxel = queue[taken]
        taken += 1
        for direction in range(6):
            other, affinity = _neighbour(edges, strides, voxel, direction)
            if affinity >= 0 and affinity == best[voxel] and affinity == best[other] and uphill[other] < 0:
                uphill[other] = voxel
                queue[filled] = other
                filled += 1


@njit(cache=True, nogil=True)
def _number_summits(edges, strides, best, uphill, queue, labels):
    """Give each plateau without an exit a label of its own, in the order of its first voxel; how many there are."""
    count = 0
    for start in range(edges.shape[1]):
        if best[start] < 0 or uphill[start] >= 0 or labels[start] != 0:
            continue
        count += 1
        labels[start] = count
        queue[0] = start
        filled, taken = 1, 0
        while taken < filled:
            voxel = queue[taken]
            taken += 1
            for direction in range(6):
                other, affinity = _neighbour(edges, strides, voxel, direction)
                if affinity >= 0 and affinity == best[voxel] and labels[other] == 0:
                    labels[other] = count
                    queue[filled] = other
                    filled += 1
    return count


@njit(cache=True, nogil=True)
def _follow(uphill, labels, queue):
    """Label every voxel with the basin its path leads to. Paths are walked once: what they pass is labelled too."""
    for start in range(len(labels)):
        voxel, length = start, 0
        while labels[voxel] == 0 and uphill[voxel] >= 0:
            queue[length] = voxel
            length += 1
            voxel = uphill[voxel]
        for step in range(length):
            labels[queue[step]] = labels[voxel]


@njit(cache=True, nogil=True)
def _order_by_first_voxel(labels, count):
    """Renumber in place: summits were found in the order of their own first voxels, not of their basins'."""
    rank = np.zeros(count + 1, np.int64)
    last = 0
    for voxel in range(len(labels)):
        label = labels[voxel]
        if label == 0:
            continue
        if rank[label] == 0:
            last += 1
            rank[label] = last
        labels[voxel] = rank[label]


@njit(cache=True, nogil=True)
def basins(edges, strides):
    """Basins of the steepest ascent, int64 (N,), and their number.

    They are numbered from 1 in the order of their first voxels; voxels without edges are 0.
    """
    size = edges.shape[1]
    best = _steepest(edges, strides)
    uphill = np.full(size, -1, np.int64)
    queue = np.empty(size, np.int64)
    labels = np.zeros(size, np.int64)
    _ascend(edges, strides, best, uphill, queue)
    count = _number_summits(edges, strides, best, uphill, queue, labels)
    _follow(uphill, labels, queue)
    _order_by_first_voxel(labels, count)
    return labels, count


@njit(cache=True, nogil=True)
def contacts(edges, strides, labels, sizes, small, least):
    """Edges of affinity >= `least` between two basins of which one has fewer than `small` voxels.

    Returns the affinity and both labels of each, in the order of voxels, then axes. Counts first, then fills: lists
    that grow would need twice the memory at the peak.
    """
    found = 0
    affinities, pairs = np.empty(0, np.float32), np.empty((0, 2), np.int64)
    for fill in (False, True):
        if fill:
            affinities, pairs = np.empty(found, np.float32), np.empty((found, 2), np.int64)
        found = 0
        for voxel in range(edges.shape[1]):
            for axis in range(3):
                if edges[axis, voxel] < least or edges[axis, voxel] < 0:
                    continue
                a, b = labels[voxel - strides[axis]], labels[voxel]
                if a == b or (sizes[a] >= small and sizes[b] >= small):
                    continue
                if fill:
                    affinities[found] = edges[axis, voxel]
                    pairs[found, 0] = a
                    pairs[found, 1] = b
                found += 1
    return affinities, pairs


@njit(cache=True, nogil=True)
def _root(parents, node):
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


@njit(cache=True, nogil=True)
def merge_small(order, pairs, sizes, small):
    """Join the two regions of each pair, in `order`, while either has fewer than `small` voxels.

    `sizes` becomes those of the regions. Returns the root of each label. All voxel edges are replayed, not one saddle
    a pair: the further ones of a pair find it joined, or both regions large, and building the graph costs more.
    """
    parents = np.arange(len(sizes))
    for k in order:
        a, b = _root(parents, pairs[k, 0]), _root(parents, pairs[k, 1])
        if a != b and (sizes[a] < small or sizes[b] < small):
            low, high = min(a, b), max(a, b)
            parents[high] = low
            sizes[low] += sizes[high]
    for label in range(len(parents)):
        parents[label] = _root(parents, label)
    return parents
