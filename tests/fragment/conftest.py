"""Affinities that several test files use."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from segkit.data import NEAREST, Affinities, Grid, edge_mask


@pytest.fixture
def random_affinities():
    """Builds affinities of a shape: smooth random values, or a few values with many ties if `levels` is given."""

    def build(shape, seed=0, levels=None, neighborhood=NEAREST):
        rng = np.random.default_rng(seed)
        array = rng.random((len(neighborhood), *shape), dtype=np.float32)
        if levels:
            array = rng.integers(0, levels + 1, array.shape).astype(np.float32) / np.float32(levels)
        elif max(shape) > 6:
            array = gaussian_filter(array, (0, 1, 1, 1))
            array = (array - array.min()) / (array.max() - array.min())
        array = np.where(edge_mask(shape, neighborhood), array, np.float32(0))
        return Affinities(array, neighborhood, Grid((30.0, 5.0, 5.0)))

    return build
