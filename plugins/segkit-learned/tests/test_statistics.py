"""Statistics beside loops over all pairs of voxels; and that they add up."""

from itertools import product

import numpy as np
import pytest
from segkit.agglomerate.pieces import Piece, contract, unite
from segkit.agglomerate.rag import UNIT
from segkit.data import Affinities, Grid, Labels

from segkit_learned.features import NAMES, QUANTILES, describe, quantiles_of
from segkit_learned.statistics import BOUNDS, contact_statistics

NEIGHBORHOOD = ((-1, 0, 0), (0, 1, 0), (0, 0, -1), (-2, 0, 1), (0, 3, 0))
VOXEL = (40.0, 8.0, 4.0)
GRID = Grid(VOXEL, (400.0, -16.0, 12.0))
ORIGIN = (10, -2, 3)


def volume(seed, shape=(5, 7, 6), count=6, neighborhood=NEIGHBORHOOD):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, count, [-(-size // 2) for size in shape]).astype(np.uint64)
    ids = np.kron(coarse, np.ones((2, 2, 2), np.uint64))[tuple(map(slice, shape))] * np.uint64(2**40 + 1)
    ids[rng.random(shape) < 0.05] = 2**64 - 2
    values = rng.random((len(neighborhood), *shape)).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = 0.02  # a bound of bins
    return Affinities(values, np.array(neighborhood), GRID), Labels(ids, GRID)


def contacts(affinities, fragments):
    """By pair of ids: kind, affinity, and twice the middle, counted from the origin of the world."""
    found = {}
    for channel, offset in enumerate(affinities.neighborhood):
        for here in product(*map(range, fragments.shape)):
            there = tuple(np.add(here, offset))
            if not all(0 <= place < size for place, size in zip(there, fragments.shape, strict=True)):
                continue
            pair = sorted((int(fragments.array[here]), int(fragments.array[there])))
            if pair[0] == pair[1] or pair[0] == 0 or pair[1] >= 2**64 - 2:
                continue
            kind = int(np.flatnonzero(offset)[0]) if np.abs(offset).sum() == 1 else 3
            middle = np.add(here, there) + 2 * np.array(ORIGIN)
            found.setdefault(tuple(pair), []).append((kind, float(affinities.array[channel][here]), middle))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_beside_loops_over_all_pairs(seed):
    affinities, fragments = volume(seed)
    graph = contact_statistics(affinities, fragments)
    graph.check()
    expected = contacts(affinities, fragments)
    assert [tuple(pair) for pair in graph.edge_ids().tolist()] == sorted(expected)
    for row, pair in enumerate(map(tuple, graph.edge_ids().tolist())):
        listed = expected[pair]
        assert graph.features["count"][row] == len(listed)
        for kind in range(4):
            values = [value for found, value, _ in listed if found == kind]
            assert graph.features["sum"][row, kind] == sum(round(value * UNIT) for value in values)
            bins = np.histogram(np.array(values, np.float64), [0, *BOUNDS, 1])[0]
            np.testing.assert_array_equal(graph.features["histogram"][row, kind], bins)
        middles = np.array([middle for kind, _, middle in listed if kind < 3]).reshape(-1, 3)
        z, y, x = middles.T
        moments = [m.sum() for m in (z, y, x, z * z, y * y, x * x, z * y, z * x, y * x)]
        np.testing.assert_array_equal(graph.features["moments"][row], moments)
    for node, fragment in enumerate(graph.node_ids):
        places = np.argwhere(fragments.array == fragment) + ORIGIN
        assert graph.node_features["size"][node] == len(places)
        np.testing.assert_array_equal(graph.node_features["positions"][node], places.sum(axis=0))


@pytest.mark.parametrize("axis", range(3))
def test_parts_of_a_volume_add_up(axis):
    affinities, fragments = volume(7)
    whole = contact_statistics(affinities, fragments)
    pieces = []
    for bounds in ((0, 3), (3, fragments.shape[axis])):
        box = tuple(slice(*bounds) if a == axis else slice(0, size) for a, size in enumerate(fragments.shape))
        grid = GRID.crop([part.start for part in box])
        part = Affinities(affinities.array[(slice(None), *box)], affinities.neighborhood, grid)
        pieces.append(Piece(contact_statistics(part, fragments, box)))
    assert_equal_graphs(unite(pieces).graph, whole)


def test_adding_is_the_same_as_counting_what_was_merged():
    affinities, fragments = volume(3, count=9)
    graph = contact_statistics(affinities, fragments)
    into = np.arange(len(graph.node_ids))
    into[[4, 5, 7]] = [1, 1, 2]
    merged = contract(Piece(graph), into).graph
    ids = fragments.array.copy()
    for node, target in enumerate(into):
        ids[fragments.array == graph.node_ids[node]] = graph.node_ids[target]
    counted = contact_statistics(affinities, Labels(ids, GRID))
    order = np.lexsort(merged.edges.T[::-1])
    np.testing.assert_array_equal(merged.edges[order], counted.edges)
    for name, values in counted.features.items():
        np.testing.assert_array_equal(merged.features[name][order], values)
    for name, values in counted.node_features.items():
        np.testing.assert_array_equal(merged.node_features[name], values)
    np.testing.assert_array_equal(describe(merged, np.array(VOXEL))[order], describe(counted, np.array(VOXEL)))


def assert_equal_graphs(one, other):
    np.testing.assert_array_equal(one.node_ids, other.node_ids)
    np.testing.assert_array_equal(one.edges, other.edges)
    for mine, theirs in ((one.features, other.features), (one.node_features, other.node_features)):
        assert mine.keys() == theirs.keys()
        for name, values in mine.items():
            np.testing.assert_array_equal(values, theirs[name], name)


@pytest.mark.parametrize("neighborhood", [NEIGHBORHOOD, NEIGHBORHOOD[:3], NEIGHBORHOOD[3:]], ids=["all", "near", "far"])
def test_features_beside_lists_of_what_touches(neighborhood):
    affinities, fragments = volume(11, neighborhood=neighborhood)
    graph = contact_statistics(affinities, fragments)
    rows = describe(graph, np.array(VOXEL))
    assert rows.shape == (len(graph.edges), len(NAMES)) and np.isfinite(rows).all()
    lists = contacts(affinities, fragments)
    sizes = dict(zip(graph.node_ids.tolist(), graph.node_features["size"].tolist(), strict=True))
    for row, pair in zip(rows, map(tuple, graph.edge_ids().tolist()), strict=True):
        expected = by_hand(pair, lists, sizes, fragments)
        found = dict(zip(NAMES, row, strict=True))
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, abs=1e-6), name
        assert set(NAMES) - set(expected) == {name for name in NAMES if "quantile" in name}


def by_hand(pair, lists, sizes, fragments):
    small, large = sorted(pair, key=lambda each: (sizes[each], each))
    listed = lists[pair]
    near = [(kind, value) for kind, value, _ in listed if kind < 3]
    far = [value for kind, value, _ in listed if kind == 3]
    values = [value for _, value in near] or far
    axes = [np.mean([v for k, v in near if k == axis]) for axis in range(3) if any(k == axis for k, _ in near)]
    axes += [np.mean(values)] * (3 - len(axes))
    middles = np.array([middle for kind, _, middle in listed if kind < 3]).reshape(-1, 3) / 2 * VOXEL
    centre = {each: (np.argwhere(fragments.array == each) + ORIGIN).mean(axis=0) * VOXEL for each in pair}
    radius = {each: (3 * sizes[each] * np.prod(VOXEL) / 4 / np.pi) ** (1 / 3) for each in pair}
    spread = np.zeros(3)
    there = (centre[small] + centre[large]) / 2
    if len(middles):
        spread = np.sqrt(np.maximum(np.linalg.eigvalsh(np.cov(middles.T, bias=True)), 0))
        there = middles.mean(axis=0)
    face = np.prod(VOXEL) ** (2 / 3)
    apart = np.linalg.norm(centre[small] - centre[large])
    way = sum(np.linalg.norm(there - centre[each]) for each in pair)
    of = {each: [other for other in lists if each in other] for each in pair}
    means = {other: np.mean([value for _, value, _ in lists[other]]) for other in lists}
    best = {each: max([means[other] for other in of[each] if other != pair], default=0.0) for each in pair}
    surface = {each: sum(len(lists[other]) for other in of[each]) for each in pair}
    return {
        "log_count": np.log(len(listed)),
        "log_touching": np.log(1 + len(near)),
        "mean": np.mean(values),
        "lowest_axis_mean": min(axes),
        "highest_axis_mean": max(axes),
        "share_low": np.mean(np.array(values, np.float32) < np.float32(0.2)),
        "share_high": np.mean(np.array(values) >= 0.8),
        "long_mean": np.mean(far or values),
        "log_smaller_size": np.log(sizes[small] * np.prod(VOXEL)),
        "log_larger_size": np.log(sizes[large] * np.prod(VOXEL)),
        "surface_of_smaller": len(listed) / surface[small],
        "surface_of_larger": len(listed) / surface[large],
        "extent_1": spread[2],
        "extent_2": spread[1],
        "extent_3": spread[0],
        "flatness": spread[0] / max(spread[2], 1e-9),
        "filling": max(len(near), 1) * face / max(spread[1] * spread[2], face),
        "centre_distance": apart,
        "centre_distance_by_radii": apart / (radius[small] + radius[large]),
        "bend": way / max(apart, 4),
        "log_neighbours_of_smaller": np.log(len(of[small])),
        "log_neighbours_of_larger": np.log(len(of[large])),
        "best_other_of_smaller": best[small],
        "best_other_of_larger": best[large],
        "lead_on_smaller": means[pair] - best[small],
        "lead_on_larger": means[pair] - best[large],
    }


def test_quantiles_lie_in_the_bin_of_the_affinity():
    rng = np.random.default_rng(0)
    bounds = np.array([0, *BOUNDS, 1])
    for count in (1, 2, 7, 500):
        values = np.sort(rng.random(count) ** 3)
        histogram = np.histogram(values, bounds)[0]
        for fraction, found in zip(QUANTILES, quantiles_of(histogram[None], QUANTILES)[0], strict=True):
            exact = values[max(int(np.ceil(fraction * count)) - 1, 0)]
            place = np.searchsorted(bounds, exact, side="right") - 1
            assert bounds[place] <= found <= bounds[place + 1]


def test_quantiles_by_hand():
    histogram = np.zeros((1, 12), np.int64)
    histogram[0, 0], histogram[0, 11] = 1, 3  # 0..0.02 and 0.98..1
    assert quantiles_of(histogram, (0.125, 0.25, 0.5, 1.0))[0] == pytest.approx([0.01, 0.02, 0.98 + 0.02 / 3, 1])
