"""Hash tables hold what a dictionary holds, also where ids differ in few bits, and where slots collide."""

import numpy as np
import pytest

from segkit.kernels.pair_table import find_id, find_key, find_slot, hash_id, hash_pair, hashed_ids, pair_key

IDS = {
    "dense": np.arange(1, 600, dtype=np.uint64),
    "high bits": np.arange(1, 600, dtype=np.uint64) << np.uint64(54),
    "multiples": np.arange(1, 600, dtype=np.uint64) * np.uint64(2**32 + 2**16),
    "random": np.random.default_rng(0).permutation(2**16)[:600].astype(np.uint64) * np.uint64(2**47 + 1) + np.uint64(1),
}


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
def test_each_id_has_a_slot_of_its_own(ids):
    keys = np.zeros(2048, np.uint64)
    for key in ids:
        place = find_key(keys, key)
        assert keys[place] == 0
        keys[place] = key
    assert [keys[find_key(keys, key)] for key in ids] == ids.tolist()
    assert keys[find_key(keys, np.uint64(2**63 + 5))] == 0


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
def test_slots_hold_the_numbers_of_ids(ids):
    slots = hashed_ids(ids, 2048)
    assert [slots[find_id(slots, ids, wanted)] for wanted in ids] == list(range(1, len(ids) + 1))
    assert slots[find_id(slots, ids, np.uint64(2**63 + 5))] == 0
    assert np.count_nonzero(slots) == len(ids)


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
def test_hashes_are_spread_over_the_low_bits(ids):
    """Chance fills 63 % of as many places as there are ids; a hash that loses bits fills few."""
    assert len({hash_id(key) & 511 for key in ids}) > 250
    assert len({hash_pair(key, ids[0]) & 511 for key in ids}) > 250
    assert len({hash_pair(ids[0], key) & 511 for key in ids}) > 250


def test_a_pair_is_in_order():
    assert hash_pair(np.uint64(1), np.uint64(2)) != hash_pair(np.uint64(2), np.uint64(1))


def test_pairs_of_nodes_in_one_key():
    """A table that is full but for one slot: every look-up goes on to the next slot where one is taken."""
    keys = [pair_key(u, v) for u in range(1, 8) for v in range(u + 1, 12)][:31]
    slots = np.zeros(32, np.int64)
    for key in keys:
        slots[find_slot(slots, key)] = key
    assert sorted(slots[slots > 0].tolist()) == sorted(keys)
    assert all(slots[find_slot(slots, key)] == key for key in keys)
    assert slots[find_slot(slots, pair_key(20, 21))] == 0


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_the_key_of_a_pair_holds_both_nodes_whatever_their_order(dtype):
    highest = 2**31 - 1
    for u, v in [(1, 2), (3, 3), (1, highest), (highest - 1, highest)]:
        assert pair_key(dtype(u), dtype(v)) == pair_key(dtype(v), dtype(u)) == (u << 32) | v
