"""The agglomerator against waterz called directly, and against segkit's own."""

import numpy as np
import pytest
import waterz
from segkit import Affinities, Grid, Labels, MergeTree, load
from segkit.data import NEAREST
from segkit.errors import InvalidInput, InvalidParameter, SegkitError
from segkit.timing import listening

from segkit_waterz.adapter import compacted

THRESHOLDS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
MEAN = "OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>"
QUANTILE = "OneMinus<HistogramQuantileAffinity<RegionGraphType, {}, ScoreValue, 256, {}>>"
SCORINGS = [
    ({"score": "mean"}, MEAN),
    ({"score": "median"}, QUANTILE.format(50, "false")),
    ({"score": "quantile", "quantile": 0.85}, QUANTILE.format(85, "false")),
    ({"score": "quantile", "quantile": 0.15, "histogram_init": "max"}, QUANTILE.format(15, "true")),
]


def volume(seed: int, shape=(6, 9, 8), fragments: int = 60, neighborhood=NEAREST):
    """Random affinities, and fragments as Voronoi cells with some background between them."""
    rng = np.random.default_rng(seed)
    affinities = Affinities.convert(rng.random((len(neighborhood), *shape), np.float32), neighborhood)
    seeds = rng.uniform(0, shape, (fragments, 3))
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    cells = 1 + np.argmin(((voxels[..., None, :] - seeds) ** 2).sum(-1), -1)
    cells[rng.random(shape) < 0.05] = 0
    return affinities, Labels.convert(cells, affinities.grid)


def cut(tree: MergeTree, fragments: Labels, threshold: float) -> np.ndarray:
    """The segmentation below a threshold, as the smallest fragment id in each segment."""
    ids = np.append(np.uint64(0), tree.cut(threshold))
    return ids[np.searchsorted(tree.leaf_ids, fragments.array, side="right")]


def direct(affinities: np.ndarray, fragments: np.ndarray, threshold: float, **options) -> np.ndarray:
    """What waterz itself yields for one threshold."""
    (result,) = waterz.agglomerate(affinities, [threshold], fragments=fragments.copy(), **options)
    return result


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return all(len(np.unique(ids)) == pairs.shape[1] for ids in pairs)


def coarser(coarse: np.ndarray, fine: np.ndarray) -> bool:
    pairs = np.unique(np.stack([coarse.ravel(), fine.ravel()]), axis=1)
    return len(np.unique(pairs[1])) == pairs.shape[1]


@pytest.mark.parametrize(("parameters", "scoring"), SCORINGS)
@pytest.mark.parametrize("seed", range(4))
def test_a_cut_is_what_waterz_yields_for_that_threshold_alone(seed, parameters, scoring):
    affinities, fragments = volume(seed)
    tree = load("agglomerators", "waterz", **parameters).agglomerate(affinities, fragments)
    tree.check()
    for threshold in THRESHOLDS:
        expected = direct(affinities.array, fragments.array, threshold, scoring_function=scoring)
        assert same_partition(cut(tree, fragments, threshold), expected)


@pytest.mark.parametrize(("parameters", "scoring"), SCORINGS)
def test_with_a_queue_of_bins_a_cut_is_exact_at_bin_edges_and_enclosed_between_them(parameters, scoring):
    affinities, fragments = volume(5)
    tree = load("agglomerators", "waterz", queue_bins=256, **parameters).agglomerate(affinities, fragments)
    options = {"scoring_function": scoring, "discretize_queue": 256}
    for edge in range(16, 256, 24):
        expected = direct(affinities.array, fragments.array, edge / 256, **options)
        assert same_partition(cut(tree, fragments, edge / 256), expected)
    for threshold in THRESHOLDS:
        yielded = direct(affinities.array, fragments.array, threshold, **options)
        below, above = np.floor(threshold * 256) / 256, np.ceil(threshold * 256) / 256
        assert coarser(yielded, cut(tree, fragments, below))
        assert coarser(cut(tree, fragments, above), yielded)


@pytest.mark.parametrize("backend", ["reference", "python"])
@pytest.mark.parametrize("seed", range(6))
def test_mean_gives_the_partitions_of_segkits_own_backends(seed, backend):
    affinities, fragments = volume(10 + seed)
    ours = load("agglomerators", backend, score="mean").agglomerate(affinities, fragments)
    theirs = load("agglomerators", "waterz", score="mean").agglomerate(affinities, fragments)
    for threshold in THRESHOLDS:
        assert np.array_equal(cut(theirs, fragments, threshold), cut(ours, fragments, threshold))
    np.testing.assert_allclose(theirs.altitudes, ours.altitudes, atol=1e-6)


@pytest.mark.parametrize("histogram_init", ["all", "max"])
@pytest.mark.parametrize("quantile", [0.5, 0.85])
@pytest.mark.parametrize("seed", range(3))
def test_quantiles_give_the_partitions_of_segkits_own_backend(seed, quantile, histogram_init):
    """With so few contacts that none have equal scores, which the two would merge in another order."""
    affinities, fragments = volume(20 + seed, shape=(3, 4, 4), fragments=7)
    parameters = {"score": "quantile", "quantile": quantile, "histogram_init": histogram_init}
    backends = [load("agglomerators", name, **parameters) for name in ("python", "waterz")]
    ours, theirs = (backend.agglomerate(affinities, fragments) for backend in backends)
    for threshold in THRESHOLDS:
        assert same_partition(cut(theirs, fragments, threshold), cut(ours, fragments, threshold))
    np.testing.assert_allclose(theirs.altitudes, ours.altitudes, atol=1e-6)


def test_a_chain_by_hand():
    affinities = np.zeros((3, 1, 1, 4), np.float32)
    affinities[2, 0, 0, 1:] = [0.75, 0.25, 0.5]
    tree = load("agglomerators", "waterz").agglomerate(
        Affinities(affinities, NEAREST, Grid()), Labels(np.array([[[9, 4, 2**63, 5]]], np.uint64), Grid())
    )
    assert tree.leaf_ids.tolist() == [4, 5, 9, 2**63]
    assert tree.merges.tolist() == [[0, 2], [1, 3], [4, 5]]
    assert tree.altitudes.tolist() == [0.25, 0.5, 0.75]


def test_background_and_outside_are_in_no_tree_and_unconnected_fragments_stay_apart():
    affinities = Affinities.convert(np.full((3, 1, 1, 5), 0.5, np.float32))
    fragments = Labels(np.array([[[3, 0, 8, 2**64 - 1, 5]]], np.uint64), Grid())
    tree = load("agglomerators", "waterz").agglomerate(affinities, fragments)
    assert tree.leaf_ids.tolist() == [3, 5, 8]
    assert len(tree.altitudes) == 0


def test_an_affinity_of_0_is_a_contact_and_merges_last():
    affinities = Affinities(np.zeros((3, 1, 1, 2), np.float32), NEAREST, Grid())
    tree = load("agglomerators", "waterz").agglomerate(affinities, Labels.convert([[[1, 2]]], Grid()))
    assert tree.altitudes.tolist() == [1.0]


@pytest.mark.parametrize("ids", [[0], [0, 2**64 - 2], [7]])
def test_nothing_to_merge_gives_a_tree_of_leaves(ids):
    fragments = Labels.convert([[np.array(ids, np.uint64)]], Grid())
    affinities = Affinities(np.zeros((3, *fragments.shape), np.float32), NEAREST, Grid())
    tree = load("agglomerators", "waterz").agglomerate(affinities, fragments)
    assert tree.leaf_ids.tolist() == [i for i in ids if 0 < i < 2**64 - 2]
    assert len(tree.altitudes) == 0


def test_large_ids_give_the_same_tree():
    affinities, fragments = volume(30)
    spread = np.where(fragments.array, fragments.array * np.uint64(2**57) + np.uint64(11), np.uint64(0))
    agglomerator = load("agglomerators", "waterz")
    tree = agglomerator.agglomerate(affinities, fragments)
    large = agglomerator.agglomerate(affinities, Labels(spread, fragments.grid))
    assert np.array_equal(large.parents, tree.parents)
    assert np.array_equal(large.altitudes, tree.altitudes)
    assert np.array_equal(large.leaf_ids, tree.leaf_ids * np.uint64(2**57) + np.uint64(11))


def test_inputs_stay_as_they_are_and_results_are_independent():
    affinities, fragments = volume(31)
    writable = fragments.array.copy()
    before = affinities.array.copy()
    agglomerator = load("agglomerators", "waterz")
    first = agglomerator.agglomerate(affinities, Labels(writable, fragments.grid))
    kept = first.parents.copy()
    agglomerator.agglomerate(affinities, Labels(writable[::-1], fragments.grid))
    assert np.array_equal(writable, fragments.array)
    assert np.array_equal(affinities.array, before)
    assert np.array_equal(first.parents, kept)


def test_memory_layout_does_not_matter():
    affinities, fragments = volume(32)
    fortran = Affinities(np.asfortranarray(affinities.array), affinities.neighborhood, affinities.grid)
    strided = Labels(np.repeat(fragments.array, 2, axis=2)[:, :, ::2], fragments.grid)
    agglomerator = load("agglomerators", "waterz")
    expected = agglomerator.agglomerate(affinities, fragments)
    found = agglomerator.agglomerate(fortran, strided)
    assert np.array_equal(found.parents, expected.parents)
    assert np.array_equal(found.altitudes, expected.altitudes)


@pytest.mark.parametrize(
    "neighborhood",
    [[[0, 0, -1], [0, -1, 0], [-1, 0, 0]], [[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]],
)
def test_other_orders_and_ends_of_nearest_neighbours_are_converted(neighborhood):
    affinities, fragments = volume(33, neighborhood=neighborhood)
    agglomerator = load("agglomerators", "waterz")
    reference = load("agglomerators", "reference").agglomerate(affinities, fragments)
    tree = agglomerator.agglomerate(affinities, fragments)
    for threshold in THRESHOLDS:
        assert np.array_equal(cut(tree, fragments, threshold), cut(reference, fragments, threshold))


def test_a_section_needs_no_channel_along_z():
    affinities, fragments = volume(34, shape=(1, 12, 12), fragments=30, neighborhood=NEAREST[1:])
    reference = load("agglomerators", "reference").agglomerate(affinities, fragments)
    tree = load("agglomerators", "waterz").agglomerate(affinities, fragments)
    np.testing.assert_allclose(tree.altitudes, reference.altitudes, atol=1e-6)
    assert len(tree.altitudes)


@pytest.mark.parametrize(
    "neighborhood", [[*NEAREST, (0, 0, -3)], [(-2, 0, 0), *NEAREST[1:]], NEAREST[1:], [(-1, -1, 0), *NEAREST[1:]]]
)
def test_other_neighborhoods_are_refused(neighborhood):
    affinities, fragments = volume(35, neighborhood=neighborhood)
    with pytest.raises(InvalidInput, match="neighborhood must have the nearest neighbours"):
        load("agglomerators", "waterz").agglomerate(affinities, fragments)


def test_nan_and_misaligned_inputs_are_refused():
    affinities, fragments = volume(36)
    broken = affinities.array.copy()
    broken[1, 2, 3, 4] = np.nan
    agglomerator = load("agglomerators", "waterz")
    with pytest.raises(InvalidInput, match="NaN"):
        agglomerator.agglomerate(Affinities(broken, NEAREST, affinities.grid), fragments)
    with pytest.raises(InvalidInput, match="same voxel size"):
        agglomerator.agglomerate(affinities, Labels(fragments.array, Grid((40, 4, 4))))


@pytest.mark.parametrize(
    "parameters",
    [{"quantile": 0.0}, {"quantile": 1.0}, {"quantile": 0.505}, {"quantile": float("nan")}, {"queue_bins": -1}],
)
def test_parameters_out_of_range_are_refused(parameters):
    with pytest.raises(InvalidParameter, match=next(iter(parameters))):
        load("agglomerators", "waterz", score="quantile", **parameters)


@pytest.mark.parametrize("score", ["mean", "max", "median", "quantile"])
def test_a_quantile_that_is_none_is_refused_even_where_it_is_not_used(score):
    with pytest.raises(InvalidParameter, match=r"quantile must be a whole percentage, 0\.01 to 0\.99, not 7"):
        load("agglomerators", "waterz", score=score, quantile=7)


@pytest.mark.parametrize("spread", [1, 3, 2**57])
def test_fragments_are_numbered_in_the_order_of_their_ids(spread):
    ids = np.array([[[5, 0, 2, 9], [9, 2, 7, 0]]], np.uint64) * np.uint64(spread)
    ids[0, 1, 3] = 2**64 - 1
    leaf_ids, numbers = compacted(Labels(ids, Grid()))
    assert leaf_ids.tolist() == [2 * spread, 5 * spread, 7 * spread, 9 * spread]
    assert numbers.tolist() == [[[2, 0, 1, 4], [4, 1, 3, 0]]] and numbers.dtype == np.uint64


def test_it_says_where_the_time_goes():
    with listening() as phases:
        load("agglomerators", "waterz").agglomerate(*volume(39))
    assert list(phases) == ["converting", "waterz"] and phases["waterz"] > 0


def test_a_scoring_that_cannot_be_compiled_says_what_to_install(monkeypatch):
    def no_compiler(*args, **options):
        raise OSError("g++ not found")

    monkeypatch.setattr(waterz, "agglomerate", no_compiler)
    with pytest.raises(SegkitError, match="boost headers"):
        load("agglomerators", "waterz", score="max").agglomerate(*volume(37))


def test_nothing_is_printed(capfd):
    affinities, fragments = volume(38)
    print("before")
    load("agglomerators", "waterz").agglomerate(affinities, fragments)
    print("after")
    assert capfd.readouterr() == ("before\nafter\n", "")
