import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit import Affinities, Grid, Labels
from segkit.data.neighborhoods import long_range
from segkit.data.resample import resample_labels, resampled_grid
from segkit.data.restore import restore_affinities
from segkit.errors import InvalidInput
from segkit.infer.oracle import oracle_affinities

NATIVE = Grid((40, 4, 4), (80, 0, -8))


def blobs(shape, seed=0, ids=4):
    """Random objects of at least two voxels along each axis, background among them."""
    coarse = np.random.default_rng(seed).integers(0, ids, [-(-size // 2) for size in shape])
    fine = coarse.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    return Labels.convert(fine[tuple(slice(size) for size in shape)], NATIVE)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 99),
    factors=st.tuples(*[st.sampled_from([1.0, 0.5, 0.4, 1 / 3, 0.27])] * 3),
    neighborhood=st.sampled_from([[[-1, 0, 0], [0, -1, 0], [0, 0, -1]], [[0, 0, 1], [1, 0, 0], [0, 1, 0]]]),
)
def test_finer_voxels_and_back_gives_the_truth(seed, factors, neighborhood):
    """Labels up, the true affinities there, brought back: those of the labels, edge by edge.

    So it is wherever the fine voxel at a centre lies inside the coarse one, that is up to half its length.
    """
    labels = Labels.convert(np.random.default_rng(seed).integers(0, 3, (4, 5, 6)), NATIVE)
    grid, shape = resampled_grid(NATIVE, labels.shape, np.multiply(NATIVE.voxel_size, factors))
    fine = Affinities.from_labels(resample_labels(labels, grid, shape), neighborhood)
    back = restore_affinities(fine, NATIVE, labels.shape)
    back.check()
    assert back.grid == NATIVE
    assert np.array_equal(back.array, Affinities.from_labels(labels, neighborhood).array)


@pytest.mark.parametrize("factors", [(1, 2, 2), (2, 2, 2)])
@pytest.mark.parametrize("neighborhood", [[[-1, 0, 0], [0, -1, 0], [0, 0, -1]], [[1, 0, 0], [0, 1, 0], [0, 0, 1]]])
def test_coarser_voxels_and_back_gives_the_truth(factors, neighborhood):
    """Where no object is lost in the coarser voxels, none of its edges is."""
    coarse = blobs((4, 8, 8))
    array = coarse.array
    for axis, factor in enumerate(factors):
        array = array.repeat(factor, axis)
    labels = Labels(array, NATIVE)
    grid, shape = resampled_grid(NATIVE, labels.shape, np.multiply(NATIVE.voxel_size, factors))
    there = resample_labels(labels, grid, shape)
    assert np.array_equal(there.array, coarse.array)
    back = restore_affinities(Affinities.from_labels(there, neighborhood), NATIVE, labels.shape)
    assert np.array_equal(back.array, Affinities.from_labels(labels, neighborhood).array)


def test_both_at_once_with_the_affinities_of_an_oracle():
    """Sections of 40 nm cut to 16, pixels of 4 nm joined to 8; the oracle knows 0.02 and 0.88 only."""
    labels = Labels(blobs((6, 8, 8)).array.repeat(2, 1).repeat(2, 2), NATIVE)
    grid, shape = resampled_grid(NATIVE, labels.shape, (16, 8, 8))
    assert shape == (15, 8, 8)
    plain = {"noise": 0, "blur": 0, "membrane": False}
    back = restore_affinities(oracle_affinities(resample_labels(labels, grid, shape), **plain), NATIVE, labels.shape)
    assert np.allclose(back.array, oracle_affinities(labels, **plain).array, atol=1e-6)


def test_a_long_edge_is_as_weak_as_its_weakest_part():
    """One voxel of 40 nm as five of 8, by hand: the centres are the third of each, with five edges between them."""
    array = np.zeros((3, 15, 1, 1), np.float32)
    array[0, :, 0, 0] = np.linspace(0.9, 0.2, 15)
    array[0, 5, 0, 0] = 0.1
    back = restore_affinities(
        Affinities(array, [[-1, 0, 0], [0, -1, 0], [0, 0, -1]], Grid((8, 4, 4))), Grid((40, 4, 4)), (3, 1, 1)
    )
    assert back.array[0].ravel().tolist() == [0, pytest.approx(0.1), pytest.approx(array[0, 12, 0, 0])]


def test_an_edge_inside_a_voxel_is_the_strongest_of_that_voxel():
    array = np.zeros((1, 1, 1, 3), np.float32)
    array[0, 0, 0] = [0, 0.3, 0.7]
    back = restore_affinities(Affinities(array, [[0, 0, -1]], Grid((1, 1, 2))), Grid(), (1, 1, 6))
    assert back.array.ravel().tolist() == pytest.approx([0, 0.3, 0.3, 0.7, 0.7, 0.7])


def test_voxels_beyond_the_last_resampled_one_belong_to_it():
    labels = Labels.convert(np.full((1, 1, 7), 3), Grid())
    grid, shape = resampled_grid(labels.grid, labels.shape, (1, 1, 5))
    assert shape == (1, 1, 1)
    grid, shape = resampled_grid(labels.grid, labels.shape, (1, 1, 3))
    assert shape == (1, 1, 2)
    back = restore_affinities(Affinities.from_labels(resample_labels(labels, grid, shape)), Grid(), (1, 1, 7))
    assert back.array[2].ravel().tolist() == [0, 1, 1, 1, 1, 1, 1]


def test_long_offsets_keep_their_length_in_the_world():
    neighborhood = [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [0, -3, 0], [-2, 0, 0], [0, 0, 4], [0, -2, 2], [-5, 0, 0]]
    labels = Labels(blobs((12, 16, 16)).array, Grid((16, 8, 8)))
    there = Affinities.from_labels(labels, neighborhood)
    back = restore_affinities(there, Grid((40, 4, 4)), (5, 32, 32))
    # z: 32 nm round to one voxel, which is there already; 80 nm are two.
    expected = [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [0, -6, 0], [0, 0, 8], [0, -4, 4], [-2, 0, 0]]
    assert back.neighborhood.tolist() == expected
    fine = labels.array.repeat(2, 1).repeat(2, 2)
    truth = Affinities.from_labels(Labels(fine, Grid()), [[0, -6, 0]]).array[0]
    centre = [1, 3, 6, 8, 11]  # in which voxels of 16 nm the centres at 20, 60, 100, 140 and 180 nm lie
    assert np.array_equal(back.array[3], truth[centre])
    back.check()


def test_what_cannot_be_brought_back_is_refused():
    affinities = Affinities(np.zeros((1, 2, 2, 2), np.float32), [[-2, 0, 0]], Grid((1, 1, 1)))
    with pytest.raises(InvalidInput, match="keep the grid"):
        restore_affinities(affinities, Grid((40, 1, 1)), (1, 2, 2))


@pytest.mark.parametrize(
    ("voxel_size", "ndim", "z", "x"),
    [
        ((10, 10, 10), 3, [1, 3, 9, 27], [1, 3, 9, 27]),
        ((40, 4, 4), 3, [1, 2, 3, 4], [1, 3, 9, 27]),
        ((8, 4, 4), 3, [1, 2, 4, 14], [1, 3, 9, 27]),
        ((50, 4, 4), 2, [], [1, 3, 9, 27]),
    ],
)
def test_long_range_neighborhoods(voxel_size, ndim, z, x):
    offsets = long_range(voxel_size, ndim)
    assert (-offsets[offsets[:, 0] != 0][:, 0]).tolist() == z
    assert (-offsets[offsets[:, 2] != 0][:, 2]).tolist() == x
    assert len(offsets) == 4 * ndim
