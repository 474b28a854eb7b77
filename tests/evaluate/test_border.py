"""The border mask against all distances."""

import numpy as np
import pytest

from segkit import Grid, Labels
from segkit.evaluate.border import near_boundary


def brute_force(labels: np.ndarray, distance: float, voxel_size) -> np.ndarray:
    """Distances to the voxels that differ from a neighbour in the section, one section after the other."""
    near = np.zeros(labels.shape, bool)
    for z, section in enumerate(labels):
        padded = np.pad(section, 1, mode="edge")
        shifted = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
        boundary = np.argwhere(np.any([section != other for other in shifted], axis=0))
        for voxel in np.ndindex(section.shape):
            steps = (boundary - voxel) * voxel_size[1:]
            near[(z, *voxel)] = (np.hypot(*steps.T) <= distance).any()
    return near


@pytest.mark.parametrize("voxel_size", [(40, 4, 4), (50, 4.6, 4.6), (10, 3, 7)])
@pytest.mark.parametrize("distance", [1, 4, 9.2, 14, 25])
def test_distances_are_euclidean_in_the_section(voxel_size, distance):
    coarse = np.random.default_rng(0).integers(0, 3, (3, 3, 4), np.uint64)
    labels = np.kron(coarse, np.ones((1, 7, 9), np.uint64))
    found = near_boundary(Labels(labels, Grid(voxel_size)), distance)
    assert np.array_equal(found, brute_force(labels, distance, voxel_size))


@pytest.mark.filterwarnings("error")
def test_any_distance_may_be_asked_for():
    truth = Labels.convert([[[1, 2]], [[1, 1]]], Grid())
    for distance in (1e30, 1e200):
        assert near_boundary(truth, distance).tolist() == [[[True, True]], [[False, False]]]


def test_boundaries_along_z_and_the_rim_of_the_volume_do_not_count():
    labels = np.arange(1, 4, dtype=np.uint64)[:, None, None] * np.ones((1, 4, 5), np.uint64)
    assert not near_boundary(Labels(labels, Grid()), 100).any()
