"""segkit convert: what a file says it is need not be said again, and the next verb finds what was written."""

import h5py
import numpy as np
import pytest

from segkit import io
from segkit.data import Affinities, Grid, Labels, MergeTree, Volume

GRID = Grid((40, 4, 4))
PLACE = ["--voxel-size", "40", "4", "4"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with ours.h5, where each role has its usual dataset, and foreign.h5, which says nothing of its own."""
    labels = Labels.convert(np.random.default_rng(0).integers(1, 4, (6, 7, 8)), GRID)
    tree = MergeTree(np.array([1, 2, 3], np.uint64), np.array([3, 3, 4, 4, 4]), np.array([0.2, 0.4]))
    raw = Volume(np.zeros((6, 7, 8), np.uint8), GRID)
    everything = {"raw": raw, "affinities": Affinities.from_labels(labels), "merge_tree": tree}
    everything |= dict.fromkeys(("truth", "fragments", "segmentation"), labels)
    everything["mask"] = Volume(labels.array > 1, GRID)
    io.write_all(tmp_path / "ours.h5", everything)
    io.write(f"{tmp_path}/other.h5:seg/final", labels)
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["seg"], file["em"] = labels.array, raw.array
    monkeypatch.chdir(tmp_path)
    return tmp_path


def done(result):
    assert result.exit_code == 0, result.stderr
    return result


@pytest.mark.parametrize("suffix", [".h5", ".zarr"])
@pytest.mark.parametrize("role", ["raw", "truth", "fragments", "segmentation", "affinities", "mask"])
def test_a_dataset_of_segkit_keeps_its_role(folder, segkit, role, suffix):
    usual = io.ROLES[role][0]
    result = done(segkit("convert", f"ours.h5:{usual}", f"new{suffix}"))
    assert result.stderr.startswith(role) and f"-> new{suffix}:{usual}" in result.stderr
    assert io.exists(f"new{suffix}", role)
    again = done(segkit("convert", f"new{suffix}", "again.h5"))  # the file holds nothing else: no dataset is named
    assert f"-> again.h5:{usual}" in again.stderr


@pytest.mark.parametrize(
    ("kind", "next_verb"),
    [
        ("segmentation", ["evaluate", "new.h5", "ours.h5"]),
        ("truth", ["evaluate", "ours.h5", "new.h5"]),
        ("labels", ["evaluate", "ours.h5", "new.h5"]),
        ("fragments", ["agglomerate", "ours.h5", "--fragments", "new.h5", "--out", "tree.h5"]),
    ],
)
def test_labels_of_another_tool_go_where_the_next_verb_looks(folder, segkit, kind, next_verb):
    done(segkit("convert", "foreign.h5:seg", "new.h5", "--kind", kind, "--axes", "zyx", *PLACE))
    done(segkit(*next_verb))


def test_raw_data_and_truth_of_another_tool_make_a_file_to_train_on(folder, segkit):
    for name, kind in (("em", "raw"), ("seg", "truth")):
        done(segkit("convert", f"foreign.h5:{name}", "new.h5", "--kind", kind, "--axes", "zyx", *PLACE))
    words = ["train", "new.h5", "--model", "fcn", "--loss", "mse", "--set", "patch=[1, 4, 4]", "--preview", "new.png"]
    done(segkit(*words))


def test_the_dataset_of_out_goes_before(folder, segkit):
    result = done(segkit("convert", "foreign.h5:seg", "new.h5:a/b", "--kind", "truth", "--axes", "zyx", *PLACE))
    assert "-> new.h5:a/b" in result.stderr and io.exists("new.h5:a/b", "truth")


def test_a_stack_of_segkit_says_what_it_is(folder, segkit):
    assert "-> stack.tif\n" in done(segkit("convert", "ours.h5:volumes/segmentation", "stack.tif")).stderr
    done(segkit("convert", "stack.tif", "new.h5", "--kind", "segmentation"))
    done(segkit("evaluate", "new.h5", "ours.h5"))
    assert "truth 6 x 7 x 8" in done(segkit("convert", "stack.tif", "truth.h5")).stderr


def test_labels_at_a_name_of_their_own_are_truth_unless_the_user_says_more(folder, segkit):
    assert "truth 6 x 7 x 8" in done(segkit("convert", "other.h5", "new.h5")).stderr
    assert (
        "segmentation 6 x 7 x 8"
        in done(segkit("convert", "other.h5:seg/final", "b.h5", "--kind", "segmentation")).stderr
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ours.h5", "new.h5"], "ours.h5 holds volumes/affinities, volumes/fragments"),
        (["ours.h5", "new.h5", "--kind", "labels"], "holds volumes/fragments, volumes/labels/neuron_ids, volumes/seg"),
        (["ours.h5:merge_tree", "new.h5"], "merge_tree"),
        (
            ["ours.h5:volumes/raw", "new.h5", "--kind", "truth"],
            "must agree with the file, which says that this is of kind",
        ),
        (
            ["ours.h5:volumes/fragments", "new.h5", "--kind", "affinities"],
            "of kind labels, not affinities; leave it out",
        ),
        (["foreign.h5:em", "new.h5", *PLACE], "is not stated by the file; say what it is: --kind raw, truth"),
        (["foreign.h5:sge", "new.h5", *PLACE], "has no dataset 'sge'; did you mean foreign.h5:seg?"),
        (["foreign.h5", "new.h5", "--kind", "raw", *PLACE], "has no raw data (dataset 'volumes/raw')"),
        (["ous.h5", "new.h5"], "did you mean ours.h5?"),
    ],
)
def test_refusals(folder, segkit, words, message):
    result = segkit("convert", *words)
    assert result.exit_code == 2 and message in result.stderr, result.stderr
    assert not (folder / "new.h5").exists()
