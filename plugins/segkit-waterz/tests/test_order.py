"""The order of waterz, against the installed waterz."""

import os
import subprocess
import sys
from contextlib import contextmanager
from itertools import product

import numpy as np
import pytest
import waterz
from segkit import Affinities, Grid, Labels, MergeTree, load
from segkit.data import NEAREST
from segkit.errors import InvalidParameter
from segkit.timing import listening

THRESHOLDS = [float(np.float32(t)) for t in np.arange(0.05, 1, 0.05)]
MEAN = "OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>"
MAX = "OneMinus<MaxAffinity<RegionGraphType, ScoreValue>>"
QUANTILE = "OneMinus<HistogramQuantileAffinity<RegionGraphType, {}, ScoreValue, 256, {}>>"
SCORINGS = [
    ({"score": "mean"}, MEAN),
    ({"score": "median"}, QUANTILE.format(50, "false")),
    ({"score": "quantile", "quantile": 0.85}, QUANTILE.format(85, "false")),
    ({"score": "median", "histogram_init": "max"}, QUANTILE.format(50, "true")),
    ({"score": "quantile", "quantile": 0.15, "histogram_init": "max"}, QUANTILE.format(15, "true")),
]


def volume(seed, shape=None, fragments=None):
    """Random affinities, most with many ties, and random fragments with some background; 15 seeds are all kinds."""
    rng = np.random.default_rng(seed)
    shape = shape or tuple(rng.integers(1, 9, 3))
    values = rng.random((3, *shape), np.float32)
    if levels := [0, 1, 4, 30, 255][seed % 5]:
        values = np.round(values * levels) / np.float32(levels)
    ids = rng.integers(0, (fragments or [5, 40, 400][seed % 3]) + 1, shape)
    return Affinities.convert(values, NEAREST), Labels.convert(ids, Grid())


def merged(affinities: Affinities, fragments: Labels, **parameters) -> MergeTree:
    return load("agglomerators", "waterz-order", **parameters).agglomerate(affinities, fragments)


@contextmanager
def silence():
    """waterz prints from C++, without end where there is much to compare."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(nowhere)
        os.close(kept)


def assert_identical(affinities, fragments, parameters, scoring, queue_bins):
    """At every threshold, each asked for alone and one after the other in one run, down to the ids."""
    tree = merged(affinities, fragments, queue_bins=queue_bins, **parameters)
    tree.check()
    options = {"scoring_function": scoring, "discretize_queue": queue_bins}
    one_after_the_other = waterz.agglomerate(affinities.array, THRESHOLDS, fragments=fragments.array.copy(), **options)
    for threshold in THRESHOLDS:
        look_up = np.zeros(int(fragments.array.max()) + 1, np.uint64)
        look_up[tree.leaf_ids] = tree.cut(threshold)
        found = look_up[fragments.array]
        (alone,) = waterz.agglomerate(affinities.array, [threshold], fragments=fragments.array.copy(), **options)
        np.testing.assert_array_equal(found, alone)
        np.testing.assert_array_equal(found, next(one_after_the_other))


@pytest.mark.parametrize("seeds", [range(15), pytest.param(range(15, 60), marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("queue_bins", [0, 256])
@pytest.mark.parametrize(("parameters", "scoring"), SCORINGS, ids=str)
def test_partitions_are_those_of_waterz(parameters, scoring, queue_bins, seeds):
    if queue_bins == 0 and not sys.platform.startswith("linux"):
        pytest.skip("the order of equal scores in the heap is that of the GNU library")
    with silence():
        for seed in seeds:
            assert_identical(*volume(seed), parameters, scoring, queue_bins)


@pytest.mark.parametrize(("parameters", "scoring"), SCORINGS, ids=str)
def test_partitions_are_those_of_waterz_on_thousands_of_contacts(parameters, scoring):
    with silence():
        assert_identical(*volume(4, (16, 16, 16), 1500), parameters, scoring, 256)


@pytest.mark.compiler
def test_the_maximum_which_waterz_compiles_when_it_is_asked():
    with silence():
        for seed in range(60):
            assert_identical(*volume(seed), {"score": "max"}, MAX, 256)


@pytest.mark.parametrize(("parameters", "scoring"), SCORINGS[:2], ids=str)
def test_smooth_affinities_and_compact_fragments(parameters, scoring):
    rng = np.random.default_rng(1)
    shape = (12, 14, 16)
    values = rng.random((3, *shape), np.float32)
    for axis in (1, 2, 3):
        values = (values + np.roll(values, 1, axis)) / 2
    seeds = rng.uniform(0, shape, (200, 3))
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    cells = 1 + np.argmin(((voxels[..., None, :] - seeds) ** 2).sum(-1), -1)
    with silence():
        assert_identical(Affinities.convert(values), Labels.convert(cells, Grid()), parameters, scoring, 256)


@pytest.mark.parametrize("score", ["max", "min"])
def test_without_ties_a_heap_gives_the_exact_order(score):
    for seed in range(0, 50, 5):
        data = volume(seed)
        tree = merged(*data, score=score, queue_bins=0)
        exact = load("agglomerators", "python", score=score).agglomerate(*data)
        np.testing.assert_allclose(tree.altitudes, exact.altitudes, atol=1e-7)
        for threshold in THRESHOLDS:
            np.testing.assert_array_equal(tree.cut(threshold), exact.cut(threshold))


@pytest.mark.parametrize("score", ["mean", "min", "max", "median"])
def test_channels_in_another_order_and_stored_at_the_other_end(score):
    affinities, fragments = volume(7, (5, 6, 7), 60)
    other = np.stack([np.roll(channel, -1, axis) for axis, channel in enumerate(affinities.array)])[[2, 0, 1]]
    successors = Affinities.convert(other, [(0, 0, 1), (1, 0, 0), (0, 1, 0)], affinities.grid)
    one, two = (merged(data, fragments, score=score) for data in (affinities, successors))
    np.testing.assert_array_equal(one.parents, two.parents)
    np.testing.assert_array_equal(one.altitudes, two.altitudes)


def test_ids_of_any_size_and_outside_the_annotation():
    affinities, fragments = volume(8, (5, 6, 7), 60)
    high = np.arange(61, dtype=np.uint64) * np.uint64(2**58 - 1)
    high[[0, 60]] = [0, 2**64 - 1]
    renamed = Labels(high[fragments.array], fragments.grid)
    tree = merged(affinities, renamed)
    removed = Labels(np.where(fragments.array == 60, np.uint64(0), fragments.array), fragments.grid)
    other = merged(affinities, removed)
    np.testing.assert_array_equal(tree.leaf_ids, high[other.leaf_ids])
    np.testing.assert_array_equal(tree.parents, other.parents)
    np.testing.assert_array_equal(tree.altitudes, other.altitudes)


@pytest.mark.parametrize("score", ["mean", "min", "max", "median"])
def test_nothing_to_merge(score):
    for ids, queue_bins in product([[0], [7], [4, 0, 9]], [0, 1, 256]):
        fragments = Labels.convert([[ids]], Grid())
        affinities = Affinities(np.ones((3, *fragments.shape), np.float32), NEAREST, Grid())
        tree = merged(affinities, fragments, score=score, queue_bins=queue_bins)
        assert tree.leaf_ids.tolist() == [i for i in ids if i], f"{queue_bins} bins"
        assert len(tree.altitudes) == 0, f"{ids}, {queue_bins} bins"


def test_a_stale_entry_goes_to_the_end_of_its_bin():
    # Fragments 1 2 . / 3 3 4, scores 1-2: 0.1, and in the bin 0.25 to 0.5 of four 1-3: 0.3, 2-3: 0.4, 3-4: 0.45. The
    # contact of 1 2 with 3 keeps the first entry, is scored 0.35 when that comes up, and waits behind 3-4.
    values = np.zeros((3, 1, 2, 3), np.float32)
    values[1, 0, 1, :2], values[2, 0, 0, 1], values[2, 0, 1, 2] = [0.7, 0.6], 0.9, 0.55
    data = Affinities(values, NEAREST, Grid()), Labels.convert([[[1, 2, 0], [3, 3, 4]]], Grid())
    tree = merged(*data, queue_bins=4)
    assert tree.merges.tolist() == [[0, 1], [2, 3], [4, 5]]
    np.testing.assert_allclose(tree.altitudes, [0.1, 0.45, 0.45], atol=1e-6)


def test_an_altitude_counts_entries_of_contacts_that_are_gone():
    # Fragments 1 2 / 3 4 in a square, scores 1-2: 0.1, 1-3: 0.3, 2-4: 0.34, 3-4: 0.32, all but the first in the bin
    # 0.25 to 0.5 of four. 1-3 is the first of that bin, though 3-4 would be dearer.
    values = np.zeros((3, 1, 2, 2), np.float32)
    values[1, 0, 1], values[2, 0, :, 1] = [0.7, 0.66], [0.9, 0.68]
    data = Affinities(values, NEAREST, Grid()), Labels.convert([[[1, 2], [3, 4]]], Grid())
    tree = merged(*data, queue_bins=4)
    assert tree.merges.tolist() == [[0, 1], [2, 4], [3, 5]]
    # The contact of 1 2 3 with 4 is scored 0.33 when it comes up, but 0.34 came up before it.
    np.testing.assert_allclose(tree.altitudes, [0.1, 0.3, 0.34], atol=1e-6)


@pytest.mark.parametrize("queue_bins", [-1, 65537])
def test_numbers_of_bins_out_of_range_are_refused(queue_bins):
    with pytest.raises(InvalidParameter, match="queue_bins"):
        load("agglomerators", "waterz-order", queue_bins=queue_bins)


def test_exact_quantiles_are_refused():
    with pytest.raises(InvalidParameter, match=r"bins must be positive .*'python'"):
        load("agglomerators", "waterz-order", score="median", bins=0)


def test_waterz_is_not_needed():
    program = (
        "import sys; sys.modules['waterz'] = None\n"
        "import numpy as np; from segkit import Affinities, Grid, Labels, load\n"
        "affinities = Affinities.convert(np.full((3, 1, 1, 2), 0.5, np.float32))\n"
        "tree = load('agglomerators', 'waterz-order').agglomerate(affinities, Labels.convert([[[1, 2]]], Grid()))\n"
        "print(tree.altitudes.tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout == "[0.5]\n", done.stderr


def test_it_says_where_the_time_goes():
    with listening() as phases:
        merged(*volume(9))
    assert list(phases) == ["region graph", "merging"]
