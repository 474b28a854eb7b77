"""Affinities of long-range neighborhoods in the stages that follow."""

import numpy as np
import pytest

import segkit
from segkit import Affinities, io
from segkit.data.neighborhoods import long_range
from segkit.infer.oracle import oracle_affinities
from segkit.testing.phantoms import neurites


@pytest.fixture(scope="module")
def truth():
    return neurites((12, 30, 30), count=6, seed=3).truth


@pytest.fixture(scope="module")
def affinities(truth):
    offsets = long_range((40, 4, 4))
    found = oracle_affinities(truth, offsets[offsets[:, 2] > -27], noise=0.1, seed=0)
    assert found.array.shape[0] == 11 and found.array[10].any()
    return found


@pytest.mark.parametrize("method", ["threshold", "watershed", "affinity-watershed", "higra-watershed"])
def test_fragmenters_go_by_the_nearest_edges(affinities, method):
    fragmenter = segkit.load("fragmenters", method)
    nearest = Affinities(affinities.array[:3], affinities.neighborhood[:3], affinities.grid)
    found, expected = fragmenter.fragment(affinities), fragmenter.fragment(nearest)
    assert np.array_equal(found.array, expected.array) and found.array.max() > 1


def test_agglomeration_counts_all_edges(affinities, truth):
    """The oracle: with long edges as with the nearest alone, fragments of one object are merged first."""
    fragments = segkit.load("fragmenters", "watershed").fragment(affinities)
    trees = [segkit.load("agglomerators", name).agglomerate(affinities, fragments) for name in ("python", "reference")]
    assert np.array_equal(trees[0].merges, trees[1].merges) and np.array_equal(trees[0].altitudes, trees[1].altitudes)
    nearest = Affinities(affinities.array[:3], affinities.neighborhood[:3], affinities.grid)
    alone = segkit.load("agglomerators", "python").agglomerate(nearest, fragments)
    assert not np.array_equal(trees[0].altitudes, alone.altitudes)


@pytest.mark.parametrize("suffix", [".h5", ".zarr"])
def test_files_keep_all_channels(affinities, tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    io.write(path, affinities, "affinities")
    found = io.read_affinities(path)
    assert np.array_equal(found.array, affinities.array)
    assert found.neighborhood.tolist() == affinities.neighborhood.tolist()
