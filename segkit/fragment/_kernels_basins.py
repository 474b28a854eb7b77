"""Loops of the watershed on the affinity graph.

`codes` says which edges of a voxel are its highest: bit 0 for z-, then y-, x-, x+, y+, and bit 5 for z+, so that the
lowest bit belongs to the neighbour of lowest index. An edge that is also the highest of its other end is level;
otherwise it leads uphill. `targets` holds, for each voxel, the neighbour it drains to; itself for the first voxel of
a summit, which drains nowhere; UNKNOWN or NO_EDGE; and at last -1 - its label. It is nine bytes a voxel in all.
"""

import numpy as np
from numba import njit

from segkit.fragment._kernels_affinity import edges_before
from segkit.kernels.prefetch import prefetch
from segkit.kernels.union_find import find_root

ONE = 0x3F800000  # the bits of float32 1.0
DIGIT = 10  # bits
AHEAD = 12  # pairs
UNKNOWN = np.int32(-2)
NO_EDGE = np.int32(-1)  # that is label 0


@njit(cache=True, nogil=True, inline="always")
def _is_level(codes, other, direction):
    return (codes[other] >> (5 - direction)) & 1


@njit(cache=True, nogil=True)
def find_exits(start, stop, codes, steps, targets):
    """Point voxels start..stop uphill where they can. Returns those through which a plateau drains, ascending."""
    count = 0
    for voxel in range(start, stop):
        code = codes[voxel]
        target = UNKNOWN if code else NO_EDGE
        level = False
        for direction in range(6):
            if (code >> direction) & 1:
                other = voxel + steps[direction]
                if _is_level(codes, other, direction):
                    level = True
                elif target < 0:
                    target = other
        targets[voxel] = target
        if level and target >= 0:
            count += 1
    exits = np.empty(count, targets.dtype)
    count = 0
    for voxel in range(start, stop):
        if targets[voxel] >= 0:
            code = codes[voxel]
            for direction in range(6):
                if (code >> direction) & 1 and _is_level(codes, voxel + steps[direction], direction):
                    exits[count] = voxel
                    count += 1
                    break
    return exits


@njit(cache=True, nogil=True)
def _spread(codes, steps, targets, queue, filled, summit):
    """Breadth-first over level edges, from the voxels in the queue; what is new drains to where it is reached from.

    With `summit` to the queue's first voxel instead.
    """
    taken = 0
    while taken < filled:
        voxel = queue[taken]
        taken += 1
        for direction in range(6):
            if (codes[voxel] >> direction) & 1:
                other = voxel + steps[direction]
                if targets[other] == UNKNOWN and _is_level(codes, other, direction):
                    targets[other] = queue[0] if summit else voxel
                    queue[filled] = other
                    filled += 1


@njit(cache=True, nogil=True)
def drain_plateaus(exits, codes, steps, targets):
    """Give all other voxels a target: nearest exits first for plateaus that have any, the first voxel for summits.

    Breadth-first search from all exits at once divides a plateau: the textbook's recursion over bits of a direction
    mask does the same, but needs as many passes as there are directions.
    """
    queue = np.empty(len(codes), targets.dtype)
    queue[: len(exits)] = exits
    _spread(codes, steps, targets, queue, len(exits), False)
    for voxel in range(len(codes)):
        if targets[voxel] == UNKNOWN:
            targets[voxel] = voxel
            queue[0] = voxel
            _spread(codes, steps, targets, queue, 1, True)


@njit(cache=True, nogil=True)
def number_basins(targets):
    """Replace all targets by -1 - label; labels ascend from 1 in the order of first voxels. Returns how many.

    Paths are walked once: what they pass is labelled too.
    """
    count = 0
    for start in range(len(targets)):
        voxel, found = start, targets[start]
        while found >= 0 and found != voxel:
            voxel, found = found, targets[found]
        if found >= 0:
            count += 1
            found = -1 - count
            targets[voxel] = found
        voxel = start
        while targets[voxel] != found:
            targets[voxel], voxel = found, targets[voxel]
    return count


@njit(cache=True, nogil=True)
def sizes_of(labels, count):
    """How many voxels each label has, given -1 - label; that of 0 included."""
    sizes = np.zeros(count + 1, np.int64)
    for code in labels:
        sizes[-1 - code] += 1
    return sizes


@njit(cache=True, nogil=True)
def contacts(start, stop, edges, least, high, labels, sizes, small):
    """Edges of affinity >= `least` between two basins of which one has fewer than `small` voxels.

    Of the edges of voxels in sections start..stop with their predecessors: the affinity, at most `high`, and both
    labels of each, in the order of voxels, then z, y, x. Counts first, then fills: lists that grow would need twice
    the memory at the peak.
    """
    _, height, width = labels.shape
    rows = np.empty((6, width), np.float32)
    found = 0
    affinities, pairs = np.empty(0, np.float32), np.empty((0, 2), np.int32)
    for fill in (False, True):
        if fill:
            affinities, pairs = np.empty(found, np.float32), np.empty((found, 2), np.int32)
        found = 0
        for z in range(start, stop):
            for y in range(height):
                edges_before(edges, z, y, least, high, rows)
                for x in range(width):
                    b = -1 - labels[z, y, x]
                    for axis in range(3):
                        if rows[axis, x] < 0:
                            continue
                        a = -1 - labels[z - (axis == 0), y - (axis == 1), x - (axis == 2)]
                        if a == b or (sizes[a] >= small and sizes[b] >= small):
                            continue
                        if fill:
                            affinities[found] = rows[axis, x]
                            pairs[found, 0] = a
                            pairs[found, 1] = b
                        found += 1
    return affinities, pairs


@njit(cache=True, nogil=True)
def _distribute(keys, order, shift, keys_out, order_out):
    """Sort by DIGIT bits of the keys, from `shift` on; ties stay as they are."""
    mask = (1 << DIGIT) - 1
    places = np.zeros((1 << DIGIT) + 1, np.int64)
    for key in keys:
        places[((key >> shift) & mask) + 1] += 1
    for digit in range(1 << DIGIT):
        places[digit + 1] += places[digit]
    for i in range(len(keys)):
        digit = (keys[i] >> shift) & mask
        keys_out[places[digit]] = keys[i]
        order_out[places[digit]] = order[i]
        places[digit] += 1


@njit(cache=True, nogil=True)
def descending(affinities, order):
    """The order of the values, highest first, ties by index; `order` holds the indices, and is overwritten.

    Among 0..1 the bits of float32 are in the order of the numbers, so a sort by digits needs three passes; one by
    comparisons takes longer than all the rest of the merging.
    """
    keys = np.int32(ONE) - affinities.view(np.int32)
    keys_out, order_out = np.empty_like(keys), np.empty_like(order)
    for shift in range(0, 3 * DIGIT, DIGIT):
        _distribute(keys, order, shift, keys_out, order_out)
        keys, keys_out = keys_out, keys
        order, order_out = order_out, order
    return order


@njit(cache=True, nogil=True)
def merge_small(order, pairs, sizes, small):
    """Join the two regions of each pair, in `order`, while either has fewer than `small` voxels.

    `sizes` becomes those of the regions. Returns the root of each label. All voxel edges are replayed, not one saddle
    a pair: the further ones of a pair find it joined, or both regions large, and building the graph costs more.
    """
    parents = np.arange(len(sizes))
    flat = pairs.reshape(-1)
    for k in range(len(order)):
        if k + 2 * AHEAD < len(order):
            prefetch(flat, np.int64(order[k + 2 * AHEAD]) * 2)
            prefetch(parents, np.int64(pairs[order[k + AHEAD], 0]))
            prefetch(parents, np.int64(pairs[order[k + AHEAD], 1]))
        a, b = find_root(parents, pairs[order[k], 0]), find_root(parents, pairs[order[k], 1])
        if a != b and (sizes[a] < small or sizes[b] < small):
            low, high = min(a, b), max(a, b)
            parents[high] = low
            sizes[low] += sizes[high]
    for label in range(len(parents)):
        parents[label] = find_root(parents, label)
    return parents


@njit(cache=True, nogil=True)
def write_ids(start, stop, labels, ids, out):
    """Write the id of the label of voxels start..stop, given as -1 - label."""
    for voxel in range(start, stop):
        out[voxel] = ids[-1 - labels[voxel]]
