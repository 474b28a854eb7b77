"""How intensities become the input of a network: the same in training and inference."""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from segkit.data.source import Source
from segkit.errors import InvalidInput, sentence

FULL_SCALE: dict[np.dtype, int] = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}
Range = tuple[float, float]
"""The values that are black and white."""
SECTIONS, WINDOWS, WINDOW = 8, 3, 64
"""To find the range of values, so many sections are looked at, windows along y and along x, and voxels along these."""
ALIKE = 8
"""Factor up to which ranges of values may differ without a word."""
DEPTHS = (8, 10, 12, 14, 16)
"""Bits of cameras and detectors."""


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


def in_range(array: np.ndarray, black: float, white: float) -> np.ndarray:
    """Intensities, of any real dtype, as :func:`scale_intensity` takes them: from `black` to `white`, cut off beyond.

    Of integers, 0..255 gives uint8 and 0..65535 uint16, so that 8 bits kept in a wider dtype are what they were.

    >>> in_range(np.array([0, 255, 4000], np.uint16), 0, 255), in_range(np.array([-100, 100]), -100, 300)
    (array([  0, 255, 255], dtype=uint8), array([0. , 0.5], dtype=float32))
    """
    array = np.asarray(array)
    exact = {float(full): dtype for dtype, full in FULL_SCALE.items()}.get(float(white)) if black == 0 else None
    if exact is not None and array.dtype.kind in "ui":
        most = min(int(white), int(np.iinfo(array.dtype).max))
        return np.clip(array, 0, most).astype(exact)
    values = array.astype(np.float32)
    values -= np.float32(black)
    values *= np.float32(1 / (white - black))
    return np.clip(values, 0, 1, out=values)


def found_range(source: Source) -> tuple[Range, np.dtype]:
    """Find the least and the largest value of a volume, as far as a few hundred thousand voxels all over it show them.

    The same voxels are looked at each time. Beside them, the dtype.
    """
    low, high = np.inf, -np.inf
    for box in sample_boxes(source.shape):
        part = source.read(box)
        low, high = min(low, float(part.min())), max(high, float(part.max()))
    return (low, high), part.dtype


def sample_boxes(shape: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Give boxes all over a volume of `shape`, a few hundred thousand voxels together, the same ones each time."""
    depth, *plane = shape
    sections = np.unique(np.linspace(0, depth - 1, SECTIONS).astype(int)).tolist()
    starts = [np.unique(np.linspace(0, max(size - WINDOW, 0), WINDOWS).astype(int)).tolist() for size in plane]
    for z, y, x in product(sections, *starts):
        yield (slice(z, z + 1), slice(y, min(y + WINDOW, plane[0])), slice(x, min(x + WINDOW, plane[1])))


def brightest(found: Range, dtype: np.dtype, taken: Range | None) -> float:
    """Compute where in black..white, as 0..1, the largest value lies: of the range `taken`, else of the dtype."""
    black, white = taken or (0.0, float(FULL_SCALE.get(dtype, 1)))
    return (found[1] - black) / (white - black)


def range_problem(found: Range, dtype: np.dtype, taken: Range | None, trained: float | None = None) -> str | None:
    """Say what is wrong with the values that are `found` in a volume, or return None.

    `taken` are black and white, None by the dtype; `trained` is the :func:`brightest` of the volumes that the network
    has seen, if that is known.
    """
    if taken is None and dtype not in FULL_SCALE and (dtype.kind != "f" or found[1] > 1):
        return None  # such data are refused
    share = brightest(found, dtype, taken)
    if found[0] == found[1] or 1 / ALIKE <= share / (trained or 1.0) <= ALIKE:
        return None
    black, white = taken or (0, FULL_SCALE.get(dtype, 1))
    likely = next((2**bits - 1 for bits in DEPTHS if found[1] < 2**bits), f"{found[1]:g}")
    rule = f"has values of {found[0]:g}..{found[1]:g}, where {black:g} is black and {white:g} white"
    rule += "" if trained is None else f" (up to {share:.2g} of that, in training {trained:.2g})"
    return sentence(f"raw data of {dtype}", rule, next_step=f"--intensity-range says what is, such as 0 {likely}")
