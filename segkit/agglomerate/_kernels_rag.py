"""Loops over voxels and affinities: the region adjacency graph, slab by slab.

A slab is a run of sections. Each numbers the ids it meets and gathers the statistics of its edges, on its own; then the
edges of all slabs are sorted together, and those that join the same fragments are united. Sums are integers, so it does
not matter which slab an affinity belongs to.
"""

import numpy as np
from numba import njit

from segkit.agglomerate._kernels import FIRST_OUTSIDE, MULTIPLIER, UNIT, bin_of, doubled

INITIAL = 4096
EDGE = np.dtype(
    [("key", "i8"), ("sum", "i8"), ("count", "i4"), ("min", "f4"), ("max", "f4"), ("padding", "i4")], align=True
)
"""What a slab knows of an edge, in half a line of the cache. Key: u << 32 | v, nodes of the slab, from 1; u < v."""


@njit(cache=True, nogil=True)
def number_slab(fragments, first, last, sizes_wanted):
    """Number the ids of a slab from 1 as they are met. Gives ids, nodes int32 (Z, Y, X) with 0 = none, and sizes.

    `sizes` counts the voxels of each id in the sections first to last - 1; it is empty unless wanted. The cost does
    not depend on how large ids are: they are hashed, and only where a voxel differs from its neighbours before it.

    Why is room made before each row, and not when it is needed? An array that is exchanged inside a loop is counted as
    used and unused at every turn of it, which would take most of the time.
    """
    depth, height, width = fragments.shape
    nodes = np.zeros(fragments.shape, np.int32)
    ids, slots, found = np.empty(INITIAL, np.uint64), np.zeros(4 * INITIAL, np.int32), 0
    for z in range(depth):
        for y in range(height):
            while found + width > len(ids):
                ids = doubled(ids)
                slots = hashed_ids(ids[:found], 2 * len(slots))
            row, numbers = fragments[z, y], nodes[z, y]
            above, below = max(y - 1, 0), max(z - 1, 0)
            row_above, numbers_above = fragments[z, above], nodes[z, above]
            row_below, numbers_below = fragments[below, y], nodes[below, y]
            fragment, number = np.uint64(0), np.int32(0)
            for x in range(width):
                if row[x] != fragment:
                    fragment = row[x]
                    if y > 0 and row_above[x] == fragment:
                        number = numbers_above[x]
                    elif z > 0 and row_below[x] == fragment:
                        number = numbers_below[x]
                    elif fragment == 0 or fragment >= FIRST_OUTSIDE:
                        number = np.int32(0)
                    else:
                        slot = find_id(slots, ids, fragment)
                        if slots[slot] == 0:
                            ids[found] = fragment
                            found += 1
                            slots[slot] = found
                        number = slots[slot]
                numbers[x] = number
    sizes = np.zeros(found + 1 if sizes_wanted else 0, np.int64)
    if sizes_wanted:
        for number in nodes[first:last].ravel():
            sizes[number] += 1
    return ids[:found], nodes, sizes[1:]


@njit(cache=True, nogil=True)
def collect_slab(nodes, affinities, neighborhood, offset, first, last, values_wanted):
    """All edges whose voxel lies in the sections first to last - 1 of `nodes`, in the order in which they are met.

    Section z of `nodes` is section z + offset of `affinities`. Gives records (see EDGE), all affinities between two
    fragments (float32, those of an edge together, edges in the order of the records; empty unless wanted), and the
    flat position of the first affinity that is not in 0..1, or -1.

    Why not collect all contacts and sort them, the textbook way? They are many more than edges. Most belong to the
    edge of the voxel before or of the row above, so they need no hashing either.
    """
    edges, found = np.empty(INITIAL, EDGE), 0
    slots = np.full(4 * INITIAL, -1, np.int32)
    met, met_edges, contacts = np.empty(0, np.float32), np.empty(0, np.int32), 0
    if values_wanted:
        met, met_edges = np.empty(INITIAL, np.float32), np.empty(INITIAL, np.int32)
    depth, height, width = nodes.shape
    hints = np.zeros((len(neighborhood), width), np.int32)
    edges[0].key = 0
    for z in range(first, last):
        for y in range(height):
            for c in range(len(neighborhood)):
                dz, dy, dx = neighborhood[c]
                if not (0 <= z + dz < depth and 0 <= y + dy < height):
                    continue
                while found + width > len(edges):  # before the row, as in `number_slab`
                    edges = doubled(edges)
                    slots = hashed_edges(edges[:found], 2 * len(slots))
                while values_wanted and contacts + width > len(met):
                    met, met_edges = doubled(met), doubled(met_edges)
                row, other_row, values = nodes[z, y], nodes[z + dz, y + dy], affinities[c, z + offset, y]
                e, last_key, hint = 0, np.int64(0), hints[c]
                for x in range(max(0, -dx), min(width, width - dx)):
                    a, b = row[x], other_row[x + dx]
                    if a == b or a == 0 or b == 0:
                        continue
                    value = values[x] + np.float32(0)  # -0 becomes 0, the bits of which are in order
                    if not (np.float32(0) <= value <= np.float32(1)):
                        bad = ((c * affinities.shape[1] + z + offset) * height + y) * width + x
                        return edges[:0], met[:0], bad
                    key = (np.int64(min(a, b)) << 32) | np.int64(max(a, b))
                    if key != last_key:
                        last_key = key
                        e = hint[x]
                        if edges[e].key != key:
                            slot = find_edge(slots, edges, key)
                            if slots[slot] < 0:
                                slots[slot] = found
                                new = edges[found]
                                new.key, new.sum, new.count, new.min, new.max = key, 0, 0, value, value
                                found += 1
                            e = slots[slot]
                    hint[x] = e
                    edge = edges[e]
                    edge.count += 1
                    edge.sum += np.int64(np.rint(np.float64(value) * UNIT))
                    edge.min = min(edge.min, value)
                    edge.max = max(edge.max, value)
                    if values_wanted:
                        met[contacts], met_edges[contacts] = value, e
                        contacts += 1
    return edges[:found], _grouped(edges[:found], met[:contacts], met_edges[:contacts]), -1


@njit(cache=True, nogil=True)
def _grouped(edges, met, met_edges):
    """The values, those of an edge together."""
    places = np.empty(len(edges), np.int64)
    total = 0
    for e in range(len(edges)):
        places[e] = total
        total += edges[e].count
    values = np.empty(len(met), np.float32)
    for i in range(len(met)):
        values[places[met_edges[i]]] = met[i]
        places[met_edges[i]] += 1
    return values


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
def rename_edges(edges, ranks, renamed):
    """Copy records to `renamed`, the nodes of the slab replaced by their ranks, from 0."""
    for e in range(len(edges)):
        renamed[e] = edges[e]
        a, b = ranks[(edges[e].key >> 32) - 1], ranks[(edges[e].key & 0xFFFFFFFF) - 1]
        renamed[e].key = (np.int64(min(a, b)) << 32) | np.int64(max(a, b))


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
    """Unite records of the same key, in `order`, into pairs (E, 2), totals (count, sum) and extremes (or 0 rows)."""
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


@njit(cache=True, nogil=True, inline="always")
def _hash(key):
    """Spreads all bits of a uint64 over the low bits, so that ids may differ in the high ones alone."""
    return np.int64(((key ^ (key >> np.uint64(32))) * MULTIPLIER) >> np.uint64(32))


@njit(cache=True, nogil=True, inline="always")
def find_id(slots, ids, fragment):
    """The slot that holds the number of `fragment`, or the empty one where it belongs; a power of two of slots."""
    mask = len(slots) - 1
    slot = _hash(fragment) & mask
    while slots[slot] != 0 and ids[slots[slot] - 1] != fragment:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, nogil=True)
def hashed_ids(ids, size):
    """Slots for `find_id` that hold the numbers of `ids`, from 1."""
    slots = np.zeros(size, np.int32)
    for i in range(len(ids)):
        slots[find_id(slots, ids, ids[i])] = i + 1
    return slots


@njit(cache=True, nogil=True, inline="always")
def find_edge(slots, edges, key):
    """The slot that holds the record of `key`, or the empty one (-1) where it belongs."""
    mask = len(slots) - 1
    slot = _hash(np.uint64(key)) & mask
    while slots[slot] >= 0 and edges[slots[slot]].key != key:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, nogil=True)
def hashed_edges(edges, size):
    """Slots for `find_edge` that hold the positions of the records."""
    slots = np.full(size, -1, np.int32)
    for e in range(len(edges)):
        slots[find_edge(slots, edges, edges[e].key)] = e
    return slots
