"""Counting the pairs of voxels that each edge of a maximum spanning forest decides.

Voxels are numbered in raster order. An edge is its flat index in (C, Z, Y, X): it leaves voxel ``index % voxels``
along channel ``index // voxels``. Forests are grown by Kruskal's algorithm. `parent` is a union-find forest in which a
root holds minus the number of its voxels, so that a union by size needs one array and, mostly, one cache line.
"""

import numpy as np
from numba import njit

ONE = 0x3F800000
"""The bits of float32 1.0. Among 0..1 the order of the bits is the order of the numbers."""
BITS = 10
BUCKETS = 1 << BITS
SCANNED = 8
"""Lists of labels up to this length are scanned, longer ones are looked up in a hash table."""


@njit(cache=True, nogil=True)
def collect_edges(bits, edges, labels, offsets, inside, keys, indices):
    """Write sort keys and indices of some edges, in raster order; return their number, or -1 - index of a bad one.

    `inside` chooses them: 1, those inside an object; 0, the others; -1, all. Keys ascend as affinities (float32, given
    as their `bits`) descend. A bad affinity is one that is not in 0..1.
    """
    voxels = len(labels)
    number = 0
    for channel in range(len(offsets)):
        offset = offsets[channel]
        for voxel in range(voxels):
            index = channel * voxels + voxel
            if not edges[index]:
                continue
            if inside >= 0:
                label = labels[voxel]
                if (label > 0 and label == labels[voxel + offset]) != (inside == 1):
                    continue
            pattern = np.int64(bits[index])
            if pattern > ONE:
                if pattern != 0x80000000:  # -0.0
                    return -1 - index
                pattern = 0
            keys[number] = ONE - pattern
            indices[number] = index
            number += 1
    return number


@njit(cache=True, nogil=True)
def sort_edges(keys, indices):
    """The indices in ascending order of their keys, ties in the order given; overwrites both arrays.

    A comparison sort of millions of edges costs several times as much as all that follows. This one distributes them
    by ten bits at a time, the lowest first, which keeps ties in order without comparing indices.
    """
    number = len(keys)
    other_keys = np.empty_like(keys)
    other_indices = np.empty_like(indices)
    starts = np.zeros((3, BUCKETS), np.int64)
    for i in range(number):
        key = keys[i]
        starts[0, key & (BUCKETS - 1)] += 1
        starts[1, (key >> BITS) & (BUCKETS - 1)] += 1
        starts[2, key >> (2 * BITS)] += 1
    for digit in range(3):
        start = 0
        for bucket in range(BUCKETS):
            size = starts[digit, bucket]
            starts[digit, bucket] = start
            start += size
        shift = digit * BITS
        for i in range(number):
            key = keys[i]
            bucket = (key >> shift) & (BUCKETS - 1)
            place = starts[digit, bucket]
            starts[digit, bucket] = place + 1
            other_keys[place] = key
            other_indices[place] = indices[i]
        keys, other_keys = other_keys, keys
        indices, other_indices = other_indices, indices
    return indices


@njit(cache=True, nogil=True, inline="always")
def find_root(parent, node):
    """The root of `node`, halving the path to it."""
    above = parent[node]
    while above >= 0:
        top = parent[above]
        if top < 0:
            return above
        parent[node] = top
        node = top
        above = parent[node]
    return node


@njit(cache=True, nogil=True)
def join_objects(order, offsets, parent):
    """Join voxels along edges inside objects; return (index, number of pairs) of each edge that joins two pieces.

    Inside an object every pair has the same label, so sizes are all that is needed.
    """
    voxels = len(parent)
    found = np.empty(voxels, np.int64)
    pairs = np.empty(voxels, np.int64)
    number = 0
    for index in order:
        channel = 0
        voxel = np.int64(index)
        while voxel >= voxels:  # cheaper than a division for the few channels there are
            voxel -= voxels
            channel += 1
        a = find_root(parent, voxel)
        b = find_root(parent, voxel + offsets[channel])
        if a == b:
            continue
        size_a, size_b = np.int64(-parent[a]), np.int64(-parent[b])
        found[number] = index
        pairs[number] = size_a * size_b
        number += 1
        if size_a < size_b:
            a, b = b, a
        parent[a] += parent[b]
        parent[b] = a
    return found[:number].copy(), pairs[:number].copy()


@njit(cache=True, nogil=True)
def _probe(table, key):
    """Where in the open-addressing `table` (size a power of two) the key is, or would go."""
    mask = len(table) - 1
    place = ((key * np.int64(0x2545F4914F6CDD1D)) >> np.int64(20)) & mask
    while table[place, 0] != key and table[place, 0] >= 0:
        place = (place + 1) & mask
    return place


@njit(cache=True, nogil=True)
def _rebuilt(table, parent, labels_end, needed):
    """The entries of `table` whose component is still a root, in a table with room for `needed` more; their number."""
    alive = 0
    for key in table[:, 0]:
        if key >= 0 and parent[key // labels_end] < 0:
            alive += 1
    size = 1024
    while size < 4 * (alive + needed):
        size *= 2
    larger = np.full((size, 2), -1, np.int64)
    for i in range(len(table)):
        key = table[i, 0]
        if key >= 0 and parent[key // labels_end] < 0:
            larger[_probe(larger, key)] = table[i]
    return larger, alive


@njit(cache=True, nogil=True)
def join_components(order, offsets, parent, labels, labels_end):
    """Join components along edges; return (index, same-label pairs, different-label pairs) of each that joins two.

    `parent` holds the components to begin with, each of one label, or of 0, which makes no pairs; labels are below
    `labels_end`. Edges that decide no pair are left out.

    A component is a list of (label, number of voxels), threaded through the voxels that were roots at the beginning.
    The shorter list is moved into the longer one, so that an entry moves a logarithmic number of times. Components of
    one label, almost all, need no table; a dictionary for each would cost most of the time.
    """
    voxels = len(parent)
    count = np.zeros(voxels, np.int32)  # voxels of the entry
    after = np.full(voxels, -1, np.int32)  # the next entry of its list
    total = np.zeros(voxels, np.int32)  # voxels with labels, of a root
    length = np.zeros(voxels, np.int32)  # entries, of a root
    for voxel in range(voxels):
        if parent[voxel] < 0 and labels[voxel] > 0:
            count[voxel] = total[voxel] = -parent[voxel]
            length[voxel] = 1
    table = np.full((1024, 2), -1, np.int64)  # component * labels_end + label -> entry
    used = 0
    found = np.empty(voxels, np.int64)
    pairs = np.empty((2, voxels), np.int64)
    number = 0
    for index in order:
        channel = 0
        voxel = np.int64(index)
        while voxel >= voxels:
            voxel -= voxels
            channel += 1
        a = find_root(parent, voxel)
        b = find_root(parent, voxel + offsets[channel])
        if a == b:
            continue
        if length[a] < length[b] or (length[a] == length[b] and parent[a] > parent[b]):
            a, b = b, a
        same = np.int64(0)
        if length[b] > 0:
            hashed = length[a] + length[b] > SCANNED
            if hashed:
                if 2 * (used + length[a] + length[b]) > len(table):
                    table, used = _rebuilt(table, parent, labels_end, length[a] + length[b])
                if length[a] <= SCANNED:
                    used += _enter_list(table, a, after, labels, labels_end)
            entry = np.int64(b)
            while entry >= 0:
                following = np.int64(after[entry])
                label = labels[entry]
                if hashed:
                    key = np.int64(a) * labels_end + label
                    place = _probe(table, key)
                    if table[place, 0] < 0:
                        table[place, 0] = key
                        table[place, 1] = entry
                        used += 1
                        match = np.int64(-1)
                    else:
                        match = table[place, 1]
                else:
                    match = np.int64(a)
                    while match >= 0 and labels[match] != label:
                        match = np.int64(after[match])
                if match >= 0:
                    same += np.int64(count[match]) * np.int64(count[entry])
                    count[match] += count[entry]
                else:
                    after[entry] = after[a]
                    after[a] = entry
                    length[a] += 1
                entry = following
            found[number] = index
            pairs[0, number] = same
            pairs[1, number] = np.int64(total[a]) * np.int64(total[b]) - same
            number += 1
            total[a] += total[b]
        parent[a] += parent[b]
        parent[b] = a
    return found[:number].copy(), pairs[:, :number].copy()


@njit(cache=True, nogil=True)
def _enter_list(table, root, after, labels, labels_end):
    """Enter the list of `root` in the table, where some of it may be already; return the number of new entries."""
    new = 0
    entry = np.int64(root)
    while entry >= 0:
        key = np.int64(root) * labels_end + labels[entry]
        place = _probe(table, key)
        new += table[place, 0] < 0
        table[place, 0] = key
        table[place, 1] = entry
        entry = np.int64(after[entry])
    return new
