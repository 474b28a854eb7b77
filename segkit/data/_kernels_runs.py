"""Where labels change along a line: 64 voxels are compared at once, since to ask one by one takes longest of all."""

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic

WIDTH = 64
"""Voxels that are compared at once; compilers split such a vector into those that the processor has."""
WORD = ir.IntType(64)
VECTOR = ir.VectorType(WORD, WIDTH)
ONE = np.uint64(1)


@intrinsic
def changes(_, array, index):
    """Bit k says whether array[index + k] differs from the voxel before it; uint64, k below WIDTH.

    `array` is flat, of 64 bits a voxel, and holds what is compared: index >= 1, index + WIDTH <= its length.
    """

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        voxels = []
        for shift in (0, -1):
            place = builder.gep(data, [builder.add(arguments[1], WORD(shift))])
            voxels.append(builder.load(builder.bitcast(place, VECTOR.as_pointer()), align=8))
        return builder.bitcast(builder.icmp_unsigned("!=", *voxels), WORD)

    return types.uint64(array, types.int64), generate


@intrinsic
def lowest_bit(_, mask):
    """The number of the lowest bit that is set in a uint64, which is not 0; int64."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return types.int64(types.uint64), generate


@intrinsic
def count_bits(_, mask):
    """How many bits of a uint64 are set, int64."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


@njit(cache=True, nogil=True)
def count_runs(labels):
    """How many runs of one label there are in a flat uint64 array, which is not empty."""
    runs, i = 1, 1
    while i + WIDTH <= len(labels):
        runs += count_bits(changes(labels, i))
        i += WIDTH
    while i < len(labels):
        runs += labels[i] != labels[i - 1]
        i += 1
    return runs


@njit(cache=True, nogil=True)
def ends_of_runs(labels, ends):
    """Write where each run ends; `ends` has room for as many as `count_runs` finds."""
    run, i = 0, 1
    while i + WIDTH <= len(labels):
        mask = changes(labels, i)
        while mask:
            ends[run] = i + lowest_bit(mask)
            run += 1
            mask &= mask - ONE
        i += WIDTH
    while i < len(labels):
        if labels[i] != labels[i - 1]:
            ends[run] = i
            run += 1
        i += 1
    ends[run] = len(labels)
