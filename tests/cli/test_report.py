"""segkit report and --report: where the page goes, what is refused, and that a run never fails by its page."""

import json

import pytest

from segkit import io
from segkit.testing.phantoms import neurites

RECIPE = """
[evaluate]
segmentation = "data.h5:volumes/labels/neuron_ids"
truth = "data.h5"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    phantom = neurites((6, 24, 24), count=4, seed=3)
    io.write_all(tmp_path / "data.h5", {"raw": phantom.raw, "truth": phantom.truth})
    (tmp_path / "mine.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_writes_its_page_once(segkit, folder):
    first = segkit("run", "mine.toml", "--out", "out")
    assert first.exit_code == 0 and "report -> out/report.html\n" in first.stderr
    again = segkit("run", "mine.toml", "--out", "out")
    assert "report -> out/report.html, written before" in again.stderr


def test_a_page_that_fails_does_not_lose_the_run(segkit, folder, monkeypatch):
    from segkit import report

    def fails(*_, **__):
        raise RuntimeError("no ink")

    monkeypatch.setattr(report, "write_report", fails)
    done = segkit("run", "mine.toml", "--out", "out", "--json")
    assert done.exit_code == 0 and "no report.html (RuntimeError: no ink)" in done.stderr
    assert json.loads(done.stdout)["evaluate"]["cremi_score"] == 0


def test_missing_libraries_are_named(segkit, folder, monkeypatch):
    from segkit.report import page

    monkeypatch.setattr(page, "NEEDED", ("jinja2", "a_library_that_nobody_has"))
    done = segkit("run", "mine.toml", "--out", "out")
    message = "a report needs a_library_that_nobody_has; pip install 'segkit-em[report]'"
    assert done.exit_code == 0 and f"no report.html: {message}" in done.stderr
    benchmark = ["benchmark", "evaluate", "data.h5", "data.h5", "--metric", "voi", "--report", "b.html"]
    for words in (["report", "out"], benchmark):
        refused = segkit(*words)
        assert refused.exit_code == 2 and message in refused.stderr


def test_the_page_goes_where_one_says(segkit, folder):
    segkit("run", "mine.toml", "--out", "out")
    done = segkit("report", "out", "--out", "other.html", "--json")
    result = json.loads(done.stdout)
    assert result["out"] == "other.html" and (folder / "other.html").stat().st_size > 0
    assert result["sections"]["scores"] == "written"
    assert result["sections"]["health"] == "no affinities were found; --affinities names them"
    assert "Health of the affinities left out: no affinities were found" in segkit("report", "out").stderr


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["nothing"], "FOLDER must be the folder of a training run or of a recipe"),
        (["out", "--out", "page.pdf"], "must end in .html"),
        (["out", "--out", "nowhere/page.html"], "nowhere"),
        (["out", "--beside", "other.h5"], "--beside must be NAME=ADDRESS"),
        (["out", "--beside", "a=data.h5", "--beside", "a=data.h5"], "each name once"),
        (["out", "--beside", "a=dta.h5"], "dta.h5 does not exist; did you mean"),
        (["out", "--border", "-1"], "--border"),
    ],
)
def test_what_is_wrong_is_refused(segkit, folder, words, answer):
    (folder / "out").mkdir()
    done = segkit("report", *words)
    assert done.exit_code == 2 and answer in done.stderr
    assert not list(folder.rglob("*.html"))


def test_a_file_that_cannot_be_read_is_said_on_the_page(segkit, folder):
    (folder / "out").mkdir()
    done = segkit("report", "out", "--truth", "data.h5", "--affinities", "gone.h5", "--json")
    assert done.exit_code == 0, done.stderr
    assert "gone.h5 does not exist" in json.loads(done.stdout)["sections"]["health"]


def test_a_benchmark_on_a_page(segkit, folder):
    labels = "data.h5:volumes/labels/neuron_ids"
    words = ["benchmark", "evaluate", labels, "data.h5", "--metric", "voi", "--repeat", "1", "--report", "page.html"]
    done = segkit(*words)
    assert done.exit_code == 0 and "report -> page.html" in done.stderr, done.stderr
    assert "Benchmark of segkit evaluate" in (folder / "page.html").read_text()
