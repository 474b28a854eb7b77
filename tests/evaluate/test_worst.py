"""The worst splits and merges against the whole score, and their voxels by search."""

import numpy as np
import pytest

from segkit import Grid, Labels, load
from segkit.errors import InvalidParameter
from segkit.evaluate import worst

GRID = Grid((40, 4, 8), (400, 0, 80))


def random_pair(seed: int):
    rng = np.random.default_rng(seed)
    segmentation, truth = (np.kron(rng.integers(0, 7, (3, 4, 4)), np.ones((2, 3, 3), int)) for _ in range(2))
    segmentation = np.roll(segmentation, (1, 1, 2), (0, 1, 2)).astype(np.uint64)
    segmentation[segmentation == 6] = 2**64 - 1  # read as 0
    return Labels(segmentation, GRID), Labels.convert(truth, GRID)


def touching(piece: np.ndarray, other: np.ndarray) -> set:
    """The voxels of `piece` that share a face with `other`."""
    padded = np.pad(other, 1)
    near = np.zeros(piece.shape, bool)
    for axis in range(3):
        for step in (-1, 1):
            near |= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
    return set(map(tuple, np.argwhere(piece & near).tolist()))


@pytest.mark.parametrize("seed", range(6))
def test_bits_sum_to_the_scores_and_the_worst_come_first(seed):
    segmentation, truth = random_pair(seed)
    splits, merges = worst(segmentation, truth, count=100)
    expected = load("metrics", "voi").score(segmentation, truth)
    assert sum(split.bits for split in splits) == pytest.approx(expected["voi_split"])
    assert sum(merge.bits for merge in merges) == pytest.approx(expected["voi_merge"])
    for mistakes in (splits, merges):
        assert [m.bits for m in mistakes] == sorted((m.bits for m in mistakes), reverse=True)
    assert worst(segmentation, truth, count=2) == (splits[:2], merges[:2])


@pytest.mark.parametrize("seed", range(6))
def test_parts_are_counted_and_the_voxel_lies_at_the_contact(seed):
    segmentation, truth = random_pair(seed)
    segments = np.where(segmentation.array >= 2**64 - 2, 0, segmentation.array)
    splits, merges = worst(segmentation, truth, count=100)
    for mistakes, whole, parts in ((splits, truth.array, segments), (merges, segments, truth.array)):
        for mistake in mistakes:
            inside = (whole == mistake.id) & (truth.array != 0)
            ids, voxels = np.unique(parts[inside], return_counts=True)
            expected = sorted(zip(ids.tolist(), voxels.tolist(), strict=True), key=lambda part: (-part[1], part[0]))
            assert mistake.parts == tuple(expected[:5]) and mistake.voxels == voxels.sum()
            largest, second = (inside & (parts == part) for part, _ in mistake.parts[:2])
            assert second[mistake.voxel]
            contact = touching(second, largest)
            assert not contact or mistake.voxel in contact
            corner = np.array(GRID.offset) + np.array(mistake.voxel) * GRID.voxel_size
            assert mistake.position == tuple(corner + np.array(GRID.voxel_size) / 2)


def test_the_same_of_few_and_of_many():
    """Every place of the many is that of the few, whatever else is asked for; ids up to the highest."""
    rng = np.random.default_rng(9)
    truth = Labels.convert(rng.integers(1, 300, (8, 10, 30)).repeat(3, axis=2), GRID)
    ids = rng.integers(0, 2**63, 300).astype(np.uint64) * np.uint64(2)
    segmentation = Labels(ids[rng.integers(0, 300, (8, 10, 45))].repeat(2, axis=2), GRID)
    many, few = worst(segmentation, truth, count=10**4), worst(segmentation, truth, count=7)
    assert min(map(len, many)) > 250 and few == tuple(mistakes[:7] for mistakes in many)
    for mistake in many[0]:
        z, y, x = mistake.voxel
        assert truth.array[z, y, x] == mistake.id and segmentation.array[z, y, x] == mistake.parts[1][0]


def test_one_piece_may_be_both_a_split_and_a_merge():
    segmentation, truth = (Labels.convert([[ids]], GRID) for ids in ([1, 1, 1, 2, 2], [5, 5, 6, 6, 6]))
    (split,), (merge,) = worst(segmentation, truth)
    assert (split.id, split.parts, split.voxel) == (6, ((2, 2), (1, 1)), (0, 0, 2))
    assert (merge.id, merge.parts, merge.voxel) == (1, ((5, 2), (6, 1)), (0, 0, 2))


def test_a_perfect_segmentation_has_no_worst():
    _, truth = random_pair(0)
    assert worst(truth, truth) == ([], [])
    with pytest.raises(InvalidParameter, match="count must be 1 or more, not 0"):
        worst(truth, truth, count=0)
