"""Loops of the watershed on the affinity graph.

`codes` says which edges of a voxel are its highest: bit 0 for z-, then y-, x-, x+, y+, and bit 5 for z+, so that the
lowest bit belongs to the neighbour of lowest index. An edge that is also the highest of its other end is level;
otherwise it leads uphill. `targets` holds, for each voxel, the neighbour it drains to; UNKNOWN on summits, which drain
nowhere, or NO_EDGE; and at last -1 - its label. It is nine bytes a voxel in all.
"""

import numpy as np
from numba import njit

from segkit.fragment._kernels_affinity import edges_before
from segkit.kernels.growable import enlarged
from segkit.kernels.prefetch import prefetch
from segkit.kernels.union_find import find_root

ONE = 0x3F800000  # the bits of float32 1.0
DIGIT = 10  # bits
AHEAD = 12  # pairs
UNKNOWN = np.int32(-(2**31))
NO_EDGE = np.int32(-1)  # that is label 0
SLOTS = 14  # bits: pairs of basins that are remembered
MIX = np.uint64(0x9E3779B97F4A7C15)


@njit(cache=True, nogil=True, inline="always")
def _is_level(codes, other, direction):
    return (codes[other] >> (5 - direction)) & 1


@njit(cache=True, nogil=True)
def _add_level(here, there, direction, level):
    bit, back = np.uint8(1 << direction), np.uint8(1 << (5 - direction))
    for x in range(len(here)):
        level[x] |= bit if ((here[x] & bit) != 0) & ((there[x] & back) != 0) else np.uint8(0)


@njit(cache=True, nogil=True)
def _level_edges(codes, z, y, level):
    """Write which of the highest edges of the voxels of a row are level, in the bits of `codes`, to `level`."""
    depth, height, width = codes.shape
    level[:] = 0
    for direction in range(6):
        axis, step = (direction, -1) if direction < 3 else (5 - direction, 1)
        other_z = z + step if axis == 0 else z
        other_y = y + step if axis == 1 else y
        if not (0 <= other_z < depth and 0 <= other_y < height):
            continue
        along = step if axis == 2 else 0
        first, last = max(-along, 0), width - max(along, 0)
        there = codes[other_z, other_y, first + along : last + along]
        _add_level(codes[z, y, first:last], there, direction, level[first:last])


@njit(cache=True, nogil=True)
def find_exits(start, stop, codes, uphill, targets):
    """Point the voxels of rows start..stop uphill where they can; `codes` and `targets` are (Z, Y, X).

    `uphill` is the step to the neighbour of each of the 64 sets of edges, that of the lowest bit. Returns the voxels
    through which a plateau drains, flat indices, ascending.
    """
    _, height, width = codes.shape
    level = np.empty(width, np.uint8)
    exits, count = np.empty(width, targets.dtype), 0
    for row in range(start, stop):
        z, y = divmod(row, height)
        _level_edges(codes, z, y, level)
        code, target = codes[z, y], targets[z, y]
        leaving = 0
        for x in range(width):
            up = code[x] & ~level[x]
            flat = UNKNOWN if code[x] else NO_EDGE
            target[x] = row * width + x + uphill[up] if up else flat
            leaving += (up != 0) & (level[x] != 0)
        if leaving and count + leaving > len(exits):
            exits = enlarged(exits, count)
        if leaving:
            for x in range(width):
                if level[x] and code[x] & ~level[x]:
                    exits[count] = row * width + x
                    count += 1
    return exits[:count]


@njit(cache=True, nogil=True)
def drain_plateaus(exits, codes, steps, targets):
    """Let plateaus that have exits drain through the nearest; what is UNKNOWN afterwards are summits.

    Breadth-first search from all exits at once divides a plateau: the textbook's recursion over bits of a direction
    mask does the same, but needs as many passes as there are directions.
    """
    queue = np.empty(len(codes), targets.dtype)
    queue[: len(exits)] = exits
    taken, filled = 0, len(exits)
    while taken < filled:
        voxel = queue[taken]
        taken += 1
        for direction in range(6):
            if (codes[voxel] >> direction) & 1:
                other = voxel + steps[direction]
                if targets[other] == UNKNOWN and _is_level(codes, other, direction):
                    targets[other] = voxel
                    queue[filled] = other
                    filled += 1


@njit(cache=True, nogil=True)
def _fill_summit(part, graph, label, queue, links, linked):
    """Label the summit around the voxel queue[0], within the part; returns how many voxels it has, and the links."""
    start, stop = part
    codes, steps, targets = graph
    targets[queue[0]] = -1 - label
    taken, filled = 0, 1
    while taken < filled:
        voxel = queue[taken]
        taken += 1
        for direction in range(6):
            if (codes[voxel] >> direction) & 1:
                other = voxel + steps[direction]
                if not _is_level(codes, other, direction):
                    continue
                if not start <= other < stop:
                    links[linked, 0], links[linked, 1] = label, other
                    linked += 1
                elif targets[other] == UNKNOWN:
                    targets[other] = -1 - label
                    queue[filled] = other
                    filled += 1
    return filled, linked


@njit(cache=True, nogil=True)
def label_part(first_row, last_row, width, codes, steps, targets):
    """Replace the targets of rows first_row..last_row by -1 - label, as far as paths and summits lie within them.

    Labels ascend from 1 in the order of first voxels. Returns the first voxel, the number of voxels of each label, and
    links (label, voxel outside): who has the label belongs with that voxel. Paths are walked once: what they pass is
    labelled too.
    """
    start, stop = first_row * width, last_row * width
    sizes = np.empty(stop - start + 1, targets.dtype)
    sizes[0] = 0
    links, linked = np.empty((8 * min(steps[5], stop - start), 2), targets.dtype), 0
    queue = np.empty(stop - start, targets.dtype)
    count = 0
    for first in range(start, stop):
        voxel, found = np.int64(first), np.int64(targets[first])
        if found == NO_EDGE:
            sizes[0] += 1
            continue
        while start <= found < stop:
            voxel, found = found, np.int64(targets[found])
        if found >= 0 or found == UNKNOWN:
            count += 1
            if found >= 0:
                links[linked, 0], links[linked, 1] = count, found
                linked += 1
                targets[voxel], sizes[count] = -1 - count, 1
            else:
                queue[0] = voxel
                sizes[count], linked = _fill_summit((start, stop), (codes, steps, targets), count, queue, links, linked)
            found = np.int64(-1 - count)
        voxel = np.int64(first)
        while targets[voxel] != found:
            targets[voxel], voxel = found, np.int64(targets[voxel])
            sizes[-1 - found] += 1
    return start, sizes[: count + 1].copy(), links[:linked].copy()


@njit(cache=True, nogil=True)
def unite(pairs, sizes):
    """Number what the labels are one of that are joined by `pairs`, in the order of the lowest, from 1.

    Returns the number of each label (0: 0), and how many voxels each number has, given `sizes`, those of the labels.
    """
    parents = np.arange(len(sizes))
    for k in range(len(pairs)):
        a, b = find_root(parents, pairs[k, 0]), find_root(parents, pairs[k, 1])
        parents[max(a, b)] = min(a, b)
    ids, count = np.zeros(len(sizes), np.int64), 0
    united = np.zeros(len(sizes), np.int64)
    united[0] = sizes[0]
    for label in range(1, len(sizes)):
        root = find_root(parents, label)
        if root == label:
            count += 1
            ids[label] = count
        ids[label] = ids[root]
        united[ids[root]] += sizes[label]
    return ids, united[: count + 1]


@njit(cache=True, nogil=True)
def rename(labels, ids):
    """Replace -1 - label by -1 - id, in place; label 0 has none."""
    for voxel in range(len(labels)):
        label = np.uint64(-1 - labels[voxel])
        labels[voxel] = -1 - ids[label] if label else NO_EDGE


@njit(cache=True, nogil=True)
def _add_crossing(row, here, there, bit, crossing):
    for x in range(len(row)):
        crossing[x] |= bit if (row[x] >= 0) & (here[x] != there[x]) else np.uint8(0)


@njit(cache=True, nogil=True)
def _crossing_edges(rows, labels, z, y, crossing):
    """Write which edges of a row with its predecessors, in `rows`, join two labels: bits 0 to 2 for z, y and x."""
    crossing[:] = 0
    here = labels[z, y]
    if z > 0:
        _add_crossing(rows[0], here, labels[z - 1, y], np.uint8(1), crossing)
    if y > 0:
        _add_crossing(rows[1], here, labels[z, y - 1], np.uint8(2), crossing)
    _add_crossing(rows[2, 1:], here[1:], here[:-1], np.uint8(4), crossing[1:])


@njit(cache=True, nogil=True)
def _kept(affinities, pairs, found):
    """Move those of affinity >= 0 of the first `found` to the front; returns how many they are."""
    kept = 0
    for k in range(found):
        if affinities[k] >= 0:
            affinities[kept], pairs[kept, 0], pairs[kept, 1] = affinities[k], pairs[k, 0], pairs[k, 1]
            kept += 1
    return kept


@njit(cache=True, nogil=True)
def contacts(start, stop, edges, least, high, labels, sizes, small):
    """Edges of affinity >= `least` between two basins of which one has fewer than `small` voxels.

    Of the edges of voxels in sections start..stop with their predecessors: the affinity, at most `high`, and both
    labels of each, in the order of voxels, then z, y, x. Of two basins the highest edge alone counts, the first of
    equals: the others are left out as far as a table of pairs met lately tells, most of them.
    """
    _, height, width = labels.shape
    rows, crossing = np.empty((6, width), np.float32), np.empty(width, np.uint8)
    keys, places = np.zeros(1 << SLOTS, np.uint64), np.empty(1 << SLOTS, np.int64)
    affinities, pairs, found = np.empty(3 * width, np.float32), np.empty((3 * width, 2), np.int32), 0
    for z in range(start, stop):
        for y in range(height):
            edges_before(edges, z, y, least, high, rows)
            _crossing_edges(rows, labels, z, y, crossing)
            if found + 3 * width > len(affinities):
                affinities, pairs = enlarged(affinities, found), enlarged(pairs, found)
            for x in range(width):
                if not crossing[x]:
                    continue
                b = -1 - labels[z, y, x]
                for axis in range(3):
                    if not (crossing[x] >> axis) & 1:
                        continue
                    a = -1 - labels[z - (axis == 0), y - (axis == 1), x - (axis == 2)]
                    if sizes[a] >= small and sizes[b] >= small:
                        continue
                    key = np.uint64(min(a, b)) << np.uint64(32) | np.uint64(max(a, b))
                    slot = (key * MIX) >> np.uint64(64 - SLOTS)
                    if keys[slot] == key:
                        if rows[axis, x] <= affinities[places[slot]]:
                            continue
                        affinities[places[slot]] = -1
                    keys[slot], places[slot] = key, found
                    affinities[found], pairs[found, 0], pairs[found, 1] = rows[axis, x], a, b
                    found += 1
    kept = _kept(affinities, pairs, found)
    return affinities[:kept].copy(), pairs[:kept].copy()


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
