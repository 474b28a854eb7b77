"""Make room in arrays that fill up.

Why copies and not Numba's typed list? Kernels loop over flat arrays, and a list of records costs a call an entry. Who
calls keeps the number of rows that are used, and exchanges the array outside of the innermost loop: an array that is
exchanged inside one is counted as used and unused each time.
"""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def enlarged(array, used):
    """Copy the first `used` rows to an array with room for twice as many as there was room for."""
    larger = np.empty((2 * len(array), *array.shape[1:]), array.dtype)
    larger[:used] = array[:used]
    return larger


@njit(cache=True, nogil=True)
def doubled(array):
    """Copy all rows to an array with room for twice as many."""
    return enlarged(array, len(array))
