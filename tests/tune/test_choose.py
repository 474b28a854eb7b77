"""The choice, by hand."""

import numpy as np
import pytest

from segkit.errors import InvalidParameter
from segkit.evaluate.sweep import SCORES
from segkit.tune import Goal, left_out, ranked, wins
from segkit.tune.choose import GOALS, STEP, THRESHOLDS, plateaus, threshold_of


def curve(*levels):
    """A cost at all thresholds, in equal parts."""
    return np.repeat(np.array(levels, float), -(-len(THRESHOLDS) // len(levels)))[: len(THRESHOLDS)]


def record(*curves, draws=((0.0, 0.0),)):
    """What a combination came to, by its costs on each volume."""
    volumes = [
        {
            "curves": {name: each.tolist() for name in SCORES},
            "best": dict.fromkeys(SCORES, float(each.min())),
            "oracle": dict.fromkeys(SCORES, 0.1),
            "draws": list(drawn),
            "fragments": 3,
        }
        for each, drawn in zip(curves, draws if len(draws) == len(curves) else draws * len(curves), strict=True)
    ]
    return {"threshold": 0.0, "volumes": volumes}


def test_a_plateau_beats_a_peak():
    peak = np.full(len(THRESHOLDS), 0.5)
    peak[40] = 0.1
    peak[100:140] = 0.2
    row = ranked([record(peak)], [[]], Goal())[0]
    assert 0.5 < row.threshold < 0.7 and row.mean == pytest.approx(0.2)
    assert row.best == 0.1


def test_plateaus_are_means_over_the_thresholds_around():
    costs = np.random.default_rng(0).random((2, len(THRESHOLDS)))
    found = plateaus(costs, 0.03)
    for number, threshold in enumerate(THRESHOLDS):
        near = np.abs(np.array(THRESHOLDS) - threshold) < 0.03 + STEP / 2
        assert found[:, number] == pytest.approx(costs[:, near].mean(axis=1))


def test_of_several_volumes_the_worst_counts_as_much_as_the_mean():
    """Threshold 0.25: 0.1 and 0.5, mean 0.3, worst 0.5; 0.75: 0.35 twice."""
    volumes = [curve(0.1, 0.35), curve(0.5, 0.35)]
    assert threshold_of(np.array(volumes)) > 0.5
    row = ranked([record(*volumes)], [[]], Goal())[0]
    assert (row.mean, row.worst, row.value) == pytest.approx((0.35, 0.35, 0.35))
    assert threshold_of(np.array([curve(0.1, 0.35), curve(0.5, 0.45)])) < 0.5


def test_a_combination_among_good_ones_beats_a_lone_one():
    """0.30 beside 0.60 and 0.60 counts 0.50, the mean of the three; 0.42 beside 0.40 counts 0.41."""
    levels = [0.6, 0.3, 0.6, 0.42, 0.4, 0.46]
    neighbours = [[1], [0, 2], [1], [4], [3, 5], [4]]
    rows = ranked([record(curve(level)) for level in levels], neighbours, Goal())
    assert [row.number for row in rows] == [3, 4, 5, 0, 2, 1]
    assert {row.number: row.value for row in rows} == pytest.approx(
        {0: 0.45, 1: 0.5, 2: 0.45, 3: 0.41, 4: 1.28 / 3, 5: 0.43}
    )


def test_neighbours_that_failed_or_were_not_tried_do_not_count():
    records = [record(curve(0.5)), {"problem": "no"}, {}]
    (row,) = ranked(records, [[1, 2], [0], [0]], Goal())
    assert row.value == 0.5


def test_leaving_one_out_by_hand():
    """On volumes 0 and 1 combination 0 is the best, on 0 and 2 and on 1 and 2 number 1."""
    first = record(curve(0.1, 0.9), curve(0.1, 0.9), curve(0.9, 0.8))
    second = record(curve(0.4, 0.3), curve(0.5, 0.2), curve(0.7, 0.25))
    found = left_out([first, second], [[], []], Goal())
    assert [each["volume"] for each in found] == [0, 1, 2]
    assert [each["number"] for each in found] == [1, 1, 0]
    assert [each["chosen"] for each in found] == [0.3, 0.2, 0.9]
    assert [each["best"] for each in found] == [0.1, 0.1, 0.25]
    assert found[2]["threshold"] < 0.5 < found[0]["threshold"]
    assert left_out([record(curve(0.1))], [[]], Goal()) == []


def test_spread_and_wins_are_over_draws_of_all_volumes():
    one = record(curve(0.3), curve(0.3), draws=((0.1, 0.3, 0.2), (0.3, 0.5, 0.6)))
    other = record(curve(0.4), curve(0.4), draws=((0.2, 0.2, 0.2), (0.4, 0.4, 0.4)))
    first, second = ranked([one, other], [[], []], Goal())
    assert first.spread == pytest.approx(np.std([0.2, 0.4, 0.4], ddof=1))
    assert wins(second, first) == pytest.approx(2 / 3)
    assert wins(first, first) == 0.5
    assert wins(first, second) == pytest.approx(1 / 3)


def test_ties_go_to_the_first_and_to_the_lowest_threshold():
    rows = ranked([record(curve(0.5)), record(curve(0.5))], [[], []], Goal())
    assert [row.number for row in rows] == [0, 1]
    assert rows[0].threshold == 0


def test_of_two_values_that_are_neighbours_of_each_other_the_better_one_is_first():
    """Both come to the mean of the two."""
    rows = ranked([record(curve(0.5)), record(curve(0.1))], [[1], [0]], Goal())
    assert [row.number for row in rows] == [1, 0] and rows[0].value == rows[1].value == pytest.approx(0.3)


def test_goals():
    curves = {"voi_split": [1, 2], "voi_merge": [0.5, 1], "cremi_score": [3, 4], "nerl_50": [0.2, 0.7]}
    assert Goal("voi").costs(curves).tolist() == [1.5, 3]
    assert Goal("nerl").costs(curves).tolist() == [-0.2, -0.7] and Goal("nerl").shown(-0.7) == 0.7
    assert Goal().costs(curves).tolist() == [3, 4]
    assert {Goal(name).by for name in GOALS} == set(GOALS)
    with pytest.raises(InvalidParameter, match="by must be one of"):
        Goal("rand")
