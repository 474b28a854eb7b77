"""GASP and multicut against brute force and against segkit's own agglomerators."""

from itertools import pairwise

import numpy as np
import pytest
from bioimage_cpp.graph import UndirectedGraph
from segkit import Affinities, Grid, Labels, load
from segkit.agglomerate.rag import UNIT, region_adjacency_graph
from segkit.data import NEAREST, RegionAdjacencyGraph
from segkit.errors import InvalidParameter

LINKAGES = ["mean", "sum", "max", "min", "abs_max", "mutex_watershed"]
TENTHS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def volume(seed: int, shape=(6, 12, 12), count: int = 60):
    """Voronoi cells as fragments; each two of them have affinities of a level of their own."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, shape, (count, 3))
    cells = 1 + ((np.moveaxis(np.indices(shape), 0, -1)[..., None, :] - points) ** 2).sum(-1).argmin(-1)
    levels = rng.uniform(0.1, 0.9, (count + 1, count + 1))
    affinities = rng.uniform(-0.1, 0.1, (3, *shape))
    for axis, channel in enumerate(affinities):
        pair = np.sort([cells, np.roll(cells, 1, axis)], axis=0)
        channel += levels[tuple(pair)]
    return Affinities.convert(affinities.astype(np.float32), NEAREST), Labels.convert(cells, Grid())


def random_graph(seed: int, nodes: int = 6) -> RegionAdjacencyGraph:
    rng = np.random.default_rng(seed)
    edges = np.array([(u, v) for u in range(nodes) for v in range(u + 1, nodes) if rng.random() < 0.6])
    values = [rng.random(rng.integers(1, 5)) for _ in edges]
    features = {
        "count": np.array([len(each) for each in values]),
        "sum": np.array([round(each.sum() * UNIT) for each in values]),
        "min": np.array([each.min() for each in values], np.float32),
        "max": np.array([each.max() for each in values], np.float32),
    }
    return RegionAdjacencyGraph(np.arange(1, nodes + 1), edges, features)


def partition(labels) -> set[frozenset[int]]:
    labels = np.asarray(labels)
    return {frozenset(np.flatnonzero(labels == one).tolist()) for one in labels.tolist()}


def gasp_by_definition(rag: RegionAdjacencyGraph, linkage: str, threshold: float) -> set[frozenset[int]]:
    """Each pair of clusters keeps the weights of its edges; the largest |weight| goes first."""
    bias = 1 - threshold
    count, total = rag.features["count"], rag.features["sum"] / UNIT
    high, low = (rag.features[name].astype(float) - bias for name in ("max", "min"))
    clusters = [frozenset([node]) for node in range(len(rag.node_ids))]
    apart: set[frozenset[int]] = set()

    def weight(one, other):
        ends = [frozenset(edge) for edge in rag.edges.tolist()]
        between = [number for number, pair in enumerate(ends) if pair & one and pair & other]
        if not between:
            return None
        if linkage in ("mean", "sum"):
            mean = total[between].sum() / count[between].sum() - bias
            return mean * (count[between].sum() if linkage == "sum" else 1)
        highest, lowest = high[between].max(), low[between].min()
        farthest = highest if abs(highest) >= abs(lowest) else lowest
        return {"max": highest, "min": lowest}.get(linkage, farthest)

    while True:
        pairs = [(a, b, weight(a, b)) for i, a in enumerate(clusters) for b in clusters[i + 1 :]]
        pairs = [pair for pair in pairs if pair[2] is not None]
        if linkage == "mutex_watershed":
            pairs = [p for p in pairs if not any(k & p[0] and k & p[1] for k in apart)]
        else:
            pairs = [p for p in pairs if p[2] > 0]
        if not pairs:
            return set(clusters)
        a, b, best = max(pairs, key=lambda pair: abs(pair[2]))
        if best > 0:
            clusters = [c for c in clusters if c not in (a, b)] + [a | b]
        else:
            apart.add(frozenset([min(a), min(b)]))


@pytest.mark.parametrize("linkage", LINKAGES)
def test_gasp_at_one_threshold_is_its_definition(linkage):
    for seed in range(8):
        rag = random_graph(seed)
        for threshold in (0.3, 0.5, 0.7):
            case = f"seed {seed}, threshold {threshold}"
            tree = load("agglomerators", "gasp", linkage=linkage, thresholds=[threshold]).cluster(rag)
            assert partition(tree.cut(threshold)) == gasp_by_definition(rag, linkage, threshold), case
            assert not tree.altitudes.any(), case


@pytest.mark.parametrize(("linkage", "score"), [("mean", "mean"), ("max", "max"), ("min", "min")])
@pytest.mark.parametrize("seed", range(3))
def test_gasp_cuts_are_those_of_segkits_own_agglomerator(seed, linkage, score):
    affinities, fragments = volume(seed)
    ours = load("agglomerators", "python", score=score).agglomerate(affinities, fragments)
    tree = load("agglomerators", "gasp", linkage=linkage).agglomerate(affinities, fragments)
    assert tree.leaf_ids.tolist() == ours.leaf_ids.tolist()
    for threshold in TENTHS:
        assert partition(tree.cut(threshold)) == partition(ours.cut(threshold)), threshold
    assert len({len(partition(tree.cut(threshold))) for threshold in TENTHS}) > 2


@pytest.mark.parametrize("linkage", ["mean", "max", "min"])
def test_gasp_at_many_thresholds_is_gasp_at_each(linkage):
    affinities, fragments = volume(7)
    tree = load("agglomerators", "gasp", linkage=linkage).agglomerate(affinities, fragments)
    for threshold in (0.4, 0.5, 0.6):
        alone = load("agglomerators", "gasp", linkage=linkage, thresholds=[threshold])
        expected = partition(alone.agglomerate(affinities, fragments).cut(1))
        assert partition(tree.cut(threshold)) == partition(tree.cut(threshold - 0.05)) == expected


@pytest.mark.parametrize("linkage", LINKAGES)
def test_partitions_are_nested_and_their_parts_connected(linkage):
    affinities, fragments = volume(8)
    tree = load("agglomerators", "gasp", linkage=linkage).agglomerate(affinities, fragments)
    tree.check()
    for low, high in pairwise(TENTHS):
        assert all(any(fine <= coarse for coarse in partition(tree.cut(high))) for fine in partition(tree.cut(low)))


@pytest.mark.parametrize("long_range", ["both", "against"])
def test_gasp_cuts_are_those_of_segkits_signed_average_linkage(long_range):
    """On fragments all of which touch; the signed weights are handed to the library as statistics of a graph."""
    rng = np.random.default_rng(3)
    cells = rng.integers(1, 16, (8, 14, 14))
    levels = np.triu(rng.uniform(0.1, 0.9, (16, 16)))
    offsets = [*NEAREST, (0, 0, -3), (0, 4, 0)]
    pairs = [np.sort([cells, np.roll(cells, np.negative(offset), (0, 1, 2))], axis=0) for offset in offsets]
    values = np.array([levels[tuple(pair)] for pair in pairs]) + rng.uniform(-0.1, 0.1, (5, *cells.shape))
    affinities, fragments = Affinities.convert(values.astype(np.float32), offsets), Labels.convert(cells, Grid())
    ours = load("agglomerators", "python", long_range=long_range)
    rag = region_adjacency_graph(affinities, fragments, ours.features)
    assert (rag.features["count"] > rag.features["far_count"]).all()
    far = rag.features["far_sum"] if long_range == "against" else 0
    mean = (rag.features["sum"] - far / 2) / UNIT / rag.features["count"]  # (1 + the mean weight) / 2
    sums = np.round(mean * rag.features["count"] * UNIT).astype(np.int64)
    none = dict.fromkeys(("min", "max"), np.zeros(len(mean), np.float32))
    weights = RegionAdjacencyGraph(rag.node_ids, rag.edges, {"count": rag.features["count"], "sum": sums, **none})
    tree, sizes = ours.cluster(rag), set()
    for threshold in np.linspace(tree.altitudes[0], tree.altitudes[-1], 9)[1:-1]:
        gasp = load("agglomerators", "gasp", thresholds=[float(threshold)]).cluster(weights)
        assert partition(gasp.cut(1)) == partition(tree.cut(threshold)), threshold
        sizes.add(len(partition(tree.cut(threshold))))
    assert len(sizes) > 3


def partitions(nodes: int):
    """All partitions of `nodes` nodes, as labels."""
    if nodes == 0:
        yield []
        return
    for labels in partitions(nodes - 1):
        for label in range(max(labels, default=-1) + 2):
            yield [*labels, label]


def cost_of(labels, edges, costs) -> float:
    labels = np.asarray(labels)
    return float(costs[labels[edges[:, 0]] != labels[edges[:, 1]]].sum())


@pytest.mark.parametrize("size_weighted", [True, False])
@pytest.mark.parametrize("decompose", [True, False])
def test_multicut_finds_the_optimum_nearly_always_and_never_a_cheaper_one(decompose, size_weighted):
    optimal = 0
    for seed in range(30):
        rag = random_graph(seed)
        mean = rag.features["sum"] / UNIT / rag.features["count"]
        costs = np.log(mean / (1 - mean)) * (rag.features["count"] if size_weighted else 1)
        least = min(cost_of(labels, rag.edges, costs) for labels in partitions(len(rag.node_ids)))
        multicut = load("agglomerators", "multicut", decompose=decompose, size_weighted=size_weighted, clip=1e-9)
        found = cost_of(multicut.cluster(rag).cut(0.5), rag.edges, costs)
        assert found >= least - 1e-9
        optimal += found <= least + 1e-9
    assert optimal >= 27


@pytest.mark.parametrize("solver", ["kernighan-lin", "greedy-additive", "greedy-fixation"])
def test_solvers_cost_no_more_than_doing_nothing_or_joining_everything(solver):
    affinities, fragments = volume(9)
    multicut = load("agglomerators", "multicut", solver=solver)
    rag = region_adjacency_graph(affinities, fragments)
    costs = multicut.costs(rag, 0.5)
    found = cost_of(multicut.cluster(rag).cut(1), rag.edges, costs)
    nodes = len(rag.node_ids)
    assert found < min(cost_of(range(nodes), rag.edges, costs), cost_of([0] * nodes, rag.edges, costs))


def test_a_multicut_by_hand():
    """A triangle of 0.9, 0.8 and 0.01: the third outvotes the second, where an agglomeration would merge all."""
    features = {"count": np.ones(3, int), "sum": np.array([0.9, 0.01, 0.8]) * UNIT}
    features["sum"] = np.round(features["sum"]).astype(np.int64)
    rag = RegionAdjacencyGraph([4, 5, 2**63], [[0, 1], [0, 2], [1, 2]], features)
    multicut = load("agglomerators", "multicut")
    assert multicut.cluster(rag).cut(0.5).tolist() == [4, 4, 2**63]
    np.testing.assert_allclose(multicut.costs(rag, 0.5), np.log([9, 0.01 / 0.99, 4]), rtol=1e-6)
    np.testing.assert_allclose(multicut.costs(rag, 0.9), np.log([81, 0.09 / 0.99, 36]), rtol=1e-6)


def test_a_higher_threshold_joins_more():
    affinities, fragments = volume(10)
    tree = load("agglomerators", "multicut", thresholds=[0.3, 0.5, 0.7]).agglomerate(affinities, fragments)
    numbers = [len(partition(tree.cut(threshold))) for threshold in (0.3, 0.5, 0.7, 1.0)]
    assert numbers[0] > numbers[1] > numbers[2] == numbers[3]
    alone = load("agglomerators", "multicut", thresholds=[0.3]).agglomerate(affinities, fragments)
    assert partition(tree.cut(0.2)) == partition(tree.cut(0.3)) == partition(alone.cut(0.3))


def test_affinities_of_0_and_1_cost_no_infinity():
    features = {"count": np.ones(2, int), "sum": np.array([0, UNIT])}
    rag = RegionAdjacencyGraph([1, 2, 3], [[0, 1], [1, 2]], features)
    assert load("agglomerators", "multicut").cluster(rag).cut(0.5).tolist() == [1, 2, 2]


@pytest.mark.parametrize("name", ["gasp", "multicut"])
@pytest.mark.parametrize("thresholds", [[], [0.5, 0.5], [0.6, 0.4], [0.0], [1.0], [float("nan")]])
def test_thresholds_out_of_range_are_refused(name, thresholds):
    with pytest.raises(InvalidParameter, match="thresholds"):
        load("agglomerators", name, thresholds=thresholds)


@pytest.mark.parametrize("clip", [0.0, 0.5, float("nan")])
def test_a_clip_out_of_range_is_refused(clip):
    with pytest.raises(InvalidParameter, match="clip"):
        load("agglomerators", "multicut", clip=clip)


def test_the_library_wants_edges_in_order():
    """The reason why pairs are sorted: when this fails, they need not be."""
    with pytest.raises(ValueError, match="sorted"):
        UndirectedGraph.from_unique_edges(3, np.array([[1, 2], [0, 1]], np.uint64))
