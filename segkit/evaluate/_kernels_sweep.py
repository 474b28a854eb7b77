"""A contingency table carried along the merges of a tree: every merge changes the sums by what it joins.

The row of a segment is a linked list of entries, one an object that it overlaps. A merge moves the shorter list into
the longer one. Short lists are searched; those longer than FEW are also in a hash table from (row, object) to entry.
"""

import numpy as np
from numba import njit

from segkit.kernels.pair_table import hash_id

FEW = 8
FIRST_CAPACITY = 1 << 12
LIMB, LOW = 21, (1 << 21) - 1
"""Sums of products are high * 2^LIMB + low, 0 <= low < 2^LIMB: exact for volumes of up to 2^41 voxels."""
HEAD, TAIL, LENGTH, SIZE = range(4)
"""Columns of `rows`: first entry, last entry, entries, voxels."""
NEXT, COL, COUNT = range(3)
"""Columns of `entries`: the entry that follows or -1, object, voxels."""


@njit(cache=True, nogil=True)
def children_of(parents, leaves):
    """The two nodes that each merge joins, int64 (M, 2), the smaller first."""
    children = np.full((len(parents) - leaves, 2), -1)
    for node in range(len(parents)):
        merge = parents[node] - leaves
        if parents[node] != node:
            children[merge, 1 if children[merge, 0] >= 0 else 0] = node
    return children


@njit(cache=True, nogil=True)
def rows_of_leaves(leaf_ids, segments):
    """The row of each leaf, -1 where no voxel of it counts; and the number of rows before the first that is no leaf.

    Both arrays increase. Row 0 may be segment 0, which is never a leaf and never merges.
    """
    rows = np.full(len(leaf_ids), -1)
    row = 1 if len(segments) and segments[0] == 0 else 0
    for leaf in range(len(leaf_ids)):
        if row < len(segments) and segments[row] == leaf_ids[leaf]:
            rows[leaf] = row
            row += 1
    return rows, row


@njit(cache=True, nogil=True)
def follow_merges(children, altitudes, leaf_rows, starts, sizes, cols, counts, objects):
    """What the merges change, each row of the results after all merges of one altitude, the first before any.

    Entries starts[r] to starts[r + 1] belong to row r of `sizes[r]` voxels. Returns float64 (A + 1, 2), voi_split and
    voi_merge times the number of voxels; and int64 (A + 1, 2), high and low, of pairs of voxels in one segment and one
    object, and of pairs in one segment but not in one object or the other way round. All start at 0.
    """
    rows, entries = lists(starts, sizes, cols, counts)
    node_rows = np.full(len(leaf_rows) + len(children), -1)
    node_rows[: len(leaf_rows)] = leaf_rows
    table, used = np.full((FIRST_CAPACITY, 2), -1), 0
    for row in range(len(rows)):
        if rows[row, LENGTH] > FEW:
            table, used = index_row(table, used, row, rows, entries, objects)
    steps = 1 + count_steps(altitudes)
    bits = np.zeros((steps, 2))
    both, apart = np.zeros((steps, 2), np.int64), np.zeros((steps, 2), np.int64)
    now, step = np.zeros(4), 0  # voi_split and what its rounding lost, voi_merge and what its rounding lost
    for k in range(len(children)):
        if k == 0 or altitudes[k] != altitudes[k - 1]:
            step += 1
            both[step], apart[step] = both[step - 1], apart[step - 1]
        large, small = node_rows[children[k, 0]], node_rows[children[k, 1]]
        if min(large, small) < 0:
            large = max(large, small)  # nothing of the other one counts
        else:
            if rows[large, LENGTH] < rows[small, LENGTH]:
                large, small = small, large
            table, used = join(large, small, rows, entries, table, used, objects, now, both[step], apart[step])
        node_rows[len(leaf_rows) + k] = large
        bits[step, 0], bits[step, 1] = now[0] + now[1], now[2] + now[3]
    return bits, both, apart


@njit(cache=True, nogil=True)
def lists(starts, sizes, cols, counts):
    """Rows and entries as linked lists. What is used together lies together: cache misses take most of the time."""
    rows, entries = np.empty((len(sizes), 4), np.int64), np.empty((len(cols), 3), np.int64)
    for row in range(len(rows)):
        rows[row, HEAD], rows[row, TAIL] = starts[row], starts[row + 1] - 1
        rows[row, LENGTH], rows[row, SIZE] = starts[row + 1] - starts[row], sizes[row]
    for entry in range(len(entries)):
        entries[entry, NEXT], entries[entry, COL], entries[entry, COUNT] = entry + 1, cols[entry], counts[entry]
    for row in range(len(rows)):
        entries[rows[row, TAIL], NEXT] = -1
    return rows, entries


@njit(cache=True, nogil=True)
def join(large, small, rows, entries, table, used, objects, now, both, apart):  # noqa: PLR0913 (called so often that tuples of arrays cost)
    """Merge row `small` into row `large`, and add to the sums; returns the hash table and its load."""
    sizes = rows[large, SIZE], rows[small, SIZE]
    bits = joined_bits(*sizes)
    add_float(now, 2, bits)
    add_product(apart, *sizes, 2)
    entry = rows[small, HEAD]
    while entry >= 0:
        following = entries[entry, NEXT]
        found = find_entry(table, large, entries[entry, COL], rows, entries, objects)
        if found < 0:
            table, used = append(large, entry, rows, entries, table, used, objects)
        else:
            counts = entries[found, COUNT], entries[entry, COUNT]
            known = bits if counts == sizes else joined_bits(*counts)
            add_float(now, 0, -known)
            add_float(now, 2, -known)
            add_product(both, *counts, 2)
            add_product(apart, *counts, -4)
            entries[found, COUNT] += entries[entry, COUNT]
        entry = following
    rows[large, SIZE] += rows[small, SIZE]
    rows[small, LENGTH] = 0
    return table, used


@njit(cache=True, nogil=True)
def append(row, entry, rows, entries, table, used, objects):
    """Put an entry at the end of a row; returns the hash table and its load."""
    entries[rows[row, TAIL], NEXT], entries[entry, NEXT], rows[row, TAIL] = entry, -1, entry
    rows[row, LENGTH] += 1
    if rows[row, LENGTH] == FEW + 1:
        return index_row(table, used, row, rows, entries, objects)
    if rows[row, LENGTH] > FEW:
        return index(table, used, row, entry, rows, entries, objects)
    return table, used


@njit(cache=True, nogil=True)
def count_steps(altitudes):
    """How many different altitudes there are."""
    steps = min(len(altitudes), 1)
    for k in range(1, len(altitudes)):
        steps += altitudes[k] != altitudes[k - 1]
    return steps


@njit(cache=True, nogil=True)
def joined_bits(a, b):
    """By how much x log2(x), summed over the parts, grows when parts of `a` and `b` voxels become one."""
    return a * np.log2((a + b) / a) + b * np.log2((a + b) / b)


@njit(cache=True, nogil=True)
def add_float(sums, at, term):
    """Add to sums[at], and collect in sums[at + 1] what rounding loses (Neumaier)."""
    total = sums[at] + term
    if abs(sums[at]) >= abs(term):
        sums[at + 1] += (sums[at] - total) + term
    else:
        sums[at + 1] += (term - total) + sums[at]
    sums[at] = total


@njit(cache=True, nogil=True)
def add_product(sums, a, b, times):
    """Add times * a * b to a sum of two limbs; `a` and `b` count different voxels, so one is at most 2^40."""
    a, b = max(a, b), min(a, b)
    high, low = b * (a >> LIMB), b * (a & LOW)
    sums[0] += times * (high + (low >> LIMB))
    sums[1] += times * (low & LOW)
    sums[0] += sums[1] >> LIMB
    sums[1] &= LOW


@njit(cache=True, nogil=True)
def find_entry(table, row, col, rows, entries, objects):
    """The entry of `row` that holds object `col`, or -1."""
    if rows[row, LENGTH] > FEW:
        return table[slot_of(table, row * objects + col), 1]
    entry = rows[row, HEAD]
    while entry >= 0 and entries[entry, COL] != col:
        entry = entries[entry, NEXT]
    return entry


@njit(cache=True, nogil=True)
def slot_of(table, key):
    """Where `key` is or belongs; an empty slot is (-1, -1), the capacity a power of two."""
    last = len(table) - 1
    slot = hash_id(np.uint64(key)) & last
    while table[slot, 0] >= 0 and table[slot, 0] != key:
        slot = (slot + 1) & last
    return slot


@njit(cache=True, nogil=True)
def index_row(table, used, row, rows, entries, objects):
    """Put all entries of a row into the hash table; returns the table, which may be a new one, and its load."""
    entry = rows[row, HEAD]
    while entry >= 0:
        table, used = index(table, used, row, entry, rows, entries, objects)
        entry = entries[entry, NEXT]
    return table, used


@njit(cache=True, nogil=True)
def index(table, used, row, entry, rows, entries, objects):
    """Put one entry into the hash table. When that is half full, rows that were merged away are left behind."""
    if 2 * used >= len(table):
        table, used = renewed(table, rows, objects)
    key = row * objects + entries[entry, COL]
    slot = slot_of(table, key)
    used += table[slot, 0] < 0
    table[slot, 0], table[slot, 1] = key, entry
    return table, used


@njit(cache=True, nogil=True)
def renewed(table, rows, objects):
    """A hash table of the rows that are still there, at most a quarter full; and its load."""
    used = 0
    for k in range(len(table)):
        used += table[k, 0] >= 0 and rows[table[k, 0] // objects, LENGTH] > FEW
    new = np.full((len(table) * (2 if 4 * used > len(table) else 1), 2), -1)
    for k in range(len(table)):
        if table[k, 0] >= 0 and rows[table[k, 0] // objects, LENGTH] > FEW:
            slot = slot_of(new, table[k, 0])
            new[slot, 0], new[slot, 1] = table[k, 0], table[k, 1]
    return new, used


@njit(cache=True, nogil=True)
def largest_cols(starts, cols, counts):
    """The object that each row shares most voxels with; ties: the first."""
    largest = np.empty(len(starts) - 1, np.int64)
    for row in range(len(largest)):
        best = starts[row]
        for entry in range(starts[row], starts[row + 1]):
            best = entry if counts[entry] > counts[best] else best
        largest[row] = cols[best]
    return largest
