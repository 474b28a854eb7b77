"""The verbs one after the other, on files, as a user would."""

import json

import numpy as np
import pytest

from segkit import io
from segkit.infer.oracle import oracle_affinities
from segkit.testing.phantoms import neurites


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folder with data.h5 (raw, truth) and affinities.h5."""
    folder = tmp_path_factory.mktemp("pipeline")
    phantom = neurites((16, 40, 40), count=8, seed=3)
    io.write_all(folder / "data.h5", {"raw": phantom.raw, "truth": phantom.truth})
    io.write(folder / "affinities.h5", oracle_affinities(phantom.truth, noise=0.1, seed=0), "affinities")
    return folder


def scores(result) -> dict:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_from_affinities_to_scores(segkit, files, tmp_path):
    fragments, tree, cut = (tmp_path / name for name in ("fragments.h5", "tree.h5", "cut.zarr"))
    assert segkit("fragment", files / "affinities.h5", "--method", "watershed", "--out", fragments).exit_code == 0
    words = ["agglomerate", files / "affinities.h5", "--fragments", fragments, "--score", "mean", "--out", tree]
    assert segkit(*words).exit_code == 0
    assert segkit("segment", tree, "--threshold", 0.5, "--out", cut).exit_code == 0
    merged = scores(segkit("evaluate", cut, files / "data.h5", "--json"))
    apart = scores(segkit("evaluate", f"{fragments}:volumes/fragments", files / "data.h5", "--json"))
    assert merged["cremi_score"] < apart["cremi_score"]
    expected = ((merged["voi_split"] + merged["voi_merge"]) * merged["adapted_rand_error"]) ** 0.5
    assert merged["cremi_score"] == pytest.approx(expected)
    assert merged["rand_index"] == pytest.approx(1 - merged["adapted_rand_error"])


def test_merges_to_look_at(segkit, files, tmp_path):
    fragments, tree = tmp_path / "fragments.h5", tmp_path / "tree.h5"
    segkit("fragment", files / "affinities.h5", "--set", "seed_distance=3", "--out", fragments)
    segkit("agglomerate", files / "affinities.h5", "--fragments", fragments, "--out", tree)
    words = ["segment", tree, "--threshold", 0.4, "--uncertain", 3]
    first, *_ = found = scores(segkit(*words, "--json"))["merges"]
    assert len(found) == 3 and [each["weight"] for each in found] == sorted((e["weight"] for e in found), reverse=True)
    array = io.read_labels(fragments, role="fragments").array
    assert array[tuple(first["voxel"])] > 0
    before, after = (first["altitude"], np.nextafter(first["altitude"], 1))
    sides = []
    for threshold in (before, after):
        assert segkit("segment", tree, "--threshold", threshold, "--out", tmp_path / "s.h5").exit_code == 0
        cut = io.read_labels(tmp_path / "s.h5", role="segmentation").array
        sides.append([int((cut == side).sum()) for side in first["sides"]])
    assert sides[0] == first["voxels"] and max(sides[1]) == sum(first["voxels"]) and min(sides[1]) == 0
    table = segkit(*words)
    assert ", ".join(map(str, first["voxel"])) in table.stdout and "threshold 0.4" in table.stdout
    assert "--threshold must be one for --uncertain" in segkit(*words, "--threshold", 0.5).stderr
    assert "Missing option '--out'" in segkit("segment", tree, "--threshold", 0.4).stderr


@pytest.mark.parametrize("backend", ["reference", "python", "higra"])
def test_thresholds_write_what_segment_would(segkit, files, tmp_path, backend):
    fragments, tree = tmp_path / "fragments.h5", tmp_path / "tree.h5"
    segkit("fragment", files / "affinities.h5", "--set", "seed_distance=3", "--out", fragments)
    words = ["agglomerate", files / "affinities.h5", "--fragments", fragments, "--backend", backend, "--out", tree]
    result = segkit(*words, "--threshold", 0.2, "--threshold", 0.6)
    assert result.exit_code == 0, result.stderr
    for threshold in (0.2, 0.6):
        cut = tmp_path / f"{threshold}.h5"
        assert segkit("segment", tree, "--threshold", threshold, "--out", cut).exit_code == 0
        written = io.read_labels(f"{tree}:volumes/segmentation_{threshold:g}", role="segmentation")
        assert np.array_equal(written.array, io.read_labels(cut, role="segmentation").array)
    both = tmp_path / "both.h5"
    result = segkit("segment", tree, "--threshold", 0.6, "--threshold", 0.2, "--threshold", 0.6, "--out", both)
    assert result.exit_code == 0 and "segments at 0.2; " in result.stderr and "segments at 0.6 -> " in result.stderr
    for threshold in (0.2, 0.6):
        pair = [
            io.read_labels(f"{file}:volumes/segmentation_{threshold}", role="segmentation") for file in (tree, both)
        ]
        assert np.array_equal(*(labels.array for labels in pair))
    for words, said in (
        ([f"{both}:here", 0.5], "must name a file only"),
        ([both, "nan"], "--threshold must lie in 0..1"),
    ):
        result = segkit("segment", tree, "--threshold", 0.2, "--threshold", words[1], "--out", words[0])
        assert result.exit_code == 2 and said in result.stderr


def test_segment_counts_what_it_wrote(segkit, files, tmp_path):
    fragments, tree, cut = tmp_path / "fragments.h5", tmp_path / "tree.h5", tmp_path / "cut.h5"
    segkit("fragment", files / "affinities.h5", "--out", fragments)
    assert segkit("agglomerate", files / "affinities.h5", "--fragments", fragments, "--out", tree).exit_code == 0
    words = ["--fragments", f"{fragments}:volumes/fragments[0:5, 0:20, :]"]
    thresholds = [word for threshold in (0.7, -0.0, 0.3, 0.0) for word in ("--threshold", threshold)]
    result = segkit("segment", tree, *words, *thresholds, "--out", cut)
    assert result.exit_code == 0, result.stderr
    known, leaves = len(io.read_labels(words[1]).ids()), len(io.read_merge_tree(tree).leaf_ids)
    assert known < leaves and f"only {known} of the {leaves} fragments of the merge tree are in" in result.stderr
    for threshold in (0.0, 0.3, 0.7):
        written = io.read_labels(f"{cut}:volumes/segmentation_{threshold}", role="segmentation")
        assert f"{len(written.ids())} segments at {threshold:g}" in result.stderr
    assert result.stderr.count("segments at") == 3


def test_fragments_of_truth_section_by_section(segkit, files, tmp_path):
    out = tmp_path / "sections.h5"
    assert segkit("fragment", "--from-labels", files / "data.h5", "--per-section", "--out", out).exit_code == 0
    fragments = io.read_labels(out, role="fragments").array
    ids = [set(np.unique(section)) - {0} for section in fragments]
    assert sum(map(len, ids)) == len(set.union(*ids))
    scored = scores(segkit("evaluate", f"{out}:volumes/fragments", files / "data.h5", "--per-section", "--json"))
    assert scored["adapted_rand_error"] == pytest.approx(0)


def test_outputs_may_share_a_file_with_their_input(segkit, files, tmp_path):
    whole = tmp_path / "whole.h5"
    io.write(whole, io.read_affinities(files / "affinities.h5"), "affinities")
    assert segkit("fragment", whole, "--out", whole).exit_code == 0
    assert segkit("agglomerate", whole, "--threshold", 0.5, "--out", whole).exit_code == 0
    assert segkit("evaluate", whole, files / "data.h5").exit_code == 0
    assert io.read_affinities(whole).array.shape[0] == 3


def test_a_new_tree_leaves_no_segmentation_of_the_old_one(segkit, files, tmp_path):
    whole = tmp_path / "whole.zarr"
    io.write(whole, io.read_affinities(files / "affinities.h5"), "affinities")
    segkit("fragment", whole, "--out", whole)
    assert segkit("agglomerate", whole, "--threshold", 0.5, "--out", whole).exit_code == 0
    assert io.exists(whole, "segmentation")
    assert segkit("agglomerate", whole, "--threshold", 0.2, "--threshold", 0.5, "--out", whole).exit_code == 0
    assert not io.exists(whole, "segmentation") and io.exists(f"{whole}:volumes/segmentation_0.2", "segmentation")


def test_a_resumed_run_keeps_its_settings(segkit, files, tmp_path):
    run = tmp_path / "run"
    words = ["train", files / "data.h5", "--model", "fcn", "--loss", "mse", "--seed", 7, "--set", "patch=[1,16,16]"]
    assert segkit(*words, "--steps", 1, "--out", run).exit_code == 0
    before = json.loads((run / "config.json").read_text())
    result = segkit("train", files / "data.h5", "--out", run, "--resume", "--steps", 2)
    assert result.exit_code == 0, result.stderr
    assert json.loads((run / "config.json").read_text()) == before | {"steps": 2}


@pytest.mark.parametrize("model", ["fcn", "unet3d"])
def test_train_and_infer(segkit, files, tmp_path, model):
    small = "model.features=2 model.growth=1 model.pooling=[[1,2,2]] model.padding=same patch=[8,16,16]"
    settings = {"fcn": "patch=[1,24,24]", "unet3d": small}[model].split()
    options = [word for setting in settings for word in ("--set", setting)]
    run, out = tmp_path / "run", tmp_path / "affinities.h5"
    words = ["train", f"{files / 'data.h5'}[0:12]", "--model", model, "--loss", "constrained-malis+0.1*mse"]
    result = segkit(*words, "--val", f"{files / 'data.h5'}[4:16]", "--steps", 2, "--out", run, *options)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    result = segkit("infer", f"{files / 'data.h5'}[12:16]", "--run", run, "--out", out)
    assert result.exit_code == 0, result.stderr
    affinities = io.read_affinities(out)
    assert affinities.shape == (4, 40, 40)
    assert len(affinities.neighborhood) == {"fcn": 2, "unet3d": 3}[model]


@pytest.mark.parametrize("check", [[], pytest.param(["--check"], marks=pytest.mark.slow)])
def test_plugins_list(segkit, check):
    rows = scores(segkit("plugins", "list", *check, "--json"))
    ours = [row for row in rows if row["distribution"] == "segkit-em"]
    assert {"unet3d", "constrained-malis", "watershed", "python", "cremi"} <= {row["name"] for row in ours}
    assert [row["problem"] for row in ours] == [""] * len(ours)


def test_plugins_show(segkit):
    shown = scores(segkit("plugins", "show", "models", "unet3d", "--json"))
    defaults = {row["parameter"]: row["default"] for row in shown["parameters"]}
    assert defaults["features"] == "12" and defaults["padding"] == "'valid'"
    text = segkit("plugins", "show", "agglomerators", "python").stdout
    assert "score" in text and "median" in text
    assert segkit("plugins", "show", "python").stdout == text


def test_text_in_brackets_is_shown_as_it_is(segkit):
    shown = segkit("plugins", "show", "models", "unet3d").stdout
    assert "tuple[tuple[int, int, int], ...]" in shown
