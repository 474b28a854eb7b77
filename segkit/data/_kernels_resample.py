"""Numba kernel: labels on a grid of other voxels."""

import numpy as np
from numba import njit

EQUAL = 1e-9
"""Shares of a voxel that differ by less are equal."""


@njit(cache=True, nogil=True)
def fill_most_frequent(start, stop, labels, along_z, along_y, along_x, result):
    """Write into the sections `start` to `stop` of `result` the id that fills most of each voxel.

    Along each axis, given as (first, share), a voxel begins in old voxel first[i] and is made up of it and of those
    that follow by share[i]. Why no hash table for the ids of a voxel? They are few, and a scan finds them sooner.
    """
    (first_z, share_z), (first_y, share_y), (first_x, share_x) = along_z, along_y, along_x
    most = share_z.shape[1] * share_y.shape[1] * share_x.shape[1]
    ids = np.empty(most, np.uint64)
    shares = np.empty(most, np.float64)
    for z in range(start, stop):
        for y in range(result.shape[1]):
            for x in range(result.shape[2]):
                found = 0
                for i in range(share_z.shape[1]):
                    for j in range(share_y.shape[1]):
                        plane = share_z[z, i] * share_y[y, j]
                        if plane == 0:
                            continue
                        for k in range(share_x.shape[1]):
                            part = plane * share_x[x, k]
                            if part == 0:
                                continue
                            label = labels[first_z[z] + i, first_y[y] + j, first_x[x] + k]
                            known = 0
                            while known < found and ids[known] != label:
                                known += 1
                            if known == found:
                                ids[found] = label
                                shares[found] = 0.0
                                found += 1
                            shares[known] += part
                best = 0
                for known in range(1, found):
                    more = shares[known] - shares[best]
                    if more > EQUAL or (more > -EQUAL and ids[known] < ids[best]):
                        best = known
                result[z, y, x] = ids[best]
