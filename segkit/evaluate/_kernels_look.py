"""Finding a voxel to look at in given pieces."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def find_voxels(segmentation, truth, pieces, neighbors, outside):
    """A voxel (z, y, x) of each piece, int64 (K, 3): the middle one of those that touch the neighbour.

    `pieces`, in lexicographic order, and `neighbors` are uint64 (K, 2): the voxels of one segment in one object;
    segments from `outside` on are read as 0. They touch by faces, and the middle is that of the scan. Where none
    touches, all voxels are asked.
    """
    found = np.zeros((len(pieces), 3), np.int64)
    touching, anywhere = np.zeros(len(pieces), np.int64), np.zeros(len(pieces), np.int64)
    for second in range(2):  # the first time they are counted, the second time the middle one is taken
        wanted = np.where(touching > 0, touching, anywhere) // 2
        by_touch = touching > 0
        seen = np.zeros(len(pieces), np.int64)
        for z in range(truth.shape[0]):
            for y in range(truth.shape[1]):
                last = -1
                for x in range(truth.shape[2]):
                    same = x > 0 and truth[z, y, x] == truth[z, y, x - 1]
                    if not (same and segmentation[z, y, x] == segmentation[z, y, x - 1]):
                        last = position(segmentation, truth, z, y, x, pieces, outside)
                    if last < 0:
                        continue
                    touches = (not second or by_touch[last]) and touch(
                        segmentation, truth, z, y, x, neighbors[last], outside
                    )
                    if not second:
                        anywhere[last] += 1
                        touching[last] += touches
                    elif touches or not by_touch[last]:
                        if seen[last] == wanted[last]:
                            found[last, 0], found[last, 1], found[last, 2] = z, y, x
                        seen[last] += 1
    return found


@njit(cache=True, nogil=True)
def position(segmentation, truth, z, y, x, pieces, outside):
    """Which piece a voxel belongs to, or -1; the pieces are different, in lexicographic order."""
    segment, label = segmentation[z, y, x], truth[z, y, x]
    if segment >= outside:
        segment = np.uint64(0)
    low, high = 0, len(pieces)
    while low < high:
        middle = (low + high) // 2
        if pieces[middle, 0] < segment or (pieces[middle, 0] == segment and pieces[middle, 1] < label):
            low = middle + 1
        else:
            high = middle
    found = low < len(pieces) and pieces[low, 0] == segment and pieces[low, 1] == label
    return low if found else -1


@njit(cache=True, nogil=True)
def belongs(segmentation, truth, z, y, x, piece, outside):
    """Whether a voxel lies in the segment and the object of a piece."""
    if truth[z, y, x] != piece[1]:
        return False
    segment = segmentation[z, y, x]
    return segment == piece[0] or (piece[0] == 0 and segment >= outside)


@njit(cache=True, nogil=True)
def touch(segmentation, truth, z, y, x, neighbor, outside):
    """Whether one of the six neighbours of a voxel belongs to a piece."""
    for axis in range(3):
        for step in (-1, 1):
            a, b, c = z + step * (axis == 0), y + step * (axis == 1), x + step * (axis == 2)
            inside = 0 <= a < truth.shape[0] and 0 <= b < truth.shape[1] and 0 <= c < truth.shape[2]
            if inside and belongs(segmentation, truth, a, b, c, neighbor, outside):
                return True
    return False
