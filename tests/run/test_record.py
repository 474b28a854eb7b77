"""A stage is done if its command, its inputs and its outputs are what they were."""

from dataclasses import replace
from pathlib import Path

import pytest

from segkit.errors import SegkitWarning
from segkit.io import parse_address
from segkit.run import Record, fingerprint
from segkit.run.record import located, read_stages


@pytest.fixture
def output(tmp_path):
    path = tmp_path / "output.h5"
    path.write_text("result")
    return path


def test_finished_stages_are_found_again(tmp_path, output):
    Record(tmp_path).finish("infer", "inputs", [output], {"voxels": 3}, 1.0)
    assert Record(tmp_path).result("infer", "inputs", [output]) == {"voxels": 3}


def test_another_command_or_output_means_not_done(tmp_path, output):
    record = Record(tmp_path)
    record.finish("infer", "inputs", [output], {}, 1.0)
    assert record.result("infer", "other inputs", [output]) is None
    output.write_text("changed by somebody")
    assert record.result("infer", "inputs", [output]) is None
    output.unlink()
    assert record.result("infer", "inputs", [output]) is None


def test_a_stage_that_was_cut_off_is_told_from_one_that_never_began(tmp_path):
    assert Record(tmp_path).begin("train", "inputs") is False
    assert Record(tmp_path).begin("train", "other inputs") is False
    assert Record(tmp_path).begin("train", "other inputs") is True


def test_a_damaged_record_is_an_empty_one(tmp_path):
    (tmp_path / "stages.json").write_text("{ half")
    with pytest.warns(SegkitWarning, match="is no valid JSON.*no stage counts as finished"):
        assert Record(tmp_path).result("infer", "inputs", []) is None


@pytest.mark.parametrize(
    "entry", ["7", "[]", '{"inputs": 3, "result": {}}', '{"result": {}, "command": "segkit infer"}']
)
def test_a_damaged_entry_is_a_stage_that_was_never_begun(tmp_path, entry):
    Record(tmp_path).finish("infer", "x", [], {"out": "a.h5"}, 2.5)
    whole = (tmp_path / "stages.json").read_text().strip().removesuffix("}")
    (tmp_path / "stages.json").write_text(f'{whole}, "segment": {entry}}}')
    with pytest.warns(SegkitWarning, match="entry of segment is damaged"):
        record = Record(tmp_path)
    assert record.result("infer", "x", []) == {"out": "a.h5"} and record.result("segment", "x", []) is None


def test_fingerprints_see_words_files_and_folders(tmp_path, output):
    folder = tmp_path / "folder"
    folder.mkdir()
    member = folder / "weights"
    member.write_text("1")
    prints = [fingerprint(["a", "b"], [output]), fingerprint(["ab"], [output]), fingerprint(["a", "b"], [folder])]
    member.write_text("12")
    prints.append(fingerprint(["a", "b"], [folder]))
    assert len(set(prints)) == 4


def test_what_is_finished_is_read_with_its_command(tmp_path):
    record = Record(tmp_path)
    record.finish("infer", "x", [], {"out": "a.h5"}, 2.5, ["segkit", "infer", "r.h5", "--out", "a.h5"], {"raw": "r.h5"})
    record.finish("older", "x", [], {}, 1.0)  # by a segkit that kept no commands
    record.begin("train", "x")
    (stage,) = read_stages(tmp_path)
    assert (stage.name, stage.verb, stage.seconds, stage.given) == ("infer", "infer", 2.5, {"raw": "r.h5"})
    assert stage.option("--out") == "a.h5" and stage.option("--run") is None
    (tmp_path / "stages.json").write_text("{ half")
    with pytest.warns(SegkitWarning, match="no stage counts as finished"):
        assert read_stages(tmp_path) == () == read_stages(tmp_path / "nowhere")


def test_an_address_is_found_where_a_run_was_moved_to(tmp_path, monkeypatch):
    run = tmp_path / "moved"
    run.mkdir()
    (run / "a.h5").touch()
    (tmp_path / "beside.h5").touch()
    monkeypatch.chdir(tmp_path)
    assert located("runs/old/a.h5:x[0:3]", run) == replace(parse_address("a.h5:x[0:3]"), path=run / "a.h5")
    assert located("beside.h5", run).path == Path("beside.h5")
    monkeypatch.chdir(run)
    assert located("beside.h5", run).path == tmp_path / "beside.h5"
    assert located("gone.h5", run).path == Path("gone.h5")
