"""segkit evaluate: scores, sweeps and the worst mistakes, as a user would ask for them."""

import json

import numpy as np
import pytest

from segkit import Grid, Labels, MergeTree, io, registry
from segkit.protocols import Metric

GRID = Grid((10, 10, 10))
SCORES = ["rand_index", "adapted_rand_error", "voi_split", "voi_merge", "cremi_score"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """tree.h5 (merge tree and fragments), apart.h5 (the tree alone), cut.h5 and truth.h5."""
    folder = tmp_path_factory.mktemp("evaluate")
    fragments = np.repeat([1, 1, 2, 3, 3, 4], 2) * np.ones((2, 4, 1), int)
    truth = np.repeat([5, 5, 5, 6, 6, 6], 2) * np.ones((2, 4, 1), int)
    tree = MergeTree.from_merges([1, 2, 3, 4], [[0, 1], [2, 3], [4, 5]], [0.2, 0.4, 0.6])
    io.write_all(folder / "tree.h5", {"merge_tree": tree, "fragments": Labels.convert(fragments, GRID)})
    io.write(folder / "apart.h5", tree, "merge_tree")
    io.write(folder / "cut.h5", Labels.convert(fragments, GRID), "segmentation")
    io.write(folder / "truth.h5", Labels.convert(truth, GRID), "truth")
    return folder


def answer(result) -> dict:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def refused(result, *words) -> None:
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert all(word in line for word in words) and result.stdout == ""


def test_a_sweep_shows_the_best_threshold_and_both_bounds(segkit, folder):
    found = answer(segkit("evaluate", folder / "tree.h5", folder / "truth.h5", "--sweep", "--json"))
    assert list(found) == ["fragments", "best", "oracle", "thresholds"]
    assert found["best"]["threshold"] == 0.6 and found["best"]["cremi_score"] == 0 == found["oracle"]["cremi_score"]
    apart = answer(segkit("evaluate", folder / "cut.h5", folder / "truth.h5", "--json"))
    assert found["fragments"] == apart and list(apart) == SCORES
    assert 5 <= len(found["thresholds"]) <= 10
    text = segkit("evaluate", folder / "tree.h5", folder / "truth.h5", "--sweep").stdout
    assert all(word in text for word in ("fragments", "best", "oracle", "0.6", *SCORES))


def test_thresholds_and_fragments_may_be_given(segkit, folder):
    words = ["evaluate", folder / "apart.h5", folder / "truth.h5", "--sweep", "--json"]
    words += ["--fragments", f"{folder / 'tree.h5'}:volumes/fragments"]
    found = answer(segkit(*words, "--threshold", 0.3, "--threshold", 0.5))
    assert [row["threshold"] for row in found["thresholds"]] == [0.3, 0.5]
    assert list(found["thresholds"][0]) == ["threshold", *SCORES]
    assert found["best"]["voi_split"] == 0


def test_thresholds_are_shown_with_the_digits_that_count(segkit, folder):
    tree = MergeTree.from_merges([1, 2, 3, 4], [[0, 1], [2, 3], [4, 5]], [0.2, 0.65, 0.75])
    path = folder / "digits.h5"
    io.write_all(path, {"merge_tree": tree, "fragments": io.read_labels(folder / "tree.h5", role="fragments")})
    text = segkit("evaluate", path, folder / "truth.h5", "--sweep", "--threshold", 0.00001).stdout
    assert {"0.7", "1e-05"} <= set(text.split())


def test_what_counts_is_chosen_as_for_the_metric(segkit, folder):
    words = ["evaluate", folder / "tree.h5", folder / "truth.h5", "--sweep", "--json"]
    found = answer(segkit(*words, "--border", 10, "--set", "ignore_background=false"))
    assert found["fragments"] != answer(segkit(*words))["fragments"]
    refused(segkit(*words, "--set", "boarder=3"), "boarder", "border")


def test_the_worst_mistakes_come_with_a_voxel(segkit, folder):
    words = ["evaluate", folder / "cut.h5", folder / "truth.h5", "--worst", 2]
    found = answer(segkit(*words, "--json"))
    first, second = found["worst_splits"]
    assert (first["object"], second["object"], found["worst_merges"]) == (5, 6, [])
    assert first["parts"] == [{"id": 1, "voxels": 32}, {"id": 2, "voxels": 16}]
    assert first["voxel"][2] == 4 and first["position"][2] == 45.0
    assert sum(row["bits"] for row in found["worst_splits"]) == pytest.approx(found["voi_split"])
    text = segkit(*words).stdout
    assert "worst splits" in text and "1 (32) + 2 (16)" in text


def test_parameters_of_another_metric_do_not_stop_the_worst(segkit, folder, monkeypatch):
    class Odd(Metric):
        def __init__(self, *, tolerance: float = 1.0) -> None:
            self.tolerance = tolerance

        def score(self, segmentation, truth):
            return {"odd": self.tolerance}

    def load(kind, name, **values):
        return Odd(**values) if name == "odd" else registry.find(kind, name).create(**values)

    monkeypatch.setattr(registry, "load", load)
    words = ["evaluate", folder / "cut.h5", folder / "truth.h5", "--metric", "odd", "--set", "tolerance=3.0"]
    found = answer(segkit(*words, "--worst", 2, "--json"))
    assert found["odd"] == 3 and [row["object"] for row in found["worst_splits"]] == [5, 6]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cut.h5", "truth.h5", "--threshold", "0.5"], ["--threshold needs --sweep", "add --sweep"]),
        (["cut.h5", "truth.h5", "--fragments", "tree.h5"], ["--fragments needs --sweep"]),
        (["tree.h5", "truth.h5", "--sweep", "--worst", "3"], ["--worst needs a segmentation", "segkit segment"]),
        (["tree.h5", "truth.h5", "--sweep", "--per-section"], ["--per-section needs a segmentation"]),
        (["tree.h5", "truth.h5", "--sweep", "--metric", "voi"], ["--metric must be cremi", "not voi"]),
        (["tree.h5", "truth.h5", "--sweep", "--threshold", "nan"], ["--threshold must lie in 0..1"]),
        (["tree.h5", "truth.h5", "--sweep", "--threshold", "inf"], ["--threshold must lie in 0..1", "not inf"]),
        (["tree.h5", "truth.h5", "--sweep", "--fragments", "truth.h5"], ["truth.h5"]),
        (["tree.h5", "truth.h5", "--sweep", "--fragments", "truth.h5:volumes/labels/neuron_ids"], ["leaves", "not 5"]),
    ],
)
def test_a_wrong_call_gets_one_sentence(segkit, folder, monkeypatch, words, said):
    monkeypatch.chdir(folder)
    refused(segkit("evaluate", *words), *said)


@pytest.fixture(scope="module")
def skeletons(folder):
    """Two neurons along x through truth.h5, and a file that lies elsewhere."""
    x = np.arange(6) * 10.0 + 5
    nodes = np.concatenate([np.stack([np.full(6, 5.0), np.full(6, 15.0), x + start], axis=1) for start in (0, 60)])
    edges = [[k, k + 1] for k in range(11) if k != 5]
    np.savez(folder / "skeletons.npz", nodes=nodes, edges=edges, ids=np.repeat([5, 6], 6))
    np.savez(folder / "elsewhere.npz", nodes=nodes + 5000, edges=edges, ids=np.repeat([5, 6], 6))
    lines = [f"{k + 1} 0 {place[2] / 1000} 0.015 0.005 1 {k or -1}\n" for k, place in enumerate(nodes[:6])]
    (folder / "one.swc").write_text("".join(lines))
    return folder / "skeletons.npz"


def test_run_lengths_on_skeletons_need_no_truth(segkit, folder, skeletons):
    result = segkit("evaluate", folder / "cut.h5", "--metric", "nerl", "--skeletons", skeletons, "--json")
    found = answer(result)
    assert "2 skeletons of 12 nodes, 0.1 um" in result.stderr and "TRUTH" not in result.stderr
    words = ["--metric", "nerl", "--skeletons", skeletons, "--json"]
    both = segkit("evaluate", folder / "cut.h5", folder / "truth.h5", *words)
    assert answer(both) == found and "TRUTH is not read" in both.stderr
    runs = 30**2 + 10**2 + 30**2 + 10**2  # of fragments 1 and 2, 3 and 4
    assert found["nerl_0"] == runs / (2 * 50**2) and found["erl_um_perfect"] == 0.05
    assert found["erl_um_50"] == pytest.approx(runs / 100 / 1000)
    assert list(found) == [
        *(f"nerl_{t}" for t in (0, 2, 10, 50)),
        *(f"erl_um_{t}" for t in (0, 2, 10, 50)),
        "erl_um_perfect",
    ]
    words = ["--skeletons", folder / "one.swc", "--skeletons-unit", "um", "--set", "tolerances=[3]"]
    one = answer(segkit("evaluate", folder / "cut.h5", "--metric", "nerl", *words, "--json"))
    assert one == {"nerl_3": pytest.approx(0.4), "erl_um_3": pytest.approx(0.02), "erl_um_perfect": pytest.approx(0.05)}


def test_run_lengths_beside_other_metrics_which_have_parameters_of_their_own(segkit, folder, skeletons):
    words = ["evaluate", folder / "cut.h5", folder / "truth.h5", "--metric", "nerl", "--metric", "voi", "--json"]
    words += ["--skeletons", skeletons, "--border", "10"]
    found = answer(segkit(*words, "--set", "tolerances=[0]"))
    apart = answer(
        segkit("evaluate", folder / "cut.h5", folder / "truth.h5", "--metric", "voi", "--border", 10, "--json")
    )
    assert found.items() > apart.items() and set(found) - set(apart) == {"nerl_0", "erl_um_0", "erl_um_perfect"}
    refused(segkit(*words, "--set", "tolerance=[0]"), "tolerance", "nerl")


def test_run_lengths_at_all_thresholds(segkit, folder, skeletons):
    words = ["evaluate", folder / "tree.h5", "--sweep", "--metric", "nerl", "--skeletons", skeletons, "--json"]
    found = answer(segkit(*words, "--threshold", 0.3, "--set", "tolerances=[0, 20]"))
    assert list(found) == ["fragments", "best", "oracle", "thresholds"]
    assert found["oracle"]["nerl_0"] == 1 == found["best"]["nerl_20"] and found["best"]["threshold"] == 0.6
    (at,) = found["thresholds"]
    assert at["threshold"] == 0.3 and at["nerl_0"] == (50**2 + 30**2 + 10**2) / (2 * 50**2)


def test_run_lengths_by_blocks_are_those_of_the_whole(segkit, folder, skeletons):
    words = [
        ["evaluate", folder / "cut.h5", "--metric", "nerl"],
        ["evaluate", folder / "tree.h5", "--sweep", "--metric", "nerl"],
    ]
    for each in words:
        each += ["--skeletons", skeletons, "--json"]
        assert answer(segkit(*each, "--blockwise", "--block", 1, 3, 5)) == answer(segkit(*each))
    assert not list(folder.glob(".*segkit-work*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cut.h5"], ["TRUTH must be given"]),
        (["cut.h5", "--metric", "nerl"], ["TRUTH must be given"]),
        (["cut.h5", "--metric", "nerl", "--metric", "voi", "--skeletons", "skeletons.npz"], ["TRUTH must be given"]),
        (["cut.h5", "--metric", "nerl", "--worst", "1", "--skeletons", "skeletons.npz"], ["TRUTH must be given"]),
        (["cut.h5", "truth.h5", "--skeletons", "skeletons.npz"], ["--skeletons needs --metric nerl"]),
        (["cut.h5", "truth.h5", "--metric", "nerl", "--skeletons-unit", "um"], ["--skeletons-unit needs --skeletons"]),
        (
            ["cut.h5", "truth.h5", "--metric", "nerl", "--per-section"],
            ["--per-section cannot be had with --metric nerl"],
        ),
        (["cut.h5", "--metric", "nerl", "--skeletons", "one.swc"], ["unit of lengths must be said for SWC"]),
        (["cut.h5", "--metric", "nerl", "--skeletons", "none.npz"], ["none.npz", "does not exist"]),
        (["cut.h5", "--metric", "nerl", "--skeletons", "elsewhere.npz"], ["skeletons must hold an edge inside"]),
        (["tree.h5", "--sweep", "--metric", "voi", "truth.h5"], ["--metric must be cremi or nerl"]),
        (["tree.h5", "truth.h5", "--sweep", "--metric", "nerl", "--blockwise"], ["needs --skeletons with --blockwise"]),
        (["cut.h5", "truth.h5", "--metric", "nerl", "--blockwise"], ["'nerl'", "give a file of them"]),
    ],
)
def test_a_wrong_call_about_skeletons_gets_one_sentence(segkit, folder, skeletons, monkeypatch, words, said):
    monkeypatch.chdir(folder)
    refused(segkit("evaluate", *words), *said)
