"""Which fragments are one, and ids: by hand, and against definitions written out plainly."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit.blockwise.blocks import Lattice
from segkit.errors import StorageError
from segkit.fragment.stitch import SHARE, WIDTH, Renaming, same_fragments, seam

EVERYTHING = (99, 99)


def labels(*rows):
    return np.array(rows, np.uint32)


def test_a_seam_lies_on_both_sides_of_a_face():
    lattice = Lattice((5, 100, 60), (5, 64, 64), (4, 8, 8))
    assert seam(lattice, 0, 1) == (slice(0, 5), slice(62, 66), slice(0, 60))
    assert seam(lattice, 1, 1) is None and seam(lattice, 0, 0) is None and seam(lattice, 0, 2) is None


@pytest.mark.parametrize(("halo", "expected"), [(0, None), (1, slice(7, 9)), (9, slice(6, 9))])
def test_a_seam_ends_with_the_halo_and_the_volume(halo, expected):
    found = seam(Lattice((9, 1, 1), (8, 1, 1), (halo, 0, 0)), 0, 0)
    assert (found and found[0]) == expected


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3), block=st.tuples(*[st.integers(1, 9)] * 3),
    halo=st.tuples(*[st.integers(0, 4)] * 3), axis=st.integers(0, 2),
)  # fmt: skip
def test_both_blocks_see_their_seam(shape, block, halo, axis):
    lattice = Lattice(shape, block, halo)
    for number in range(len(lattice)):
        part, other = seam(lattice, number, axis), lattice.neighbour(number, axis)
        assert (part is None) == (other is None or halo[axis] == 0)
        if part is None:
            continue
        assert 0 < part[axis].stop - part[axis].start <= 2 * WIDTH
        assert part[axis].start < lattice[other].inner[axis].start < part[axis].stop
        for block_at in (lattice[number], lattice[other]):
            for along, seen in zip(part, block_at.outer, strict=True):
                assert seen.start <= along.start < along.stop <= seen.stop


def test_the_same_labels_are_one_whatever_their_numbers():
    first = labels([1, 1, 2, 2, 0])
    second = labels([7, 7, 3, 3, 0])
    assert same_fragments(first, second, EVERYTHING).tolist() == [[1, 7], [2, 3]]


def test_a_fragment_that_is_two_beyond_the_face_goes_on_in_the_larger_only():
    assert same_fragments(labels([1] * 9), labels([4] * 3 + [5] * 6), EVERYTHING).tolist() == [[1, 5]]


def test_best_for_one_of_them_is_not_enough():
    """3 shares most with 8, but 8 shares more with 2."""
    first, second = labels([2] * 6 + [3] * 5), labels([8] * 10 + [0])
    assert same_fragments(first, second, EVERYTHING).tolist() == [[2, 8]]


@pytest.mark.parametrize(("shared", "expected"), [(30, []), (31, [[1, 1]])])
def test_a_small_share_of_the_union_is_not_enough(shared, expected):
    """Background belongs to the union, too: 100 voxels are in one or both of two fragments."""
    assert SHARE == 0.3
    first, second = np.ones(100, np.uint32), np.zeros(100, np.uint32)
    second[:shared] = 1
    assert same_fragments(first, second, EVERYTHING).tolist() == expected


def test_of_equal_overlaps_the_lowest_label_counts():
    assert same_fragments(labels([5, 5]), labels([2, 9]), EVERYTHING).tolist() == [[5, 2]]
    assert same_fragments(labels([2, 9]), labels([5, 5]), EVERYTHING).tolist() == [[2, 5]]


def test_what_lies_in_the_halo_alone_joins_nothing():
    first, second = labels([1, 1, 2, 2]), labels([1, 1, 3, 3])
    assert same_fragments(first, second, (1, 3)).tolist() == [[1, 1]]
    assert same_fragments(first, second, (2, 2)).tolist() == [[1, 1]]


def best(counts, chosen):
    """The pairs with the highest count among those of the same label on one side; the first of equal ones."""
    found = {}
    for pair in sorted(counts):
        if pair[chosen] not in found or counts[pair] > counts[found[pair[chosen]]]:
            found[pair[chosen]] = pair
    return set(found.values())


def plain_same_fragments(first, second, owned):
    voxels = [tuple(map(int, pair)) for pair in zip(first.ravel(), second.ravel(), strict=True)]
    counts = {pair: voxels.count(pair) for pair in set(voxels) if 0 not in pair}
    found = []
    for a, b in sorted(best(counts, 0) & best(counts, 1)):
        union = sum(1 for pair in voxels if pair[0] == a or pair[1] == b)
        if counts[a, b] > 0.3 * union and a <= owned[0] and b <= owned[1]:
            found.append([a, b])
    return found


@given(
    voxels=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60),
    owned=st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
def test_same_fragments_are_those_of_the_definition(voxels, owned):
    first, second = np.array(voxels, np.uint32).T
    found = same_fragments(first, second, owned).tolist()
    assert found == plain_same_fragments(first, second, owned)
    assert all(len({pair[side] for pair in found}) == len(found) for side in (0, 1))
    turned = same_fragments(second, first, owned[::-1])
    assert sorted(turned[:, ::-1].tolist()) == found


def components(count, pairs):
    """The lowest member of the part of each place, by passing it on until nothing changes."""
    lowest = list(range(count))
    changed = True
    while changed:
        changed = False
        for a, b in pairs:
            low = min(lowest[a], lowest[b])
            changed |= lowest[a] != low or lowest[b] != low
            lowest[a] = lowest[b] = low
    return lowest


@st.composite
def joins(draw):
    counts = draw(st.lists(st.integers(0, 5), min_size=1, max_size=6))
    place = st.integers(0, sum(counts) - 1)
    pairs = draw(st.lists(st.tuples(place, place), max_size=12)) if sum(counts) else []
    return counts, pairs, draw(st.permutations(pairs))


@settings(deadline=None)  # the first call loads scipy
@given(joins())
def test_ids_are_those_of_the_definition(joined):
    counts, pairs, shuffled = joined
    renaming = Renaming.joining(counts, np.array(pairs, np.int64).reshape(-1, 2))
    lowest = components(sum(counts), pairs)
    numbers = {root: number for number, root in enumerate(sorted(set(lowest)), 1)}
    expected = [numbers[root] for root in lowest]
    found = [renaming.ids(block) for block in range(len(counts))]
    assert [ids[0] for ids in found] == [0] * len(counts) and all(ids.dtype == np.uint64 for ids in found)
    assert [int(each) for ids in found for each in ids[1:]] == expected
    assert renaming.count == len(numbers) == sum(renaming.rooted(block) for block in range(len(counts)))
    again = Renaming.joining(counts, np.array([pair[::-1] for pair in shuffled], np.int64).reshape(-1, 2))
    assert all(np.array_equal(getattr(renaming, name), getattr(again, name)) for name in ("starts", "gone", "into"))


def test_a_chain_through_many_blocks_is_one():
    pairs = np.array(list(pairwise(range(100))))
    renaming = Renaming.joining([1] * 100, pairs[np.random.default_rng(0).permutation(99)])
    assert renaming.count == 1 and all(renaming.ids(block).tolist() == [0, 1] for block in range(100))


def test_ids_beyond_those_of_32_bits():
    renaming = Renaming.joining([2**40, 2, 1], np.array([[2**40, 2**40 + 2]]))
    assert renaming.ids(1).tolist() == [0, 2**40 + 1, 2**40 + 2] and renaming.ids(2).tolist() == [0, 2**40 + 1]


def test_a_table_is_read_as_it_was_written(tmp_path):
    renaming = Renaming.joining([2, 3, 0, 1], np.array([[1, 2], [2, 5]]))
    renaming.save(tmp_path / "ids" / "table")
    again = Renaming.load(tmp_path / "ids" / "table")
    assert all(np.array_equal(renaming.ids(block), again.ids(block)) for block in range(4))
    (tmp_path / "ids" / "table" / "gone.npy").unlink()
    with pytest.raises(StorageError, match="cannot be read"):
        Renaming.load(tmp_path / "ids" / "table")
