import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segkit.data import edge_mask
from segkit.infer.slabs import Slabs

NEIGHBORHOOD = np.array([(-1, 0, 0), (0, 2, 0), (0, -1, 3)])


@given(st.tuples(*[st.integers(1, 9)] * 3), st.integers(0, 2), st.integers(1, 12), st.integers(0, 2**32 - 1), st.data())
def test_boxes_add_up_to_what_one_array_would_hold(shape, axis, thickness, seed, data):
    rng = np.random.default_rng(seed)
    expected = np.zeros((3, *shape), np.float32)
    slabs = Slabs(shape, NEIGHBORHOOD, axis, thickness, 0.5)
    for _ in range(data.draw(st.integers(0, 6))):
        start = [int(rng.integers(-4, size + 2)) for size in shape]
        values = rng.random([int(n) for n in rng.integers(1, 6, 3)], np.float32) / 8
        channel = int(rng.integers(3))
        slabs.add(channel, start, values)
        for voxel in np.ndindex(values.shape):
            at = tuple(np.add(start, voxel))
            if all(0 <= a < size for a, size in zip(at, shape, strict=True)):
                expected[(channel, *at)] += values[voxel]
    expected = np.where(edge_mask(shape, NEIGHBORHOOD), np.float32(0.5) * expected, np.float32(0))
    result = np.full_like(expected, np.nan)
    for part, array in slabs.complete(shape[axis]):
        result[part] = array
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_slabs_are_given_away_once_in_order_and_not_before_they_are_complete():
    slabs = Slabs((10, 2, 2), NEIGHBORHOOD, 0, 4, 1)
    extents = [[(part[1].start, part[1].stop) for part, _ in slabs.complete(below)] for below in (3, 4, 9, 10, 10)]
    assert extents == [[], [(0, 4)], [(4, 8)], [(8, 10)], []]
    assert not slabs.slabs


def test_sums_above_1_by_rounding_become_1():
    slabs = Slabs((1, 1, 4), np.array([(0, 0, -1)]), 2, 4, 1)
    for _ in range(2):
        slabs.add(0, (0, 0, 0), np.full((1, 1, 4), np.nextafter(np.float32(0.5), np.float32(1))))
    ((_, array),) = slabs.complete(4)
    assert array.ravel().tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(("thickness", "held"), [(1, 2), (10, 10), (100, 100)])
def test_memory_is_held_only_for_slabs_that_were_touched(thickness, held):
    slabs = Slabs((100, 3, 3), NEIGHBORHOOD, 0, thickness, 1)
    slabs.add(1, (50, 0, 0), np.ones((2, 3, 3), np.float32))
    assert sum(slab.shape[1] for slab in slabs.slabs.values()) == held
