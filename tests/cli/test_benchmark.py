"""segkit benchmark, as typed."""

import json

import pytest

from segkit import io
from segkit.cli.benchmark import _cells
from segkit.fragment.watershed import Watershed
from segkit.infer.oracle import oracle_affinities
from segkit.testing.phantoms import neurites


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A file with affinities, truth and fragments."""
    path = tmp_path_factory.mktemp("benchmark") / "inputs.h5"
    truth = neurites((10, 24, 24), count=5, seed=3).truth
    affinities = oracle_affinities(truth, noise=0.15, seed=0)
    fragments = Watershed(seed_distance=3).fragment(affinities)
    io.write_all(path, {"truth": truth, "affinities": affinities, "fragments": fragments})
    return path


def test_report_plot_and_exit_code(segkit, inputs, tmp_path):
    words = ["benchmark", "agglomerate", inputs, "--truth", inputs, "--backend", "reference", "--backend", "missing"]
    plot, out = tmp_path / "plot.png", tmp_path / "report.json"
    options = ["--threshold", 0.6, "--threshold", 0.3, "--repeat", 1, "--threads", 1, "--set", "score=max"]
    result = segkit(*words, *options, "--json", "--plot", plot, "--out", out)
    assert result.exit_code == 1, result.stderr
    report = json.loads(result.stdout)
    assert report == json.loads(out.read_text()) and plot.exists()
    assert report["thresholds"] == [0.3, 0.6] and report["threads"] == 1
    reference, missing = report["rows"]
    assert reference["parameters"] == {"score": "max"} and "error" not in reference
    assert "missing failed: no installed distribution" in result.stderr and "error" in missing


def test_tables(segkit, inputs):
    words = ["benchmark", "agglomerate", inputs, "--truth", inputs, "--backend", "reference", "--repeat", 1]
    result = segkit(*words, "--score", "mean", "--backend", "max=reference", "--set", "max.score=max")
    assert result.exit_code == 0, result.stderr
    for word in ("seconds", "ratio", "peak MB", "merges", "identical", "best cremi_score", "relabelling", "no, VOI"):
        assert word in result.stdout


@pytest.mark.slow
def test_fragment_and_evaluate(segkit, inputs):
    result = segkit("benchmark", "fragment", inputs, "--method", "threshold", "--repeat", 1)
    assert result.exit_code == 0 and "fragments" in result.stdout
    words = [f"{inputs}:volumes/fragments", inputs, "--metric", "voi", "--metric", "cremi", "--repeat", 1]
    result = segkit("benchmark", "evaluate", *words)
    assert result.exit_code == 0 and "yes" in result.stdout


def test_the_best_threshold_is_shown_with_all_its_digits():
    row = {"backend": "a", "seconds": 1.0, "cpu_seconds": 1.0, "compile_seconds": 0.0, "peak_bytes": None}
    row |= {"identical_to": {"b": True}, "best": {"cremi_score": 0.5, "threshold": 0.43217}}
    assert _cells(row, {"seconds": 1.0})["at"] == "0.43217"


def test_fragments_are_cropped_as_the_affinities_are(segkit, inputs):
    result = segkit("benchmark", "agglomerate", f"{inputs}[2:8]", "--backend", "reference", "--repeat", 1, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["shape"] == [6, 24, 24]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--plot", "plot.png"], "--plot needs --truth"),
        (["--truth", "other.h5", "--plot", "plot.svg"], "must end in .png, not 'plot.svg'"),
        (["--truth", "other.h5"], "affinities and truth must have the same shape"),
        (["--backend", ""], "must look like NAME or LABEL=NAME"),
        (["--truth", "nowhere.h5"], "nowhere.h5 does not exist"),
        (["--threshold", "2"], "threshold must lie in 0..1"),
        (["--backend", "python"], "must be named once"),
        (["--set", "pithon.score=max"], "did you mean 'python'"),
        (["--out", "nowhere/report.json"], "nowhere must exist"),
        (["--out", "."], ". is a folder"),
        (["--neighborhood", "x"], "--neighborhood must look like"),
        (["--repeat", "0"], "--repeat"),
    ],
)
def test_calls_that_are_wrong(segkit, inputs, tmp_path, monkeypatch, options, sentence):
    monkeypatch.chdir(tmp_path)
    io.write(tmp_path / "other.h5", neurites((10, 24, 20), count=5, seed=3).truth, "truth")
    result = segkit("benchmark", "agglomerate", inputs, "--backend", "python", *options)
    assert result.exit_code == 2 and sentence in result.stderr and "Traceback" not in result.stderr
    assert result.stdout == ""
