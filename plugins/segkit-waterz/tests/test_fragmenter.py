"""The watershed against waterz called directly, and against its own definition."""

import numpy as np
import pytest
import waterz
from segkit import Affinities, Grid, Volume, load
from segkit.data import NEAREST
from segkit.errors import InvalidInput, InvalidParameter


def random_affinities(seed: int, shape=(5, 8, 7), neighborhood=NEAREST) -> Affinities:
    rng = np.random.default_rng(seed)
    return Affinities.convert(rng.random((len(neighborhood), *shape), np.float32), neighborhood, Grid((40, 4, 4)))


@pytest.mark.parametrize(("low", "high"), [(0.0001, 0.9999), (0.3, 0.9), (0.8, 0.95)])
@pytest.mark.parametrize("seed", range(3))
def test_fragments_are_those_of_waterz(seed, low, high):
    affinities = random_affinities(seed)
    fragments = load("fragmenters", "waterz", low=low, high=high).fragment(affinities)
    (expected,) = waterz.agglomerate(affinities.array, [0.0], aff_threshold_low=low, aff_threshold_high=high)
    assert np.array_equal(fragments.array, expected)
    assert fragments.grid == affinities.grid
    assert fragments.ids().tolist() == list(range(1, len(fragments.ids()) + 1))


def test_every_voxel_is_with_its_best_neighbour():
    affinities = random_affinities(3)
    fragments = load("fragmenters", "waterz", high=1.5).fragment(affinities).array
    for voxel in np.ndindex(fragments.shape):
        best, partner = 0.0, None
        for channel, offset in enumerate(affinities.neighborhood):
            for end, other in ((np.array(voxel), voxel + offset), (voxel - offset, voxel - offset)):
                inside = (other >= 0).all() and (other < fragments.shape).all()
                if inside and affinities.array[(channel, *end)] > best:
                    best, partner = affinities.array[(channel, *end)], tuple(other)
        assert fragments[voxel] == fragments[partner]


def test_a_mask_stops_fragments():
    array = np.zeros((3, 1, 1, 5), np.float32)
    array[2, 0, 0, 1:] = 1
    affinities = Affinities(array, NEAREST, Grid())
    mask = Volume(np.array([[[1, 1, 0, 1, 1]]], bool), Grid())
    fragmenter = load("fragmenters", "waterz")
    assert fragmenter.fragment(affinities, mask).array.ravel().tolist() == [1, 1, 0, 2, 2]
    assert fragmenter.fragment(affinities).array.ravel().tolist() == [1, 1, 1, 1, 1]
    assert array[2, 0, 0].tolist() == [0, 1, 1, 1, 1]


def test_a_mask_of_floats_is_refused():
    affinities = random_affinities(8)
    with pytest.raises(InvalidInput, match="mask must hold booleans"):
        load("fragmenters", "waterz").fragment(affinities, Volume(np.ones(affinities.shape), affinities.grid))


def test_voxels_without_an_affinity_above_low_are_background():
    affinities = Affinities(np.zeros((3, 1, 1, 1), np.float32), NEAREST, Grid())
    assert load("fragmenters", "waterz").fragment(affinities).array.tolist() == [[[0]]]


def test_successor_offsets_give_the_same_fragments():
    affinities = random_affinities(4)
    shifted = np.stack([np.roll(channel, -1, axis) for axis, channel in enumerate(affinities.array)])
    successors = Affinities.convert(shifted, [[1, 0, 0], [0, 1, 0], [0, 0, 1]], affinities.grid)
    fragmenter = load("fragmenters", "waterz")
    assert np.array_equal(fragmenter.fragment(successors).array, fragmenter.fragment(affinities).array)


def test_a_later_call_leaves_an_earlier_result_alone():
    fragmenter = load("fragmenters", "waterz")
    first = fragmenter.fragment(random_affinities(5))
    kept = first.array.copy()
    fragmenter.fragment(random_affinities(6))
    assert np.array_equal(first.array, kept)


@pytest.mark.parametrize("parameters", [{"low": 0.5, "high": 0.5}, {"low": -0.1}, {"low": float("nan")}])
def test_limits_out_of_order_are_refused(parameters):
    with pytest.raises(InvalidParameter, match="low"):
        load("fragmenters", "waterz", **parameters)


def test_nothing_is_printed(capfd):
    load("fragmenters", "waterz").fragment(random_affinities(7))
    assert capfd.readouterr() == ("", "")
