"""Lend arrays to helpers without counting references: a kernel that goes through many need not count at every call."""

from numba.core import cgutils
from numba.core.imputils import impl_ret_untracked
from numba.extending import intrinsic


@intrinsic
def borrowed(_, array):
    """Make the same array without an owner, for the time of the call: whoever called the kernel holds it.

    Numba counts references atomically wherever a helper that takes an array has branches, even if it is inlined.
    An array that has no owner costs a comparison there.
    """

    def generate(context, builder, signature, arguments):
        view = context.make_array(signature.return_type)(context, builder, arguments[0])
        view.meminfo = cgutils.get_null_value(view.meminfo.type)
        return impl_ret_untracked(context, builder, signature.return_type, view._getvalue())

    return array(array), generate
