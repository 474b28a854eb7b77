import numpy as np
import pytest
from scipy.ndimage import label

from segkit.data import NEAREST, Affinities, edge_mask
from segkit.errors import InvalidInput
from segkit.testing.phantoms import neurites

SHAPE = (16, 48, 48)


@pytest.fixture(scope="module")
def phantom():
    return neurites(SHAPE, count=20, seed=3)


def interface(truth):
    """Voxels whose predecessor along some axis has another id."""
    split = Affinities.from_labels(truth).array == 0
    return (split & edge_mask(truth.shape, NEAREST)).any(axis=0)


def test_dtypes_shapes_and_grid(phantom):
    assert phantom.raw.array.dtype == np.uint8
    assert phantom.truth.array.dtype == np.uint64
    assert phantom.raw.shape == phantom.truth.shape == SHAPE
    assert phantom.raw.grid == phantom.truth.grid
    assert phantom.raw.grid.voxel_size == (10, 10, 10)


def test_default_has_tens_of_objects_of_varied_calibre():
    sizes = np.bincount(neurites().truth.array.ravel().astype(int))[1:]
    assert 20 <= len(sizes) <= 100
    assert sizes.max() > 10 * np.median(sizes[sizes < np.median(sizes)])


@pytest.mark.parametrize(
    "values",
    [
        {"count": 20, "seed": 0},
        {"count": 20, "seed": 1},
        {"count": 60, "seed": 2},
        {"count": 15, "voxel_size": (40, 4, 4)},
        {"count": 20, "membranes_in_truth": True},
        {"count": 1},
    ],
)
def test_each_id_is_one_connected_object(values):
    truth = neurites(SHAPE, **values).truth
    ids = truth.ids()
    assert np.array_equal(ids, np.arange(1, len(ids) + 1))
    assert len(ids) <= values["count"]
    for i in ids:
        assert label(truth.array == i)[1] == 1
    assert (truth.array == 0).any() == values.get("membranes_in_truth", False)


def test_equal_seeds_give_equal_volumes(phantom):
    again = neurites(SHAPE, count=20, seed=3)
    assert np.array_equal(phantom.raw.array, again.raw.array)
    assert np.array_equal(phantom.truth.array, again.truth.array)


def test_different_seeds_differ(phantom):
    other = neurites(SHAPE, count=20, seed=4)
    assert (phantom.truth.array != other.truth.array).mean() > 0.3
    assert not np.array_equal(phantom.raw.array, other.raw.array)


def test_membranes_are_dark_but_no_threshold_finds_them(phantom):
    at_membrane = interface(phantom.truth)
    raw = phantom.raw.array.astype(float)
    assert raw[at_membrane].mean() < raw[~at_membrane].mean() - 25
    threshold = (raw[at_membrane].mean() + raw[~at_membrane].mean()) / 2
    assert (raw[at_membrane] > threshold).mean() > 0.05  # gaps
    assert (raw[~at_membrane] < threshold).mean() > 0.05  # organelles and noise


def test_membranes_in_truth_are_where_raw_is_dark():
    phantom = neurites(SHAPE, count=20, seed=3, membranes_in_truth=True)
    membrane = phantom.truth.array == 0
    assert 0.1 < membrane.mean() < 0.7
    assert phantom.raw.array[membrane].mean() < phantom.raw.array[~membrane].mean() - 20


def test_a_thicker_membrane_darkens_more():
    thin, thick = (neurites(SHAPE, count=10, membrane=m).raw.array for m in (1.5, 6))
    assert thick.mean() < thin.mean() - 10


@pytest.mark.parametrize("shape", [(1, 40, 40), (3, 5, 4)])
def test_small_and_flat_volumes(shape):
    assert neurites(shape, count=3).truth.shape == shape


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shape": (4, 4)}, "shape must be three positive sizes"),
        ({"shape": (4, 0, 4)}, "shape must be three positive sizes"),
        ({"count": 0}, "count must be at least 1"),
        ({"membrane": 0}, "membrane must be a positive thickness"),
        ({"voxel_size": (1, 1)}, "voxel_size must be three"),
    ],
)
def test_bad_arguments_are_named(values, message):
    with pytest.raises(InvalidInput, match=message):
        neurites(**values)
