"""The volumes with holes in their membranes, and the table that is made of them."""

import numpy as np
import pytest
import repulsion

from segkit import Affinities, Grid, MergeTree
from segkit.evaluate import sweep
from segkit.infer.oracle import HIGH


@pytest.mark.parametrize("fooled", [0, 0.5, 1])
def test_a_hole_lifts_short_edges_and_fools_long_ones(fooled):
    offsets = np.array([(0, 0, -1), (0, 0, -9)])
    values = np.full((2, 1, 1, 40), 0.08, np.float32)
    values[0, ..., :1], values[1, ..., :9] = 0, 0
    inside = np.zeros((1, 1, 40), bool)
    inside[..., 20] = True
    found = repulsion.perforated(Affinities(values, offsets, Grid()), inside, fooled).array[:, 0, 0]
    assert np.flatnonzero(found[0] > 0.08).tolist() == [20, 21] and found[0, 20] == np.float32(HIGH)
    assert np.flatnonzero(found[1] > 0.08).tolist() == ([25] if fooled else [])  # from 25 to 16, its middle at 20
    assert found[1, 25] == pytest.approx(0.08 + fooled * (HIGH - 0.08))


def test_holes_lie_on_boundaries_and_are_as_many_as_asked_for():
    truth = repulsion.neurites((24, 40, 40), count=5, seed=0).truth
    none, some = (repulsion.holes(truth, rate, np.random.default_rng(0)) for rate in (0, 1000))
    assert not none.any() and some.any()
    assert some[:, :, 1:][truth.array[:, :, 1:] != truth.array[:, :, :-1]].all()
    assert not some.all()


def test_thresholds_are_those_of_the_other_volumes():
    truth = repulsion.Labels.convert([[[1, 1, 2]]], Grid())
    fragments = repulsion.Labels.convert([[[1, 2, 3]]], Grid())
    trees = [MergeTree.from_merges([1, 2, 3], [[0, 1], [2, 3]], scores) for scores in ([0.1, 0.3], [0.5, 0.8])]
    rows = repulsion.held_out([sweep(tree, fragments, truth) for tree in trees])
    assert 0.1 < rows[1]["threshold"] <= 0.3 and 0.5 < rows[0]["threshold"] <= 0.8
    assert rows[0]["voi_split"] == 0 < rows[0]["voi_merge"] and rows[1]["voi_merge"] == 0 < rows[1]["voi_split"]


def test_the_table_has_a_column_for_each_setting():
    row = dict.fromkeys(repulsion.SCORES, 0.25)
    methods = {name: [row, row | {"cremi_score": 0.75}] for name in [*repulsion.METHODS][:2]}
    run = {"holes": 2, "fooled": 0.5, "methods": methods, "oracle": [0.1, 0.1], "fragments": [30, 40]}
    text = repulsion.table({"seeds": 2, "runs": [run, run | {"holes": 0}]})
    assert "| merged by | 2 holes, fooled 0.5 | 0 holes |" in text and "| fragments | 35 | 35 |" in text
    assert "| mean, short edges alone | 0.500 ± 0.354<br>0.25 / 0.25 |" in text
