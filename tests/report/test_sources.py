"""What is found in a folder, and which of several things is meant."""

import json
import shutil
from pathlib import Path

import pytest

from segkit.errors import InvalidInput, MissingFile
from segkit.report import find_sources
from segkit.report.scene import Scene, middle


def record(folder: Path, **stages) -> Path:
    """A record of stages, given as (command, given)."""
    entries = {
        name.replace("_", "-"): {"result": {}, "seconds": 1.0, "command": command.split(), "given": given}
        for name, (command, given) in stages.items()
    }
    (folder / "stages.json").write_text(json.dumps(entries))
    return folder


def test_the_last_affinities_and_what_was_made_of_them(tmp_path):
    """As in the demo: an untrained network, then a trained one, whose fragments two backends merge."""
    found = find_sources(
        record(
            tmp_path,
            train_untrained=("segkit train t.h5 --out untrained", {}),
            train=("segkit train t.h5 --out run", {}),
            infer_untrained=("segkit infer r.h5 --run untrained --out a0.h5", {"raw": "r.h5"}),
            agglomerate_untrained=(
                "segkit agglomerate a0.h5 --out u.h5",
                {"affinities": "a0.h5", "fragments": "f0.h5"},
            ),
            evaluate_untrained=("segkit evaluate u.h5 t.h5", {"segmentation": "u.h5", "truth": ["t.h5"]}),
            infer=("segkit infer r.h5 --run run --out a.h5", {"raw": "r.h5"}),
            agglomerate_python=(
                "segkit agglomerate a.h5 --threshold 0.6 --out p.h5",
                {"affinities": "a.h5", "fragments": "f.h5"},
            ),
            agglomerate_waterz=("segkit agglomerate a.h5 --out w.h5", {"affinities": "a.h5", "fragments": "f.h5"}),
            evaluate_python=("segkit evaluate p.h5 t.h5 --border 25", {"segmentation": "p.h5", "truth": ["t.h5"]}),
            evaluate_waterz=("segkit evaluate w.h5 t.h5", {"segmentation": "w.h5", "truth": ["t.h5"]}),
        )
    )
    assert (str(found.affinities), str(found.fragments), str(found.merge_tree)) == ("a.h5", "f.h5", "p.h5")
    assert (str(found.raw), str(found.truth), found.threshold, found.border) == ("r.h5", "t.h5", 0.6, 25.0)
    assert list(found.segmentations) == ["python", "untrained", "waterz"]
    assert [run.name for run in found.runs] == ["run", "untrained"]


def test_a_tree_that_was_cut_by_a_stage_of_its_own(tmp_path):
    found = find_sources(
        record(
            tmp_path,
            agglomerate=("segkit agglomerate a.h5 --out tree.h5", {"affinities": "a.h5", "fragments": "f.h5"}),
            segment=("segkit segment tree.h5 --threshold 0.3 --out seg.h5", {"merge_tree": "tree.h5"}),
            evaluate=("segkit evaluate seg.h5 t.h5 --per-section", {"segmentation": "seg.h5", "truth": ["t.h5"]}),
        )
    )
    assert (found.threshold, found.per_section) == (0.3, True)
    assert {name: str(at) for name, at in found.segmentations.items()} == {"segmentation": "seg.h5"}


def test_unfinished_stages_are_not_there(tmp_path):
    (tmp_path / "stages.json").write_text(json.dumps({"infer": {"inputs": "abc"}}))
    assert find_sources(tmp_path).stages == ()


def test_a_folder_that_was_moved_is_found_again(made, tmp_path, monkeypatch):
    """The record says out/tree.h5, which is now elsewhere; the data are where they were."""
    shutil.copytree(made / "out", tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    found = find_sources(tmp_path / "moved")
    assert found.merge_tree is not None and found.merge_tree.path == tmp_path / "moved" / "tree.h5"
    assert found.segmentations["segmentation"].path == tmp_path / "moved" / "tree.h5"


def test_where_several_could_be_meant_none_is_taken(made, tmp_path):
    for name in ("one.h5", "two.h5"):
        shutil.copy(made / "affinities.h5", tmp_path / name)
    assert find_sources(tmp_path).affinities is None
    assert find_sources(tmp_path, {"affinities": str(tmp_path / "two.h5")}).affinities is not None


def test_no_folder_is_refused(tmp_path):
    with pytest.raises(MissingFile, match="FOLDER must be the folder of a training run or of a recipe"):
        find_sources(tmp_path / "nothing")


@pytest.mark.parametrize(("shape", "largest"), [((10, 10, 10), 1000), ((10, 400, 300), 4000), ((3, 7, 5), 1)])
def test_the_middle_is_as_large_as_allowed(shape, largest):
    part = middle(shape, largest)
    sizes = [along.stop - along.start for along in part]
    assert sizes[0] * sizes[1] * sizes[2] <= largest
    bigger = [min(size, max(sizes) + 1) for size in shape]
    assert tuple(sizes) == shape or bigger[0] * bigger[1] * bigger[2] > largest
    assert all(abs(along.start - (size - along.stop)) <= 1 for along, size in zip(part, shape, strict=True))


def test_volumes_apart_are_refused(made, monkeypatch):
    monkeypatch.chdir(made)
    sources = find_sources(made / "out", {"affinities": "affinities.h5[0:4]", "truth": "data.h5[8:12]"})
    with pytest.raises(InvalidInput, match="must have voxels in common"):
        Scene(sources, {})


def test_a_layer_gives_the_voxels_of_the_box(made, monkeypatch):
    monkeypatch.chdir(made)
    sources = find_sources(made / "out", {"truth": "data.h5[4:12,8:40]", "raw": "data.h5[:,:,3:]"})
    scene = Scene(sources, {})
    from segkit import io

    assert scene.shape == (8, 32, 37) and scene.start == (4, 8, 3)
    whole = io.read_labels("data.h5").array
    assert (scene.labels("truth").array == whole[4:12, 8:40, 3:]).all()
    affinities = io.read_affinities("affinities.h5").array[:, 4:12, 8:40, 3:]
    assert (scene.layer("affinities").read(scene.everything) == affinities).all()
