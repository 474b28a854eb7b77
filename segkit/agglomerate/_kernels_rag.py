"""The region adjacency graph: loops over the voxels of slabs, and the edges of all slabs as one graph.

A slab is a run of sections. Volumes are flat here, for where labels change is asked of 64 voxels at once, and most
voxels, which lie inside a fragment, are never looked at one by one. What the slabs found is sorted together, and edges
that join the same fragments are united. Sums are integers, so it does not matter which slab an affinity belongs to.
"""

import numpy as np
from numba import njit

from segkit.data.labels import FIRST_OUTSIDE
from segkit.kernels.growable import enlarged
from segkit.kernels.pair_table import find_id, hash_pair, hashed_ids
from segkit.kernels.runs import ONE, WIDTH, differing, first_bits, lowest_bit

UNIT = 2**30


@njit(cache=True, nogil=True)
def dense_histograms(starts, numbers, bins):
    """Histograms, int32 (E, bins), from the bins of each edge's affinities."""
    histograms = np.zeros((len(starts) - 1, bins), np.int32)
    for e in range(len(starts) - 1):
        for number in numbers[starts[e] : starts[e + 1]]:
            histograms[e, number] += 1
    return histograms


@njit(cache=True, nogil=True)
def bin_of(value, bins):
    """The bin of an affinity among `bins` equal ones of 0..1."""
    return min(np.int64(np.float32(value) * np.float32(bins)), bins - 1)


@njit(cache=True, nogil=True)
def bins_of(values, bins):
    """`bin_of` for each value, uint16."""
    numbers = np.empty(len(values), np.uint16)
    for i in range(len(values)):
        numbers[i] = bin_of(values[i], bins)
    return numbers


INITIAL = 4096
FEW = 12
"""Affinities that are sorted by inserting."""
HIGHEST = np.int32(0x3F800000)
"""The bits of 1. Floats that are not negative are in the order of their bits, and NaN is above infinity."""
PAIR = np.dtype([("low", "u8"), ("high", "u8"), ("sum", "i8"), ("count", "i4"), ("max", "i4")])
"""What a slab knows of an edge, in half a line of the cache: ids, low < high, and the bits of the largest affinity."""
EDGES, MET, BAD = range(3)
"""What is counted: pairs and affinities so far; and the position of a bad affinity."""


@njit(cache=True, nogil=True)
def find_ids(fragments, shape, first, last):
    """The ids in the sections first to last - 1, as they are met, and slots for `find_id`; `fragments` is flat.

    The cost does not depend on how large ids are: they are hashed, and only where a run along x ends that does not
    touch the same id in the row above or in the section before.

    Why is room not made where it is needed? Arrays that are exchanged inside a loop, and those that a function is
    called with, are counted as used and unused each time, which would take most of the time.
    """
    _, height, width = shape
    ids, slots, found = np.empty(INITIAL, np.uint64), np.zeros(4 * INITIAL, np.int32), 0
    for z in range(first, last):
        y = 0
        while y < height:
            while found + width > len(ids):
                ids = enlarged(ids, found)
                slots = hashed_ids(ids[:found], 2 * len(slots))
            y, found = _meet_ids(fragments, z, y, z > first, shape, ids, slots, found)
    return ids[:found], slots


@njit(cache=True, nogil=True)
def _meet_ids(fragments, z, y, behind, shape, ids, slots, found):
    """Number the ids of a section, from row y on while there is room. Gives the next row, and how many there are.

    `behind` says whether the section before was looked at.
    """
    _, height, width = shape
    while y < height and found + width <= len(ids):
        begin = (z * height + y) * width
        for start in range(begin, begin + width, WIDTH):
            left = begin + width - start
            mask = first_bits(differing(fragments, start + 1, start), left - 1)
            if left <= WIDTH:
                mask |= ONE << np.uint64(left - 1)
            if y > 0 and mask:
                mask &= differing(fragments, start, start - width)
            if behind and mask:
                mask &= differing(fragments, start, start - height * width)
            while mask:
                fragment = fragments[np.uint64(start + lowest_bit(mask))]
                mask &= mask - ONE
                if fragment != 0 and fragment < FIRST_OUTSIDE:
                    slot = find_id(slots, ids, fragment)
                    if slots[slot] == 0:
                        ids[found] = fragment
                        found += 1
                        slots[slot] = found
        y += 1
    return y, found


@njit(cache=True, nogil=True)
def count_voxels(fragments, ids, slots):
    """The voxels of each id, int64; what is no fragment is not counted."""
    sizes = np.zeros(len(ids) + 1, np.int64)
    last, number = np.uint64(0), 0
    for fragment in fragments:
        if fragment != last:
            last, number = fragment, slots[find_id(slots, ids, fragment)]
        sizes[number] += 1
    return sizes[1:]


@njit(cache=True, nogil=True)
def find_pairs(fragments, shape, affinities, neighborhood, part, held, least_wanted, values_wanted):
    """All edges whose voxel lies in the box `part` of the volume, in the order in which they are met.

    `fragments` and `affinities` are flat; the affinities are those of the box `held`, which holds `part`. Boxes are
    ((first, last + 1) along z, y, x). Gives records (see PAIR), the bits of the smallest affinity of each (int32),
    all affinities between two fragments (float32, those of an edge together, edges in the order of the records), and
    the flat position of an affinity that is not in 0..1, or -1. What is not wanted is empty.

    Why not collect all contacts and sort them, the textbook way? They are many more than edges. Most belong to the
    edge of the row above, so they need no hashing either.
    """
    depth, height, width = shape
    (z0, z1), (y0, y1), (x0, x1) = held
    voxels, row_length = (z1 - z0) * (y1 - y0) * (x1 - x0), x1 - x0
    (first, last), (top, bottom), (begin, end) = part
    pairs, slots = np.empty(INITIAL, PAIR), np.full(4 * INITIAL, -1, np.int32)
    least = np.empty(INITIAL if least_wanted else 0, np.int32)
    room = INITIAL if values_wanted else 0
    met, met_pairs = np.empty(room, np.int32), np.empty(room, np.int32)
    hints = np.zeros((len(neighborhood), width), np.int32)
    counts = np.array([0, 0, -1])
    pairs[0].low = 0
    bits = affinities.view(np.int32)
    for z in range(first, last):
        for c in range(len(neighborhood)):
            dz, dy, dx = neighborhood[c]
            y, stop = max(top, -dy), min(bottom, height - dy)
            left, right = max(begin, -dx), min(end, width - dx)
            if not 0 <= z + dz < depth or left >= right:
                continue
            while y < stop:
                while counts[EDGES] + width > len(pairs):
                    pairs = enlarged(pairs, counts[EDGES])
                    slots = hashed_pairs(pairs[: counts[EDGES]], 2 * len(slots))
                    if least_wanted:
                        least = enlarged(least, counts[EDGES])
                while values_wanted and counts[MET] + width > len(met):
                    met, met_pairs = enlarged(met, counts[MET]), enlarged(met_pairs, counts[MET])
                base = c * voxels + ((z - z0) * (y1 - y0) + y - y0) * row_length - x0
                y = _meet_pairs(
                    fragments, (z * height + y) * width, (dz * height + dy) * width + dx, affinities, bits, base,
                    (y, stop, left, right, width, row_length), pairs, slots, least, hints[c], met, met_pairs, counts,
                )  # fmt: skip
                if counts[BAD] >= 0:
                    return pairs[:0], least[:0], met.view(np.float32)[:0], counts[BAD]
    found, values = pairs[: counts[EDGES]], _grouped(pairs[: counts[EDGES]], met[: counts[MET]], met_pairs)
    return found, least[: counts[EDGES]], values, np.int64(-1)


@njit(cache=True, nogil=True)
def _meet_pairs(  # noqa: PLR0913 (called so often that tuples of arrays cost)
    fragments, row, across, affinities, bits, base, bounds, pairs, slots, least, hint, met, met_pairs, counts
):  # fmt: skip
    """Add contacts to the pairs they belong to, row by row while there is room; gives the first row that is left.

    fragments[row + x] and fragments[row + across + x] have affinities[base + x] between them; hint[x] is the pair that
    was found there the last time. `bounds` are y and x of the voxels, and the lengths of rows of both arrays. Why are
    places unsigned? Those that are not could count from the end of an array, and each is looked at for that.
    """
    y, stop, left, right, width, row_length = bounds
    last_slot = len(slots) - 1
    while y < stop and counts[EDGES] + width <= len(pairs) and (len(met) == 0 or counts[MET] + width <= len(met)):
        for start in range(left, right, WIDTH):
            mask = first_bits(differing(fragments, row + start, row + across + start), right - start)
            while mask:
                x = start + lowest_bit(mask)
                mask &= mask - ONE
                a, b = fragments[np.uint64(row + x)], fragments[np.uint64(row + across + x)]
                low, high = min(a, b), max(a, b)
                if low == 0 or high >= FIRST_OUTSIDE:
                    continue
                value = bits[np.uint64(base + x)]
                if value < 0 or value > HIGHEST:
                    if affinities[base + x] != 0:
                        counts[BAD] = base + x
                        return stop
                    value = np.int32(0)  # there is a -0
                e = np.uint32(hint[np.uint64(x)])
                if pairs[e].low != low or pairs[e].high != high:
                    slot = hash_pair(low, high) & last_slot
                    while slots[slot] >= 0 and (pairs[slots[slot]].low != low or pairs[slots[slot]].high != high):
                        slot = (slot + 1) & last_slot
                    if slots[slot] < 0:
                        slots[slot] = counts[EDGES]
                        counts[EDGES] += 1
                        new = pairs[slots[slot]]
                        new.low, new.high, new.sum, new.count, new.max = low, high, 0, 0, 0
                        if len(least):
                            least[slots[slot]] = HIGHEST
                    e = np.uint32(slots[slot])
                    hint[np.uint64(x)] = e
                pair = pairs[e]
                pair.sum += np.int64(np.rint(np.float64(affinities[np.uint64(base + x)]) * UNIT))
                pair.count += 1
                pair.max = max(pair.max, value)
                if len(least):
                    least[e] = min(least[e], value)
                if len(met):
                    met[counts[MET]], met_pairs[counts[MET]] = value, e
                    counts[MET] += 1
        y, row, base = y + 1, row + width, base + row_length
    return y


@njit(cache=True, nogil=True)
def _grouped(pairs, met, met_pairs):
    """The bits of affinities as floats, those of an edge together."""
    places, total = np.empty(len(pairs), np.int64), 0
    for e in range(len(pairs)):
        places[e] = total
        total += pairs[e].count
    grouped = np.empty(len(met), np.int32)
    for i in range(len(met)):
        grouped[places[met_pairs[i]]] = met[i]
        places[met_pairs[i]] += 1
    return grouped.view(np.float32)


@njit(cache=True, nogil=True)
def hashed_pairs(pairs, size):
    """A hash table of the positions of the records, which are all different; -1 where there is none."""
    slots = np.full(size, -1, np.int32)
    for e in range(len(pairs)):
        slot = hash_pair(pairs[e].low, pairs[e].high) & (size - 1)
        while slots[slot] >= 0:
            slot = (slot + 1) & (size - 1)
        slots[slot] = e
    return slots


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
    counts, masks = np.zeros(bins, np.int32), np.zeros(-(-bins // WIDTH), np.uint64)
    for k in range(len(starts) - 1):
        part = numbers[starts[k] - starts[0] : starts[k + 1] - starts[0]]
        if bins and len(part) > FEW + len(masks):
            _sort_by_counting(part, counts, masks)
        elif len(part) <= 32:
            _insertion_sort(part)
        else:
            part.sort()


@njit(cache=True, nogil=True)
def _sort_by_counting(numbers, counts, masks):
    """Sort numbers of bins; `counts` has a 0 for each bin, and `masks` as many bits, none of which is set.

    Why bits? Most bins are empty: those that are not are found 64 at a time.
    """
    for number in numbers:
        counts[number] += 1
        masks[number >> 6] |= ONE << np.uint64(number & 63)
    written = 0
    for k in range(len(masks)):
        mask, masks[k] = masks[k], 0
        while mask:
            number = WIDTH * k + lowest_bit(mask)
            mask &= mask - ONE
            numbers[written : written + counts[number]] = number
            written += counts[number]
            counts[number] = 0


@njit(cache=True, nogil=True)
def _insertion_sort(numbers):
    for i in range(1, len(numbers)):
        number, place = numbers[i], i
        while place > 0 and numbers[place - 1] > number:
            numbers[place] = numbers[place - 1]
            place -= 1
        numbers[place] = number
