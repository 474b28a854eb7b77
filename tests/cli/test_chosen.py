"""The threshold that a run chose, from the run folder to the segmentation."""

import json

import numpy as np
import pytest

from segkit import io
from segkit.cli.chosen import unlike
from segkit.infer.oracle import oracle_affinities
from segkit.models.checkpoint import save_model
from segkit.registry import find
from segkit.registry.settings import settings
from segkit.testing.phantoms import neurites

SMALL = {"features": 2, "growth": 1, "pooling": [[1, 2, 2]], "padding": "same"}


def chosen(threshold=0.25, fragmenter=None, agglomerator=None):
    return {
        "step": 40,
        "threshold": threshold,
        "cremi_score": 0.5,
        "fragmenter": settings("fragmenters", "watershed", fragmenter or {"seed_distance": 3}),
        "agglomerator": settings("agglomerators", "python", agglomerator or {}),
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folder with data.h5 and affinities.h5, of which a run chose the threshold 0.25."""
    folder = tmp_path_factory.mktemp("chosen")
    phantom = neurites((8, 32, 32), count=6, seed=3)
    io.write_all(folder / "data.h5", {"raw": phantom.raw, "truth": phantom.truth})
    affinities = oracle_affinities(phantom.truth, noise=0.3, seed=0)
    io.write(folder / "affinities.h5", affinities, "affinities", notes={"chosen": {"run": "RUN", **chosen()}})
    io.write(folder / "bare.h5", affinities, "affinities")
    return folder


@pytest.fixture
def fragments(segkit, files, tmp_path):
    path = tmp_path / "fragments.h5"
    done(segkit("fragment", files / "affinities.h5", "--set", "seed_distance=3", "--out", path))
    return path


@pytest.fixture
def run(tmp_path):
    """A run folder with two networks: the best, and another."""
    folder = tmp_path / "run"
    folder.mkdir()
    network = find("models", "unet3d").create(channels=3, **SMALL)
    options = {"name": "unet3d", "parameters": SMALL, "neighborhood": [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]}
    save_model(folder / "best.safetensors", network, **options, extra={"steps": 40, "validation": chosen()})
    other = find("models", "unet3d").create(channels=3, **SMALL)
    save_model(folder / "model.safetensors", other, **options, extra={"steps": 60})
    return folder


def done(result):
    assert result.exit_code == 0, result.stderr
    return result


def array(address):
    return io.read_labels(address, role="segmentation").array


def test_from_the_run_to_the_segmentation(segkit, files, run, tmp_path):
    affinities, fragments, tree, cut = (tmp_path / f"{name}.h5" for name in ("aff", "frag", "tree", "cut"))
    done(segkit("infer", files / "data.h5", "--run", run, "--out", affinities))
    assert io.read_notes(affinities, "affinities")["chosen"] == {"run": str(run), **chosen()}
    done(segkit("fragment", affinities, "--set", "seed_distance=3", "--out", fragments))
    found = done(segkit("agglomerate", affinities, "--fragments", fragments, "--out", tree))
    assert f"threshold 0.25 is that of the run '{run}' at step 40 (CREMI score 0.500 on its validation" in found.stderr
    found = done(segkit("segment", tree, "--out", cut))
    assert "threshold 0.25 is that of the run" in found.stderr and np.array_equal(array(tree), array(cut))
    done(segkit("segment", tree, "--threshold", 0.25, "--out", cut))
    assert np.array_equal(array(tree), array(cut))


def test_a_threshold_that_was_chosen_otherwise_is_taken_and_that_is_said(segkit, files, run, tmp_path):
    affinities, fragments, tree = (tmp_path / f"{name}.h5" for name in ("aff", "frag", "tree"))
    words = ["infer", files / "data.h5", "--run", run, "--out", affinities]
    plain, found = done(segkit(*words)), done(segkit(*words, "--augment", "flips"))
    said = "chosen without --augment flips"
    assert "chosen" not in plain.stderr and f"the threshold of {run} was {said}: another may" in found.stderr
    done(segkit("fragment", affinities, "--set", "seed_distance=3", "--out", fragments))
    for found in (
        segkit("agglomerate", affinities, "--fragments", fragments, "--out", tree),
        segkit("segment", tree, "--out", tmp_path / "cut.h5"),
    ):
        assert f"threshold 0.25 is that of the run '{run}' at step 40" in done(found).stderr and said in found.stderr


@pytest.mark.parametrize(
    ("trained", "seen", "made", "expected"),
    [
        ([8, 8, 8], (8, 8, 8), (8.0, 8.0, 8.0), ""),
        ([8, 8, 8], (4, 8, 8), (4, 8, 8), "on voxels of 8,8,8 nm instead of 4,8,8"),
        ([40, 4, 4], (40, 4, 4), (40, 5, 4), "on voxels of 40,4,4 nm instead of 40,5,4"),
        (None, (4, 4, 4), (4, 4, 4), ""),
    ],
)
def test_the_voxels_that_it_was_chosen_on(trained, seen, made, expected):
    assert unlike({"voxel_size": trained}, "none", seen, made) == expected


def test_the_last_network_is_to_be_had_and_chose_nothing(segkit, files, run, tmp_path):
    best, last, file = (tmp_path / f"{name}.h5" for name in ("best", "last", "file"))
    done(segkit("infer", files / "data.h5", "--run", run, "--checkpoint", "best", "--out", best))
    done(segkit("infer", files / "data.h5", "--run", run, "--checkpoint", "last", "--out", last))
    done(segkit("infer", files / "data.h5", "--run", run / "best.safetensors", "--out", file))
    arrays = [io.read_affinities(path).array for path in (best, last, file)]
    assert np.array_equal(arrays[0], arrays[2]) and not np.array_equal(arrays[0], arrays[1])
    assert "chosen" not in io.read_notes(last, "affinities") and "chosen" in io.read_notes(best, "affinities")
    (run / "best.safetensors").unlink()
    done(segkit("infer", files / "data.h5", "--run", run, "--out", best))
    assert np.array_equal(io.read_affinities(best).array, arrays[1])
    refused = segkit("infer", files / "data.h5", "--run", run, "--checkpoint", "best", "--out", best)
    assert refused.exit_code == 2 and "validated by segmentation" in refused.stderr and "--val" in refused.stderr


@pytest.mark.parametrize(
    ("fragmenting", "agglomerating", "said"),
    [
        ([], [], "seed_distance = 3, not 10, of the fragmenter"),
        (["--method", "threshold"], [], "'watershed', not 'threshold', as name of the fragmenter"),
        (["--set", "seed_distance=3"], ["--score", "max"], "score = 'mean', not 'max', of the agglomerator"),
    ],
)
def test_with_other_components_it_is_not_taken(segkit, files, tmp_path, fragmenting, agglomerating, said):
    path, tree = tmp_path / "fragments.h5", tmp_path / "tree.h5"
    done(segkit("fragment", files / "affinities.h5", *fragmenting, "--out", path))
    words = ["agglomerate", files / "affinities.h5", "--fragments", path, *agglomerating, "--out", tree]
    found = done(segkit(*words))
    assert "threshold 0.25 of the run 'RUN' at step 40" in found.stderr and said in found.stderr
    assert not io.exists(tree, "segmentation") and "chosen" not in io.read_notes(tree, "merge_tree")
    refused = segkit(*words, "--threshold", "run")
    assert refused.exit_code == 2 and "--threshold run cannot be had" in refused.stderr and said in refused.stderr
    refused = segkit("segment", tree, "--out", tmp_path / "cut.h5")
    assert refused.exit_code == 2 and "--threshold must be given: threshold 0.25 of the run 'RUN'" in refused.stderr
    assert said in refused.stderr
    io.write(tree, io.read_merge_tree(tree))  # as earlier versions wrote it
    refused = segkit("segment", tree, "--out", tmp_path / "cut.h5")
    assert refused.exit_code == 2 and "the merge tree has none" in refused.stderr


def test_a_threshold_that_is_given_goes_before(segkit, files, fragments, tmp_path):
    tree = tmp_path / "tree.h5"
    words = ["agglomerate", files / "affinities.h5", "--fragments", fragments, "--score", "mean", "--out", tree]
    found = done(segkit(*words, "--threshold", 0.5))
    assert "RUN" not in found.stderr
    half = array(tree)
    done(segkit(*words, "--threshold", 0.5, "--threshold", "run"))
    assert np.array_equal(array(f"{tree}:volumes/segmentation_0.5"), half)
    quarter = array(f"{tree}:volumes/segmentation_0.25")
    assert len(np.unique(quarter)) > len(np.unique(half))
    done(segkit("segment", tree, "--out", tmp_path / "cut.h5"))
    assert np.array_equal(array(tmp_path / "cut.h5"), quarter)


def test_without_a_run_all_is_as_ever(segkit, files, fragments, tmp_path):
    tree = tmp_path / "tree.h5"
    words = ["agglomerate", files / "bare.h5", "--fragments", fragments, "--out", tree]
    assert "threshold" not in done(segkit(*words)).stderr and not io.exists(tree, "segmentation")
    for refused in (
        segkit(*words, "--threshold", "run"),
        segkit("segment", tree, "--out", tmp_path / "cut.h5"),
        segkit("segment", tree, "--threshold", "run", "--out", tmp_path / "cut.h5"),
    ):
        assert refused.exit_code == 2 and "not of a network that a run chose" in refused.stderr
    assert segkit(*words, "--threshold", "walk").exit_code == 2
    unknown = tmp_path / "unknown.h5"
    io.write(unknown, io.read_labels(fragments, role="fragments"), "fragments")
    words = ["agglomerate", files / "affinities.h5", "--fragments", unknown, "--out", tree]
    assert "the fragments do not say how they were made" in done(segkit(*words)).stderr


RECIPE = """
[data]
train = "data.h5"
[train]
data = "{data.train}"
val = "{data.train}[2:6]"
model = "unet3d"
loss = "mse"
steps = 4
device = "cpu"
out = "{out}/run"
[train.set]
patch = [2, 16, 16]
validate_every = 2
health = { every = 0 }
validation = { fragmenter_parameters = { seed_distance = 3 } }
model = { features = 2, growth = 1, pooling = [[1, 2, 2]], padding = "same" }
[infer]
raw = "{data.train}"
run = "{out}/run"
out = "{out}/affinities.h5"
[fragment]
affinities = "{out}/affinities.h5"
set = { seed_distance = 3 }
out = "{out}/fragments.h5"
[agglomerate]
affinities = "{out}/affinities.h5"
fragments = "{out}/fragments.h5"
threshold = "run"
out = "{out}/segmentation.h5"
[evaluate]
segmentation = "{out}/segmentation.h5"
truth = "{data.train}"
"""


def test_a_recipe_that_is_trained_and_scored_at_the_threshold_of_the_run(segkit, files, tmp_path, monkeypatch):
    monkeypatch.chdir(files)
    (tmp_path / "mine.toml").write_text(RECIPE)
    out = tmp_path / "out"
    results = json.loads(done(segkit("run", tmp_path / "mine.toml", "--out", out, "--json")).stdout)
    best = json.loads((out / "run" / "best.json").read_text())
    lines = [json.loads(line) for line in (out / "run" / "metrics.jsonl").read_text().splitlines()]
    scores = [line["validation/cremi_score"] for line in lines if "validation/cremi_score" in line]
    assert len(scores) == 2 and best["cremi_score"] == min(scores) == results["train"]["best"]["cremi_score"]
    notes = io.read_notes(out / "segmentation.h5", "merge_tree")
    assert notes["chosen"]["threshold"] == best["threshold"] and notes["chosen"]["step"] == best["step"]
    cut = tmp_path / "cut.h5"
    done(segkit("segment", out / "segmentation.h5", "--threshold", repr(best["threshold"]), "--out", cut))
    assert np.array_equal(array(cut), array(out / "segmentation.h5"))
