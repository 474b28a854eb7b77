"""The table of the whole way."""

import pytest
import whole_way

ABOUT = {"processor": "a processor", "cores": 2, "date": "2026-01-01"}
FOUR = {"infer": 6.0, "fragment": 2.0, "agglomerate": 3.0, "evaluate": 1.0}


def test_the_table_compares_with_its_first_row():
    seconds = {"separate before": [FOUR] * 3, "separate": [FOUR | {"infer": 3.0}], "run": [{"run": 4.0}, {"run": 6.0}]}
    text = whole_way.table({"data": "a.h5", "crop": "0:9", "machine": ABOUT, "seconds": seconds})
    assert "| four commands, before | 6.00 | 2.00 | 3.00 | 1.00 | 12.00 | 1.00 |" in text
    assert "| four commands | 3.00 | 2.00 | 3.00 | 1.00 | 9.00 | 1.33 |" in text
    assert "| `segkit run` |  |  |  |  | 5.00 | 2.40 |" in text


def test_the_recipe_is_one(tmp_path):
    (tmp_path / "way.toml").write_text(whole_way.RECIPE)
    loaded = whole_way.load_recipe(
        str(tmp_path / "way.toml"), tmp_path / "out", {"data": {"file": "a.h5[0:9]", "run": "run"}}
    )
    steps = whole_way.steps_of(loaded)
    assert [step.name for step in steps] == list(FOUR)
    assert {step.words()[-1].rpartition("/")[2] for step in steps[:3]} == set(whole_way.FILES)


def test_what_holds_no_segkit_is_no_version_before(tmp_path, capsys):
    with pytest.raises(SystemExit):
        whole_way.main(["a.h5", "--run", "run", "--before", str(tmp_path)])
    assert "must be a checkout of segkit" in capsys.readouterr().err


def test_the_version_before_is_called_from_whichever_folder(tmp_path, monkeypatch):
    (tmp_path / "segkit" / "cli").mkdir(parents=True)
    for folder in (tmp_path / "segkit", tmp_path / "segkit" / "cli"):
        (folder / "__init__.py").touch()
    said = tmp_path / "said"
    code = f"import pathlib\n\n\ndef main(prog_name):\n    pathlib.Path({str(said)!r}).touch()\n"
    (tmp_path / "segkit" / "cli" / "main.py").write_text(code)
    monkeypatch.chdir(whole_way.PAGES.parents[1])
    whole_way.call(["--version"], tmp_path)
    assert said.exists()
