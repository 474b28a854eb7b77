"""The quasi-linear loss of counted pairs and its slope."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def squared_errors(affinities, edges, pairs, target):
    """The sum over edges of pairs * (target - affinity)^2, in float64."""
    total = 0.0
    for i in range(len(edges)):
        error = target - np.float64(affinities[edges[i]])
        total += pairs[i] * (error * error)
    return total


@njit(cache=True, nogil=True)
def add_slopes(affinities, edges, pairs, target, weight, gradient):
    """Add to `gradient` that of weight * squared_errors."""
    for i in range(len(edges)):
        edge = edges[i]
        gradient[edge] += 2 * weight * pairs[i] * (np.float64(affinities[edge]) - target)
