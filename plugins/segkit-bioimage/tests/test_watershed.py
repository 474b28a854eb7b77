"""The seeded watershed against its definition: every voxel goes to a seed that it reaches over the lowest pass."""

import heapq

import numpy as np
import pytest
from scipy import ndimage
from segkit import Affinities, Grid, Labels, Volume, load
from segkit.data import NEAREST
from segkit.errors import InvalidInput, InvalidParameter


def blobs(seed: int, shape=(5, 20, 21)) -> Affinities:
    """Smooth random affinities."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.random(shape), 1.5)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return Affinities.convert(np.stack([smooth] * 3).astype(np.float32), NEAREST)


def passes(heights: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The lowest possible maximum of the heights on a path from any of `seeds` to each voxel."""
    best = np.full(heights.shape, np.inf)
    queue = [(heights[tuple(voxel)], tuple(voxel.tolist())) for voxel in np.argwhere(seeds)]
    heapq.heapify(queue)
    while queue:
        height, voxel = heapq.heappop(queue)
        if height >= best[voxel]:
            continue
        best[voxel] = height
        for axis in range(heights.ndim):
            for step in (-1, 1):
                other = tuple(i + step * (a == axis) for a, i in enumerate(voxel))
                if all(0 <= i < size for i, size in zip(other, heights.shape, strict=True)):
                    heapq.heappush(queue, (max(height, heights[other]), other))
    return best


def mean_affinity(affinities: Affinities) -> np.ndarray:
    total, number = np.zeros(affinities.shape), np.zeros(affinities.shape)
    for axis in range(3):
        ahead = np.moveaxis(affinities.array[axis], axis, 0)
        values, count = np.moveaxis(total, axis, 0), np.moveaxis(number, axis, 0)
        for end in (slice(1, None), slice(None, -1)):
            values[end] += ahead[1:]
            count[end] += 1
    return total / number


@pytest.mark.parametrize("seed", range(3))
def test_every_voxel_is_reached_over_the_lowest_pass(seed):
    affinities = blobs(seed)
    inside = mean_affinity(affinities) > 0.5
    distance = ndimage.distance_transform_edt(inside)
    tops = inside & (distance == ndimage.maximum_filter(distance, 5, mode="nearest"))
    seeds, count = ndimage.label(tops)
    fragments = load("fragmenters", "bioimage-watershed", seed_distance=5).fragment(affinities).array
    assert count > 3
    assert (fragments > 0).all()
    assert np.array_equal(fragments[tops], seeds[tops])
    heights = distance.max() - distance
    lowest = passes(heights, tops)
    for id_ in range(1, count + 1):
        own = fragments == id_
        assert ndimage.label(own)[1] == 1
        np.testing.assert_allclose(passes(heights, seeds == id_)[own], lowest[own], atol=distance.max() / 30000)


def test_flooding_affinities_stops_at_the_weakest_place():
    row = np.array([0, 0.9, 0.9, 0.9, 0.6, 0.2, 0.9, 0.9, 0.9], np.float32)
    array = np.zeros((3, 1, 1, 9), np.float32)
    array[2, 0, 0] = row
    affinities = Affinities(array, NEAREST, Grid())
    fragments = load("fragmenters", "bioimage-watershed", seed_distance=3, height="affinity", threshold=0.8)
    assert fragments.fragment(affinities).array.ravel().tolist() == [1, 1, 1, 1, 1, 2, 2, 2, 2]


def test_sections_apart_are_the_sections_alone():
    affinities = blobs(4)
    fragmenter = load("fragmenters", "bioimage-watershed", per_section=True, seed_distance=5)
    fragments = fragmenter.fragment(affinities).array
    last = 0
    for z, section in enumerate(fragments):
        plane = Affinities(affinities.array[1:, z : z + 1], NEAREST[1:], affinities.grid)
        assert np.array_equal(section - last, fragmenter.fragment(plane).array[0])
        last = section.max()


def test_a_volume_without_boundary_is_one_fragment_and_one_without_inside_none():
    for value, expected in ((1.0, [1]), (0.25, [0])):
        affinities = Affinities.convert(np.full((3, 3, 4, 5), value, np.float32))
        fragments = load("fragmenters", "bioimage-watershed").fragment(affinities)
        assert np.unique(fragments.array).tolist() == expected


def test_a_mask_stops_the_flood():
    affinities = Affinities.convert(np.ones((3, 1, 1, 5), np.float32))
    mask = Volume(np.array([[[1, 1, 0, 1, 1]]], bool), Grid())
    fragments = load("fragmenters", "bioimage-watershed", seed_distance=1).fragment(affinities, mask)
    assert fragments.array.ravel().tolist() == [1, 1, 0, 2, 2]
    assert isinstance(fragments, Labels)


def test_a_missing_neighbour_is_refused():
    affinities = Affinities.convert(np.ones((1, 2, 4, 4), np.float32), [(0, 0, -1)])
    with pytest.raises(InvalidInput, match="neighborhood must have the edge to the next voxel along z"):
        load("fragmenters", "bioimage-watershed").fragment(affinities)


@pytest.mark.parametrize("parameters", [{"threshold": 1.5}, {"threshold": float("nan")}, {"seed_distance": 0}])
def test_parameters_out_of_range_are_refused(parameters):
    with pytest.raises(InvalidParameter, match=next(iter(parameters))):
        load("fragmenters", "bioimage-watershed", **parameters)
