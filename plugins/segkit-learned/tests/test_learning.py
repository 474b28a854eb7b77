"""Learning: what a merge is worth beside the metric, what is learned, and that it is the same every time."""

from dataclasses import replace

import numpy as np
import pytest
import segkit
from segkit.data import Affinities, Grid, Labels
from segkit.errors import InvalidInput, InvalidParameter
from segkit.evaluate.sweep import sweep
from segkit.infer.oracle import oracle_affinities
from segkit.protocols import Sample
from segkit.testing import neurites

from segkit_learned.agglomerator import Learned
from segkit_learned.learning import calibrated, chosen_threshold, cut
from segkit_learned.statistics import contact_statistics
from segkit_learned.truth import gains, overlap_table, summed

pytest.importorskip("lightgbm", reason="needs lightgbm")
FAST = {"trees": 20, "leaves": 7, "learning_rate": 0.2, "forests": 2}


def sample(seed, shape=(32, 48, 48), voxel=10.0):
    truth = neurites(shape, count=30, seed=seed, voxel_size=(voxel,) * 3).truth
    affinities = oracle_affinities(truth, noise=0.35, seed=seed)
    fragments = segkit.load("fragmenters", "watershed", threshold=0.55, seed_distance=3).fragment(affinities)
    return Sample(affinities, fragments, truth)


@pytest.fixture(scope="module")
def samples():
    return [sample(1), sample(2)]


@pytest.fixture(scope="module")
def fitted(samples):
    return Learned(**FAST).fit(samples)


@pytest.fixture
def made(fitted, tmp_path):
    (tmp_path / "model.json").write_text(fitted.model)
    return Learned(model=tmp_path / "model.json")


def test_gains_beside_the_metric(samples):
    """A merge lowers the variation of information by its gain over all voxels that count."""
    given = samples[0]
    truth = given.truth.array.copy()
    truth[:3] = 0
    truth = Labels(truth, given.truth.grid)
    graph = contact_statistics(given.affinities, given.fragments)
    table = overlap_table(graph.node_ids, given.fragments, truth)
    metric = segkit.load("metrics", "voi")

    def voi(labels):
        found = metric.score(labels, truth)
        return found["voi_split"] + found["voi_merge"]

    before, voxels = voi(given.fragments), (truth.array > 0).sum()
    found = gains(graph.edges, table)
    assert (found > 0).any() and (found < 0).any()
    for row in np.random.default_rng(0).choice(len(found), 25, replace=False):
        a, b = graph.edge_ids()[row]
        array = given.fragments.array.copy()
        array[array == b] = a
        after = voi(Labels(array, given.fragments.grid))
        assert found[row] / voxels == pytest.approx(before - after, abs=1e-9)


def test_gains_by_hand():
    """Objects of 4 and 2 voxels in fragments of 2, 2 and 2: the first two are one, worth 4 bits."""
    grid = Grid((1.0, 1.0, 1.0))
    fragments = Labels.convert([[[3, 3, 4, 4, 9, 9]]], grid)
    truth = Labels.convert([[[1, 1, 1, 1, 2, 2]]], grid)
    table = overlap_table(fragments.ids(), fragments, truth)
    edges = np.array([[0, 1], [1, 2]])
    assert gains(edges, table).tolist() == [2 * 4 - 4, -4]
    assert gains(np.array([[0, 1]]), summed(table, np.array([0, 0, 1]), 2))[0] == pytest.approx(
        -(6 * np.log2(6) - 4 * 2 - 2), abs=1e-9
    )


def test_what_nobody_knows_is_worth_nothing():
    grid = Grid((1.0, 1.0, 1.0))
    fragments = Labels.convert([[[3, 3, 4, 4]]], grid)
    truth = Labels.convert([[[0, 0, 1, 1]]], grid)
    assert gains(np.array([[0, 1]]), overlap_table(fragments.ids(), fragments, truth)).tolist() == [0]


def test_a_volume_that_it_has_not_seen(made, fitted):
    """At the threshold that learning chose, the scores are better than those of the mean at its very best."""
    new = sample(5)
    tree = made.agglomerate(new.affinities, new.fragments)
    tree.check()
    [found] = sweep(tree, new.fragments, new.truth).at([fitted.figures["threshold"]])
    mean = sweep(segkit.load("agglomerators", "python").agglomerate(new.affinities, new.fragments), *new_pair(new))
    assert found["voi_split"] + found["voi_merge"] < (mean.voi_split + mean.voi_merge).min()


def new_pair(given):
    return given.fragments, given.truth


def test_a_file_gives_the_same_trees(made, samples, tmp_path):
    """Saved, loaded, saved again and in another object."""
    first = made.agglomerate(samples[0].affinities, samples[0].fragments)
    (tmp_path / "again.json").write_text(made.learned.text())
    again = Learned(model=tmp_path / "again.json").agglomerate(samples[0].affinities, samples[0].fragments)
    np.testing.assert_array_equal(first.parents, again.parents)
    np.testing.assert_array_equal(first.altitudes, again.altitudes)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_model_at_any_number_of_threads(fitted, samples, threads, monkeypatch):
    monkeypatch.setattr("segkit.threads._limit", [threads])
    assert Learned(**FAST).fit(samples).model == fitted.model


def test_another_seed_is_another_model(fitted, samples):
    assert Learned(**FAST, seed=1).fit(samples).model != fitted.model


def test_one_volume_is_cut_in_two(samples):
    parts = cut(samples[0], 2)
    assert [part.fragments.shape for part in parts] == [(32, 24, 48)] * 2
    assert parts[1].truth.grid.offset == (0, 240, 0)
    fitted = Learned(**FAST).fit(samples[:1])
    assert fitted.figures["volumes"] == 2
    assert 0 < fitted.figures["threshold"] < 1


def test_volumes_that_do_not_fit_together_are_refused(samples):
    first = samples[0]
    with pytest.raises(InvalidInput, match="voxels of all affinities"):
        Learned(**FAST).fit([first, sample(1, voxel=20.0)])
    other = Affinities(first.affinities.array, first.affinities.neighborhood * 2, first.affinities.grid)
    with pytest.raises(InvalidInput, match="offsets of all affinities"):
        Learned(**FAST).fit([first, Sample(other, first.fragments, first.truth)])
    with pytest.raises(InvalidInput, match="at least one"):
        Learned(**FAST).fit([])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trees", 0),
        ("leaves", 1),
        ("learning_rate", 0.0),
        ("forests", 21),
        ("walks", -1),
        ("weight", 1.5),
        ("seed", -1),
    ],
)
def test_parameters_out_of_range_are_refused(name, value):
    with pytest.raises(InvalidParameter, match=f"{name} must lie in "):
        Learned(**{name: value})
    with pytest.raises(InvalidParameter, match=name):
        segkit.load("agglomerators", "learned", **{name: value})


def test_the_largest_seed_is_one_of_lightgbm(samples):
    Learned(trees=1, forests=2, walks=0, seed=10**8).fit(samples)


@pytest.mark.parametrize("name", ["fragments", "truth"])
def test_volumes_that_are_aligned_only_once_they_are_cut_are_refused(samples, name):
    """A single sample is cut along its longest axis; what is too long there, or lies elsewhere, could pass."""
    given = replace(samples[0], truth=Labels(samples[0].truth.array, samples[0].fragments.grid))
    labels = getattr(given, name)
    longer = Labels(np.concatenate([labels.array, labels.array], axis=1), labels.grid)
    elsewhere = Labels(labels.array, labels.grid.crop((0, 5, 0)))
    for wrong in (longer, elsewhere):
        with pytest.raises(InvalidInput, match=name):
            Learned(**FAST).fit([replace(given, **{name: wrong})])


def test_truth_of_one_object_is_refused(samples):
    truth = Labels(np.ones(samples[0].truth.shape, np.uint64), samples[0].truth.grid)
    with pytest.raises(InvalidInput, match="inside objects and between them"):
        Learned(**FAST).fit([Sample(samples[0].affinities, samples[0].fragments, truth)])


def test_affinities_unlike_those_that_it_learned_from_are_refused(made, samples):
    given = samples[0]
    with pytest.raises(InvalidInput, match="offsets of the affinities"):
        made.agglomerate(
            Affinities(given.affinities.array[:2], given.affinities.neighborhood[:2], given.affinities.grid),
            given.fragments,
        )
    grid = Grid((10.0, 10.0, 12.0))
    with pytest.raises(InvalidInput, match="voxels of the affinities"):
        made.agglomerate(
            Affinities(given.affinities.array, given.affinities.neighborhood, grid),
            Labels(given.fragments.array, grid),
        )


def test_without_a_model_it_only_learns(samples):
    with pytest.raises(InvalidParameter, match="segkit fit"):
        Learned().agglomerate(samples[0].affinities, samples[0].fragments)


def test_a_wide_low_is_chosen_before_a_narrow_one():
    class Curve:
        def at(self, thresholds):
            narrow = [5.0 - 4.2 * (abs(t - 0.2) < 0.015) - 4.0 * (0.55 < t < 0.85) for t in thresholds]
            return [{"voi_split": value, "voi_merge": 0.5} for value in narrow]

    found = chosen_threshold([Curve(), Curve()])
    assert 0.65 < found["threshold"] < 0.75
    assert (found["voi_split"], found["voi_merge"]) == (1.0, 0.5)


def test_calibration_of_sums_that_are_twice_too_sure():
    rng = np.random.default_rng(0)
    sums = rng.normal(0, 2, 20_000)
    right = (rng.random(len(sums)) < 1 / (1 + np.exp(-(0.5 * sums - 1)))).astype(float)
    slope, shift = calibrated(sums, right, np.ones(len(sums)))
    assert slope == pytest.approx(0.5, abs=0.03) and shift == pytest.approx(-1, abs=0.05)


def test_calibration_of_what_is_told_apart_exactly_stays_finite():
    slope, shift = calibrated(np.array([-1.0, -2, 1, 2]), np.array([0.0, 0, 1, 1]), np.ones(4))
    assert np.isfinite([slope, shift]).all() and slope > 0
