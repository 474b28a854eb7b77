import dataclasses

import numpy as np
import pytest
from hypothesis import given

from segkit.data import Affinities, Grid, Labels, Volume
from segkit.errors import InvalidInput, InvalidShape
from segkit.testing import strategies

CONTAINERS = {
    "volume": lambda array: Volume(array, Grid()),
    "labels": lambda array: Labels(array.astype(np.uint64), Grid()),
    "affinities": lambda array: Affinities(array[None].astype(np.float32), [(0, 0, -1)], Grid()),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_arrays_are_read_only_views_and_inputs_stay_as_they_are(kind):
    array = np.zeros((1, 2, 3))
    container = CONTAINERS[kind](array)
    with pytest.raises(ValueError, match="read-only"):
        container.array[...] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        container.array = array
    assert array.flags.writeable and container.shape == (1, 2, 3)


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize(("shape", "message"), [((3, 4), "Z = 1"), ((1, 1, 2, 2), "dimensions"), ((0, 1, 2), "empty")])
def test_shapes(kind, shape, message):
    with pytest.raises(InvalidShape, match=message):
        CONTAINERS[kind](np.zeros(shape))


def test_a_volume_shares_memory_with_what_it_was_made_of():
    array = np.zeros((1, 2, 3))
    assert np.shares_memory(Volume(array, Grid()).array, array)


@pytest.mark.parametrize("kind", CONTAINERS)
def test_another_byte_order_is_converted(kind):
    array = CONTAINERS[kind](np.arange(6.0).reshape(1, 2, 3) / 8).array
    grid, swapped = Grid(), array.astype(array.dtype.newbyteorder())
    if kind == "affinities":
        container = Affinities(swapped, [(0, 0, -1)], grid)
    else:
        container = {"volume": Volume, "labels": Labels}[kind](swapped, grid)
    assert container.array.dtype.isnative and np.array_equal(container.array, array)


@pytest.mark.parametrize("dtype", [complex, object, "U3", "M8[s]"])
def test_volumes_hold_real_numbers(dtype):
    with pytest.raises(InvalidInput, match="real numbers"):
        Volume(np.zeros((1, 1, 1), dtype), Grid())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_volumes_are_finite(value):
    array = np.zeros((2, 3, 4))
    array[1, 0, 2] = value
    with pytest.raises(InvalidInput, match=r"at voxel \(1, 0, 2\)"):
        Volume(array, Grid()).check()
    Volume(np.zeros((1, 1, 1), np.uint8), Grid()).check()


@pytest.mark.parametrize("grid", [None, (1, 1, 1)])
def test_a_grid_must_be_one(grid):
    with pytest.raises(InvalidInput, match="segkit Grid"):
        Volume(np.zeros((1, 1, 1)), grid)


def test_labels_are_uint64():
    with pytest.raises(InvalidInput, match=r"not int64; use Labels.convert"):
        Labels(np.zeros((1, 1, 1), np.int64), Grid())


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "u4", "i8", "u8", ">i4"])
def test_labels_from_integers(dtype):
    assert Labels.convert(np.array([[[0, 1]]], dtype), Grid()).array.tolist() == [[[0, 1]]]


@pytest.mark.parametrize(
    ("values", "message"), [([[[1.0]]], "integers"), ([[[-3]]], "negative, not -3"), ([[["a"]]], "integers")]
)
def test_what_is_no_label(values, message):
    with pytest.raises(InvalidInput, match=message):
        Labels.convert(values, Grid())


def test_outside_the_annotation():
    labels = Labels(np.array([[[0, 5, 2**64 - 1, 2**64 - 2, 2**64 - 3, 5]]], np.uint64), Grid())
    assert labels.inside.tolist() == [[[True, True, False, False, True, True]]]
    assert labels.ids().tolist() == [5, 2**64 - 3]


@given(strategies.labels())
def test_ids_are_those_of_objects(found):
    assert found.ids().tolist() == sorted({id_ for id_ in found.array.ravel().tolist() if 0 < id_ < 2**64 - 2})
