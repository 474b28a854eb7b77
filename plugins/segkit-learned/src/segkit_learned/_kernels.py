"""Loops: what the voxels say of each contact, and what a forest of trees says of a row of statistics."""

import numpy as np
from numba import njit
from segkit.agglomerate.rag import UNIT
from segkit.kernels.pair_table import find_id, hashed_ids


@njit(cache=True, nogil=True)
def node_numbers(fragments, node_ids):
    """The position of each voxel's fragment in `node_ids`, int32; -1 for what is no node. `fragments` is flat."""
    size = 16
    while size < 4 * len(node_ids):
        size *= 2
    slots = hashed_ids(node_ids, size)
    numbers = np.empty(len(fragments), np.int32)
    last, number = np.uint64(0), np.int32(-1)
    for i in range(len(fragments)):
        if fragments[i] != last:
            last = fragments[i]
            number = slots[find_id(slots, node_ids, last)] - 1
        numbers[i] = number
    return numbers


@njit(cache=True, nogil=True)
def sum_positions(numbers, box, origin, positions):
    """Add the positions of the voxels of `box` to those of their nodes, int64 (N, 3)."""
    for z in range(box[0][0], box[0][1]):
        for y in range(box[1][0], box[1][1]):
            for x in range(box[2][0], box[2][1]):
                node = numbers[z, y, x]
                if node >= 0:
                    positions[node, 0] += origin[0] + z
                    positions[node, 1] += origin[1] + y
                    positions[node, 2] += origin[2] + x


@njit(cache=True, nogil=True)
def find_edge(starts, ends, one, other):
    """The row of the edge of two nodes; those of a node `low` are the rows starts[low] to starts[low + 1] - 1."""
    low, high = min(one, other), max(one, other)
    first, last = starts[low], starts[low + 1]
    while first < last:
        middle = (first + last) // 2
        if ends[middle] < high:
            first = middle + 1
        else:
            last = middle
    return first


@njit(cache=True, nogil=True)
def tally(numbers, affinities, offset, kind, place, rows, bounds, totals):
    """Add the affinities of one channel to the statistics of their contacts.

    `numbers` int32 (Z, Y, X) has the nodes; `place` is the box of it that `affinities` cover, and where its first voxel
    lies in the world; `rows` are starts and ends of `find_edge`; `totals` histograms, sums and moments. The edges of
    kind 0, 1 and 2, between voxels that touch, count for the moments: twice the middle, and the products of these.

    Why look up the edge at each contact, and not sort all contacts? Most voxels lie inside a fragment, and neighbours
    in a row belong to the edge of the one before.
    """
    (box, origin), (starts, ends), (histograms, sums, moments) = place, rows, totals
    dz, dy, dx = offset
    last_one, last_other, edge = np.int32(-1), np.int32(-1), np.int64(-1)
    for z in range(max(box[0][0], -dz), min(box[0][1], numbers.shape[0] - dz)):
        for y in range(max(box[1][0], -dy), min(box[1][1], numbers.shape[1] - dy)):
            for x in range(max(box[2][0], -dx), min(box[2][1], numbers.shape[2] - dx)):
                one, other = numbers[z, y, x], numbers[z + dz, y + dy, x + dx]
                if one == other or one < 0 or other < 0:
                    continue
                if one != last_one or other != last_other:
                    edge = find_edge(starts, ends, one, other)
                    last_one, last_other = one, other
                value = np.float64(affinities[z - box[0][0], y - box[1][0], x - box[2][0]])
                sums[edge, kind] += np.int64(np.rint(value * UNIT))
                number = 0
                while number < len(bounds) and value >= bounds[number]:
                    number += 1
                histograms[edge, kind, number] += 1
                if kind < 3:
                    a, b, c = 2 * (origin[0] + z) + dz, 2 * (origin[1] + y) + dy, 2 * (origin[2] + x) + dx
                    moments[edge, 0] += a
                    moments[edge, 1] += b
                    moments[edge, 2] += c
                    moments[edge, 3] += a * a
                    moments[edge, 4] += b * b
                    moments[edge, 5] += c * c
                    moments[edge, 6] += a * b
                    moments[edge, 7] += a * c
                    moments[edge, 8] += b * c


@njit(cache=True, nogil=True)
def add_leaves(rows, roots, feature, threshold, left, right, value, totals):
    """Add, for each row of float64 (R, F), the value of the leaf that it falls into in every tree.

    Trees lie one after the other; a leaf has the feature -1, and children come after their parent, so this ends.
    """
    for r in range(len(rows)):
        total = 0.0
        for root in roots:
            node = root
            while feature[node] >= 0:
                node = left[node] if rows[r, feature[node]] <= threshold[node] else right[node]
            total += value[node]
        totals[r] = total
