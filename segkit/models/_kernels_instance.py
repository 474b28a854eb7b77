"""Sums and gradients of instance normalisation with channels last: rows are voxels, columns channels.

Numbers are float32, or bfloat16 as the uint16 that NumPy knows instead: the upper half of a float32. Sums are float64,
of pieces of rows that do not depend on the number of threads.
"""

import numpy as np
from numba import njit, types
from numba.extending import overload

ROWS = 2048
"""Of a piece."""


def _wide(number):
    """A number as float32."""


@overload(_wide, inline="always")
def _wide_compiled(number):
    if isinstance(number, types.Float):
        return lambda number: number
    return lambda number: np.uint32(np.uint32(number) << np.uint32(16)).view(np.float32)


def _narrow(number, like):
    """A float32 as a number of the kind of `like`: itself, or the nearest bfloat16, of two the even one."""


@overload(_narrow)
def _narrow_compiled(number, like):
    if isinstance(like, types.Float):
        return lambda number, like: number

    def rounded(number, like):
        if number != number:
            return np.uint16(0x7FC0)  # rounded, some would be infinite
        whole = np.uint64(np.float32(number).view(np.uint32))
        return np.uint16((whole + np.uint64(0x7FFF) + ((whole >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16))

    return rounded


@njit(cache=True, nogil=True)
def products(low, high, features, factors, mean, found):
    """Of pieces low to high: found[piece] = the sum of each channel's factors, and that times feature less mean.

    The features themselves as factors, and the mean 0, give their sum and that of their squares.
    """
    rows, channels = features.shape
    for piece in range(low, high):
        first, second = found[piece, 0], found[piece, 1]
        first[:] = 0
        second[:] = 0
        for row in range(piece * ROWS, min((piece + 1) * ROWS, rows)):
            for channel in range(channels):
                factor = np.float64(_wide(factors[row, channel]))
                first[channel] += factor
                second[channel] += factor * (np.float64(_wide(features[row, channel])) - mean[channel])


@njit(cache=True, nogil=True)
def combine(low, high, features, gradient, factors, found):
    """Of rows low to high: found = factors[0] * gradient + factors[1] * features + factors[2], of each channel."""
    channels = features.shape[1]
    for row in range(low, high):
        for channel in range(channels):
            value = factors[0, channel] * _wide(gradient[row, channel])
            value += factors[1, channel] * _wide(features[row, channel]) + factors[2, channel]
            found[row, channel] = _narrow(value, found[row, channel])
