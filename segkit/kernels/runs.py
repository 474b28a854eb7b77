"""Find where labels change along a line, or differ between two: a bit for each of 64 voxels, compared at once.

Why not ask voxel by voxel? Most voxels are as their neighbours: vector instructions and a count of zero bits pass over
them, and a branch a voxel takes longer than all the rest.
"""

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
ALL = np.uint64(2**64 - 1)


@intrinsic
def changes(_, array, index):
    """Compare 64 voxels: bit k says whether array[index + k] differs from the voxel before it; uint64.

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
def differing(_, array, one, other):
    """Compare 64 voxels: bit k says whether array[one + k] differs from array[other + k]; uint64.

    `array` is flat, of 64 bits a voxel. Bits of voxels behind its end are 0. Why no compiled function around the
    comparison? Each call of one counts its arrays as used and unused, which takes longer than to compare.
    """

    def generate(context, builder, signature, arguments):
        flat = context.make_array(signature.args[0])(context, builder, arguments[0])
        ends = [builder.add(place, WORD(WIDTH)) for place in arguments[1:]]
        length = builder.extract_value(flat.shape, 0)
        inside = builder.and_(*(builder.icmp_signed("<=", end, length) for end in ends))
        result = builder.alloca(WORD)
        with builder.if_else(inside, likely=True) as (then, otherwise):
            with then:
                places = [builder.bitcast(builder.gep(flat.data, [i]), VECTOR.as_pointer()) for i in arguments[1:]]
                voxels = [builder.load(place, align=8) for place in places]
                builder.store(builder.bitcast(builder.icmp_unsigned("!=", *voxels), WORD), result)
            with otherwise:
                builder.store(context.compile_internal(builder, _one_by_one, signature, arguments), result)
        return builder.load(result)

    return types.uint64(array, types.int64, types.int64), generate


def _one_by_one(array, one, other):
    """Compare as `differing` does, where the array ends."""
    mask = np.uint64(0)
    for k in range(min(WIDTH, len(array) - max(one, other))):
        if array[one + k] != array[other + k]:
            mask |= ONE << np.uint64(k)
    return mask


@njit(cache=True, nogil=True)
def first_bits(mask, count):
    """Clear the bits of a mask from `count` on, which is not below 0."""
    return mask if count >= WIDTH else mask & ~(ALL << np.uint64(count))


@intrinsic
def lowest_bit(_, mask):
    """Find the number of the lowest bit that is set in a uint64, which is not 0; int64."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return types.int64(types.uint64), generate


@intrinsic
def count_bits(_, mask):
    """Count the bits of a uint64 that are set; int64."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


@njit(cache=True, nogil=True)
def count_runs(labels):
    """Count the runs of one label in a flat uint64 array, which is not empty."""
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
