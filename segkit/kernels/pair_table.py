"""Find a key, an id or a pair of ids in a hash table: open addressing in a flat array, a power of two of slots.

Why not Numba's typed dictionary? It takes several times as long a look-up, counts references, and cannot be part of an
array. Why multiply and shift instead of the remainder by a prime, as textbooks do? A division costs more than a cache
hit. Nothing may depend on the order of slots. Who fills a table keeps it at most half full.
"""

import numpy as np
from numba import njit

EMPTY = np.int64(0)
"""The key of an empty slot. A key is never 0: nodes are numbered from 1, and so are the ids of fragments."""
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio: multiples of it are spread evenly."""


@njit(cache=True, nogil=True)
def pair_key(a, b):
    """Put the numbers of two nodes, in either order, into one int64: the lower in the high 32 bits."""
    return (np.int64(min(a, b)) << 32) | np.int64(max(a, b))


@njit(cache=True, nogil=True, inline="always")
def find_slot(slots, key):
    """Find the slot that holds `key`, or the empty one where it belongs; for keys that differ in their low bits.

    Why not `hash_id`? Numbers of nodes are dense, so that one multiplication spreads them.
    """
    mask = len(slots) - 1
    slot = np.int64((np.uint64(key) * MULTIPLIER) >> np.uint64(32)) & mask
    while slots[slot] != EMPTY and slots[slot] != key:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, nogil=True)
def hash_id(key):
    """Spread all bits of a uint64 over the low 32, so that ids may differ in the high bits alone; int64."""
    return np.int64(((key ^ (key >> np.uint64(32))) * MULTIPLIER) >> np.uint64(32))


@njit(cache=True, nogil=True)
def hash_pair(first, second):
    """Spread all bits of two uint64, in this order, over the low 32; int64."""
    return hash_id(first * MULTIPLIER + second)


@njit(cache=True, nogil=True)
def find_key(keys, key):
    """Find the slot that holds the id `key`, uint64, or the empty one (0) where it belongs."""
    mask = len(keys) - 1
    slot = hash_id(key) & mask
    while keys[slot] != 0 and keys[slot] != key:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, nogil=True)
def find_id(slots, ids, wanted):
    """Find the slot that holds the number of the id `wanted` in `ids`, from 1, or the empty one (0) for it.

    Why numbers and not the ids? An int32 a slot is half as much to go through, and the ids stay in the order they came.
    """
    mask = len(slots) - 1
    slot = hash_id(wanted) & mask
    while slots[slot] != 0 and ids[slots[slot] - 1] != wanted:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, nogil=True)
def hashed_ids(ids, size):
    """Make slots for `find_id` that hold the numbers of `ids`, from 1."""
    slots = np.zeros(size, np.int32)
    for i in range(len(ids)):
        slots[find_id(slots, ids, ids[i])] = i + 1
    return slots
