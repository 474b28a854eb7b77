"""Seeds and their flooding, on a flat array with a border one voxel wide.

`state` holds all there is to know of a voxel: its label once it is flooded; 0 where water cannot go, the border
included; before that -1 - its depth, an integer. So a neighbour costs one look, and rows and planes need no bounds.
Where labels and depths fit it is of int16: half the memory, which the flood waits for most.
"""

import numpy as np
from numba import njit

from segkit.kernels.prefetch import prefetch
from segkit.kernels.union_find import find_root

AHEAD = 12
"""Voxels ahead in a queue whose neighbours are fetched: without it the flood waits for memory most of its time."""


@njit(cache=True, nogil=True)
def fill_state(start, stop, depths, allowed, state):
    """Write the planes start..stop of `depths`, (Z, Y, X), into `state`, (Z, Y + 2, X + 2), whose border is 0.

    Water cannot go where `allowed` is False; if that is empty, it can go everywhere.
    """
    for z in range(start, stop):
        for y in range(depths.shape[1]):
            row, depth = state[z, y + 1, 1:-1], depths[z, y]
            for x in range(len(depth)):
                row[x] = -1 - np.int32(depth[x])
            if allowed.size:
                free = allowed[z, y]
                for x in range(len(depth)):
                    row[x] = row[x] if free[x] else 0


@njit(cache=True, nogil=True)
def read_labels(start, stop, state, last, labels):
    """Write the planes start..stop of `state` to `labels`, `last` added to each id, and 0 where no water came."""
    for z in range(start, stop):
        for y in range(labels.shape[1]):
            row, label = state[z, y + 1, 1:-1], labels[z, y]
            for x in range(len(label)):
                label[x] = row[x] + last if row[x] > 0 else 0


@njit(cache=True, nogil=True)
def _led_by_faces(depths, place, step):
    """Whether faces of voxels deeper than 0 lead from `place` by `step`: one number an axis, 0 along those not used."""
    end = place + step.sum()
    for first in range(3):
        after = place + step[first]
        if step[first] == 0 or (after != end and depths[after] <= 0):
            continue
        if after == end:
            return True
        for second in range(3):
            then = after + step[second]
            if second != first and step[second] != 0 and (then == end or depths[then] > 0):
                return True
    return False


@njit(cache=True, nogil=True)
def join_peaks(state, inner, earlier, depths, places, steps):
    """Number the seeds: peaks in touch are one. Returns the label of each peak, and how many labels there are.

    `inner` are the peaks' indices in `state`, ascending, `places` those in `depths`; `earlier` are the steps to the 13
    earlier neighbours in `state`, and `steps` those in `depths`, axis by axis. Writes the labels, in the order of their
    first peaks, to `state`.
    """
    parents = np.arange(len(inner))
    for k in range(len(inner)):
        state[inner[k]] = k + 1
        for move in range(len(earlier)):
            other = state[inner[k] + earlier[move]]
            if other > 0 and _led_by_faces(depths, places[k], steps[move]):
                a, b = find_root(parents, k), find_root(parents, other - 1)
                parents[max(a, b)] = min(a, b)
    labels = np.empty(len(inner), np.int32)
    count = 0
    for k in range(len(inner)):
        root = find_root(parents, k)
        if root == k:
            count += 1
        labels[k] = count if root == k else labels[root]
        state[inner[k]] = labels[k]
    return labels, count


@njit(cache=True, nogil=True)
def _queue_starts(state, depths, starts):
    """Set starts[d + 1] to where the queue of depth d begins: how many voxels each will hold is known beforehand."""
    for voxel in state:
        if voxel < 0:
            starts[1 - np.int64(voxel)] += 1
    for depth in depths:
        starts[depth + 2] += 1
    for d in range(2, len(starts)):
        starts[d] += starts[d - 1]


@njit(cache=True, nogil=True)
def flood(state, places, depths, steps, deepest, queue):
    """Give every voxel that water can reach from the seeds at `places` the label of the seed that reaches it first.

    The deepest voxel reached goes next; of equally deep ones that reached first, seeds in their order. Behind a pass,
    a voxel counts as no deeper than the pass. A heap keeps that order too, but each depth has a queue of its own here,
    in one array of which it takes a part, so that a voxel costs one step. What is deeper than the pass makes a queue
    outgrow its part: into those of greater depths, which are empty for good.

    `steps` is a tuple, so that the loop over it is unrolled, and indices are unsigned, for else each is asked whether
    it counts from the end: that halves the time.
    """
    starts = np.zeros(deepest + 3, np.int64)
    _queue_starts(state, depths, starts)
    heads, tails = starts[1:-1].copy(), starts[1:-1]
    for k in range(len(places)):
        queue[tails[depths[k]]] = places[k]
        tails[depths[k]] += 1
    for depth in range(deepest, -1, -1):
        head, level = np.uint64(heads[depth]), np.uint64(depth)
        while head != np.uint64(tails[level]):
            if head + np.uint64(AHEAD) < np.uint64(tails[level]):
                voxel = np.int64(queue[head + np.uint64(AHEAD)])
                for step in steps:
                    prefetch(state, voxel + step)
            voxel = np.int64(queue[head])
            head += np.uint64(1)
            label = state[np.uint64(voxel)]
            for step in steps:
                other = np.uint64(voxel + step)
                found = np.int64(state[other])
                if found < 0:
                    state[other] = label
                    to = level if -1 - found >= depth else np.uint64(-1 - found)
                    queue[np.uint64(tails[to])] = other
                    tails[to] += 1


@njit(cache=True, nogil=True)
def flood_sections(start, stop, depths, allowed, seeds, state, queue, labels):
    """Flood the sections start..stop of `depths`, (Z, Y, X), each from its own seeds, and write their `labels`.

    `seeds` are (places, numbers, firsts, last): section z has seeds firsts[z] to firsts[z + 1], at flat indices in the
    section, with numbers to each of which last[z] is added. `state`, (1, Y + 2, X + 2), is of 0; `queue` has room for
    a section.
    """
    places, numbers, firsts, last = seeds
    row = state.shape[2]
    flat = state.reshape(-1)
    for z in range(start, stop):
        section = depths[z : z + 1]
        fill_state(0, 1, section, allowed[z : z + 1], state)
        first, end = firsts[z], firsts[z + 1]
        inner, deep = np.empty(end - first, queue.dtype), np.empty(end - first, np.int64)
        for k in range(end - first):
            y, x = divmod(places[first + k], row - 2)
            inner[k], deep[k] = (y + 1) * row + x + 1, section[0, y, x]
            flat[inner[k]] = numbers[first + k]
        flood(flat, inner, deep, (-row, -1, 1, row), np.int64(section.max()), queue)
        read_labels(0, 1, state, last[z], labels[z : z + 1])
