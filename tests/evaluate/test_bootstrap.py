"""The bootstrap over blocks against volumes that are put together of the blocks that were drawn."""

import numpy as np
import pytest

from segkit import Grid, Labels, load
from segkit.errors import InvalidInput, InvalidParameter
from segkit.evaluate import contingency
from segkit.evaluate.bootstrap import block_tables, draws, scores_of_draws
from segkit.evaluate.sweep import SCORES

OUTSIDE = 2**64 - 1
PARTS = (2, 3, 2)
SHAPE = (6, 9, 8)  # divisible, so that blocks can be put together


def case(seed=0):
    """Segments and objects of large ids, both with 0, the truth with voxels outside."""
    rng = np.random.default_rng(seed)
    segments = (rng.integers(0, 12, SHAPE) * 2**58).astype(np.uint64)
    truth = rng.integers(0, 6, SHAPE).astype(np.uint64)
    truth[rng.random(SHAPE) < 0.1] = OUTSIDE
    return Labels(segments, Grid((40, 8, 8))), Labels(truth, Grid((40, 8, 8)))


def blocks_of(array):
    """The blocks of PARTS, in order."""
    return [
        block
        for slab in np.split(array, PARTS[0], 0)
        for row in np.split(slab, PARTS[1], 1)
        for block in np.split(row, PARTS[2], 2)
    ]


@pytest.mark.parametrize("ignore_background", [True, False])
def test_a_draw_scores_like_the_volume_of_its_blocks(ignore_background):
    segments, truth = case()
    tables = block_tables(segments, truth, PARTS, ignore_background=ignore_background)
    drawn = draws(12, 5, seed=3)
    found = scores_of_draws(tables, drawn)
    metric = load("metrics", "cremi", ignore_background=ignore_background)
    for number, times in enumerate(drawn):
        put_together = (
            Labels(np.concatenate(np.repeat(np.array(blocks_of(each.array)), times, axis=0)), Grid())
            for each in (segments, truth)
        )
        expected = metric.score(*put_together)
        assert {name: found[name][number] for name in SCORES} == pytest.approx(expected, abs=1e-12)
    assert len(np.unique(found["voi_split"])) == 5


def test_tables_of_blocks_add_up_to_that_of_the_volume():
    for border in (0, 10):
        segments, truth = case(1)
        truth.array.flags.writeable = True
        truth.array[:, :5] = 3  # so that something is far from a boundary
        whole = block_tables(segments, truth, PARTS, border=border).whole()
        expected = contingency(segments, truth, border=border)
        for name in ("segments", "objects", "rows", "cols", "counts"):
            assert np.array_equal(getattr(whole, name), getattr(expected, name)), name


def test_every_block_once_is_the_volume():
    segments, truth = case(2)
    tables = block_tables(segments, truth, (2, 4, 3))  # parts that do not divide the shape
    assert len(tables.tables) == 24
    found = scores_of_draws(tables, np.ones((1, 24), np.int64))
    expected = load("metrics", "cremi").score(segments, truth)
    assert {name: found[name][0] for name in SCORES} == pytest.approx(expected, abs=1e-12)


def test_renamed_segments_are_those_of_the_renamed_volume():
    segments, truth = case(4)
    ids = np.unique(segments.array)[1:]
    names = np.arange(len(ids), dtype=np.uint64) // np.uint64(3) + np.uint64(1)
    renamed = np.where(segments.array == 0, 0, names[np.searchsorted(ids, segments.array) % len(ids)])
    expected = contingency(Labels(renamed, segments.grid), truth)
    found = block_tables(segments, truth, PARTS).renamed(ids, names).whole()
    assert np.array_equal(found.counts, expected.counts)
    assert np.array_equal(found.segments, expected.segments)
    with pytest.raises(InvalidInput, match="must be among the ids that are renamed"):
        block_tables(segments, truth, PARTS).renamed(ids[:-1], names[:-1])


def test_draws_take_as_many_blocks_as_there_are_and_repeat():
    drawn = draws(7, 50, seed=1)
    assert drawn.shape == (50, 7)
    assert (drawn.sum(axis=1) == 7).all()
    assert drawn.max() > 1
    assert np.array_equal(drawn, draws(7, 50, seed=1))
    assert not np.array_equal(drawn, draws(7, 50, seed=2))


def test_many_draws_are_computed_in_parts(monkeypatch):
    tables = block_tables(*case(5), PARTS)
    whole = scores_of_draws(tables, draws(12, 9))
    monkeypatch.setattr("segkit.evaluate.bootstrap.AT_ONCE", 2 * len(tables.whole().counts))
    parts = scores_of_draws(tables, draws(12, 9))
    assert all(whole[name] == pytest.approx(parts[name], abs=1e-12) for name in SCORES)


def test_blocks_without_a_counted_voxel_are_left_out():
    segments, truth = case(6)
    truth.array.flags.writeable = True
    truth.array[:3] = OUTSIDE
    assert len(block_tables(segments, truth, PARTS).tables) == 6
    truth.array[:] = 0
    with pytest.raises(InvalidInput, match="must hold a voxel that counts"):
        block_tables(segments, truth, PARTS)


def test_what_is_wrong_is_refused():
    segments, truth = case()
    with pytest.raises(InvalidParameter, match="parts"):
        block_tables(segments, truth, (0, 1, 1))
    with pytest.raises(InvalidInput, match="drawn"):
        scores_of_draws(block_tables(segments, truth, PARTS), draws(5, 2))
