"""Squared Euclidean distances and running maxima, one axis at a time, in float32.

A volume is seen as (before, along, after): the axis to work along in the middle. Lines along it are taken LANES side
by side into a buffer that stays in the cache, so that the loop over the lanes is one of vector instructions.
"""

import numpy as np
from numba import njit

LANES = 64
NO_NAN = {"nnan", "nsz"}  # lets a minimum be one instruction


@njit(cache=True, nogil=True)
def distance_along_rows(start, stop, inside, step, squares):
    """Squared distance of each voxel of rows start..stop, (rows, X), to the nearest in its row that is not inside."""
    width = inside.shape[1]
    for row in range(start, stop):
        run = np.float32(np.inf)
        for x in range(width):
            run = run + step if inside[row, x] else np.float32(0)
            squares[row, x] = run
        run = np.float32(np.inf)
        for x in range(width - 1, -1, -1):
            run = run + step if inside[row, x] else np.float32(0)
            nearest = min(squares[row, x], run)
            squares[row, x] = nearest * nearest


@njit(cache=True, nogil=True, fastmath=NO_NAN)
def _lower(best, line, square):
    for lane in range(len(best)):
        best[lane] = min(best[lane], line[lane] + square)


@njit(cache=True, nogil=True, fastmath=NO_NAN)
def _highest(best):
    top = np.float32(0)
    for lane in range(len(best)):
        top = max(top, best[lane])
    return top


@njit(cache=True, nogil=True)
def distance_along(start, stop, squares, step):
    """Take another axis, the middle one, into `squares`, in place, for blocks start..stop of LANES lines.

    Looks outwards from each voxel until nothing nearer can come. Lower envelopes of parabolas (Felzenszwalb &
    Huttenlocher 2012) take a fixed time a voxel, but one by one: at the distances inside neurites, some ten voxels,
    this is several times as fast.
    """
    _, length, after = squares.shape
    blocks = (after + LANES - 1) // LANES
    lines = np.empty((length, LANES), np.float32)
    for block in range(start, stop):
        first = block % blocks * LANES
        plane = squares[block // blocks, :, first : min(first + LANES, after)]
        width = plane.shape[1]
        lines[:, :width] = plane
        for i in range(length):
            best = plane[i]
            top = _highest(best)
            reach = 1
            while reach <= max(i, length - 1 - i):
                square = np.float32(reach * step) * np.float32(reach * step)
                if square >= top:
                    break
                if i >= reach:
                    _lower(best, lines[i - reach, :width], square)
                if i + reach < length:
                    _lower(best, lines[i + reach, :width], square)
                if reach % 4 == 0:
                    top = _highest(best)
                reach += 1


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
def peaks(start, stop, squares, highest):
    """Flat indices of the voxels of start..stop that are inside (above 0) and the highest of their window."""
    count = 0
    for voxel in range(start, stop):
        count += (squares[voxel] > 0) & (squares[voxel] == highest[voxel])
    found = np.empty(count, np.int64)
    count = 0
    for voxel in range(start, stop):
        if squares[voxel] > 0 and squares[voxel] == highest[voxel]:
            found[count] = voxel
            count += 1
    return found
