import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from segkit import Affinities, Grid, Labels
from segkit.health.channels import channel_figures


def row(values, offset=(0, 0, -1)):
    return Affinities(np.array(values, np.float32).reshape(1, 1, 1, -1), [offset], Grid())


def test_a_row_by_hand():
    (channel,) = channel_figures(row([0, 0, 1, 0.5, 0.001, 0.999]))  # the first edge leaves the volume
    assert (channel.name, channel.lowest, channel.highest) == ("x", 0, 1)
    assert channel.mean == pytest.approx(0.5) and channel.variance == pytest.approx(0.1996004, abs=1e-6)
    assert (channel.at_zero, channel.at_one) == (0.4, 0.4)
    assert channel.truth_variance is channel.auc is None


def test_values_that_are_not_finite_are_counted_and_left_out():
    (channel,) = channel_figures(row([0, 0.25, np.nan, 0.75, np.inf]))
    assert (channel.not_finite, channel.mean, channel.lowest, channel.highest) == (2, 0.5, 0.25, 0.75)


def test_the_truth_is_told_by_rank():
    rng = np.random.default_rng(0)
    labels = Labels.convert(rng.integers(0, 3, (6, 7, 8)), Grid())
    array = np.round(rng.random((3, 6, 7, 8)), 2).astype(np.float32)
    affinities = Affinities.convert(array)
    truth = Affinities.from_labels(labels)
    for number, channel in enumerate(channel_figures(affinities, labels)):
        edges = tuple(slice(1, None) if axis == number else slice(None) for axis in range(3))
        values, joins = affinities.array[number][edges], truth.array[number][edges] > 0
        better = mannwhitneyu(values[joins], values[~joins]).statistic / (joins.sum() * (~joins).sum())
        assert channel.auc == pytest.approx(better, abs=1e-3)
        assert channel.truth_variance == pytest.approx(joins.var())


def test_edges_outside_the_annotation_do_not_count():
    labels = Labels(np.array([[[1, 1, 2, 2**64 - 1]]], np.uint64), Grid())
    (channel,) = channel_figures(row([0, 0.9, 0.2, 0.4]), labels)
    assert (channel.auc, channel.lowest) == (1, np.float32(0.2))


def test_channels_without_an_edge_are_left_out():
    assert channel_figures(row([0, 0.5], offset=(-1, 0, 0))) == ()
    single = Labels(np.ones((1, 1, 2), np.uint64), Grid())
    (channel,) = channel_figures(row([0, 0.5]), single)
    assert (channel.truth_variance, channel.auc) == (0, None)
