"""The quasi-linear loss of counted pairs and its slope, by chunks of edges that threads share out."""

import numpy as np
from numba import njit

CHUNK = 1 << 15
"""Edges whose errors are summed on their own, so that sums are the same at any number of threads."""


@njit(cache=True, nogil=True)
def squared_errors(first, last, affinities, pairs, target, totals, sums):
    """Write for some chunks the sum of pairs, and in float64 that of pairs * (target - affinity)^2."""
    for chunk in range(first, last):
        number, total = 0, 0.0
        for i in range(chunk * CHUNK, min(chunk * CHUNK + CHUNK, len(pairs))):
            error = target - np.float64(affinities[i])
            number += pairs[i]
            total += pairs[i] * (error * error)
        totals[chunk] = number
        sums[chunk] = total


@njit(cache=True, nogil=True)
def add_slopes(first, last, edges, affinities, pairs, target, weight, gradient):
    """Add to `gradient` that of weight * squared_errors, for some chunks. Edges of 0 pairs are passed over."""
    for i in range(first * CHUNK, min(last * CHUNK, len(pairs))):
        if pairs[i] > 0:
            gradient[edges[i]] += 2 * weight * pairs[i] * (np.float64(affinities[i]) - target)
