import os
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from segkit.data import NEAREST, Affinities, Grid, Labels, edge_mask, edge_slices
from segkit.fragment.affinity_watershed import AffinityWatershed

PLAIN = {"low": 0.0, "high": 1.0, "size_threshold": 0}


def graph(affinities, low=0.0, high=1.0):
    """Edges of affinity above `low`, as a dictionary {voxel: {neighbour: affinity}} over flat indices."""
    shape = affinities.shape
    found = {v: {} for v in range(int(np.prod(shape)))}
    for c, offset in enumerate(affinities.neighborhood):
        for voxel in np.ndindex(shape):
            other = np.add(voxel, offset)
            if (other < 0).any() or affinities.array[(c, *voxel)] <= low:
                continue
            a, b = int(np.ravel_multi_index(voxel, shape)), int(np.ravel_multi_index(tuple(other), shape))
            found[a][b] = found[b][a] = min(float(affinities.array[(c, *voxel)]), high)
    return found


def slow_basins(edges):
    """The definition: each voxel drains through the nearest exit of its plateau, the first-found of equals."""
    best = {v: max(around.values(), default=-1) for v, around in edges.items()}
    flat = {v: sorted(u for u, w in edges[v].items() if w == best[v] == best[u]) for v in edges}
    uphill = {v: min((u for u, w in edges[v].items() if w == best[v] < best[u]), default=None) for v in edges}
    queue = deque(v for v in edges if uphill[v] is not None)
    while queue:
        v = queue.popleft()
        for u in flat[v]:
            if uphill[u] is None:
                uphill[u] = v
                queue.append(u)
    summit = {}
    for v in edges:
        if uphill[v] is None and best[v] >= 0 and v not in summit:
            stack, summit[v] = [v], v
            while stack:
                for u in flat[stack.pop()]:
                    if u not in summit:
                        summit[u] = v
                        stack.append(u)

    def end(v):
        while uphill[v] is not None:
            v = uphill[v]
        return summit.get(v)

    return [end(v) for v in edges]


def slow_merging(edges, roots, small, least):
    """Region graph of highest saddles, replayed from the highest, on sets of voxels. Saddles must be distinct."""
    regions = {r: {v for v in edges if roots[v] == r} for r in set(roots) - {None}}
    saddles = {}
    for v, around in edges.items():
        for u, w in around.items():
            pair = tuple(sorted((roots[v], roots[u])))
            if pair[0] != pair[1] and w >= least:
                saddles[pair] = max(w, saddles.get(pair, 0))
    for (a, b), _ in sorted(saddles.items(), key=lambda item: -item[1]):
        one, two = regions[a], regions[b]
        if one is not two and min(len(one), len(two)) < small:
            one |= two
            for r, members in regions.items():
                if members is two:
                    regions[r] = one
    where = {v: min(members) for members in regions.values() for v in members}
    return [where.get(v) for v in edges]


def numbered(roots):
    """Ids from 1 in the order of first voxels; None becomes 0."""
    ids = {}
    return [0 if r is None else ids.setdefault(r, len(ids) + 1) for r in roots]


def crisp(shape, seed):
    """Affinities that all differ."""
    rng = np.random.default_rng(seed)
    size = 3 * int(np.prod(shape))
    array = ((rng.permutation(size) + 1) / (size + 2)).astype(np.float32).reshape(3, *shape)
    return Affinities(np.where(edge_mask(shape, NEAREST), array, np.float32(0)), NEAREST, Grid())


@pytest.mark.parametrize("levels", [None, 1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(4, 7, 6), (1, 12, 12), (1, 1, 30)])
def test_equals_the_definition_plateaus_included(shape, levels, random_affinities):
    for seed in range(3):
        affinities = random_affinities(shape, seed=seed, levels=levels)
        expected = numbered(slow_basins(graph(affinities)))
        assert AffinityWatershed(**PLAIN).fragment(affinities).array.ravel().tolist() == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([2, 3, 4]), st.tuples(*[st.integers(1, 5)] * 3))
def test_basins_are_connected_and_hold_a_steepest_neighbour(seed, levels, shape):
    rng = np.random.default_rng(seed)
    array = rng.integers(0, levels + 1, (3, *shape)).astype(np.float32) / np.float32(levels)
    affinities = Affinities(np.where(edge_mask(shape, NEAREST), array, np.float32(0)), NEAREST, Grid())
    labels = AffinityWatershed(**PLAIN).fragment(affinities).array.ravel()
    edges = graph(affinities)
    joined = [(v, u) for v in edges for u in edges[v] if labels[v] == labels[u]]
    for v, around in edges.items():
        assert (labels[v] == 0) == (not around)
        if around:
            best = max(around.values())
            assert any(labels[u] == labels[v] for u, w in around.items() if w == best)
    rows, columns = np.array(joined, int).reshape(-1, 2).T
    pieces = connected_components(coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(labels),) * 2))[1]
    assert len(set(zip(pieces[labels > 0], labels[labels > 0], strict=True))) == labels.max()


@pytest.mark.parametrize("seed", range(3))
def test_without_ties_basins_are_components_of_steepest_edges(seed):
    affinities = crisp((5, 9, 8), seed)
    edges = graph(affinities)
    steepest = np.array([(v, max(around, key=around.get)) for v, around in edges.items() if around])
    size = len(edges)
    expected = connected_components(coo_array((np.ones(len(steepest)), steepest.T), shape=(size, size)))[1]
    assert AffinityWatershed(**PLAIN).fragment(affinities).array.ravel().tolist() == numbered(expected.tolist())


@pytest.mark.parametrize("least", [0.0, 0.7])
@pytest.mark.parametrize("small", [2, 5, 20])
def test_small_regions_merge_as_by_the_definition(small, least):
    affinities = crisp((4, 8, 9), small)
    edges = graph(affinities, low=0.3)
    expected = numbered(slow_merging(edges, slow_basins(edges), small, least))
    fragmenter = AffinityWatershed(low=0.3, high=1.0, size_threshold=small, merge_threshold=least)
    assert fragmenter.fragment(affinities).array.ravel().tolist() == expected


def replayed(affinities, labels, small, least):
    """All edges between two labels, the highest first, equals in the order of voxels and axes, on a list of parents."""
    edges = []
    for axis, offset in enumerate(NEAREST):
        here, there = edge_slices(affinities.shape, offset)
        voxels = np.arange(labels.size).reshape(labels.shape)[here].ravel()
        ends = labels[there].ravel(), labels[here].ravel()
        edges.append(np.stack([affinities.array[axis][here].ravel(), voxels, np.full(len(voxels), axis), *ends]))
    values, voxels, axes, one, other = np.concatenate(edges, axis=1)
    order = np.lexsort((axes, voxels, -values))
    order = order[(values >= np.float32(least))[order] & (one != other)[order] & (one * other > 0)[order]]
    parents, sizes = list(range(labels.max() + 1)), np.bincount(labels.ravel()).tolist()

    def root(label):
        while parents[label] != label:
            label = parents[label]
        return label

    for a, b in zip(one[order].astype(int).tolist(), other[order].astype(int).tolist(), strict=True):
        low, high = sorted((root(a), root(b)))
        if low != high and min(sizes[low], sizes[high]) < small:
            parents[high] = low
            sizes[low] += sizes[high]
    return [root(label) if label else None for label in labels.ravel().tolist()]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("levels", "small"), [(30, 8), (250, 25)])
def test_of_equal_edges_the_first_in_the_order_of_voxels_joins(levels, small, threads, random_affinities, monkeypatch):
    """With more pairs of basins than are remembered at once, and more pairs than edges that differ."""
    monkeypatch.setattr("segkit.threads.thread_count", lambda: threads)
    affinities = random_affinities((12, 60, 61), seed=levels, levels=levels)
    labels = AffinityWatershed(**PLAIN).fragment(affinities).array.astype(int)
    assert labels.max() > 4000
    expected = numbered(replayed(affinities, labels, small, 0.2))
    found = AffinityWatershed(**{**PLAIN, "size_threshold": small, "merge_threshold": 0.2}).fragment(affinities).array
    assert found.ravel().tolist() == expected
    assert found.max() < labels.max() / 2


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_basins_do_not_depend_on_the_parts_they_are_found_in(levels, random_affinities, monkeypatch):
    """Paths and plateaus lead from part to part, and back."""
    affinities = random_affinities((9, 4, 5), seed=levels, levels=levels)
    expected = numbered(slow_basins(graph(affinities)))
    for threads in (1, 2, 5, 40):
        monkeypatch.setattr("segkit.threads.thread_count", lambda threads=threads: threads)
        assert AffinityWatershed(**PLAIN).fragment(affinities).array.ravel().tolist() == expected


def test_thresholds_cut_and_join():
    """Along a line: 0.9 joined, 0.05 cut, 0.8 and 0.95 both joined though 0.8 is no one's steepest."""
    array = np.array([[[[0, 0.9, 0.05, 0.95, 0.8, 0.99]]]], np.float32)
    affinities = Affinities(array, [[0, 0, -1]], Grid())

    def fragments(**values):
        return AffinityWatershed(**{**PLAIN, **values}).fragment(affinities).array.ravel().tolist()

    assert fragments() == [1, 1, 2, 2, 3, 3]
    assert fragments(high=0.8) == [1, 1, 2, 2, 2, 2]
    assert fragments(low=0.92) == [0, 0, 1, 1, 2, 2]
    assert fragments(low=0.95) == [0, 0, 0, 0, 1, 1]  # an edge of exactly `low` is cut


def test_dust_becomes_background(random_affinities):
    affinities = random_affinities((4, 9, 9), levels=6)
    whole = AffinityWatershed(**PLAIN).fragment(affinities).array
    sizes = np.bincount(whole.ravel().astype(int))
    assert (sizes[1:] < 4).any()
    clean = AffinityWatershed(**PLAIN, dust=4).fragment(affinities).array
    large = sizes[whole.astype(int)] >= 4
    assert np.array_equal(clean > 0, (whole > 0) & large)
    assert clean.max() == (sizes[1:] >= 4).sum()


@pytest.mark.parametrize("seed", range(3))
def test_equals_waterz_where_no_two_affinities_are_equal(seed):
    waterz = pytest.importorskip("waterz")
    affinities = crisp((12, 13, 14), seed)
    theirs = next(
        waterz.agglomerate(affinities.array.copy(), [0.0], aff_threshold_low=0.1, aff_threshold_high=0.95)
    ).copy()
    ours = AffinityWatershed(low=0.1, high=0.95, size_threshold=0).fragment(affinities).array
    pairs = set(zip(ours.ravel().tolist(), theirs.ravel().tolist(), strict=True))
    assert len(pairs) == len(np.unique(ours)) == len(np.unique(theirs))


@pytest.mark.data
def test_true_affinities_of_real_neurons_give_their_connected_pieces():
    import cc3d
    import h5py

    with h5py.File(Path(os.environ["SEGKIT_DATA"]) / "fib25_train.h5") as file:
        neurons = file["volumes/labels/neuron_ids"][:60, :120, :120].astype(np.uint64)
    expected, count = cc3d.connected_components(neurons, connectivity=6, return_N=True)
    sizes = np.bincount(expected.ravel())
    found = AffinityWatershed().fragment(Affinities.from_labels(Labels(neurons, Grid()))).array
    alone = (expected > 0) & (sizes[expected] == 1)  # no edge: background
    assert not found[alone].any()
    assert found.max() == count - alone.sum() > 20
    assert len(set(zip(found[~alone].tolist(), expected[~alone].tolist(), strict=True))) == len(
        np.unique(found[~alone])
    )


def test_any_size_may_be_asked_for(random_affinities):
    affinities = random_affinities((3, 6, 5))
    expected = AffinityWatershed(size_threshold=90, merge_threshold=0).fragment(affinities).array
    found = AffinityWatershed(size_threshold=10**25, merge_threshold=0).fragment(affinities).array
    assert np.array_equal(found, expected)
