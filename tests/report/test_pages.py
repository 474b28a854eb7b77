"""The page about a folder: whole, self-contained, and its numbers those of the other verbs."""

import base64
import io as streams
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image
from report_pages import Page, check

from segkit import io
from segkit.report import write_report
from segkit.report.write import NAME
from segkit.view.browser import find_browser


@pytest.fixture
def page(made, monkeypatch) -> Page:
    monkeypatch.chdir(made)
    return Page((made / "out" / NAME).read_text())


def written(folder, **options) -> Page:
    path, _ = write_report(folder, options.pop("out", None), **options)
    return Page(path.read_text())


def test_a_recipe_leaves_a_page_that_loads_nothing(page):
    check(page)
    assert [key for key, text in page.sections.items() if "Left out" in text] == ["training"]
    links = [each["href"] for each in page.all("a")]
    assert links == [f"#{key}" for key in page.sections]


def test_stages_are_told_with_their_commands(page, made):
    record = json.loads((made / "out" / "stages.json").read_text())
    rows = {row["stage"]: row for row in page.rows("stage")}
    assert rows.keys() == record.keys()
    assert rows["agglomerate"]["command"].split() == record["agglomerate"]["command"]


def test_scores_are_those_of_evaluate(page, made):
    record = json.loads((made / "out" / "stages.json").read_text())
    rows = {row["segmentation"]: row for row in page.rows("segments")}
    for stage, title in (("evaluate", "segmentation"), ("evaluate-fragments", "fragments")):
        result = record[stage]["result"]
        for name, head in (("voi_split", "VOI split"), ("voi_merge", "VOI merge"), ("cremi_score", "CREMI score")):
            assert float(rows[title][head]) == pytest.approx(result[name], abs=6e-5)


def test_the_points_of_the_sweep_are_those_of_evaluate(page, made, segkit):
    done = segkit("evaluate", "out/tree.h5", "data.h5", "--sweep", "--json", "--threshold", "0.5")
    found = json.loads(done.stdout)
    rows = {row["point"]: row for row in page.rows("point")}
    expected = {"fragments": found["fragments"], "best threshold": found["best"], "oracle": found["oracle"]}
    for name, scores in (expected | {"chosen": found["thresholds"][0]}).items():
        assert float(rows[name]["CREMI score"]) == pytest.approx(scores["cremi_score"], abs=6e-5)
    assert float(rows["best threshold"]["threshold"]) == pytest.approx(found["best"]["threshold"], rel=1e-5)


def test_the_worst_mistakes_are_those_of_evaluate(made, monkeypatch, tmp_path, segkit):
    monkeypatch.chdir(made)
    page = written("out", out=tmp_path / "page.html", given={"segmentation": "wrong.h5"})
    done = json.loads(segkit("evaluate", "wrong.h5", "data.h5", "--worst", "5", "--json").stdout)
    split, merge = done["worst_splits"][0], done["worst_merges"][0]
    rows = {row[""]: row for row in page.rows("bits")}
    assert len(rows) == 2  # no other mistake was made
    for name, mistake, what in (("S1", split, "object"), ("M1", merge, "segment")):
        assert rows[name]["id"] == str(mistake[what])
        assert rows[name]["voxel z, y, x"] == ", ".join(map(str, mistake["voxel"]))
        assert (
            f"segkit view out --at {','.join(f'{at:g}' for at in mistake['position'])}nm  # {name}"
            in page.sections["mistakes"]
        )
    assert {"segments, M1, xy cut", "truth, M1, xy cut"} <= {each["aria-label"] for each in page.all("svg")}
    check(page)


def test_a_segmentation_without_mistakes_has_none(made, monkeypatch, tmp_path):
    monkeypatch.chdir(made)
    given = {"segmentation": "data.h5:volumes/labels/neuron_ids"}
    page = written("out", out=tmp_path / "page.html", given=given)
    assert "None: the segmentation is the truth" in page.sections["mistakes"]


def test_segmentations_beside_are_scored_and_drawn(made, monkeypatch, tmp_path, segkit):
    monkeypatch.chdir(made)
    page = written("out", out=tmp_path / "page.html", beside={"<other> & co": "wrong.h5"})
    check(page)
    expected = json.loads(segkit("evaluate", "wrong.h5", "data.h5", "--json").stdout)
    row = next(row for row in page.rows("segments") if row["segmentation"] == "<other> & co")
    assert float(row["CREMI score"]) == pytest.approx(expected["cremi_score"], abs=6e-5)
    assert "<other> & co" in [row["point"] for row in page.rows("point")]


def test_the_border_is_that_of_the_option(made, monkeypatch, tmp_path, segkit):
    monkeypatch.chdir(made)
    page = written("out", out=tmp_path / "page.html", border=25.0)
    expected = json.loads(segkit("evaluate", "out/tree.h5", "data.h5", "--border", "25", "--json").stdout)
    row = next(row for row in page.rows("segments") if row["segmentation"] == "segmentation")
    assert float(row["CREMI score"]) == pytest.approx(expected["cremi_score"], abs=6e-5)
    assert "without those within 25 nm" in page.sections["scores"]


def test_a_training_run_has_its_curves_and_says_what_is_missing(made, monkeypatch, tmp_path):
    monkeypatch.chdir(made)
    page = written("run", out=tmp_path / "page.html")
    check(page)
    left = {key for key, text in page.sections.items() if "Left out" in text}
    assert left == {"health", "thresholds", "scores", "sections", "mistakes"}
    assert "The best network, after step 20, has a CREMI score of 0.250" in page.sections["training"]
    labels = " ".join(each["aria-label"] for each in page.all("svg"))
    for curve in ("loss, bce, mse, validation loss", "Learning rate", "Validation scores", "ROC"):
        assert curve in labels
    assert "an abacus" in page.sections["made"]


def test_data_are_named_by_what_is_known_of_them(made, tmp_path):
    shutil.copytree(made / "run", tmp_path / "run")
    card = json.loads((made / "run" / "card.json").read_text())
    part = {"shape": [4, 5, 6], "dtype": "uint8", "voxel_size": [8, 8, 8], "boxes_sha256": "0123456789abcdef"}
    card["data"]["training"] = [{"raw": part, "labels": part | {"sha256": "fedcba9876543210"}}]
    (tmp_path / "run" / "card.json").write_text(json.dumps(card))
    made_of = written(tmp_path / "run").sections["made"]
    assert "0123456789ab (of some boxes)" in made_of and "fedcba987654" in made_of


def test_a_training_run_shows_its_last_validation(made, monkeypatch, tmp_path, segkit):
    """The volumes in validation.h5 are a part of the validation volume, which the card names."""
    monkeypatch.chdir(made)
    shutil.copytree(made / "run", tmp_path / "run")
    card = json.loads((made / "run" / "card.json").read_text())
    (tmp_path / "run" / "card.json").write_text(json.dumps(card | {"source": {"validation": ["data.h5[2:16]"]}}))
    crop = "[4:12,8:40,8:40]"
    made_of = {
        "affinities": io.read_affinities(f"affinities.h5{crop}"),
        "segmentation": io.read_labels(f"wrong.h5:volumes/segmentation{crop}"),
    }
    io.write_all(tmp_path / "run" / "validation.h5", made_of)
    page = written(tmp_path / "run")
    check(page)
    assert {key for key, text in page.sections.items() if "Left out" in text} == {"thresholds"}
    expected = json.loads(segkit("evaluate", f"wrong.h5{crop}", f"data.h5{crop}", "--json").stdout)
    (row,) = page.rows("segments")
    assert float(row["CREMI score"]) == pytest.approx(expected["cremi_score"], abs=6e-5)


def test_a_folder_of_files_is_looked_through(made, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("affinities.h5", "out/tree.h5", "out/fragments.h5", "data.h5"):
        shutil.copy(made / name, tmp_path / name.rpartition("/")[2])
    shutil.copytree(made / "run", tmp_path / "run")
    page = written(".", given={"truth": "data.h5"})
    check(page)
    assert not [text for text in page.sections.values() if "Left out" in text]
    there = {row["segmentation"]: row for row in Page((made / "out" / NAME).read_text()).rows("segments")}
    here = {row["segmentation"]: row for row in page.rows("segments")}
    assert here["tree"]["VOI split"] == there["segmentation"]["VOI split"]


def test_a_part_of_a_volume_is_compared_where_it_lies(made, monkeypatch, tmp_path, segkit):
    """The truth is a crop; the page shows and scores what both have."""
    monkeypatch.chdir(made)
    page = written("out", out=tmp_path / "page.html", given={"truth": "data.h5[4:12,8:40,:]", "raw": "data.h5"})
    check(page)
    crop = "[4:12,8:40,:]"
    words = ("evaluate", f"out/tree.h5{crop}", f"data.h5{crop}", "--json")
    expected = json.loads(segkit(*words).stdout)
    row = next(row for row in page.rows("segments") if row["segmentation"] == "segmentation")
    assert float(row["CREMI score"]) == pytest.approx(expected["cremi_score"], abs=6e-5)
    assert "z 4..12, y 8..40, x 0..40 of 16 x 48 x 40" in page.sections["scores"]


def test_large_volumes_are_cropped_to_their_middle(made, monkeypatch, tmp_path, segkit):
    monkeypatch.chdir(made)
    monkeypatch.setattr("segkit.report.scene.LARGEST", 16 * 20 * 20)
    page = written("out", out=tmp_path / "page.html", given={"segmentation": "wrong.h5"})
    crop = "[0:16,14:34,10:30]"
    expected = json.loads(segkit("evaluate", f"wrong.h5{crop}", f"data.h5{crop}", "--worst", "1", "--json").stdout)
    row = next(row for row in page.rows("segments") if row["segmentation"] == "segmentation")
    assert float(row["VOI merge"]) == pytest.approx(expected["voi_merge"], abs=6e-5)
    assert "Scored are the middle 16 x 20 x 20 voxels (z 0..16, y 14..34, x 10..30" in page.sections["scores"]
    z, y, x = expected["worst_merges"][0]["voxel"]
    first = next(row for row in page.rows("bits") if row[""] == "M1")
    assert first["voxel z, y, x"] == f"{z}, {y + 14}, {x + 10}"  # in the voxels of the whole


def test_raw_data_are_drawn_as_they_are(page, made):
    """The first picture is the raw section that its caption names, voxel for voxel."""
    z = int(re.search(r"xy cut at z = (\d+)", page.sections["sections"])[1])
    data = next(each["href"] for each in page.all("image"))
    image = np.asarray(Image.open(streams.BytesIO(base64.b64decode(data.partition(",")[2]))))
    assert np.array_equal(image, io.read_volume(made / "data.h5").array[z])


def test_sections_across_are_in_true_proportions(page):
    xz = next(each for each in page.all("svg") if "xz cut" in each["aria-label"])
    width, height = map(float, xz["viewbox"].split()[2:])
    assert (width, height) == (40, 16 * 40 / 8)


@pytest.mark.browser
def test_a_browser_opens_it_without_a_complaint(made, tmp_path):
    words = [find_browser(), "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    words += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1100,4000"]
    page = made / "out" / NAME
    done = subprocess.run(
        [*words, f"--screenshot={tmp_path / 'page.png'}", page.as_uri()], capture_output=True, text=True, timeout=120
    )
    assert (tmp_path / "page.png").exists(), done.stderr
    assert "CONSOLE" not in done.stderr
    shown = np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).astype(int)
    assert np.ptp(shown, axis=2).max() > 100  # colours, where the segments are
