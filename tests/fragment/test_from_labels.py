import numpy as np
import pytest

from segkit.data import Grid, Labels
from segkit.fragment.from_labels import fragments_from_labels
from segkit.testing.conformance._compare import LAYOUTS, laid_out


def random_labels():
    rng = np.random.default_rng(3)
    ids = np.array([0, 5, 2**63, 17, 2**64 - 2, 2**64 - 1], np.uint64)
    return Labels(ids[rng.integers(0, len(ids), (4, 6, 7))], Grid((40, 4, 4)))


def pairs(a, b):
    return len(set(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)))


def test_objects_keep_their_voxels():
    labels = random_labels()
    fragments = fragments_from_labels(labels)
    assert fragments.grid == labels.grid
    assert fragments.ids().tolist() == [1, 2, 3]
    assert np.array_equal(fragments.array > 0, np.isin(labels.array, labels.ids()))
    objects = fragments.array > 0
    assert pairs(fragments.array[objects], labels.array[objects]) == 3


def test_sections_have_ids_of_their_own():
    labels = random_labels()
    fragments = fragments_from_labels(labels, per_section=True)
    assert fragments.ids().tolist() == list(range(1, 13))
    for z in range(4):
        objects = fragments.array[z] > 0
        assert np.unique(fragments.array[z][objects]).tolist() == [3 * z + 1, 3 * z + 2, 3 * z + 3]
        assert pairs(fragments.array[z][objects], labels.array[z][objects]) == 3


def test_more_objects_than_a_byte_holds_and_input_unchanged():
    array = np.arange(1, 601, dtype=np.uint64)[::-1].reshape(2, 10, 30).copy()
    before = array.copy()
    fragments = fragments_from_labels(Labels(array, Grid()), per_section=True)
    assert fragments.array.ravel().tolist() == list(range(1, 601))
    assert np.array_equal(array, before)
    assert not np.shares_memory(array, fragments.array)


def test_background_only():
    assert not fragments_from_labels(Labels(np.zeros((2, 3, 3), np.uint64), Grid()), per_section=True).array.any()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("per_section", [False, True])
def test_numbers_do_not_depend_on_the_layout_of_memory(layout, per_section):
    labels = Labels(np.random.default_rng(3).integers(0, 90, (4, 6, 7)).astype(np.uint64), Grid())
    expected = fragments_from_labels(labels, per_section=per_section).array
    found = fragments_from_labels(laid_out(labels, layout), per_section=per_section).array
    assert np.array_equal(found, expected)
