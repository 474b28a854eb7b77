"""Stores of eight voxels at once, and past the cache: what is written here is read much later, if at all."""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

LANES = 8
"""Voxels of 64 bits in a cache line; compilers split such a vector where the processor has shorter ones."""
LINE = 64
"""Bytes of a cache line."""
VECTOR = ir.VectorType(ir.IntType(64), LANES)
INDICES = ir.VectorType(ir.IntType(32), LANES)


@intrinsic
def stamp(_, array, index, value):
    """Write `value` to the LANES voxels from array[index] on, of a flat uint64 array that is long enough."""

    def generate(context, builder, signature, arguments):
        nothing = ir.Constant(VECTOR, ir.Undefined)
        first = builder.insert_element(nothing, arguments[2], ir.IntType(32)(0))
        copies = builder.shuffle_vector(first, nothing, ir.Constant(INDICES, [0] * LANES))
        builder.store(copies, _place(context, builder, signature.args[0], *arguments[:2]), align=LANES)
        return context.get_dummy_value()

    return types.void(array, index, value), generate


@intrinsic
def stream(_, array, index, source, position):
    """Copy LANES voxels from source[position] to array[index], which begins a cache line, without reading that first.

    An ordinary store fetches the line from memory before it writes it back, so it moves twice as much. Other threads
    see what was written after `publish`.
    """

    def generate(context, builder, signature, arguments):
        read = builder.load(_place(context, builder, signature.args[2], *arguments[2:]), align=LANES)
        store = builder.store(read, _place(context, builder, signature.args[0], *arguments[:2]), align=LINE)
        store.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
        return context.get_dummy_value()

    return types.void(array, index, source, position), generate


@intrinsic
def publish(_):
    """Let all that was written by `stream` be seen by other threads."""

    def generate(context, builder, signature, arguments):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


def _place(context, builder, kind, array, index):
    """The address of array[index], as that of a vector."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), VECTOR.as_pointer())
