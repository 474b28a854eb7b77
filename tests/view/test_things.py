"""What files, runs and folders of recipes hold, and what each thing is taken for."""

import json
import shutil

import h5py
import numpy as np
import pytest
import tifffile

from segkit import Grid, Labels, Volume, io
from segkit.errors import BrokenComponent, InvalidInput, MissingFile
from segkit.run import Record
from segkit.view import things
from tests.io.servers import Faults, web_server


def found(*words):
    return [(thing.name, str(thing.address), thing.shown) for thing in things([str(word) for word in words])]


def test_all_objects_of_files_in_the_order_of_the_pipeline(folder):
    assert [name for name, *_ in found(folder / "t.h5", folder / "a.h5", folder / "d.h5")] == [
        "raw",
        "truth",
        "affinities",
        "fragments",
        "merge tree",
    ]
    names = [name for name, *_ in found(folder / "f.h5", folder / "t.h5")]
    assert names == ["fragments", "merge tree"], "its fragments are seen once"


def test_one_object_and_a_role_that_is_said(folder):
    address = f"{folder}/d.h5:volumes/labels/neuron_ids"
    assert found(address) == [("truth", address, True)]
    assert found(f"segmentation={address}[0:3,:,:]") == [("segmentation", f"{address}[0:3,:,:]", True)]
    url = "precomputed://https://example.org/labels"
    assert found(f"segmentation={url}") == [("segmentation", url, True)]
    with pytest.raises(InvalidInput, match=r"a URL must say what it is, .*; such as raw=precomputed"):
        things([url])


def test_urls_are_addresses_unless_the_page_is_to_read_them(folder):
    pytest.importorskip("obstore", reason="needs obstore")
    with web_server(folder, Faults()) as web:
        assert found(f"{web}/d.h5:volumes/labels/neuron_ids") == [
            ("truth", f"{web}/d.h5:volumes/labels/neuron_ids", True)
        ]
        assert isinstance(things([f"raw={web}/d.h5"])[0].address, io.Address)
        with pytest.raises(MissingFile):
            things([f"{web}/none.h5"])
    for url in ("n5://https://example.org/a", "https://example.org/a|zarr3:", "zarr://s3://bucket/a"):
        assert [thing.address for thing in things([f"raw={url}"])] == [url]


def test_files_of_others_by_names_and_types(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        for name, dtype in (("images", np.uint8), ("ids", np.uint64), ("fragments_2", np.int32), ("flat", np.uint8)):
            file[name] = np.zeros((2, 3, 4) if name != "flat" else (2, 3), dtype)
        file["soft"] = np.zeros((2, 3, 4), np.float32)
    names = [(name, address.partition(":")[2]) for name, address, _ in found(tmp_path / "other.h5")]
    assert names == [
        ("raw (other, images)", "images"),
        ("raw (other, soft)", "soft"),
        ("fragments", "fragments_2"),
        ("segmentation", "ids"),
    ]
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((2, 3, 4), np.uint8), photometric="minisblack")
    assert found(tmp_path / "stack.tif") == [("raw", str(tmp_path / "stack.tif"), True)]
    with h5py.File(tmp_path / "either.h5", "w") as file:
        file["x"] = np.zeros((2, 3, 4), np.uint16)
    with pytest.raises(InvalidInput, match=r"may be images or labels, being uint16.*; call it raw="):
        things([str(tmp_path / "either.h5")])
    assert found(f"raw={tmp_path}/either.h5:x")[0][0] == "raw"


def test_the_results_of_a_recipe_with_what_it_was_given(folder, tmp_path):
    home = tmp_path / "runs"
    home.mkdir()
    for name in ("a.h5", "f.h5", "t.h5"):
        shutil.copy(folder / name, home / name)
    shutil.copy(folder / "a.h5", home / "untrained.h5")
    record = Record(home)
    for name, words, role, text in (
        ("infer-untrained", ["infer", "d.h5", "--out", f"{home}/untrained.h5"], "raw", f"{folder}/d.h5"),
        ("infer", ["infer", "d.h5", "--out", f"{home}/a.h5"], "raw", f"{folder}/d.h5"),
        ("agglomerate", ["agglomerate", "a.h5", "--out", f"{home}/t.h5"], "affinities", f"{home}/a.h5"),
        ("evaluate", ["evaluate", "s.h5", "d.h5"], "truth", [f"{folder}/d.h5"]),
    ):
        record.finish(name, "", [], {}, 1.0, ["segkit", *words], {role: text})
    record.begin("unfinished", "")
    names = [(name, shown) for name, _, shown in found(home)]
    assert names == [
        ("raw", True),
        ("truth", True),
        ("affinities (untrained)", False),
        ("affinities (a)", True),
        ("fragments", True),
        ("merge tree", True),
    ]
    home.rename(tmp_path / "moved")
    assert [name for name, *_ in found(tmp_path / "moved")] == [name for name, _ in names], "where it was moved to"


def test_a_training_run_with_its_volumes(folder, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    source = {"data": ["gone.h5"], "validation": [f"{folder}/d.h5[0:6]"], "raw_dataset": "volumes/raw"}
    (run / "card.json").write_text(json.dumps({"source": source}))
    assert [(name, address.rpartition("/")[2]) for name, address, _ in found(run)] == [
        ("raw", "raw[0:6,:,:]"),
        ("truth", "d.h5[0:6,:,:]"),
    ]
    shutil.copy(folder / "a.h5", run / "validation.h5")
    assert [name for name, *_ in found(run)] == ["raw", "truth", "affinities"]


def test_what_cannot_be_shown(tmp_path, folder, monkeypatch):
    with pytest.raises(MissingFile, match="nowhere"):
        things([str(tmp_path / "nowhere.h5")])
    with pytest.raises(InvalidInput, match=r"a folder must be a training run, .*; name the files in it"):
        things([str(tmp_path)])
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with pytest.raises(InvalidInput, match="must hold something to be seen"):
        things([str(tmp_path / "empty.h5")])
    tree = io.read_merge_tree(folder / "t.h5")
    io.write(tmp_path / "t.h5", tree, notes={"fragments": str(tmp_path / "gone.h5")})
    with pytest.raises(MissingFile, match=r"needs its fragments; they were in .*gone.h5"):
        things([str(tmp_path / "t.h5")])
    monkeypatch.setitem(__import__("sys").modules, "neuroglancer", None)
    monkeypatch.delitem(__import__("sys").modules, "segkit.view.session", raising=False)
    monkeypatch.delitem(__import__("sys").modules, "segkit.view.served", raising=False)
    with pytest.raises(BrokenComponent, match=r"pip install 'segkit-em\[view\]'"):
        _ = __import__("segkit.view", fromlist=["Session"]).Session


def test_masks_are_no_images(tmp_path):
    io.write_all(tmp_path / "m.h5", {"mask": Volume(np.ones((2, 3, 4), bool), Grid())})
    io.write(tmp_path / "s.h5", Labels(np.ones((2, 3, 4), np.uint64), Grid()), "segmentation")
    assert [name for name, *_ in found(tmp_path / "m.h5", tmp_path / "s.h5")] == ["mask", "segmentation"]
