import numpy as np
import pytest
from scipy.ndimage import label

from segkit.data import Affinities, Grid
from segkit.fragment._shared import voxel_affinity
from segkit.fragment.threshold import Threshold


@pytest.mark.parametrize("min_size", [0, 1, 4])
def test_equals_scipy_components(min_size, random_affinities):
    affinities = random_affinities((6, 9, 10), levels=4)
    components, count = label(voxel_affinity(affinities, None, False) > 0.6)
    assert count > 3
    fragments = Threshold(threshold=0.6, min_size=min_size).fragment(affinities).array
    sizes = np.bincount(components.ravel())
    kept = [c for c in range(1, count + 1) if sizes[c] >= min_size]
    assert fragments.max() == len(kept)
    assert np.array_equal(fragments > 0, np.isin(components, kept))
    for component in kept:
        assert len(np.unique(fragments[components == component])) == 1


def test_worked_by_hand():
    """Means along x: 0.8, 0.5, 0.1, 0.45, 0.9, 0.95."""
    array = np.array([[[[0, 0.8, 0.2, 0.0, 0.9, 0.9]]]], np.float32)
    affinities = Affinities(array, [[0, 0, -1]], Grid())
    assert Threshold().fragment(affinities).array.ravel().tolist() == [1, 0, 0, 0, 2, 2]
    assert Threshold(threshold=0.4).fragment(affinities).array.ravel().tolist() == [1, 1, 0, 2, 2, 2]
    assert Threshold(statistic="min").fragment(affinities).array.ravel().tolist() == [1, 0, 0, 0, 2, 2]


def test_the_threshold_itself_is_outside():
    affinities = Affinities(np.array([[[[0, 0.5]]]], np.float32), [[0, 0, -1]], Grid())
    assert not Threshold(threshold=0.5).fragment(affinities).array.any()
