"""From affinities to the strongest edge of every voxel, and to the few edges that may be in the forest.

Voxels are numbered in raster order. An edge is its flat index in (C, Z, Y, X): it leaves its source, voxel
``index % voxels``, along channel ``index // voxels`` for its target. Its key, int32, ascends as its affinity descends.
All work goes block by block, channel by channel within a block, in loops over neighbouring voxels without branches,
which the compiler turns into vector instructions. Kernels take the range of units, of UNIT voxels each, that they work
on: they write what belongs to these voxels and nothing else, so that threads can share the units out.
"""

import numpy as np
from numba import njit

ONE = 0x3F800000
"""The bits of float32 1.0. Among 0..1 the order of the bits is the order of the numbers."""
MINUS_ZERO = -0x80000000
BETWEEN = 0x40000000
"""This bit of a key is set if the edge may join only after all edges without it."""
NONE = 0x7FFFFFFF
"""The key where there is no edge."""
BLOCK = 4096
UNIT = 4 * BLOCK


@njit(cache=True, nogil=True)
def edge_keys(first, last, bits, edges, labels, offsets, constrained, keys):
    """Write the keys of the edges of some units; return whether all affinities of edges are in 0..1.

    `bits` are the affinities, float32, as int32. `constrained` sets BETWEEN on each edge that is not inside an object.
    """
    voxels = len(labels)
    bad = False
    for begin in range(first * UNIT, min(last * UNIT, voxels), BLOCK):
        end = min(begin + BLOCK, voxels)
        for channel in range(len(offsets)):
            offset = offsets[channel]
            base = channel * voxels
            keys[base + begin : base + end] = NONE
            low, high = max(begin, -offset), min(end, voxels - offset)
            if low >= high:
                continue
            given, exists = bits[base + low : base + high], edges[base + low : base + high]
            source, target = labels[low:high], labels[low + offset : high + offset]
            out = keys[base + low : base + high]
            for i in range(high - low):
                key = np.int32(ONE - given[i])
                key = np.int32(ONE) if given[i] == MINUS_ZERO else key
                bad |= exists[i] & ((key < 0) | (key > ONE))
                inside = (source[i] == target[i]) & (source[i] != 0)
                key = key if inside | (not constrained) else np.int32(key | BETWEEN)
                out[i] = key if exists[i] else np.int32(NONE)
    return not bad


@njit(cache=True, nogil=True)
def strongest_edges(first, last, keys, offsets, codes):
    """Write for each voxel of some units which of its edges without BETWEEN is the strongest.

    The code is 2 * channel for the edge that leaves the voxel along a channel, one more for the edge that arrives along
    it, and -1 if there is none. Edges are looked at in the order of their indices, so that the lowest wins a tie.
    """
    voxels = len(codes)
    best = np.empty(BLOCK, np.int32)
    for begin in range(first * UNIT, min(last * UNIT, voxels), BLOCK):
        end = min(begin + BLOCK, voxels)
        best[:] = BETWEEN
        codes[begin:end] = -1
        for channel in range(len(offsets)):
            for turn in range(2):
                arriving = (turn == 0) == (offsets[channel] > 0)
                shift = offsets[channel] if arriving else 0
                code = codes.dtype.type(2 * channel + arriving)
                low, high = max(begin, shift), min(end, voxels + shift)
                if low >= high:
                    continue
                start = channel * voxels - shift
                given, strongest, out = keys[start + low : start + high], best[low - begin :], codes[low:high]
                for i in range(high - low):
                    stronger = given[i] < strongest[i]
                    strongest[i] = given[i] if stronger else strongest[i]
                    out[i] = code if stronger else out[i]


@njit(cache=True, nogil=True)
def mark_weakest(low, high, channel, keys, offsets, voxels, dead):
    """Set `dead` for the edges of a channel, of the voxels `low` to `high`, that are the weakest of some square.

    The weakest edge of a cycle is in no maximum spanning forest. A square goes from a voxel along the channel and along
    another one, and back: two of them for each other channel, one on either side of the edge.
    """
    base, step = channel * voxels, offsets[channel]
    dead[: high - low] = False
    for other in range(len(offsets)):
        if other == channel:
            continue
        for shift in (offsets[other], -offsets[other]):
            side = other * voxels + (0 if shift == offsets[other] else shift)
            begin = max(low, -shift, -step, -shift - step)
            end = min(high, voxels - shift, voxels - step, voxels - shift - step)
            if begin >= end:
                continue
            edge, opposite = keys[base + begin : base + end], keys[base + shift + begin : base + shift + end]
            near, far = keys[side + begin : side + end], keys[side + step + begin : side + step + end]
            out = dead[begin - low :]
            later, behind = np.int32(other < channel), np.int32(shift < 0)  # of equal ones the last is the weakest
            for i in range(end - begin):
                key = np.int32(edge[i] + later)
                weakest = (key > near[i]) & (key > far[i]) & (np.int32(edge[i] + behind) > opposite[i])
                out[i] = out[i] | weakest
