from itertools import product

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from segkit.data import NEAREST, Affinities, Grid, Labels, Volume, edge_mask
from segkit.fragment.watershed import Watershed, boundary_distance, maxima, seeded_watershed

EDGES = list(product((-1, 0, 1), repeat=3))


def two_rooms(shape=(5, 9, 21), wall=10):
    """Affinities of two boxes with a wall of one voxel, all of whose edges are 0, between them along x."""
    objects = np.ones(shape, np.uint64)
    objects[:, :, wall] = 0
    objects[:, :, wall + 1 :] = 2
    return Affinities.from_labels(Labels(objects, Grid((40, 4, 4))))


@pytest.mark.parametrize("sampling", [(1, 1, 1), (10, 1, 2)])
def test_distance_equals_brute_force(sampling):
    inside = np.random.default_rng(0).random((4, 6, 7)) < 0.9
    points = np.argwhere(np.ones_like(inside)) * np.array(sampling)
    expected = cdist(points, points[~inside.ravel()]).min(axis=1).reshape(inside.shape)
    assert np.allclose(boundary_distance(inside, np.array(sampling, float)), expected, rtol=1e-5)


def test_without_a_boundary_all_are_equally_deep():
    assert len(np.unique(boundary_distance(np.ones((2, 3, 4), bool), np.ones(3)))) == 1


@pytest.mark.parametrize(("window", "reach"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)])
def test_maxima_equal_brute_force(window, reach):
    distance = np.random.default_rng(1).integers(0, 9, (5, 8, 9)).astype(np.float32)
    inside = distance > 0
    expected = np.zeros_like(inside)
    for z, y, x in np.argwhere(inside):
        low = np.maximum(np.array([z, y, x]) - reach, 0)
        box = tuple(slice(a, b + reach + 1) for a, b in zip(low, (z, y, x), strict=True))
        expected[z, y, x] = distance[z, y, x] == distance[box].max()
    seeds, count = maxima(distance, inside, window, np.ones(3))
    assert np.array_equal(seeds > 0, expected)
    assert count == seeds.max()
    for voxel in np.argwhere(expected):  # touching maxima are one seed
        for step in EDGES:
            other = tuple(voxel + step)
            if min(other) >= 0 and all(o < s for o, s in zip(other, distance.shape, strict=True)) and expected[other]:
                assert seeds[other] == seeds[tuple(voxel)]


def test_window_shrinks_along_coarse_axes():
    distance = np.ones((3, 1, 1), np.float32)
    distance[1] = 2
    inside = np.ones((3, 1, 1), bool)
    assert maxima(distance, inside, 3, np.array([1.0, 1.0, 1.0]))[0].any(axis=(1, 2)).tolist() == [False, True, False]
    assert maxima(distance, inside, 3, np.array([4.0, 1.0, 1.0]))[0].all()


def pass_value(distance, allowed):
    """For each pair of voxels, the best over all paths of the least distance on the way (Floyd-Warshall)."""
    voxels = [tuple(v) for v in np.argwhere(allowed)]
    best = np.full((len(voxels), len(voxels)), -1.0)
    for i, a in enumerate(voxels):
        for j, b in enumerate(voxels):
            if np.abs(np.subtract(a, b)).sum() <= 1:
                best[i, j] = min(distance[a], distance[b])
    for k in range(len(voxels)):
        best = np.maximum(best, np.minimum(best[:, k : k + 1], best[k : k + 1]))
    return voxels, best


@pytest.mark.parametrize("seed", range(4))
def test_flooding_takes_the_deepest_pass(seed):
    """Each voxel goes to a seed whose best path to it is as deep as that of any seed: the definition of flooding."""
    rng = np.random.default_rng(seed)
    shape = (2, 6, 7)
    distance = rng.permutation(84).reshape(shape).astype(np.float32)
    allowed = rng.random(shape) < 0.85
    seeds = np.zeros(shape, np.uint32)
    places = rng.choice(np.flatnonzero(allowed), 4, replace=False)
    seeds.flat[places] = [1, 2, 3, 4]
    flooded = seeded_watershed(distance, seeds, allowed)
    voxels, best = pass_value(distance, allowed)
    at = {v: i for i, v in enumerate(voxels)}
    by_seed = best[:, [at[tuple(int(i) for i in np.unravel_index(p, shape))] for p in places]]
    assert not flooded[~allowed].any()
    for i, voxel in enumerate(voxels):
        if by_seed[i].max() < 0:
            assert flooded[voxel] == 0
        else:
            assert by_seed[i, flooded[voxel] - 1] == by_seed[i].max()


@pytest.mark.parametrize("per_section", [False, True])
def test_two_rooms_are_two_fragments_a_slab(per_section):
    fragments = Watershed(per_section=per_section, seed_distance=21).fragment(two_rooms()).array.astype(int)
    slabs = 5 if per_section else 1
    assert fragments.max() == 2 * slabs
    assert (fragments > 0).all()
    first = 2 * np.arange(5)[:, None, None] if per_section else 0
    assert (fragments[:, :, :10] == 1 + first).all()
    assert (fragments[:, :, 11:] == 2 + first).all()


def test_without_fill_boundaries_stay_zero():
    fragments = Watershed(fill=False, seed_distance=21).fragment(two_rooms()).array
    assert np.array_equal(np.flatnonzero(~fragments.all(axis=(0, 1))), [10])


def test_the_minimum_sees_a_boundary_one_edge_thin():
    labels = np.ones((5, 9, 20), np.uint64)
    labels[:, :, 10:] = 2
    affinities = Affinities.from_labels(Labels(labels, Grid()))
    assert (Watershed(seed_distance=21).fragment(affinities).array == 1).all()
    fragments = Watershed(seed_distance=21, statistic="min").fragment(affinities).array
    assert np.array_equal(fragments, labels)


def test_edges_that_leave_the_volume_make_no_boundary():
    """A predecessor mean that counted them as 0 would put the corner voxel outside."""
    affinities = Affinities(np.where(edge_mask((2, 3, 3), NEAREST), np.float32(0.9), np.float32(0)), NEAREST, Grid())
    assert (Watershed(fill=False, threshold=0.8).fragment(affinities).array == 1).all()


def test_no_voxel_inside_no_fragment():
    affinities = Affinities(np.zeros((3, 4, 4, 4), np.float32), NEAREST, Grid())
    assert not Watershed().fragment(affinities).array.any()


def test_anisotropic_distances_follow_the_grid():
    """Two wide blocks, and a narrow bridge of one thick section, which in nm is too far from both to be in a window."""
    inside = np.zeros((5, 15, 15), np.uint64)
    inside[:, 2:13, 2:13] = 1
    inside[2] = 0
    inside[2, 3:6, 3:6] = 1
    affinities = Affinities.from_labels(Labels(inside, Grid((40, 4, 4))))
    in_nm = Watershed(anisotropic=True, seed_distance=15, threshold=0.1).fragment(affinities).array
    assert [in_nm[0, 7, 7], in_nm[2, 4, 4], in_nm[4, 7, 7]] == [1, 2, 3]
    assert len(np.unique(in_nm)) == 3
    in_voxels = Watershed(seed_distance=15, threshold=0.1).fragment(affinities).array
    assert len(np.unique(in_voxels)) == 2


def test_the_border_of_the_mask_is_a_boundary():
    affinities = Affinities.from_labels(Labels(np.ones((1, 1, 9), np.uint64), Grid()))
    mask = np.ones((1, 1, 9), bool)
    mask[..., 4] = False
    fragments = Watershed().fragment(affinities, Volume(mask, Grid())).array.ravel().tolist()
    assert fragments == [1, 1, 1, 1, 0, 2, 2, 2, 2]
