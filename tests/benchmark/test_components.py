"""Whole benchmarks, in processes of their own."""

import pytest

from segkit import Grid, Labels, io
from segkit.benchmark import Limits, benchmark, contenders
from segkit.errors import InvalidInput, InvalidParameter, MissingDataset, MissingFile
from segkit.evaluate import sweep
from segkit.io import read_affinities, read_labels
from segkit.registry import load

COSTS = {"seconds", "cpu_seconds", "compile_seconds", "peak_bytes", "phases"}


def test_agglomerators(inputs):
    given = {"affinities": str(inputs), "fragments": str(inputs), "truth": str(inputs)}
    names, thresholds = contenders(["python", "reference", "high=reference"], ["high.score=max"]), (0.2, 0.5)
    report = benchmark("agglomerate", names, given, thresholds=thresholds, limits=Limits(1, threads=1))
    python, reference, high = report["rows"]
    assert all(row.keys() >= COSTS for row in report["rows"])
    assert [row["backend"] for row in report["rows"]] == ["python", "reference", "high"]
    assert reference["identical_to"] == {"python": True} and reference["voi_to"] == {"python": 0.0}
    assert high["identical_to"] == {"python": False} and high["voi_to"]["python"] > 0
    assert "relabelling" in python["phases"] and report["shape"] == [12, 32, 32] and report["threads"] == 1
    fragments, truth = read_labels(inputs, role="fragments"), read_labels(inputs)
    tree = load("agglomerators", "reference", score="max").agglomerate(read_affinities(inputs), fragments)
    assert high["merges"] == len(tree.altitudes)
    for row, expected in zip(high["thresholds"], sweep(tree, fragments, truth).at(thresholds), strict=True):
        assert {key: row[key] for key in expected} == pytest.approx(expected)


REASONS = {
    "missing": "no installed distribution offers an agglomerator 'missing'",
    "killed": "killed by SIGKILL, as the system does when memory runs out",
    "quits": "exit code 3: out of luck",
    "hungry": "the memory is not enough",
    "forgets": "must be a tree over all fragments",
    "buggy": "KeyError: 'nothing'",
    "empty": "what 'empty' returns must be a MergeTree, not NoneType",
    "odd": "has no parameter 'scor'; did you mean 'score'",
}


@pytest.mark.parametrize(
    "failing",
    [("killed", "forgets", "odd"), pytest.param(tuple(REASONS), marks=pytest.mark.slow)],
    ids=["some failures", "all failures"],
)
def test_every_failure_is_a_row_with_its_reason(inputs, strange, failing):
    given = {"affinities": str(inputs), "fragments": str(inputs)}
    names = ["odd=lazy" if name == "odd" else name for name in failing] + ["lazy"]
    report = benchmark("agglomerate", contenders(names, ["odd.scor=1"]), given, thresholds=(0.5,), limits=Limits(1))
    rows = {row["backend"]: row for row in report["rows"]}
    for name in failing:
        assert REASONS[name] in rows[name]["error"]
    assert rows["lazy"]["identical_to"] == {"lazy": True} and rows["lazy"]["merges"] == 0


@pytest.mark.slow
def test_results_that_break_the_contract_stop_nobody_else(inputs, strange):
    given = {"affinities": str(inputs), "truth": str(inputs)}
    report = benchmark("fragment", contenders(["outside", "smaller", "threshold"]), given, limits=Limits(1))
    outside, smaller, threshold = report["rows"]
    assert "must be fragments and 0" in outside["error"] and "must have the same shape" in smaller["error"]
    assert threshold["identical_to"] == {"threshold": True} and threshold["voi_split"] > 0
    given = {"segmentation": str(inputs), "truth": str(inputs)}
    silent, clock = benchmark("evaluate", contenders(["silent", "clock"]), given, limits=Limits(1))["rows"]
    assert "must be a mapping of scores, not NoneType" in silent["error"] and clock["seconds"] < 1e6


def test_one_that_does_not_end(inputs, strange):
    given = {"affinities": str(inputs), "fragments": str(inputs)}
    (row,) = benchmark("agglomerate", contenders(["endless"]), given, limits=Limits(timeout=2))["rows"]
    assert "not done after 2 s" in row["error"]


def test_fragmenters(inputs):
    names = contenders(["watershed", "threshold"])
    report = benchmark("fragment", names, {"affinities": str(inputs), "truth": str(inputs)}, limits=Limits(1))
    watershed, threshold = report["rows"]
    assert threshold["identical_to"] == {"watershed": False}
    assert watershed["fragments"] > 1 and watershed["cremi_score"] > 0 and threshold["voi_to"]["watershed"] > 0


def test_metrics(inputs):
    given = {"segmentation": str(inputs), "truth": str(inputs)}
    voi, cremi, rand = benchmark("evaluate", contenders(["voi", "cremi", "rand"]), given, limits=Limits(1))["rows"]
    assert cremi["identical_to"] == {"voi": True} and rand["identical_to"] == {"voi": None}
    assert cremi["voi_split"] == voi["voi_split"] and rand["rand_index"] == cremi["rand_index"]


def test_what_is_wrong_with_the_call_is_said_at_once(inputs, tmp_path):
    one = contenders(["python"])
    with pytest.raises(MissingFile, match="nowhere"):
        benchmark("fragment", one, {"affinities": str(tmp_path / "nowhere.h5")})
    with pytest.raises(MissingDataset, match="volumes/nothing"):
        benchmark("fragment", one, {"affinities": f"{inputs}:volumes/nothing"})
    with pytest.raises(InvalidParameter, match="threshold"):
        benchmark("agglomerate", one, {"affinities": str(inputs), "fragments": str(inputs)}, thresholds=[1.5])
    with pytest.raises(InvalidParameter, match="repeat"):
        benchmark("fragment", one, {"affinities": str(inputs)}, limits=Limits(0))
    with pytest.raises(InvalidParameter, match="at least one"):
        benchmark("fragment", [], {"affinities": str(inputs)})


@pytest.mark.parametrize(("verb", "name"), [("agglomerate", "python"), ("fragment", "threshold")])
@pytest.mark.parametrize(
    ("grid", "rule"), [(Grid((10, 10, 10), (40, 0, 0)), "lie at the same place"), (Grid((3, 3, 3)), "same voxel size")]
)
def test_a_truth_that_lies_elsewhere_is_refused_before_anything_runs(
    inputs, tmp_path, monkeypatch, verb, name, grid, rule
):
    monkeypatch.setattr("segkit.benchmark.components.in_fresh_process", lambda *_, **__: pytest.fail("it ran"))
    io.write(tmp_path / "truth.h5", Labels(read_labels(inputs).array, grid), "truth")
    given = {"affinities": str(inputs), "fragments": str(inputs), "truth": str(tmp_path / "truth.h5")}
    if verb == "fragment":
        del given["fragments"]
    with pytest.raises(InvalidInput, match=f"affinities and truth must (have the )?{rule}"):
        benchmark(verb, contenders([name]), given)


def test_crops_are_where_they_were_cut_out(inputs):
    given = dict.fromkeys(("segmentation", "truth"), f"{inputs}[2:10,4:,:20]")
    (row,) = benchmark("evaluate", contenders(["voi"]), given, limits=Limits(1))["rows"]
    assert "voi_split" in row
    with pytest.raises(InvalidInput, match="segmentation and truth must lie at the same place"):
        benchmark("evaluate", contenders(["voi"]), given | {"truth": f"{inputs}[3:11,4:,:20]"})
