"""Squared Euclidean distances and running maxima, one axis at a time, in float32.

A volume is seen as (before, along, after): the axis to work along in the middle. Lines along it are taken LANES side
by side into a buffer that stays in the cache, so that the loop over the lanes is one of vector instructions.
"""

import numpy as np
from numba import njit

from segkit.kernels.growable import enlarged

LANES = 64
NO_NAN = {"nnan", "nsz"}  # lets a minimum be one instruction


@njit(cache=True, nogil=True, fastmath=NO_NAN)
def _lower(lines, at, stride, highest, squares, best, most):
    """Write the lowest of what lines[at + lane] and all at `stride` from it have, plus `squares` of steps, to `best`.

    That `reach` strides away is higher by squares[reach]: looks outwards from each voxel until nothing lower can come,
    or `squares` end. Places end at 0 and `highest`: what lies there is looked at again, for it cannot be lower then.
    Lanes that are not used have 0 as the `most` that they can have, so that nothing is looked for.
    Lower envelopes of parabolas (Felzenszwalb & Huttenlocher 2012) take a fixed time a voxel, but one by one: at the
    distances inside neurites, some ten voxels, this is several times as fast. Indices are unsigned, for else each is
    asked whether it counts from the end, and there are no vector instructions.
    """
    top = np.float32(0)
    here = np.uint64(at)
    for lane in range(np.uint64(LANES)):
        best[lane] = min(lines[here + lane], most[lane])
        top = max(top, best[lane])
    reach = 1
    while reach + 1 < len(squares) and squares[reach] < top:
        near, far = squares[reach], squares[reach + 1]
        before, after = np.uint64(max(at - reach * stride, 0)), np.uint64(min(at + reach * stride, highest))
        farther = np.uint64(max(at - (reach + 1) * stride, 0))
        beyond = np.uint64(min(at + (reach + 1) * stride, highest))
        top = np.float32(0)
        for lane in range(np.uint64(LANES)):
            one = min(lines[before + lane], lines[after + lane]) + near
            two = min(lines[farther + lane], lines[beyond + lane]) + far
            lowest = min(best[lane], min(one, two))
            best[lane] = lowest
            top = max(top, lowest)
        reach += 2


@njit(cache=True, nogil=True)
def distance_in_planes(start, stop, inside, step, squares_of_steps, squares):
    """Squared distance of each voxel of planes start..stop, (Z, Y, X), to the nearest in its plane that is not inside.

    `step` is the length of a voxel along y, and `squares_of_steps` are those of 0, 1, ... steps along x, to one step
    more than the width. Along y first: there lines lie side by side.
    """
    _, height, width = inside.shape
    run = np.empty(width, np.float32)
    line = np.full(width + 3 * LANES, np.inf, np.float32)
    best, most = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for z in range(start, stop):
        run[:] = np.inf
        for y in range(height):
            row, out = inside[z, y], squares[z, y]
            for x in range(width):
                run[x] = run[x] + np.float32(1) if row[x] else np.float32(0)
                out[x] = run[x]
        run[:] = np.inf
        for y in range(height - 1, -1, -1):
            row, out = inside[z, y], squares[z, y]
            for x in range(width):
                run[x] = run[x] + np.float32(1) if row[x] else np.float32(0)
                nearest = min(out[x], run[x]) * step
                out[x] = nearest * nearest
            line[LANES : LANES + width] = out
            for first in range(0, width, LANES):
                size = min(width - first, LANES)
                most[:size], most[size:] = np.inf, 0
                _lower(line, LANES + first, 1, LANES + width, squares_of_steps, best, most)
                out[first : first + size] = best[:size]


@njit(cache=True, nogil=True)
def distance_along(start, stop, squares, squares_of_steps):
    """Take another axis, the middle one, into `squares`, in place, for blocks start..stop of LANES lines."""
    _, length, after = squares.shape
    blocks = (after + LANES - 1) // LANES
    lines = np.zeros((length, LANES), np.float32)
    best, most = np.empty(LANES, np.float32), np.full(LANES, np.inf, np.float32)
    for block in range(start, stop):
        first = block % blocks * LANES
        plane = squares[block // blocks, :, first : min(first + LANES, after)]
        width = plane.shape[1]
        lines[:, :width] = plane
        lines[:, width:] = 0
        for i in range(length):
            _lower(lines.reshape(-1), i * LANES, LANES, (length - 1) * LANES, squares_of_steps, best, most)
            plane[i] = best[:width]


@njit(cache=True, nogil=True, fastmath=NO_NAN)
def _higher_of(first, second, out):
    for i in range(len(out)):
        out[i] = max(first[i], second[i])


@njit(cache=True, nogil=True)
def _highest_of_windows(lines, spare, reach, width):
    """The highest of each value, `reach` before and `reach` after it; `width` lines lie side by side in `lines`.

    Windows double until one more would be too wide, and two that overlap make up the last. A queue of maxima takes
    fewer steps, but no vector instructions. Overwrites both arrays; the result is part of one of them.
    """
    span = 1
    while 2 * span <= 2 * reach + 1:
        size = len(lines) - span * width
        _higher_of(lines, lines[span * width :], spare[:size])
        lines, spare = spare[:size], lines
        span *= 2
    size = len(lines) - (2 * reach + 1 - span) * width
    _higher_of(lines, lines[len(lines) - size :], spare[:size])
    return spare[:size]


@njit(cache=True, nogil=True)
def highest_along_rows(start, stop, reach, given, out):
    """The highest of each voxel of rows start..stop, (rows, X), and the `reach` on both sides; beyond the rows is 0."""
    width = given.shape[1]
    lines, spare = np.empty(width + 2 * reach, np.float32), np.empty(width + 2 * reach, np.float32)
    for row in range(start, stop):
        lines[:reach] = 0
        lines[reach : reach + width] = given[row]
        lines[reach + width :] = 0
        out[row] = _highest_of_windows(lines, spare, reach, 1)


@njit(cache=True, nogil=True)
def highest_along(start, stop, reach, volume):
    """The same along the middle axis of `volume`, in place, for blocks start..stop of LANES lines."""
    _, length, after = volume.shape
    blocks = (after + LANES - 1) // LANES
    lines, spare = (
        np.empty((length + 2 * reach) * LANES, np.float32),
        np.empty((length + 2 * reach) * LANES, np.float32),
    )
    for block in range(start, stop):
        first = block % blocks * LANES
        plane = volume[block // blocks, :, first : min(first + LANES, after)]
        width = plane.shape[1]
        rows = lines[: (length + 2 * reach) * width].reshape(-1, width)
        rows[:reach] = 0
        rows[reach : reach + length] = plane
        rows[reach + length :] = 0
        plane[:] = _highest_of_windows(rows.reshape(-1), spare, reach, width).reshape(length, width)


@njit(cache=True, nogil=True)
def peaks_along(start, stop, reach, depths, highest):
    """Flat indices, ascending in each block, of the voxels above 0 of `depths` that are the highest of their windows.

    Of blocks start..stop of LANES lines along the middle axis; `highest` holds what windows along the other axes have.
    """
    _, length, after = depths.shape
    blocks = (after + LANES - 1) // LANES
    size = (length + 2 * reach) * LANES
    lines, spare = np.zeros(size, np.float32), np.empty(size, np.float32)
    found = np.empty(LANES, np.int64)
    count = 0
    for block in range(start, stop):
        before, first = block // blocks, block % blocks * LANES
        last = min(first + LANES, after)
        width = last - first
        rows = lines[: (length + 2 * reach) * width].reshape(-1, width)
        rows[:reach] = 0
        rows[reach : reach + length] = highest[before, :, first:last]
        rows[reach + length :] = 0
        top = _highest_of_windows(rows.reshape(-1), spare, reach, width)
        for i in range(length):
            row = depths[before, i, first:last]
            if not _any_peak(row, top[i * width : (i + 1) * width]):
                continue
            for lane in range(width):
                if row[lane] > 0 and row[lane] == top[i * width + lane]:
                    if count == len(found):
                        found = enlarged(found, count)
                    found[count] = (before * length + i) * after + first + lane
                    count += 1
    return found[:count]


@njit(cache=True, nogil=True)
def _any_peak(row, top):
    any_peak = np.int32(0)
    for lane in range(len(row)):
        any_peak |= np.int32(row[lane] > 0) & np.int32(row[lane] == top[lane])
    return any_peak
