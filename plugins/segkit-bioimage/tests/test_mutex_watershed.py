"""Both mutex watersheds against a direct implementation of the definition."""

import bioimage_cpp.segmentation
import numpy as np
import pytest
from segkit import Affinities, Grid, Labels, Volume, load
from segkit.agglomerate.rag import mean_affinity, region_adjacency_graph
from segkit.data import NEAREST, edge_slices
from segkit.errors import InvalidInput, InvalidParameter
from segkit.segment import segment

from segkit_bioimage.mutex_fragments import MutexWatershed

LONG = (*NEAREST, (-2, 0, 0), (0, -3, 0), (0, 0, -3))


def random_affinities(seed: int, shape=(3, 6, 7), neighborhood=LONG) -> Affinities:
    rng = np.random.default_rng(seed)
    return Affinities.convert(rng.random((len(neighborhood), *shape), np.float32), neighborhood)


def by_definition(edges, lowest: float = -1.0) -> dict[int, frozenset[int]]:
    """The cluster of each node; `edges` are (weight, attracts, u, v); those below `lowest` are not taken."""
    cluster, apart = {}, set()
    for weight, attracts, u, v in sorted(edges, reverse=True):
        one, other = (cluster.setdefault(node, frozenset([node])) for node in (u, v))
        if weight < lowest or one == other:
            continue
        if not attracts:
            apart.add(frozenset([u, v]))
        elif not any(len(pair & one) == 1 and len(pair & other) == 1 for pair in apart):
            united = one | other
            cluster.update(dict.fromkeys(united, united))
    return cluster


def voxel_edges(affinities: Affinities, attractive, kept=None):
    numbers = np.arange(np.prod(affinities.shape)).reshape(affinities.shape)
    for channel, offset in enumerate(affinities.neighborhood):
        source, target = edge_slices(affinities.shape, offset)
        attracts = channel in attractive
        for weight, u, v in zip(
            affinities.array[channel][source].ravel().tolist(),
            numbers[source].ravel().tolist(),
            numbers[target].ravel().tolist(),
            strict=True,
        ):
            if kept is None or attracts or kept[channel].flat[u]:
                yield (weight if attracts else 1 - weight), attracts, u, v


def clusters(labels: np.ndarray) -> set[frozenset[int]]:
    flat = labels.ravel()
    return {frozenset(np.flatnonzero(flat == id_).tolist()) for id_ in np.unique(flat[flat > 0])}


@pytest.mark.parametrize("attractive", [(0, 1, 2), (0, 1, 2, 3), (0, 4, 5)])
@pytest.mark.parametrize("seed", range(3))
def test_fragments_are_those_of_the_definition(seed, attractive):
    affinities = random_affinities(seed)
    fragments = load("fragmenters", "mutex-watershed", attractive=attractive).fragment(affinities)
    assert clusters(fragments.array) == set(by_definition(voxel_edges(affinities, attractive)).values())
    assert 1 < len(clusters(fragments.array)) < fragments.array.size


@pytest.mark.parametrize("parameters", [{}, {"strides": [1, 2, 3]}, {"strides": [2, 2, 1], "randomised": True}])
@pytest.mark.parametrize("order", [[3, 0, 4, 1, 2, 5], [5, 4, 3, 2, 1, 0]])
def test_channels_may_come_in_any_order_and_at_either_end(order, parameters):
    affinities = random_affinities(5)
    signs = np.array([1, -1, -1, 1, 1, -1])[:, None]
    moved = [
        channel if sign > 0 else np.roll(channel, offset, (0, 1, 2))
        for channel, sign, offset in zip(affinities.array, signs, affinities.neighborhood.tolist(), strict=True)
    ]
    mixed = Affinities(np.stack(moved)[order], (signs * affinities.neighborhood)[order], affinities.grid)
    mixed.check()
    fragmenter = load("fragmenters", "mutex-watershed", **parameters)
    assert np.array_equal(fragmenter.fragment(mixed).array, fragmenter.fragment(affinities).array)


def test_strides_thin_out_the_edges_that_repel():
    affinities = random_affinities(6)
    kept = np.zeros(affinities.array.shape, bool)
    kept[:, ::2, ::3, ::2] = True
    fragments = load("fragmenters", "mutex-watershed", strides=[2, 3, 2]).fragment(affinities)
    assert clusters(fragments.array) == set(by_definition(voxel_edges(affinities, (0, 1, 2), kept)).values())


def test_random_strides_follow_the_seed_alone_and_keep_the_stated_part():
    affinities = random_affinities(7, (6, 12, 13))
    options = {"strides": (1, 2, 2), "randomised": True}
    np.random.seed(1)  # noqa: NPY002 - what the library itself would draw from
    first = load("fragmenters", "mutex-watershed", **options).fragment(affinities)
    np.random.seed(2)  # noqa: NPY002
    again = load("fragmenters", "mutex-watershed", **options).fragment(affinities)
    other = load("fragmenters", "mutex-watershed", seed=1, **options).fragment(affinities)
    assert np.array_equal(first.array, again.array)
    assert not np.array_equal(first.array, other.array)
    weights = MutexWatershed(**options)._weights(affinities, [0, 1, 2], [3, 4, 5])  # LONG is in the order it is in
    assert (weights[:3] >= 0).all()
    assert abs((weights[3:] >= 0).mean() - 0.25) < 0.03
    kept = np.concatenate([np.ones_like(weights[:3], bool), weights[3:] >= 0])
    assert clusters(first.array) == set(by_definition(voxel_edges(affinities, (0, 1, 2), kept)).values())


def test_a_chain_by_hand():
    array = np.zeros((2, 1, 1, 4), np.float32)
    array[0, 0, 0, 1:] = [0.9, 0.8, 0.95]
    array[1, 0, 0, 2:] = [0.05, 0.9]  # repels 0 from 2 with 0.95, 1 from 3 with 0.1
    affinities = Affinities(array, [(0, 0, -1), (0, 0, -2)], Grid())
    assert load("fragmenters", "mutex-watershed").fragment(affinities).array.ravel().tolist() == [1, 1, 2, 2]


def test_small_fragments_become_background_and_numbers_have_no_gaps():
    affinities = random_affinities(8)
    everything = load("fragmenters", "mutex-watershed").fragment(affinities).array
    fragments = load("fragmenters", "mutex-watershed", smallest=4).fragment(affinities).array
    assert clusters(fragments) == {cluster for cluster in clusters(everything) if len(cluster) >= 4}
    assert np.unique(fragments[fragments > 0]).tolist() == list(range(1, len(clusters(fragments)) + 1))


def test_a_mask_stops_fragments_and_numbers_have_no_gaps():
    array = np.zeros((2, 1, 1, 5), np.float32)
    array[0, 0, 0, 1:], array[1, 0, 0, 2:] = 1, 1
    affinities = Affinities(array, [(0, 0, -1), (0, 0, -2)], Grid())
    mask = Volume(np.array([[[0, 1, 1, 0, 1]]], np.uint8), Grid())
    assert load("fragmenters", "mutex-watershed").fragment(affinities, mask).array.ravel().tolist() == [0, 1, 1, 0, 2]


@pytest.mark.parametrize("name", ["mutex-watershed"])
@pytest.mark.parametrize(("parameters", "neighborhood"), [({}, NEAREST), ({"attractive": [0, 9]}, LONG)])
def test_channels_that_do_not_fit_are_refused(name, parameters, neighborhood):
    affinities = random_affinities(9, neighborhood=neighborhood)
    fragments = Labels.convert(np.ones(affinities.shape, int), affinities.grid)
    with pytest.raises(InvalidInput, match="attract"):
        load("fragmenters", name, **parameters).fragment(affinities)
    with pytest.raises(InvalidInput, match="attract"):
        load("agglomerators", name, **parameters).agglomerate(affinities, fragments)


@pytest.mark.parametrize(
    "parameters",
    [{"attractive": [0, 0]}, {"attractive": [-1]}, {"attractive": []}, {"strides": [0, 1, 1]}, {"seed": -1}],
)
def test_parameters_out_of_range_are_refused(parameters):
    with pytest.raises(InvalidParameter, match=next(iter(parameters))):
        load("fragmenters", "mutex-watershed", **parameters)


def test_the_library_takes_nan_and_random_numbers_that_are_not_ours():
    """The reasons for what the plugin does about them: when this fails, it can be dropped."""
    nan = np.full((2, 1, 2, 2), np.nan, np.float32)
    assert bioimage_cpp.segmentation.mutex_watershed(nan, [(0, 0, -1), (0, -1, 0)], 1).shape == (1, 2, 2)
    before = np.random.get_state()[2]  # noqa: NPY002
    options = {"strides": (1, 2, 2), "randomized_strides": True}
    bioimage_cpp.segmentation.mutex_watershed(nan, [(0, 0, -1), (0, -1, 0)], 1, **options)
    assert np.random.get_state()[2] != before  # noqa: NPY002


def cells(seed: int, shape, count: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, shape, (count, 3))
    return 1 + ((np.moveaxis(np.indices(shape), 0, -1)[..., None, :] - points) ** 2).sum(-1).argmin(-1)


@pytest.mark.parametrize("threshold", [0.3, 0.45, 0.5, 0.55, 1.1])
@pytest.mark.parametrize("seed", range(3))
def test_cuts_on_fragments_are_those_of_the_definition(seed, threshold):
    affinities = random_affinities(seed, (4, 9, 9))
    fragments = Labels.convert(cells(seed, affinities.shape, 25), affinities.grid)
    graphs = [
        region_adjacency_graph(Affinities(affinities.array[c], affinities.neighborhood[c], affinities.grid), fragments)
        for c in ([0, 1, 2], [3, 4, 5])
    ]
    edges = [
        (mean if attracts else 1 - mean, attracts, u, v)
        for rag, attracts in zip(graphs, (True, False), strict=True)
        for mean, (u, v) in zip(mean_affinity(rag).tolist(), rag.edge_ids().tolist(), strict=True)
    ]
    tree = load("agglomerators", "mutex-watershed").agglomerate(affinities, fragments)
    expected = set(by_definition(edges, lowest=1 - threshold).values())
    found = tree.cut(threshold)
    assert {frozenset(tree.leaf_ids[found == id_].tolist()) for id_ in found} == expected
    assert segment(tree, fragments, threshold).shape == fragments.shape


def test_fragments_that_repel_each_other_end_in_different_trees():
    array = np.zeros((2, 1, 1, 3), np.float32)
    array[0, 0, 0, 1:] = [0.75, 0.5]
    affinities = Affinities(array, [(0, 0, -1), (0, 0, -2)], Grid())  # 7 and 3 repel each other with 1
    tree = load("agglomerators", "mutex-watershed").agglomerate(affinities, Labels.convert([[[7, 5, 3]]], Grid()))
    assert tree.leaf_ids.tolist() == [3, 5, 7]
    assert tree.merges.tolist() == [[1, 2]]
    assert tree.altitudes.tolist() == [0.25]
