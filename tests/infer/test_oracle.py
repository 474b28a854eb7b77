import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from segkit import Affinities, Grid, Labels
from segkit.data import NEAREST, edge_mask
from segkit.errors import InvalidInput
from segkit.infer import oracle_affinities


def _labels(shape=(24, 40, 40), seed=0):
    """Smooth blobs that fill the volume."""
    rng = np.random.default_rng(seed)
    fields = [gaussian_filter(rng.standard_normal(shape), 6) for _ in range(5)]
    return Labels((np.argmax(fields, 0) + 1).astype(np.uint64), Grid())


def test_without_faults_they_are_the_truth():
    labels = _labels((8, 12, 12))
    neighborhood = [*NEAREST, (0, 3, -2)]
    result = oracle_affinities(labels, neighborhood, noise=0, blur=0, membrane=False)
    expected = (0.02 + 0.86 * Affinities.from_labels(labels, neighborhood).array) * edge_mask(
        labels.shape, neighborhood
    )
    np.testing.assert_allclose(result.array, expected, atol=1e-6)
    result.check()


def test_membranes_are_two_voxels_thick():
    labels = Labels(np.repeat(np.array([1, 2], np.uint64), 5).reshape(1, 1, 10), Grid())
    result = oracle_affinities(labels, [(0, 0, -1)], noise=0, blur=0).array.ravel()
    low, high = 0.02, 0.88
    np.testing.assert_allclose(result, [0, high, high, high, low, low, low, high, high, high], atol=1e-6)


def test_the_border_of_the_volume_is_no_membrane():
    labels = Labels(np.ones((6, 9, 9), np.uint64), Grid())
    result = oracle_affinities(labels, noise=0)
    np.testing.assert_allclose(result.array[edge_mask(labels.shape, NEAREST)], 0.88, atol=1e-5)


def test_they_tell_borders_from_insides_but_not_surely():
    labels = _labels()
    truth = Affinities.from_labels(labels).array > 0
    result = oracle_affinities(labels, noise=0.2)
    result.check()
    edges = edge_mask(labels.shape, NEAREST)
    inside, border = result.array[truth], result.array[edges & ~truth]
    assert inside.mean() > border.mean() + 0.2
    assert inside.min() < border.max()


def test_noise_has_the_stated_size_correlation_and_common_part():
    labels = Labels(np.ones((30, 60, 60), np.uint64), Grid())
    quiet, noisy = (oracle_affinities(labels, noise=noise).array for noise in (0, 0.03))
    z, y, x = (noisy - quiet)[:, 1:, 1:, 1:]
    assert z.std() == pytest.approx(0.03, rel=0.1)
    assert np.corrcoef(y.ravel(), x.ravel())[0, 1] > 0.95
    # Noise smoothed by a Gaussian of sigma s has the autocorrelation exp(-d^2 / 4 s^2).
    for distance in (1, 3, 6):
        measured = np.corrcoef(y[..., :-distance].ravel(), y[..., distance:].ravel())[0, 1]
        assert measured == pytest.approx(np.exp(-(distance**2) / (4 * 3**2)), abs=0.1)


def test_seed_decides():
    labels = _labels()
    one, same, other = (oracle_affinities(labels, seed=seed).array for seed in (4, 4, 5))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).mean() > 0.01


def test_grid_lowers_edges_along_z_only():
    labels = _labels()
    plain, gridded = (oracle_affinities(labels, noise=0.02, grid=grid, grid_strength=0.3).array for grid in (None, 8))
    np.testing.assert_array_equal(plain[1:], gridded[1:])
    lines = np.zeros(labels.shape, bool)
    lines[:, ::8] = lines[:, :, ::8] = True
    np.testing.assert_array_equal(plain[0][~lines], gridded[0][~lines])
    np.testing.assert_allclose(gridded[0][lines], np.maximum(plain[0][lines] - 0.3, 0), atol=1e-6)
    assert (gridded[0][1:][lines[1:]] < plain[0][1:][lines[1:]]).mean() > 0.9


def test_outside_the_annotation_belongs_with_nothing():
    labels = Labels(np.full((2, 3, 4), 2**64 - 1, np.uint64), Grid())
    assert oracle_affinities(labels, noise=0).array.max() == pytest.approx(0.02)


@pytest.mark.parametrize(
    "options",
    [{"noise": -1}, {"blur": -0.1}, {"correlation": float("nan")}, {"grid": 1}, {"grid": 8, "grid_strength": 2}],
)
def test_bad_options(options):
    with pytest.raises(InvalidInput, match=next(reversed(options))):
        oracle_affinities(_labels((4, 4, 4)), **options)
