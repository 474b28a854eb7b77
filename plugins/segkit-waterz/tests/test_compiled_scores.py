"""The scorings that waterz compiles at first use."""

import numpy as np
import pytest
from segkit import Affinities, Grid, Labels, load
from segkit.data import NEAREST

pytestmark = pytest.mark.compiler


@pytest.mark.parametrize("score", ["max", "min"])
def test_cuts_are_those_of_segkits_own_backend(score):
    rng = np.random.default_rng(3)
    affinities = Affinities.convert(rng.random((3, 4, 8, 8), np.float32), NEAREST)
    fragments = Labels.convert(1 + np.arange(256).reshape(4, 8, 8) // 4, Grid())
    theirs = load("agglomerators", "waterz", score=score).agglomerate(affinities, fragments)
    ours = load("agglomerators", "python", score=score).agglomerate(affinities, fragments)
    assert len(theirs.altitudes) == len(theirs.leaf_ids) - 1
    for threshold in np.linspace(0.05, 1.05, 21):
        assert np.array_equal(theirs.cut(threshold), ours.cut(threshold))
