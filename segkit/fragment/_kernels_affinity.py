"""The edges of voxels, row by row, and what is computed from them alone.

`edges` are (array, channels, later, mask), as :class:`segkit.fragment._shared.Edges` has them. An edge is stored at one
of its ends; `channels[axis]` is the channel of the edges along z, y or x (-1: they are not used), and `later[axis]`
says whether it is the later end, the one with the higher index. A voxel has up to six edges, numbered in ascending
order of the neighbour: z-, y-, x-, x+, y+, z+.
"""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _copy_row(source, low, high, row):
    for x in range(len(row)):
        value = source[x]
        row[x] = min(value, high) if value > low else np.float32(-1)


@njit(cache=True, nogil=True)
def _cut_row(here, there, row):
    for x in range(len(row)):
        row[x] = row[x] if here[x] & there[x] else np.float32(-1)


@njit(cache=True, nogil=True)
def _edges_of_row(edges, z, y, low, high, directions, rows):
    """Write the affinities of the first edges, three or six, of all voxels of a row to `rows`, float32 (6, X).

    Affinities above `high` count as `high`; those of at most `low`, and edges that leave the volume or the mask, as
    -1. An empty mask is none.
    """
    array, channels, later, mask = edges
    depth, height, width = array.shape[1:]
    for direction in range(directions):
        axis = direction if direction < 3 else 5 - direction
        rows[direction] = -1
        ahead = direction >= 3
        step = 1 if ahead else -1
        other_z = z + step if axis == 0 else z
        other_y = y + step if axis == 1 else y
        if channels[axis] < 0 or not (0 <= other_z < depth and 0 <= other_y < height):
            continue
        along = step if axis == 2 else 0
        first, last = max(-along, 0), width - max(along, 0)
        row = rows[direction, first:last]
        if later[axis] == ahead:  # stored at the neighbour
            source = array[channels[axis], other_z, other_y, first + along : last + along]
        else:
            source = array[channels[axis], z, y, first:last]
        _copy_row(source, low, high, row)
        if mask.size:
            _cut_row(mask[z, y, first:last], mask[other_z, other_y, first + along : last + along], row)


@njit(cache=True, nogil=True)
def edges_before(edges, z, y, least, high, rows):
    """Write the edges of a row with its predecessors to `rows`, -1 for those of affinity below `least`."""
    _edges_of_row(edges, z, y, np.float32(-1), high, 3, rows)
    for axis in range(3):
        for x in range(rows.shape[1]):
            rows[axis, x] = rows[axis, x] if rows[axis, x] >= least else np.float32(-1)


@njit(cache=True, nogil=True)
def _mean_of_rows(rows, out):
    total = np.zeros(len(out), np.float32)
    count = np.zeros(len(out), np.float32)
    for direction in range(6):
        row = rows[direction]
        for x in range(len(out)):
            total[x] += max(row[x], np.float32(0))
            count[x] += np.float32(row[x] >= 0)
    for x in range(len(out)):
        out[x] = total[x] / count[x] if count[x] > 0 else np.float32(1)


@njit(cache=True, nogil=True)
def _least_of_rows(rows, out):
    out[:] = 1
    for direction in range(6):
        row = rows[direction]
        for x in range(len(out)):
            out[x] = min(out[x], row[x]) if row[x] >= 0 else out[x]


@njit(cache=True, nogil=True)
def mean_or_least(start, stop, edges, least, out):
    """Write the mean (or least) affinity of the edges of each voxel of sections start..stop to `out`; 1 without any."""
    rows = np.empty((6, out.shape[2]), np.float32)
    for z in range(start, stop):
        for y in range(out.shape[1]):
            _edges_of_row(edges, z, y, np.float32(-1), np.float32(np.inf), 6, rows)
            if least:
                _least_of_rows(rows, out[z - start, y])
            else:
                _mean_of_rows(rows, out[z - start, y])


@njit(cache=True, nogil=True)
def steepest_edges(start, stop, edges, low, high, codes):
    """Write which edges of each voxel of sections start..stop are its highest to `codes`, uint8 (Z, Y, X).

    Bit 0 is the edge to z-, bit 5 that to z+; several are set where they tie, none for a voxel without edges.
    """
    rows = np.empty((6, codes.shape[2]), np.float32)
    best = np.empty(codes.shape[2], np.float32)
    for z in range(start, stop):
        for y in range(codes.shape[1]):
            _edges_of_row(edges, z, y, low, high, 6, rows)
            best[:] = 0  # an edge of affinity 0 that `low` lets pass cannot be: it would have to exceed 0
            for direction in range(6):
                for x in range(len(best)):
                    best[x] = max(best[x], rows[direction, x])
            code = codes[z, y]
            code[:] = 0
            for direction in range(6):
                bit = np.uint8(1 << direction)
                for x in range(len(best)):
                    code[x] |= bit if rows[direction, x] == best[x] else np.uint8(0)
