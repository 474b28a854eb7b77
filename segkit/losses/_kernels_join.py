"""Counting the pairs of voxels that each edge of a forest decides, as Kruskal's algorithm joins along it.

Components are kept in a union-find forest of basins, few enough to stay in the cache: `parent`, in which a root holds
minus the number of its voxels. A basin begins as its root alone. The strongest edge of any other voxel of it is
stronger than all others that end there, so that voxel is still alone when the edge comes, and is absorbed by the
component of its basin; an edge between basins joins their components.

`order` holds edges as :func:`segkit.losses._kernels_forest.candidates` lists them, sorted.
"""

import numpy as np
from numba import njit

from segkit.kernels.pair_table import hash_pair
from segkit.kernels.union_find import find_sized_root
from segkit.losses._kernels_edges import BETWEEN, ONE
from segkit.losses._kernels_forest import INDEX, sort

GROUP = 64
SCANNED = 8
"""Lists of labels up to this length are scanned, longer ones are looked up in a hash table."""
HEAD, LENGTH, TOTAL = range(3)
COUNT, AFTER = range(2)
ENTRIES, SLOTS, FOUND = range(3)


@njit(cache=True, nogil=True)
def join_objects(first, last, bounds, sorting, graph, results):
    """Sort the edges of some parts and join along them; write the index, affinity and pairs of each that joins two.

    The edges of a part begin at its place in `bounds`, and so does what is written of them, with 0 pairs after the
    last. `sorting` are the edges and as much room, both overwritten; `graph` offsets, basins and parent; `results`
    index, bits of the affinity, and pairs. Inside an object every pair has the same label, so sizes are all that is
    needed. Parts have no basins in common.
    """
    edges, spare = sorting
    offsets, basins, parent = graph
    found, bits, pairs = results
    for part in range(first, last):
        begin, end = bounds[part], bounds[part + 1]
        sort(edges[begin:end], spare[begin:end])
        number = begin + _join_sizes(
            spare[begin:end], offsets, basins, parent, found[begin:end], bits[begin:end], pairs[begin:end]
        )
        found[number:end] = 0
        bits[number:end] = 0
        pairs[number:end] = 0


@njit(cache=True, nogil=True)
def _join_sizes(order, offsets, basins, parent, found, bits, pairs):
    """Join along the edges in `order`; write (index, bits of the affinity, pairs) of those that join, return how many.

    The basins of a group of edges are looked up before any of them is joined: these look-ups miss the cache, and so
    they wait at the same time.
    """
    voxels = len(basins)
    sources = np.empty(GROUP, np.int64)
    targets = np.empty(GROUP, np.int64)
    number = 0
    for begin in range(0, len(order), GROUP):
        end = min(begin + GROUP, len(order))
        for i in range(begin, end):
            index = np.uint32(order[i] >> 1 & INDEX)
            voxel = np.int64(index % np.uint32(voxels))
            sources[i - begin] = find_sized_root(parent, np.int64(basins[voxel]))
            if order[i] & 1:
                offset = offsets[index // np.uint32(voxels)]
                targets[i - begin] = find_sized_root(parent, np.int64(basins[voxel + offset]))
        for i in range(begin, end):
            a = find_sized_root(parent, sources[i - begin])
            size_a, size_b = -np.int64(parent[a]), np.int64(1)
            if order[i] & 1:
                b = find_sized_root(parent, targets[i - begin])
                if a == b:
                    continue
                size_b = -np.int64(parent[b])
                if size_a < size_b:
                    a, b = b, a
                parent[b] = a
            parent[a] = -(size_a + size_b)
            pairs[number] = size_a * size_b
            found[number] = order[i] >> 1 & INDEX
            bits[number] = _bits(order[i])
            number += 1
    return number


@njit(cache=True, nogil=True, inline="always")
def _bits(edge):
    """The bits of an edge's affinity."""
    return ONE - (edge >> 32 & ~BETWEEN)


@njit(cache=True, nogil=True)
def begin_lists(parent, roots, labels, components, entries, entry_labels):
    """Give each component, of one label, a list of that label; one of label 0 an empty list.

    A component, of a root in `parent`, is (HEAD, LENGTH, TOTAL): its first entry, the number of entries, and the number
    of its voxels with labels. An entry is (COUNT, AFTER), voxels and the next entry or -1, and a label.
    """
    for root in range(len(parent)):
        components[root] = 0
        components[root, HEAD] = -1
        if parent[root] < 0 and labels[roots[root]] != 0:
            components[root, HEAD] = root
            components[root, LENGTH] = 1
            components[root, TOTAL] = -parent[root]
            entries[root, COUNT] = -parent[root]
            entries[root, AFTER] = -1
            entry_labels[root] = labels[roots[root]]


@njit(cache=True, nogil=True)
def join_components(order, volume, parent, lists, table, state, results):
    """Join along edges; write index, bits of the affinity, and (same-label, different-label) pairs of each with any.

    `volume` are offsets, codes, basins and labels; `lists` those of :func:`begin_lists`; `results` what is written.
    Returns how many edges were done: fewer than all when the table is too full to go on. `state` holds the numbers of
    entries, of slots of the table in use, and of edges written.

    The shorter list moves into the longer one, so that an entry moves a logarithmic number of times. Components of few
    labels, almost all, need no table; a dictionary for each would cost most of the time.
    """
    offsets, codes, basins, labels = volume
    components, entries, entry_labels = lists
    edges, bits, pairs = results
    voxels = len(basins)
    for position in range(len(order)):
        voxel = order[position] >> 1 & INDEX
        index = voxel
        channel = 0
        while voxel >= voxels:
            voxel -= voxels
            channel += 1
        a = find_sized_root(parent, np.int64(basins[voxel]))
        same = np.int64(0)
        if order[position] & 1:
            b = find_sized_root(parent, np.int64(basins[voxel + offsets[channel]]))
            if a == b:
                continue
            if components[a, LENGTH] < components[b, LENGTH]:
                a, b = b, a
            if 2 * (state[SLOTS] + components[b, LENGTH] + SCANNED + 1) > len(table):
                return position
            entry = np.int64(components[b, HEAD])
            while entry >= 0:
                following = np.int64(entries[entry, AFTER])
                same += _add(a, entry, components, entries, entry_labels, table, state)
                entry = following
            different = np.int64(components[a, TOTAL]) * np.int64(components[b, TOTAL]) - same
            components[a, TOTAL] += components[b, TOTAL]
            parent[a] += parent[b]
            parent[b] = a
        elif 2 * (state[SLOTS] + SCANNED + 1) > len(table):
            return position
        else:
            parent[a] -= 1
            absorbed = voxel if codes[voxel] == 2 * channel else voxel + offsets[channel]
            if labels[absorbed] == 0:
                continue
            entry = state[ENTRIES]
            entries[entry, COUNT] = 1
            entry_labels[entry] = labels[absorbed]
            known = components[a, LENGTH]
            same = _add(a, entry, components, entries, entry_labels, table, state)
            state[ENTRIES] += components[a, LENGTH] - known
            different = np.int64(components[a, TOTAL]) - same
            components[a, TOTAL] += 1
        if same + different > 0:
            found = state[FOUND]
            edges[found] = index
            bits[found] = _bits(order[position])
            pairs[0, found] = same
            pairs[1, found] = different
            state[FOUND] = found + 1
    return len(order)


@njit(cache=True, nogil=True)
def _add(root, entry, components, entries, entry_labels, table, state):
    """Add an entry to the list of `root`, or its count to the entry of its label; return the pairs that this makes."""
    label = entry_labels[entry]
    place = np.int64(-1)
    if components[root, LENGTH] > SCANNED:
        place = _probe(table, entry_labels, root, label)
        match = np.int64(table[place, 1])
    else:
        match = np.int64(components[root, HEAD])
        while match >= 0 and entry_labels[match] != label:
            match = np.int64(entries[match, AFTER])
    if match >= 0:
        same = np.int64(entries[match, COUNT]) * np.int64(entries[entry, COUNT])
        entries[match, COUNT] += entries[entry, COUNT]
        return same
    entries[entry, AFTER] = components[root, HEAD]
    components[root, HEAD] = entry
    components[root, LENGTH] += 1
    if place >= 0:
        table[place, 0] = root
        table[place, 1] = entry
        state[SLOTS] += 1
    elif components[root, LENGTH] == SCANNED + 1:
        while entry >= 0:
            place = _probe(table, entry_labels, root, entry_labels[entry])
            table[place, 0] = root
            table[place, 1] = entry
            state[SLOTS] += 1
            entry = np.int64(entries[entry, AFTER])
    return np.int64(0)


@njit(cache=True, nogil=True)
def _probe(table, entry_labels, root, label):
    """Where in the open-addressing `table` (size a power of two) the entry of a root's label is, or would go."""
    mask = len(table) - 1
    place = hash_pair(np.uint64(root), np.uint64(label)) & mask
    while table[place, 1] >= 0 and (table[place, 0] != root or entry_labels[table[place, 1]] != label):
        place = (place + 1) & mask
    return place


@njit(cache=True, nogil=True)
def copy_alive(table, parent, entry_labels, larger):
    """Copy to `larger` the entries of `table` whose component is still a root; return how many."""
    alive = 0
    for i in range(len(table)):
        if table[i, 1] >= 0 and parent[table[i, 0]] < 0:
            root = np.int64(table[i, 0])
            place = _probe(larger, entry_labels, root, entry_labels[table[i, 1]])
            larger[place, 0] = root
            larger[place, 1] = table[i, 1]
            alive += 1
    return alive
