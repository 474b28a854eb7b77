"""Searching a part of a space."""

import pytest

from segkit.errors import BrokenComponent
from segkit.tune import Choices, Goal, Space, search
from segkit.tune.choose import THRESHOLDS
from segkit.tune.trials import check_optuna, search_some

WIDE = Space(
    (
        Choices("fragmenters", "watershed", {"seed_distance": list(range(1, 31))}),
        Choices("fragmenters", "threshold", {"threshold": [0.1 * k for k in range(1, 10)]}),
    ),
    (Choices("agglomerators", "python", {"quantile": [0.02 * k for k in range(40)]}),),
)


def bowl(combination):
    """A record whose cost is least for seed distance 7 and quantile 0.5."""
    cutting, merging = combination.fragmenter.parameters, combination.agglomerator.parameters
    cost = abs(cutting.get("seed_distance", 100) - 7) / 30 + abs(merging["quantile"] - 0.5)
    return {"volumes": [{"curves": {"cremi_score": [cost] * len(THRESHOLDS)}}], "cost": cost}


def test_proposals_come_near_the_best_and_do_not_depend_on_what_was_scored_before():
    pytest.importorskip("optuna", reason="needs optuna")
    tried = []

    def score(some):
        tried.extend(some)
        return [bowl(each) for each in some]

    records = search_some(WIDE, 64, Goal(), 1, score)
    costs = [record["cost"] for record in records if record]
    assert len(records) == len(WIDE.combinations) == 39 * 40
    assert len(tried) == len(costs) <= 64
    assert min(costs[: 64 // 4] or [9]) >= min(costs) and min(costs) < 0.15
    again = search_some(WIDE, 64, Goal(), 1, lambda some: [bowl(each) for each in some])
    assert again == records
    assert search_some(WIDE, 64, Goal(), 2, lambda some: [bowl(each) for each in some]) != records


def test_one_that_fails_is_proposed_no_more_than_others():
    pytest.importorskip("optuna", reason="needs optuna")
    records = search_some(WIDE, 16, Goal(), 0, lambda some: [{"problem": "no"} for _ in some])
    assert 0 < sum("problem" in record for record in records) <= 16


def test_trials_of_a_small_space_are_those_of_the_whole_search(scenes, space, tmp_path):
    pytest.importorskip("optuna", reason="needs optuna")

    def score(some):
        return search(some, scenes[:1], tmp_path, Goal())

    records = search_some(space, 10, Goal(), 0, score)
    whole = search(space.combinations, scenes[:1], tmp_path, Goal())
    assert all(record == expected for record, expected in zip(records, whole, strict=True) if record)


def test_without_optuna_it_is_said(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(BrokenComponent, match=r"segkit-em\[tune\]"):
        check_optuna()
