import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segkit.data import Grid, Labels, Volume, check_aligned
from segkit.errors import InvalidInput, InvalidShape

SIZES = st.tuples(*[st.floats(0.1, 1000)] * 3)
STARTS = st.tuples(*[st.integers(-1000, 1000)] * 3)


@pytest.mark.parametrize(
    "size", [(0, 1, 1), (-1, 1, 1), (1, 1), (1, 1, 1, 1), (1, 1, np.nan), (1, 1, np.inf), "abc", None]
)
def test_voxel_size(size):
    with pytest.raises(InvalidInput, match="voxel_size"):
        Grid(size)


@pytest.mark.parametrize("offset", [(1, 1), (np.nan, 0, 0), 3])
def test_offset(offset):
    with pytest.raises(InvalidInput, match="offset"):
        Grid(offset=offset)


@pytest.mark.parametrize("unit", ["", None, 3])
def test_unit(unit):
    with pytest.raises(InvalidInput, match="unit"):
        Grid(unit=unit)


def test_a_grid_is_frozen_and_equal_by_value():
    grid = Grid(np.array([40, 4, 4]), [0, 0, 0])
    assert grid == Grid((40.0, 4.0, 4.0)) and hash(grid) == hash(Grid((40, 4, 4)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        grid.unit = "um"


@given(SIZES, STARTS, STARTS)
def test_crops(size, start, further):
    grid = Grid(size, (7, -8, 9))
    assert grid.voxel_position(grid.crop(start)) == start
    twice = grid.crop(start).crop(further).offset
    assert twice == pytest.approx(
        [o + (a + b) * s for o, a, b, s in zip((7, -8, 9), start, further, size, strict=True)]
    )


def test_positions_that_are_none():
    with pytest.raises(InvalidInput, match="whole voxels"):
        Grid((4, 4, 4)).voxel_position(Grid((4, 4, 4), (2, 0, 0)))
    with pytest.raises(InvalidInput, match="voxel sizes"):
        Grid((4, 4, 4)).voxel_position(Grid((4, 4, 5)))


def test_same_voxel_size_allows_for_rounding_alone():
    assert Grid((40, 4.6, 4.6)).same_voxel_size(Grid((40, 4.600000001, np.float32(4.6))))
    assert not Grid((40, 4.6, 4.6)).same_voxel_size(Grid((40, 4.6, 4.61)))
    assert not Grid((1, 1, 1), unit="um").same_voxel_size(Grid((1, 1, 1)))


def test_check_aligned():
    raw = Volume(np.zeros((2, 3, 4)), Grid((40, 4, 4)))
    check_aligned(raw=raw, mask=None, labels=Labels(np.zeros((2, 3, 4), np.uint64), Grid((40, 4, 4))))
    with pytest.raises(InvalidShape, match=r"raw and labels must have the same shape.*\(2, 3, 4\) and \(2, 3, 5\)"):
        check_aligned(raw=raw, labels=Labels(np.zeros((2, 3, 5), np.uint64), Grid((40, 4, 4))))
    with pytest.raises(InvalidInput, match="same voxel size"):
        check_aligned(raw=raw, other=Volume(np.zeros((2, 3, 4)), Grid((40, 4, 5))))
    with pytest.raises(InvalidInput, match="same place"):
        check_aligned(raw=raw, other=Volume(np.zeros((2, 3, 4)), Grid((40, 4, 4), (40, 0, 0))))
