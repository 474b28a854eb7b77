import dataclasses
import re

import numpy as np
import pytest

from segkit import Affinities, Grid, Labels
from segkit.errors import InvalidInput, InvalidShape, UnknownComponent
from segkit.evaluate import evaluate
from segkit.health import examine, verdict
from segkit.infer.oracle import oracle_affinities
from segkit.registry import load
from segkit.testing.phantoms import neurites

NEAREST = np.array([(-1, 0, 0), (0, -1, 0), (0, 0, -1)])


@pytest.fixture(scope="module", params=[((48, 64, 64), 14, (10, 10, 10)), ((24, 80, 80), 20, (40, 10, 10))])
def truth(request):
    shape, count, voxel_size = request.param
    return Labels(neurites(shape, count=count, seed=3, voxel_size=voxel_size).truth.array, Grid())


@pytest.fixture(scope="module")
def healthy(truth):
    return oracle_affinities(truth, seed=1).array


def kinds(array, labels=None, **options):
    found = verdict(examine(Affinities.convert(np.clip(array, 0, 1)), labels, **options))
    return {finding.kind for finding in found}, " ".join(finding.sentence for finding in found)


def test_healthy_affinities_raise_no_alarm(healthy, truth):
    assert kinds(healthy, truth, stride=(1, 8, 8)) == (set(), "")


def test_uniform(healthy):
    for spoiled in (np.full_like(healthy, 0.7), np.full_like(healthy, 0.7) + 1e-3 * np.random.default_rng(0).random()):
        assert kinds(spoiled)[0] == {"uniform"}
    rng = np.random.default_rng(0)
    spoiled = healthy.copy()
    spoiled[0] = 0.9 + 1e-3 * rng.standard_normal(spoiled[0].shape)
    found, words = kinds(spoiled)
    assert found == {"uniform"} and "channel z has variance 1e-06 around 0.9" in words


def test_uniform_where_the_truth_is_uniform_is_no_alarm():
    ones = Affinities.convert(np.ones((3, 8, 8, 8), np.float32))
    labels = Labels.convert(np.ones((8, 8, 8), int), Grid())
    assert {finding.kind for finding in verdict(examine(ones, labels))} == {"saturated"}


@pytest.mark.parametrize("period", [2, 4, 9])
def test_grid(healthy, period):
    spoiled = healthy.copy()
    spoiled[0, :, :, ::period] -= 0.25
    found, words = kinds(spoiled)
    assert "grid" in found <= {"grid", "contradictory"}  # a strong grid makes channels contradict each other
    assert f"along x with period {period} voxels" in words and "channel z" in words
    if period < 9:  # four repeats must fit
        _, words = kinds(spoiled, stride=(1, 1, 2 * period))
        assert f"period {2 * period} voxels" in words and "along y" not in words


def test_a_channel_of_noise(healthy, truth):
    spoiled = healthy.copy()
    spoiled[2] = np.random.default_rng(0).random(spoiled[2].shape)
    found, words = kinds(spoiled)
    assert (
        found == {"contradictory"} and "z and x contradict" in words and "y and x" in words and "z and y" not in words
    )
    found, words = kinds(spoiled, truth)
    assert found == {"contradictory", "guessing"}
    assert re.search("channel x ranks true joins above true splits in (49|5[01]) %", words)


def test_saturated_and_inverted(healthy, truth):
    assert kinds((healthy > 0.5).astype(np.float32))[0] == {"saturated"}
    spoiled = healthy.copy()
    spoiled[1] = np.where(np.random.default_rng(0).random(spoiled[1].shape) < 5e-4, 0.2, 1)
    assert "% of channel y is 1: it decides nothing" in kinds(spoiled)[1]
    assert "inverted" in kinds(1 - healthy, truth)[0]


def test_values_that_are_not_finite(healthy):
    spoiled = healthy.copy()
    spoiled[1, 3, 3, 3] = np.nan
    report = examine(Affinities(spoiled, NEAREST, Grid()))
    (finding,) = verdict(report)
    assert finding.sentence == "channel y has 1 values that are NaN or infinite"
    assert report.objects is None and "y/mean" in report.flat()


def test_fragments_are_those_of_the_crop(healthy, truth):
    affinities = Affinities.convert(healthy)
    report = examine(affinities, truth, crop=20, fragmenter="affinity-watershed", parameters={"size_threshold": 10})
    window = tuple(slice((size - 20) // 2, (size - 20) // 2 + 20) for size in truth.shape)
    part = Affinities.convert(healthy[(slice(None), *window)])
    fragments = load("fragmenters", "affinity-watershed", size_threshold=10).fragment(part)
    labels = Labels(truth.array[window], Grid())
    scores = evaluate(fragments, labels, {"voi": load("metrics", "voi")})
    found = dataclasses.asdict(report.objects)
    assert found["shape"] == (20, 20, 20) and found["fragments"] == len(fragments.ids())
    assert {name: found[name] for name in scores} == pytest.approx(scores)
    largest = np.unique(fragments.array, return_counts=True)[1].max() / 8000
    assert found["largest"] == pytest.approx(largest)


def test_networks_without_edges_along_z(healthy):
    report = examine(Affinities.convert(healthy[1:], NEAREST[1:]))
    assert [channel.name for channel in report.channels] == ["y", "x"] and len(report.agreements) == 1
    assert report.objects.fragments >= healthy.shape[1]
    assert examine(Affinities.convert(healthy[:1], NEAREST[:1])).objects is None


def test_numbers_by_name(healthy, truth):
    report = examine(Affinities.convert(healthy), truth, stride=(1, 4, 1))
    flat = report.flat()
    assert all(isinstance(value, int | float) for value in flat.values())
    assert flat["z/variance"] == report.channels[0].variance and flat["y-x/chance"] == report.agreements[2].chance
    assert {"z/peak_y_share", "z/stride_y_period", "fragments", "voi_split", "x/auc"} <= set(flat)


def test_bad_calls(healthy, truth):
    affinities = Affinities.convert(healthy)
    with pytest.raises(InvalidShape, match="affinities and labels must have the same shape"):
        examine(affinities, Labels(truth.array[1:], Grid()))
    with pytest.raises(InvalidInput, match="affinities and labels must lie at the same place"):
        examine(affinities, Labels(truth.array, Grid(offset=(1, 0, 0))))
    with pytest.raises(UnknownComponent, match="did you mean 'watershed'"):
        examine(affinities, fragmenter="watersheds")


@pytest.mark.data
def test_affinities_of_real_neurons_raise_no_alarm(real_data):
    from segkit import io

    labels = io.read_labels(f"{real_data / 'fib25_train.h5'}:volumes/labels/neuron_ids[40:104, 0:96, 100:196]")
    affinities = oracle_affinities(labels)
    assert verdict(examine(affinities, labels, stride=(8, 8, 8))) == ()
