"""The edges of the maximum spanning forest, and few others, in Kruskal's order.

The strongest edge of each voxel is in the forest. The trees of these edges are called basins. Of the edges between
basins most are the weakest of a square, and so in no forest. On a grid this leaves hardly more edges than voxels, a
third of all: only these are sorted. `keys` and `codes` are those of :mod:`segkit.losses._kernels_edges`.
"""

import numpy as np
from numba import njit

from segkit.losses._kernels_edges import BLOCK, NONE, mark_weakest

BITS = 8
BUCKETS = 1 << BITS
"""Few enough that the ends of all buckets stay in the first-level cache while a pass distributes to them."""
PASSES = 4
INDEX = 0x7FFFFFFF


@njit(cache=True, nogil=True)
def find_basins(codes, steps, basins, roots):
    """Write the number of each voxel's basin, in the order of their roots, and these; return how many there are.

    `steps` holds the step to the other end for each code, and 0 for the code -1 at its end; `basins` holds -1. Along a
    way of strongest edges affinities never fall, so each way ends at two voxels that chose the same edge: the root is
    its target. A voxel without edges is a basin of its own.
    """
    voxels = len(codes)
    number = 0
    for voxel in range(voxels):
        code = codes[voxel]
        if code < 0 or (code & 1 and codes[voxel + steps[code]] == code - 1):
            basins[voxel] = number
            roots[number] = voxel
            number += 1
    for voxel in range(voxels):  # most ways are short: copying without a branch ends them
        basins[voxel] = max(basins[voxel], basins[voxel + steps[codes[voxel]]])
    for voxel in range(voxels - 1, -1, -1):
        basins[voxel] = max(basins[voxel], basins[voxel + steps[codes[voxel]]])
    for voxel in range(voxels):
        node = voxel
        while basins[node] < 0:
            node += steps[codes[node]]
        name = basins[node]
        node = voxel
        while basins[node] < 0:
            basins[node] = name
            node += steps[codes[node]]
    return number


@njit(cache=True, nogil=True)
def candidates(keys, codes, basins, offsets, order, counts):
    """List the edges that may be in the forest, in raster order; return how many.

    They are the strongest edge of each voxel, and those between basins that are not the weakest of a square. An edge is
    (key << 32 | index << 1 | whether it lies between basins). `counts`, zeros (PASSES, BUCKETS), gets the number of
    edges for each value of each digit of the key.
    """
    voxels = len(basins)
    dead, keep, kept = np.empty(BLOCK, np.bool_), np.empty(BLOCK, np.bool_), np.empty(BLOCK, np.int32)
    number = 0
    for channel in range(len(offsets)):
        base, offset = channel * voxels, offsets[channel]
        leaving, arriving = 2 * channel, 2 * channel + 1
        low, high = max(0, -offset), min(voxels, voxels - offset)
        for begin in range(low, high, BLOCK):
            end = min(begin + BLOCK, high)
            mark_weakest(begin, end, channel, keys, offsets, voxels, dead)
            key, source, target = (
                keys[base + begin : base + end],
                basins[begin:end],
                basins[begin + offset : end + offset],
            )
            first, second = codes[begin:end], codes[begin + offset : end + offset]
            for i in range(end - begin):
                chosen = (first[i] == leaving) | (second[i] == arriving)
                keep[i] = (key[i] != NONE) & (chosen | (source[i] != target[i])) & (not dead[i])
            count = 0
            for i in range(end - begin):  # no branch, which would be guessed badly
                kept[count] = i
                count += keep[i]
            for k in range(count):
                i = kept[k]
                order[number] = np.int64(key[i]) << 32 | (base + begin + i) << 1 | (source[i] != target[i])
                number += 1
                for digit in range(PASSES):
                    counts[digit, key[i] >> (digit * BITS) & (BUCKETS - 1)] += 1
    return number


@njit(cache=True, nogil=True)
def distribute(given, shift, starts, out):
    """Copy to `out` in the order of one digit; equal ones stay in their order. `starts`, of the buckets, is changed."""
    for value in given:
        bucket = value >> shift & (BUCKETS - 1)
        place = starts[bucket]
        starts[bucket] = place + 1
        out[place] = value
