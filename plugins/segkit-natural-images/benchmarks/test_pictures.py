"""The table of pictures: the whole way on tiny data."""

import json
import sys

import h5py
import numpy as np
import pictures
import pytest
import recipes
from click.testing import CliRunner
from segkit.cli.main import main


@pytest.fixture
def script(monkeypatch):
    """A callable(*words) that runs the script; its calls of segkit are made in this process."""

    def segkit(*words):
        done = CliRunner().invoke(main, [str(word) for word in words], prog_name="segkit")
        assert done.exit_code == 0, done.stderr
        return done.stdout

    monkeypatch.setattr(recipes, "segkit", segkit)

    def run(*words) -> None:
        monkeypatch.setattr(sys, "argv", [pictures.__file__, *map(str, words)])
        pictures.main()

    return run


def test_pictures_are_converted_again_when_others_are_meant(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        pictures, "convert_pictures", lambda source, file, overwrite: calls.append(source) or file.touch()
    )
    for source in ("a[0:2]", "a[0:2]", "a[0:3]"):
        pictures.converted(source, tmp_path / "train.h5")
    assert calls == ["a[0:2]", "a[0:3]"]


def test_the_table(tmp_path, script):
    """Two colours, side by side: what follows the gradient covers them, and what does not does not."""
    with h5py.File(tmp_path / "pictures.h5", "w") as file:
        for number in range(3):
            columns = np.indices((24, 36))[1]
            left = (columns < 12 + 4 * number)[..., None]
            file[f"{number}/raw"] = np.where(left, [200, 30, 40], [20, 90, 220]).astype(np.uint8)
            file[f"{number}/labels/0"] = np.where(left[..., 0], 1, 2)
    page = tmp_path / "page.md"
    page.write_text("<!-- pictures:begin -->\n<!-- pictures:end -->\n")
    words = [
        *(f"{tmp_path / 'pictures.h5'}{part}" for part in ("[0:2]", "[2:3]")),
        "--results",
        tmp_path / "found.json",
        "--page",
        page,
        "--out",
        tmp_path / "runs",
    ]
    tiny = ("budget.steps=2", "budget.features=2", "train.set.model.levels=2", "train.set.patch=[1,6,6]")
    script(*words, *(word for setting in tiny for word in ("--set", setting)))
    rows = {row["title"]: row for row in json.loads((tmp_path / "found.json").read_text())["rows"]}
    assert rows["one segment"]["voi_split"] == 0 and rows["one segment"]["voi_merge"] > 0.9
    assert rows["Felzenszwalb's graph"]["segmentation_covering"] > 0.9
    assert rows["a grid of squares"]["segmentation_covering"] < 0.8
    text = page.read_text()
    assert "| `bsds-unet2d` |" in text and "TRAIN='pictures.h5[0:2]'" in text
