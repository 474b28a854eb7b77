import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit import Affinities, Grid, Labels
from segkit.agglomerate.rag import UNIT, contact_bins, mean_affinity, region_adjacency_graph
from segkit.errors import InvalidInput, InvalidParameter, InvalidShape

EVERYTHING = ("count", "sum", "min", "max", "histogram")
NEIGHBORHOODS = [
    [(-1, 0, 0), (0, -1, 0), (0, 0, -1)],
    [(0, 0, 1), (1, 0, 0)],
    [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 2, -3), (-2, 1, 0), (0, 0, 9)],
]
IDS = [
    np.arange(9, dtype=np.uint64),
    np.array([0, 1, 2**63, 2**63 + 1, 2**64 - 3, 2**64 - 2, 2**64 - 1, 77, 2**40], np.uint64),
    np.array([0, 2**63 + 5, 2**63 + 1, 2**63 + 9, 2**64 - 1], np.uint64),
]


@st.composite
def inputs(draw):
    """Affinities, some of them 0 and 1, and fragments with background, high ids and "outside"."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = tuple(draw(st.integers(1, 5)) for _ in range(3))
    neighborhood = draw(st.sampled_from(NEIGHBORHOODS))
    values = rng.random((len(neighborhood), *shape), np.float32)
    if draw(st.booleans()):
        values = np.round(values * 4) / 4
    fragments = rng.choice(draw(st.sampled_from(IDS)), shape)
    return Affinities.convert(values, neighborhood), Labels(fragments, Grid())


def contacts(affinities, fragments):
    """Every affinity between two fragments, found voxel by voxel."""
    found = {}
    for c, offset in enumerate(affinities.neighborhood):
        for voxel in np.ndindex(*fragments.shape):
            other = tuple(np.add(voxel, offset))
            if any(not 0 <= i < size for i, size in zip(other, fragments.shape, strict=True)):
                continue
            a, b = sorted(int(fragments.array[v]) for v in (voxel, other))
            if a == b or a == 0 or b >= 2**64 - 2:
                continue
            found.setdefault((a, b), []).append(float(affinities.array[(c, *voxel)]))
    return found


@settings(max_examples=100, deadline=None)
@given(inputs())
def test_agrees_with_a_loop_over_voxels(data):
    affinities, fragments = data
    expected = contacts(affinities, fragments)
    rag = region_adjacency_graph(affinities, fragments, EVERYTHING, bins=10)
    rag.check()
    np.testing.assert_array_equal(rag.node_ids, fragments.ids())
    assert [tuple(pair) for pair in rag.edge_ids().tolist()] == sorted(expected)
    for e, pair in enumerate(sorted(expected)):
        values = np.array(expected[pair])
        assert rag.features["count"][e] == len(values)
        assert rag.features["sum"][e] == sum(round(v * 2**30) for v in values)
        assert rag.features["min"][e] == values.min()
        assert rag.features["max"][e] == values.max()
        bins = np.minimum((values.astype(np.float32) * np.float32(10)).astype(int), 9)
        np.testing.assert_array_equal(rag.features["histogram"][e], np.bincount(bins, minlength=10))
    means = [np.mean(expected[pair]) for pair in sorted(expected)]
    np.testing.assert_allclose(mean_affinity(rag), means, rtol=0, atol=2**-31)


def test_hand_worked():
    fragments = Labels.convert([[[3, 3, 8], [3, 0, 8]]], Grid())
    values = np.zeros((2, 1, 2, 3), np.float32)
    values[0, 0, 1] = 0.9, 0.8, 0.7  # along y: 3-3, 3-0, 8-8
    values[1, 0, :, 1] = 0.6, 0.5  # along x: 3-3, 3-0
    values[1, 0, :, 2] = 0.25, 0.4  # along x: 3-8, 0-8
    rag = region_adjacency_graph(Affinities(values, [(0, -1, 0), (0, 0, -1)], Grid()), fragments)
    assert rag.edge_ids().tolist() == [[3, 8]]
    assert rag.features["count"].tolist() == [1]
    assert rag.features["sum"].tolist() == [UNIT // 4]


def test_many_edges_outgrow_the_first_table():
    shape = (30, 30, 30)
    fragments = np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape).astype(np.uint64) + 1
    rag = region_adjacency_graph(Affinities.convert(np.full((3, *shape), 0.5)), Labels(fragments, Grid()))
    pairs = [
        np.sort([fragments[1:].ravel(), fragments[:-1].ravel()], axis=0),
        np.sort([fragments[:, 1:].ravel(), fragments[:, :-1].ravel()], axis=0),
        np.sort([fragments[:, :, 1:].ravel(), fragments[:, :, :-1].ravel()], axis=0),
    ]
    np.testing.assert_array_equal(rag.edge_ids(), np.unique(np.concatenate(pairs, axis=1).T, axis=0))
    assert (rag.features["count"] == 1).all()
    assert (rag.features["sum"] == UNIT // 2).all()


@pytest.mark.parametrize("neighborhood", NEIGHBORHOODS, ids=len)
def test_slabs_and_threads_do_not_matter(neighborhood, monkeypatch):
    from segkit.agglomerate import rag as module

    rng = np.random.default_rng(4)
    values = rng.random((len(neighborhood), 11, 6, 7), np.float32)
    affinities = Affinities.convert(values, neighborhood)
    fragments = Labels.convert(rng.integers(0, 40, (11, 6, 7)) << 50, Grid())
    features = (*EVERYTHING, "size")
    results = []
    for threads, voxels in [(1, 2**21), (1, 1), (3, 1), (3, 2**21)]:
        monkeypatch.setattr("segkit.threads._limit", [threads])
        monkeypatch.setattr(module, "VOXELS_OF_SLAB", voxels)
        results.append(region_adjacency_graph(affinities, fragments, features))
    for rag in results[1:]:
        np.testing.assert_array_equal(rag.edges, results[0].edges)
        np.testing.assert_array_equal(rag.node_features["size"], results[0].node_features["size"])
        for feature in EVERYTHING:
            np.testing.assert_array_equal(rag.features[feature], results[0].features[feature])
    counts = [np.count_nonzero(fragments.array == i) for i in results[0].node_ids]
    np.testing.assert_array_equal(results[0].node_features["size"], counts)


def test_affinities_of_each_contact_on_request():
    affinities = Affinities.convert(np.random.default_rng(6).random((3, 5, 6, 7), np.float32))
    fragments = Labels.convert(np.random.default_rng(7).integers(0, 9, (5, 6, 7)), Grid())
    rag, starts, numbers = contact_bins(affinities, fragments, 0)
    expected = contacts(affinities, fragments)
    for e, pair in enumerate(rag.edge_ids().tolist()):
        assert numbers[starts[e] : starts[e + 1]].view(np.float32).tolist() == sorted(expected[tuple(pair)])


@pytest.mark.parametrize("bins", [1, 7, 64, 65, 256, 3000])
@pytest.mark.parametrize(("count", "longest"), [(3, 500), (40, 5)])
def test_bins_of_contacts_of_any_length(bins, count, longest):
    rng = np.random.default_rng(bins)
    affinities = Affinities.convert(rng.random((3, 9, 11, 13), np.float32))
    fragments = Labels.convert(rng.integers(0, count, (9, 11, 13)), Grid())
    rag, starts, numbers = contact_bins(affinities, fragments, bins)
    expected = contacts(affinities, fragments)
    assert max(map(len, expected.values())) > longest
    for e, pair in enumerate(rag.edge_ids().tolist()):
        wanted = sorted(min(int(np.float32(value) * np.float32(bins)), bins - 1) for value in expected[tuple(pair)])
        assert numbers[starts[e] : starts[e + 1]].tolist() == wanted


@pytest.mark.parametrize("neighborhood", NEIGHBORHOODS, ids=len)
@pytest.mark.parametrize("width", [63, 64, 65, 150])
def test_rows_longer_than_what_is_compared_at_once(width, neighborhood):
    rng = np.random.default_rng(width)
    shape = (3, 4, width)
    fragments = Labels(np.repeat(rng.choice(IDS[1], shape), rng.integers(1, 40, width), axis=2)[..., :width], Grid())
    values = np.round(rng.random((len(neighborhood), *shape), np.float32) * 8) / 8
    values[values == 0] = -0.0
    affinities = Affinities.convert(values, neighborhood)
    expected = contacts(affinities, fragments)
    rag = region_adjacency_graph(affinities, fragments, (*EVERYTHING, "size"))
    rag.check()
    np.testing.assert_array_equal(rag.node_ids, fragments.ids())
    sizes = [np.count_nonzero(fragments.array == i) for i in rag.node_ids]
    np.testing.assert_array_equal(rag.node_features["size"], sizes)
    assert [tuple(pair) for pair in rag.edge_ids().tolist()] == sorted(expected)
    _, starts, numbers = contact_bins(affinities, fragments, 0)
    for e, pair in enumerate(sorted(expected)):
        assert rag.features["sum"][e] == sum(round(v * 2**30) for v in expected[pair])
        assert rag.features["min"][e] == min(expected[pair])
        assert rag.features["max"][e] == max(expected[pair])
        assert not np.signbit(rag.features["min"][e])
        assert numbers[starts[e] : starts[e + 1]].view(np.float32).tolist() == sorted(expected[pair])


def test_sums_of_blocks_add_up_exactly():
    rng = np.random.default_rng(1)
    affinities = Affinities.convert(rng.random((3, 8, 8, 8), np.float32))
    fragments = Labels.convert(rng.integers(1, 4, (8, 8, 8)), Grid())
    whole = region_adjacency_graph(affinities, fragments).features["sum"]
    parts = []
    for block in (slice(0, 5), slice(4, 8)):  # the block that begins at 4 holds the edges between 4 and 5 again
        crop = affinities.array[:, block].copy()
        crop[0, 0] = 0
        if block.start:
            crop[1:, 0] = 0
        grid = Grid()
        part = region_adjacency_graph(
            Affinities(crop, affinities.neighborhood, grid), Labels(fragments.array[block], grid)
        )
        parts.append(part.features["sum"])
    np.testing.assert_array_equal(parts[0] + parts[1], whole)


@pytest.mark.parametrize(
    "arrange",
    [np.asfortranarray, lambda a: np.repeat(a, 2, axis=-1)[..., ::2], lambda a: a[..., ::-1].copy()[..., ::-1]],
    ids=["fortran", "strided", "reversed"],
)
def test_layout_does_not_matter_and_inputs_do_not_change(arrange):
    rng = np.random.default_rng(2)
    values = rng.random((3, 4, 5, 6), np.float32)
    values[0, 0] = values[1, :, 0] = values[2, :, :, 0] = 0
    ids = rng.integers(0, 9, (4, 5, 6)).astype(np.uint64)
    plain = region_adjacency_graph(Affinities.convert(values), Labels(ids, Grid()), EVERYTHING)
    arranged, arranged_ids = arrange(values), arrange(ids)
    assert not arranged.flags.c_contiguous
    rag = region_adjacency_graph(Affinities.convert(arranged), Labels(arranged_ids, Grid()), EVERYTHING)
    np.testing.assert_array_equal(rag.edges, plain.edges)
    for feature in EVERYTHING:
        np.testing.assert_array_equal(rag.features[feature], plain.features[feature])
    np.testing.assert_array_equal(arranged, values)
    np.testing.assert_array_equal(arranged_ids, ids)


@pytest.mark.parametrize("empty", [0, 2**64 - 1])
def test_no_fragments(empty):
    fragments = Labels(np.full((2, 2, 2), empty, np.uint64), Grid())
    rag = region_adjacency_graph(Affinities.convert(np.zeros((3, 2, 2, 2))), fragments, EVERYTHING)
    assert len(rag.node_ids) == 0
    assert rag.edges.shape == (0, 2)
    assert rag.features["histogram"].shape == (0, 256)


@pytest.mark.parametrize(("value", "rule"), [(np.nan, "NaN"), (1.5, "0..1"), (-0.1, "0..1"), (np.inf, "0..1")])
def test_bad_affinities_between_fragments_are_refused_with_their_place(value, rule):
    values = np.zeros((3, 2, 2, 2), np.float32)
    values[2, 1, 0, 1] = value
    affinities = Affinities(values, [(-1, 0, 0), (0, -1, 0), (0, 0, -1)], Grid())
    fragments = Labels.convert(np.arange(1, 9).reshape(2, 2, 2), Grid())
    with pytest.raises(InvalidInput, match=rf"{rule}.*\(2, 1, 0, 1\)"):
        region_adjacency_graph(affinities, fragments)


def test_bad_calls():
    affinities = Affinities.convert(np.zeros((3, 2, 2, 2)))
    with pytest.raises(InvalidShape, match="same shape"):
        region_adjacency_graph(affinities, Labels.convert(np.ones((2, 2, 3), int), Grid()))
    with pytest.raises(InvalidInput, match="voxel size"):
        region_adjacency_graph(affinities, Labels.convert(np.ones((2, 2, 2), int), Grid((4, 1, 1))))
    with pytest.raises(InvalidParameter, match="'median'"):
        region_adjacency_graph(affinities, Labels.convert(np.ones((2, 2, 2), int), Grid()), ("median",))
    with pytest.raises(InvalidParameter, match="bins must"):
        region_adjacency_graph(affinities, Labels.convert(np.ones((2, 2, 2), int), Grid()), ("histogram",), bins=0)
