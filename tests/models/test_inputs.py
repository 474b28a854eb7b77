import numpy as np
import pytest

from segkit.errors import InvalidInput
from segkit.models import scale_intensity


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0, 51, 255], np.uint8, [-1, -0.6, 1]),
        ([0, 13107, 65535], np.uint16, [-1, -0.6, 1]),
        ([0, 0.2, 1], np.float64, [-1, -0.6, 1]),
        ([0, 0.2, 1], np.float16, [-1, -0.6, 1]),
    ],
)
def test_scaled_by_dtype(values, dtype, expected):
    scaled = scale_intensity(np.array(values, dtype))
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, expected, atol=1e-3 if dtype == np.float16 else 1e-6)


def test_a_crop_is_scaled_like_the_whole():
    array = np.random.default_rng(0).integers(0, 100, (4, 9), np.uint8)
    np.testing.assert_array_equal(scale_intensity(array)[1:3], scale_intensity(array[1:3]))


def test_input_is_left_alone():
    array = np.full(3, 0.5, np.float32)
    array.flags.writeable = False
    scaled = scale_intensity(array)
    assert not np.shares_memory(scaled, array) and array.tolist() == [0.5] * 3


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3, bool), "mask"),
        (np.zeros(3, np.int16), "int16"),
        (np.array([0, 255.0]), "divide"),
        (np.array([-0.1, 1.0]), "0..1"),
        (np.array([0.5, np.nan]), "nan"),
    ],
)
def test_refused(array, message):
    with pytest.raises(InvalidInput, match=message):
        scale_intensity(array)
