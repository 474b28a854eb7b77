"""What is said where a file or a dataset is not there: what is, what was meant, and which verb makes it."""

import h5py
import numpy as np
import pytest
import zarr

from segkit import io
from segkit.data import Affinities, Grid, Labels, MergeTree, Volume
from segkit.errors import MissingDataset, MissingFile

SHAPE = (2, 3, 4)
GRID = Grid((40, 4, 4))
LABELS = Labels.convert(np.ones(SHAPE, int), GRID)
CONTAINERS = {
    "raw": Volume(np.zeros(SHAPE, np.uint8), GRID),
    "truth": LABELS,
    "affinities": Affinities.from_labels(LABELS),
    "fragments": LABELS,
    "segmentation": LABELS,
    "merge_tree": MergeTree(np.array([1, 2], np.uint64), np.array([2, 2, 2]), np.array([0.5])),
}
READERS = {
    "raw": io.read_volume,
    "affinities": io.read_affinities,
    "merge_tree": io.read_merge_tree,
    "mask": io.read_mask,
} | {role: lambda address, role=role: io.read_labels(address, role) for role in ("truth", "fragments", "segmentation")}


def message(role: str, address, error=MissingDataset) -> str:
    with pytest.raises(error) as raised:
        READERS[role](address)
    return str(raised.value)


@pytest.mark.parametrize("suffix", [".h5", ".zarr"])
@pytest.mark.parametrize(
    ("role", "named", "verb"),
    [
        ("raw", "raw data", "--raw-dataset"),
        ("truth", "ground truth", "--labels-dataset"),
        ("mask", "mask", "FILE:DATASET"),
        ("affinities", "affinities", "`segkit infer RAW --run RUN --out FILE` makes affinities"),
        ("fragments", "fragments", "`segkit fragment AFFINITIES --out FILE` makes fragments"),
        ("merge_tree", "merge tree", "`segkit agglomerate AFFINITIES --fragments FRAGMENTS --out FILE`"),
        ("segmentation", "segmentation", "`segkit segment MERGE_TREE --threshold T --out FILE`"),
    ],
)
def test_the_role_is_named_and_what_makes_it(tmp_path, suffix, role, named, verb):
    other = "raw" if role != "raw" else "affinities"
    path = tmp_path / f"file{suffix}"
    io.write(path, CONTAINERS[other], other)
    said = message(role, path)
    usual, there = io.ROLES[role][0], io.ROLES[other][0]
    assert f"{path} has no {named} (dataset '{usual}')" in said and f"it holds {there}" in said and verb in said
    assert "did you mean" not in said


@pytest.mark.parametrize("suffix", [".h5", ".zarr"])
@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("raw", "main"),
        ("affinities", "pred/affs"),
        ("segmentation", "labels/seg"),
        ("truth", "labels/seg"),
        ("fragments", None),
        ("merge_tree", None),
    ],
)
def test_datasets_of_another_tool_that_look_like_the_role_are_proposed(tmp_path, suffix, role, expected):
    path = tmp_path / f"foreign{suffix}"
    arrays = {
        "main": np.zeros(SHAPE, np.uint8),
        "pred/affs": np.zeros((3, *SHAPE), np.float32),
        "labels/seg": np.ones(SHAPE, np.uint64),
        "labels/synapses": np.ones(SHAPE, np.uint64),
    }
    store = h5py.File(path, "w") if suffix == ".h5" else zarr.open_group(str(path), mode="w")
    for name, array in arrays.items():
        store.create_dataset(name, data=array) if suffix == ".h5" else store.create_array(name, data=array)
    if suffix == ".h5":
        store.close()
    said = message(role, path)
    assert f"did you mean {path}:{expected}?" in said if expected else "did you mean" not in said


@pytest.mark.parametrize(
    ("role", "typed", "meant"),
    [
        ("affinities", "volumes/afinities", "volumes/affinities"),
        ("truth", "volumes/labels/neuron_id", "volumes/labels/neuron_ids"),
        ("segmentation", "volumes/labels/neuron_id", "volumes/labels/neuron_ids"),
        ("raw", "volumes/rwa", "volumes/raw"),
        ("merge_tree", "mergetree", "merge_tree"),
    ],
)
def test_a_mistyped_dataset_is_answered_by_the_nearest_of_that_kind(tmp_path, role, typed, meant):
    path = tmp_path / "all.h5"
    io.write_all(path, CONTAINERS)
    said = message(role, f"{path}:{typed}")
    assert f"has no dataset '{typed}'; did you mean {path}:{meant}? it holds" in said


def test_a_mistyped_dataset_of_another_kind_is_not_proposed(tmp_path):
    io.write(tmp_path / "raw.h5", CONTAINERS["raw"], "raw")
    said = message("affinities", f"{tmp_path / 'raw.h5'}:volumes/afinities")
    assert "did you mean" not in said and "it holds volumes/raw" in said and "`segkit infer" in said


def test_wildcards_that_match_nothing_are_answered_alike(tmp_path):
    io.write(tmp_path / "raw.h5", CONTAINERS["raw"], "raw")
    with pytest.raises(MissingDataset, match=r"has no dataset 'volumes/labels/a_\*'; it holds volumes/raw; name the"):
        io.matching(f"{tmp_path / 'raw.h5'}:volumes/labels/a_*", "truth")


@pytest.mark.parametrize("suffix", [".h5", ".zarr"])
def test_a_mistyped_file_is_answered_by_the_nearest_that_holds_the_role(tmp_path, suffix):
    io.write(tmp_path / f"sample_tree{suffix}", CONTAINERS["merge_tree"])
    io.write(tmp_path / f"sample_trees{suffix}", CONTAINERS["raw"], "raw")
    (tmp_path / "damaged.h5").write_text("no HDF5")
    typed = tmp_path / f"sample_treess{suffix}"
    assert f"did you mean {tmp_path / f'sample_tree{suffix}'}?" in message("merge_tree", typed, MissingFile)
    assert f"did you mean {tmp_path / f'sample_trees{suffix}'}?" in message("raw", typed, MissingFile)
    assert f"did you mean {tmp_path / f'sample_trees{suffix}'}?" in message("fragments", typed, MissingFile)


def test_where_no_name_is_near_the_files_that_hold_the_role_are_listed(tmp_path):
    for name in ("python.h5", "waterz.h5"):
        io.write(tmp_path / name, CONTAINERS["merge_tree"])
    io.write(tmp_path / "raw.h5", CONTAINERS["raw"], "raw")
    said = message("merge_tree", tmp_path / "agglomerated-0.5.h5", MissingFile)
    assert "does not exist; files with a merge tree there are python.h5, waterz.h5" in said
    assert "check the spelling" in message("segmentation", tmp_path / "agglomerated-0.5.h5", MissingFile)
    assert "there is no folder" in message("raw", tmp_path / "no" / "raw.h5", MissingFile)


def test_a_file_without_a_suffix_that_is_not_there_is_first_of_all_not_there(tmp_path):
    (tmp_path / "stack.tif").touch()
    assert f"did you mean {tmp_path / 'stack.tif'}?" in message("raw", tmp_path / "stack", MissingFile)


def test_a_run_folder_is_no_volume(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"is a training run: `segkit infer RAW --run .* makes affinities"):
        io.read_affinities(tmp_path)
