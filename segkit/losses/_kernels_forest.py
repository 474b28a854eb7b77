"""The edges of the maximum spanning forest, and few others, in Kruskal's order.

The strongest edge of each voxel is in the forest. The trees of these edges are called basins. Of the edges between
basins most are the weakest of a square, and so in no forest. On a grid this leaves hardly more edges than voxels, a
third of all: only these are sorted. `keys`, `codes` and units are those of :mod:`segkit.losses._kernels_edges`.

Objects are dealt out to parts by their labels. No edge inside an object leaves its part, so that threads sort and join
parts without looking at others; and what belongs to one part stays in the cache. Edges between objects come last.
"""

import numpy as np
from numba import njit

from segkit.losses._kernels_edges import BETWEEN, BLOCK, NONE, UNIT, mark_weakest

PARTS = 64
"""Enough to share out evenly, few enough that a part's end stays in the first-level cache while edges are dealt out."""
BITS = 10
BUCKETS = 1 << BITS
PASSES = 3
"""The keys of a part, less BETWEEN, which it has in common, have 30 bits."""
INDEX = 0x7FFFFFFF


@njit(cache=True, nogil=True)
def find_roots(first, last, codes, steps, labels, basins, found, counts):
    """List the roots of the basins of some units, those of each unit from its first place in `found` on.

    `steps` holds the step to the other end for each code, and 0 for the code -1 at its end. Along a way of strongest
    edges affinities never fall, so each way ends at two voxels that chose the same edge: the root is its target. A
    voxel without edges is a basin of its own. `counts`, zeros (units, PARTS), gets the number of roots by their part;
    `basins` gets the part of each root, and -1 elsewhere. Without `labels`, of length 0, all is of the part 0.
    """
    for unit in range(first, last):
        number = unit * UNIT
        for voxel in range(unit * UNIT, min(unit * UNIT + UNIT, len(codes))):
            code = codes[voxel]
            basins[voxel] = -1
            if code < 0 or (code & 1 and codes[voxel + steps[code]] == code - 1):
                part = (labels[voxel] * np.int64(0x2545F4914F6CDD1D)) >> 40 & (PARTS - 1) if len(labels) else 0
                basins[voxel] = part
                counts[unit, part] += 1
                found[number] = voxel
                number += 1


@njit(cache=True, nogil=True)
def number_roots(first, last, found, counts, starts, basins, roots):
    """Number the roots that some units found, from `starts` (units, PARTS) on, which is changed.

    `basins` holds the parts of the roots, and gets their numbers; `roots` gets the voxel for each number.
    """
    for unit in range(first, last):
        for k in range(unit * UNIT, unit * UNIT + counts[unit].sum()):
            part = basins[found[k]]
            number = starts[unit, part]
            starts[unit, part] = number + 1
            basins[found[k]] = number
            roots[number] = found[k]


@njit(cache=True, nogil=True)
def follow(first, last, codes, steps, basins):
    """Write the basins of the voxels of some units.

    `basins` holds the number of each root. Elsewhere it is -1 or, where another thread has been, right already: each
    voxel is written by one thread, and a way that is followed past others' voxels ends at a root at the latest.
    """
    for low in range(first * UNIT, min(last * UNIT, len(codes)), UNIT):
        high = min(low + UNIT, len(codes))
        for voxel in range(low, high):  # most ways are short: copying without a branch ends them
            basins[voxel] = max(basins[voxel], basins[voxel + steps[codes[voxel]]])
        for voxel in range(high - 1, low - 1, -1):
            basins[voxel] = max(basins[voxel], basins[voxel + steps[codes[voxel]]])
        for voxel in range(low, high):
            node = voxel
            while basins[node] < 0:
                node += steps[codes[node]]
            name = basins[node]
            node = voxel
            while low <= node < high and basins[node] < 0:
                basins[node] = name
                node += steps[codes[node]]


@njit(cache=True, nogil=True)
def candidates(first, last, keys, codes, basins, offsets, bounds, results):
    """List the edges of some units that may be in the forest, and the part of each.

    They are the strongest edge of each voxel, and those between basins that are not the weakest of a square. An edge is
    (key << 32 | index << 1 | whether it lies between basins). Those of a unit and a channel begin in `found` and
    `parts` at the place (unit * channels + channel) * UNIT. Parts have the basins from `bounds` on; edges between
    objects are of the part PARTS. `results` are `found`, `parts` and `counts`, zeros (units, channels, PARTS + 1),
    which gets how many there are.
    """
    found, parts, counts = results
    voxels = len(basins)
    dead, keep, kept = np.empty(BLOCK, np.bool_), np.empty(BLOCK, np.bool_), np.empty(BLOCK, np.int32)
    part_of = np.empty(bounds[PARTS], np.uint8)
    for part in range(PARTS):
        part_of[bounds[part] : bounds[part + 1]] = part
    for unit in range(first, last):
        for channel in range(len(offsets)):
            base, offset = channel * voxels, offsets[channel]
            leaving, arriving = 2 * channel, 2 * channel + 1
            low, high = max(unit * UNIT, -offset), min(unit * UNIT + UNIT, voxels, voxels - offset)
            number = (unit * len(offsets) + channel) * UNIT
            for begin in range(low, high, BLOCK):
                end = min(begin + BLOCK, high)
                mark_weakest(begin, end, channel, keys, offsets, voxels, dead)
                key, source, target = (
                    keys[base + begin : base + end],
                    basins[begin:end],
                    basins[begin + offset : end + offset],
                )
                start, goal = codes[begin:end], codes[begin + offset : end + offset]
                for i in range(end - begin):
                    chosen = (start[i] == leaving) | (goal[i] == arriving)
                    keep[i] = (key[i] != NONE) & (chosen | (source[i] != target[i])) & (not dead[i])
                count = 0
                for i in range(end - begin):  # no branch, which would be guessed badly
                    kept[count] = i
                    count += keep[i]
                for k in range(count):
                    i = kept[k]
                    part = np.uint8(PARTS) if key[i] & BETWEEN else part_of[source[i]]
                    found[number] = np.int64(key[i]) << 32 | (base + begin + i) << 1 | (source[i] != target[i])
                    parts[number] = part
                    counts[unit, channel, part] += 1
                    number += 1


@njit(cache=True, nogil=True)
def deal_out(first, last, found, parts, counts, starts, edges):
    """Copy what :func:`candidates` listed to `edges`, part after part, each in raster order.

    `starts` holds where the edges of each part begin, in the shape of `counts`, and is changed.
    """
    channels = counts.shape[1]
    for unit in range(first, last):
        for channel in range(channels):
            begin = (unit * channels + channel) * UNIT
            for i in range(begin, begin + counts[unit, channel].sum()):
                place = starts[unit, channel, parts[i]]
                starts[unit, channel, parts[i]] = place + 1
                edges[place] = found[i]


@njit(cache=True, nogil=True)
def sort(edges, spare):
    """Write the edges of a part to `spare` by their keys, equal ones as they come: a radix sort, lowest digit first."""
    starts = np.zeros((PASSES, BUCKETS), np.int64)
    for edge in edges:
        for digit in range(PASSES):
            starts[digit, edge >> (32 + digit * BITS) & (BUCKETS - 1)] += 1
    for digit in range(PASSES):
        total = 0
        for bucket in range(BUCKETS):
            total, starts[digit, bucket] = total + starts[digit, bucket], total
    _distribute(edges, 32, starts[0], spare)
    _distribute(spare, 32 + BITS, starts[1], edges)
    _distribute(edges, 32 + 2 * BITS, starts[2], spare)


@njit(cache=True, nogil=True)
def _distribute(given, shift, starts, out):
    for value in given:
        bucket = value >> shift & (BUCKETS - 1)
        place = starts[bucket]
        starts[bucket] = place + 1
        out[place] = value
