from heapq import heapify, heappop, heappush

import edt
import numpy as np
import pytest
from scipy.ndimage import label, maximum_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from skimage.segmentation import watershed

from segkit.data import NEAREST, Affinities, Grid, Labels, Volume, edge_mask
from segkit.fragment._distance import depths_of, maxima, squared_distance
from segkit.fragment._flood import flooded, numbered_seeds
from segkit.fragment._shared import voxel_affinity
from segkit.fragment.watershed import Watershed

STEPS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 0, 1), (0, 1, 0), (1, 0, 0))


def two_rooms(shape=(5, 9, 21), wall=10):
    """Affinities of two boxes with a wall of one voxel, all of whose edges are 0, between them along x."""
    objects = np.ones(shape, np.uint64)
    objects[:, :, wall] = 0
    objects[:, :, wall + 1 :] = 2
    return Affinities.from_labels(Labels(objects, Grid((40, 4, 4))))


@pytest.mark.parametrize("sampling", [(1, 1, 1), (10, 1, 2), (10.87, 1, 1)])
@pytest.mark.parametrize("shape", [(4, 6, 7), (3, 2, 150), (1, 90, 80)])
def test_distance_equals_brute_force(sampling, shape):
    inside = np.random.default_rng(0).random(shape) < 0.97
    points = np.argwhere(np.ones_like(inside)) * np.array(sampling, np.float64)
    expected = cdist(points, points[~inside.ravel()], "sqeuclidean").min(axis=1).reshape(shape)
    found = squared_distance(inside, sampling, False)
    assert np.allclose(found, expected, rtol=1e-5)
    if float(sampling[0]).is_integer():
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("seed", range(3))
def test_long_distances_equal_those_of_edt(seed):
    """Far from any boundary, on lines longer than a block of lanes, with lines that meet none."""
    inside = np.random.default_rng(seed).random((9, 130, 140)) < 0.9999
    expected = edt.edtsq(inside, black_border=False)
    assert expected.max() > 1000
    assert np.array_equal(squared_distance(inside, (1, 1, 1), False), expected)
    sections = np.stack([edt.edtsq(section, black_border=False) for section in inside])
    bounded = ~inside.all(axis=(1, 2))
    assert np.array_equal(squared_distance(inside, (1, 1, 1), True)[bounded], sections[bounded])


def test_without_a_boundary_all_are_equally_deep():
    assert (squared_distance(np.ones((2, 3, 4), bool), np.ones(3), False) == 1).all()
    inside = np.ones((2, 1, 3), bool)
    inside[0, 0, 0] = False
    assert squared_distance(inside, np.ones(3), True).tolist() == [[[0, 1, 4]], [[1, 1, 1]]]


def test_depths_are_ranks_where_lengths_are_no_integers():
    squares = np.array([[[2.5, 0, 1.25]], [[1.25, 1.25, 4]]], np.float32)
    assert depths_of(squares, (1.5, 1, 1)).tolist() == [[[2, 0, 1]], [[1, 1, 3]]]
    assert depths_of(np.float32(squares * 4), (2, 1, 1)).tolist() == (squares * 4).tolist()


def stacked_labels(seeds):
    """The labels of all maxima, those of each slab above those before it."""
    last = np.cumsum([0, *(count for _, count in seeds)])
    return np.concatenate([labels + before for (labels, _), before in zip(seeds, last, strict=False)])


@pytest.mark.parametrize("reach", [(0, 0, 0), (1, 1, 1), (2, 2, 2), (1, 5, 3), (7, 0, 90)])
@pytest.mark.parametrize("shape", [(5, 8, 9), (2, 3, 150)])
def test_maxima_equal_scipy(reach, shape):
    depths = np.random.default_rng(1).integers(0, 9, shape).astype(np.float32)
    for per_section in (False, True):
        window = [1 if per_section else 2 * reach[0] + 1, 2 * reach[1] + 1, 2 * reach[2] + 1]
        expected = (maximum_filter(depths, size=window, mode="nearest") == depths) & (depths > 0)
        assert np.array_equal(maxima(depths, reach, per_section), np.flatnonzero(expected))


@pytest.mark.parametrize("per_section", [False, True])
def test_touching_maxima_are_one_seed(per_section):
    depths = (np.random.default_rng(2).random((6, 20, 21)) < 0.12).astype(np.float32)
    structure = np.ones((3, 3, 3))
    if per_section:
        structure[[0, 2]] = 0
    depths += 1  # inside throughout, so that faces lead round every corner
    expected, count = label(depths > 1, structure)
    places = np.flatnonzero(depths > 1)
    found = np.zeros(depths.shape, int)
    found.flat[places] = stacked_labels(numbered_seeds(places, depths, per_section))
    assert count == found.max() > 10
    assert np.array_equal(found, expected)  # both number them in the order of their first voxels


def led_by_faces(inside, one, other):
    """Whether a path through faces of inside voxels joins two voxels in the box that they span."""
    low, high = np.minimum(one, other), np.maximum(one, other) + 1
    box = inside[tuple(map(slice, low, high))].copy()
    ends = [tuple(np.subtract(end, low)) for end in (one, other)]
    pieces = label(box)[0]
    return pieces[ends[0]] == pieces[ends[1]] > 0


def seeds_in_touch(peaks, inside):
    """Label the peaks by brute force: those in touch are one, numbered by their first voxels; and their number."""
    voxels = np.argwhere(peaks)
    near = [(a, b) for a, b in cKDTree(voxels).query_pairs(1.8) if led_by_faces(inside, voxels[a], voxels[b])]
    ends = np.array(near, int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(near)), ends), (len(voxels), len(voxels)))
    count, found = connected_components(graph, directed=False)  # numbered by their first nodes
    labels = np.zeros(peaks.shape, int)
    labels[peaks] = found + 1
    return labels, count


@pytest.mark.parametrize("per_section", [False, True])
def test_a_corner_joins_seeds_only_where_inside_voxels_lead_round_it(per_section):
    rng = np.random.default_rng(5)
    inside = rng.random((5, 14, 15)) < 0.5
    depths = (inside * (1 + (rng.random(inside.shape) < 0.5))).astype(np.float32)
    seeds = numbered_seeds(np.flatnonzero(depths == 2), depths, per_section)
    slabs = [slice(z, z + 1) for z in range(5)] if per_section else [slice(None)]
    for (found, count), slab in zip(seeds, slabs, strict=True):
        expected, expected_count = seeds_in_touch(depths[slab] == 2, inside[slab])
        assert count == expected_count < label(depths[slab] == 2)[1]
        assert np.array_equal(found, expected[expected > 0])


def test_processes_that_meet_at_a_corner_are_two_fragments():
    mask = np.zeros((1, 6, 6), bool)
    mask[0, 2, :3] = mask[0, 3, 3:] = True
    affinities = Affinities(np.full((3, 1, 6, 6), 0.9, np.float32), np.diag([-1, -1, -1]), Grid())
    fragments = Watershed().fragment(affinities, Volume(mask, Grid())).array[0]
    assert fragments[2, :3].tolist() == [1, 1, 1] and fragments[3, 3:].tolist() == [2, 2, 2]


def heap_flooding(depths, seeds, allowed):
    """The deepest goes next, of equals the first reached, seeds in their order; none is deeper than its pass."""
    labels = np.where(seeds > 0, seeds, 0)
    heap = [(-depths[tuple(v)], age, tuple(int(i) for i in v)) for age, v in enumerate(np.argwhere(seeds))]
    age = len(heap)
    heapify(heap)
    while heap:
        level, _, voxel = heappop(heap)
        for step in STEPS:
            other = tuple(a + b for a, b in zip(voxel, step, strict=True))
            if min(other) < 0 or any(o >= s for o, s in zip(other, depths.shape, strict=True)):
                continue
            if labels[other] == 0 and allowed[other]:
                labels[other] = labels[voxel]
                heappush(heap, (max(level, -depths[other]), age, other))
                age += 1
    return labels


@pytest.mark.parametrize("levels", [2, 5, 60, 2**15 - 1, 2**15, 100_000])
@pytest.mark.parametrize("shape", [(5, 9, 11), (1, 20, 20), (7, 1, 12)])
def test_flooding_equals_a_heap(levels, shape):
    """On both sides of what 16 bits hold as well."""
    rng = np.random.default_rng(levels)
    for _ in range(4):
        depths = rng.integers(0, levels, shape).astype(np.float32)
        depths.flat[rng.integers(depths.size)] = levels - 1
        allowed = rng.random(shape) < 0.9
        places = np.flatnonzero(allowed & (rng.random(shape) < 0.05))
        for per_section in (False, True):
            seeds = numbered_seeds(places, depths, per_section)
            found = flooded(depths, places, seeds, allowed).astype(int)
            slabs = [slice(z, z + 1) for z in range(shape[0])] if per_section else [slice(None)]
            start = np.zeros(shape, int)
            start.flat[places] = stacked_labels(seeds)
            for slab in slabs:
                assert np.array_equal(found[slab], heap_flooding(depths[slab], start[slab], allowed[slab]))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_flooding_equals_skimage_voxel_by_voxel(seed, masked):
    """With many ties; of seeds that are equally deep skimage's heap takes any first, so there are none here."""
    rng = np.random.default_rng(seed)
    shape = (12, 25, 26)
    depths = rng.integers(0, 6, shape).astype(np.float32)
    allowed = rng.random(shape) < 0.8 if masked else None
    places = np.sort(rng.choice(np.flatnonzero(allowed) if masked else depths.size, 12, replace=False))
    depths.flat[places] = rng.permutation(12) + 3
    seeds = numbered_seeds(places, depths, False)
    markers = np.zeros(shape, np.int32)
    markers.flat[places] = seeds[0][0]
    expected = watershed(-depths, markers, mask=allowed, connectivity=1)
    assert np.array_equal(flooded(depths, places, seeds, allowed), expected)


@pytest.mark.parametrize("per_section", [False, True])
@pytest.mark.parametrize("statistic", ["mean", "min"])
def test_equals_the_same_steps_by_other_libraries(per_section, statistic, random_affinities):
    """edt, scipy's maximum filter and labels, and the heap."""
    affinities = random_affinities((7, 30, 31), seed=4)
    threshold = 0.5 if statistic == "mean" else 0.35
    inside = voxel_affinity(affinities, None, per_section, statistic) > threshold
    expected, last = np.zeros(inside.shape, int), 0
    for slab in [slice(z, z + 1) for z in range(7)] if per_section else [slice(None)]:
        squares = edt.edtsq(inside[slab], black_border=False)
        peaks = inside[slab] & (maximum_filter(squares, size=5, mode="nearest") == squares)
        seeds, count = seeds_in_touch(peaks, inside[slab])
        part = heap_flooding(squares, seeds, np.ones_like(peaks))
        expected[slab] = np.where(part > 0, part + last, 0)
        last += count
    found = Watershed(per_section=per_section, statistic=statistic, threshold=threshold, seed_distance=4)
    assert last > 4
    assert np.array_equal(found.fragment(affinities).array, expected)


def test_window_shrinks_along_coarse_axes():
    depths = np.ones((3, 1, 1), np.float32)
    depths[1] = 2
    assert maxima(depths, [1, 1, 1], per_section=False).tolist() == [1]
    assert maxima(depths, [0, 1, 1], per_section=False).tolist() == [0, 1, 2]


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
    places = np.sort(rng.choice(np.flatnonzero(allowed), 4, replace=False))
    while numbered_seeds(places, distance, False)[0][1] < 4:  # some touch
        places = np.sort(rng.choice(np.flatnonzero(allowed), 4, replace=False))
    found = flooded(distance, places, numbered_seeds(places, distance, False), allowed).astype(int)
    voxels, best = pass_value(distance, allowed)
    at = {v: i for i, v in enumerate(voxels)}
    by_seed = best[:, [at[tuple(int(i) for i in np.unravel_index(p, shape))] for p in places]]
    assert not found[~allowed].any()
    for i, voxel in enumerate(voxels):
        if by_seed[i].max() < 0:
            assert found[voxel] == 0
        else:
            assert by_seed[i, found[voxel] - 1] == by_seed[i].max()


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


def test_a_window_of_any_size_costs_no_more_than_the_volume(random_affinities):
    affinities = random_affinities((3, 9, 8))
    expected = Watershed(seed_distance=20).fragment(affinities).array
    for distance in (10**9, 10**25):
        assert np.array_equal(Watershed(seed_distance=distance).fragment(affinities).array, expected)


def merged_by_definition(affinities, labels, small, least):
    """Across the edges of affinity >= least, the highest first, the two fragments become one while either is small."""
    edges = []
    for channel, offset in enumerate(affinities.neighborhood):
        for there in np.argwhere(labels):
            here = tuple(there + offset)
            if min(here) >= 0 and labels[here] and affinities.array[channel][tuple(there)] >= least:
                edges.append((affinities.array[channel][tuple(there)], labels[here], labels[tuple(there)]))
    regions = {int(i): {int(i)} for i in np.unique(labels[labels != 0])}
    size = np.bincount(labels.ravel().astype(int))
    for _, a, b in sorted(edges, key=lambda edge: -edge[0]):
        one, two = regions[a], regions[b]
        if one is not two and min(sum(size[list(one)]), sum(size[list(two)])) < small:
            one |= two
            regions |= dict.fromkeys(two, one)
    heads = sorted({min(region) for region in regions.values()})
    return np.array([0, *(1 + heads.index(min(regions[i])) for i in sorted(regions))])[labels.astype(int)]


@pytest.mark.parametrize("values", [{}, {"per_section": True}, {"fill": False}])
@pytest.mark.parametrize(("small", "least"), [(2, 0.0), (12, 0.5), (60, 0.0), (2**70, 0.7)])
@pytest.mark.parametrize("masked", [False, True])
def test_small_fragments_merge_as_by_the_definition(values, small, least, masked):
    rng = np.random.default_rng(small % 1000)
    shape = (4, 9, 11)
    array = (rng.permutation(3 * 4 * 9 * 11).reshape(3, *shape) / (3 * 4 * 9 * 11)).astype(np.float32)
    affinities = Affinities(np.where(edge_mask(shape, NEAREST), array, np.float32(0)), NEAREST, Grid())
    mask = Volume(rng.random(shape) < 0.9, Grid()) if masked else None
    settings = {"threshold": 0.4, "seed_distance": 3, **values}
    before = Watershed(**settings).fragment(affinities, mask).array
    within = affinities
    if "per_section" in values:
        within = Affinities(affinities.array[1:], NEAREST[1:], Grid())
    expected = merged_by_definition(within, before, small, least)
    after = Watershed(**settings, size_threshold=small, merge_threshold=least).fragment(affinities, mask).array
    assert np.array_equal(after, expected)
    assert small == 2 or after.max() < before.max()
