"""How intensities become the input of a network: the same in training and inference."""

import numpy as np

from segkit.errors import InvalidInput, sentence

FULL_SCALE: dict[np.dtype, int] = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}


def scale_intensity(array: np.ndarray) -> np.ndarray:
    """Intensities as a new float32 array in -1..1, by dtype alone, so that it does not depend on the crop.

    uint8 is divided by 255, uint16 by 65535, floats must lie in 0..1 already; then 0..1 becomes -1..1. Raises
    InvalidInput for other dtypes and other values.

    >>> scale_intensity(np.array([0, 51, 255], np.uint8)).round(2).tolist()
    [-1.0, -0.6000000238418579, 1.0]
    """
    array = np.asarray(array)
    check_intensity(array)
    scaled = array.astype(np.float32)
    scaled *= np.float32(2 / FULL_SCALE.get(array.dtype, 1))
    scaled -= np.float32(1)
    return scaled


def check_intensity(array: np.ndarray) -> None:
    """Raise InvalidInput unless :func:`scale_intensity` takes `array`. O(n) for floats, O(1) for integers."""
    if array.dtype in FULL_SCALE:
        return
    if array.dtype.kind != "f":
        next_step = "a mask is no image" if array.dtype.kind == "b" else "convert them to one of these"
        raise InvalidInput(sentence("intensities", "must be uint8, uint16 or floats in 0..1", array.dtype, next_step))
    if array.size == 0:
        return
    low, high = array.min(), array.max()  # both are NaN if any value is
    if not (low >= 0 and high <= 1):
        next_step = "divide them by the largest value that they can take, 255 if they come from 8 bits"
        raise InvalidInput(
            sentence("intensities", "must lie in 0..1 where they are floats", f"{low}..{high}", next_step)
        )
