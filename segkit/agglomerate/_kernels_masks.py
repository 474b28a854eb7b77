"""Where two parts of a flat array of labels differ: a bit for each of 64 voxels, compared at once."""

import numpy as np
from numba import njit
from numba.core import types
from numba.extending import intrinsic

from segkit.data._kernels_runs import VECTOR, WIDTH, WORD

ALL = np.uint64(2**64 - 1)
ONE = np.uint64(1)


@intrinsic
def differing(_, array, one, other):
    """Bit k says whether array[one + k] differs from array[other + k]; uint64, k below WIDTH.

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
    """As `differing`, where the array ends."""
    mask = np.uint64(0)
    for k in range(min(WIDTH, len(array) - max(one, other))):
        if array[one + k] != array[other + k]:
            mask |= ONE << np.uint64(k)
    return mask


@njit(cache=True, nogil=True)
def first_bits(mask, count):
    """The mask without the bits from `count` on, which is not below 0."""
    return mask if count >= WIDTH else mask & ~(ALL << np.uint64(count))
