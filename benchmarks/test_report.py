"""The tables of docs/results/benchmarks.md, and the measurements it is made of."""

import json
import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from segkit.errors import InvalidInput

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def report():
    """The script as a module."""
    spec = spec_from_file_location("benchmark_report", HERE / "report.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measurement(size: int, seconds: float) -> dict:
    rows = [
        {"name": "segkit", "seconds": seconds, "peak_bytes": 2e6},
        {"name": "waterz", "seconds": 4 * seconds, "peak_bytes": None, "ratio": 4.0},
        {"name": "other", "error": "ModuleNotFoundError: no module named 'other'"},
    ]
    machine = {"processor": "a CPU", "cores": 2, "python": "3.11", "versions": {"segkit": "1"}, "date": "2026-01-01T"}
    return {
        "inputs": {"name": "small", "shape": [size] * 3, "fragments": {"ws": 10}},
        "machine": machine | {"load": 0.0},
        "threads": None,
        "contests": [{"what": "agglomerate", "title": "mean, ws", "rows": rows}],
    }


def test_rows(report):
    text = report.section([measurement(10, 0.5)])
    assert "| agglomerate: mean, ws | 0.5 | 2 | waterz | 2 | ? | **4.0** |" in text
    assert "| other | failed |  |  |" in text and "a CPU, 2 cores, 2 threads" in text


def test_growth(report):
    text = report.growth([measurement(10, 0.5), measurement(20, 5.0)])
    assert "From 1,000 to 8,000 voxels (8.0 times)" in text and "| agglomerate: mean, ws | segkit | 10.0 |" in text
    assert report.growth([measurement(10, 0.5)]) == ""


def test_only_what_is_between_the_markers_changes(report):
    text = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    assert report.insert(text, "new") == text.replace("old", "new")
    for wrong in ("nothing", report.END + report.BEGIN, text + report.BEGIN, text + report.END):
        with pytest.raises(InvalidInput, match="benchmark:begin"):
            report.insert(wrong, "new")


def losses(threads: int, batch: int, *seconds: float | None) -> dict:
    """A report of `segkit benchmark loss`, of size 8 and one row a backend; None = failed."""
    rows = []
    for backend, cost in zip(("cpu", "higra"), seconds, strict=False):
        row = {"loss": "malis", "component": "malis", "backend": backend, "parameters": {}, "size": 8}
        rows.append(row | ({"error": "out of luck"} if cost is None else {"seconds": cost, "peak_bytes": 3e6}))
    machine = measurement(8, 1.0)["machine"]
    yardsticks = [{"size": 8, "edges": 1344, "argsort_seconds": 0.125}]
    report = {"verb": "loss", "sizes": [8], "threads": threads, "batch": batch, "rows": rows}
    return report | {"yardsticks": yardsticks, "machine": machine | {"load": None}}


def test_losses_stand_beside_the_first_and_threads_beside_one(report):
    text = report.losses_section([losses(1, 1, 0.5, 4.0), losses(1, 2, 1.0), losses(2, 2, 0.625)])
    assert "| 8^3, 1, 1 | malis by cpu | 0.5 | 3 | malis by higra | 4 | 3 | **8.0** |" in text
    assert "| 8^3, 2, 2 | malis by cpu | 0.625 | 3 | one thread | 1 | 3 | **1.6** |" in text
    assert "| 8^3, 2, 1 |" not in text and text.count("| 8^3") == 2
    assert "np.argsort of the edges in float32: 8^3 0.125 s. a CPU, 2 cores" in text
    failed = report.losses_section([losses(1, 1, 0.5, None)])
    assert "| 8^3, 1, 1 | malis by cpu | 0.5 | 3 | malis by higra | failed |  |  |" in failed


def test_losses_have_a_table_of_their_own(report, tmp_path, monkeypatch):
    page, found = tmp_path / "page.md", tmp_path / "losses.json"
    found.write_text(json.dumps(losses(1, 1, 0.5, 4.0)))
    before = f"{report.BEGIN}\nold\n{report.END}\n{report.LOSSES_BEGIN}\nold\n{report.LOSSES_END}\n"
    page.write_text(before)
    monkeypatch.setattr(sys, "argv", ["report.py", str(found), "--page", str(page)])
    report.main()
    first, losses_begin, rest = page.read_text().partition(report.LOSSES_BEGIN)
    assert first + losses_begin == before.partition(report.LOSSES_BEGIN)[0] + report.LOSSES_BEGIN
    assert "**8.0**" in rest and "old" not in rest


def test_the_page_holds_both_tables(report):
    text = (report.PAGES / "benchmarks.md").read_text()
    assert report.insert(text, "new") != text
    assert report.insert(text, "new", report.LOSSES_BEGIN, report.LOSSES_END) != text


def test_the_page_shows_the_results_that_are_kept(report, tmp_path, monkeypatch):
    page, text = tmp_path / "page.md", (report.PAGES / "benchmarks.md").read_text()
    page.write_text(text)
    monkeypatch.setattr(sys, "argv", ["report.py", "--page", str(page)])
    report.main()
    assert page.read_text() == text


@pytest.mark.slow
def test_from_inputs_to_table(tmp_path):
    """The whole way, on a tiny volume, with the contests that need no other package than segkit's own."""

    def script(name, *words):
        command = [sys.executable, str(HERE / name), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | {"COLUMNS": "200"})
        assert done.returncode == 0, done.stderr
        return done.stdout

    inputs, result, page = tmp_path / "tiny.h5", tmp_path / "tiny.json", tmp_path / "page.md"
    script("make_inputs.py", inputs, "--size", 24)
    printed = script("peers.py", inputs, "--what", "evaluate", "--repeat", 1, "--out", result)
    assert "times segkit's" in printed
    first = json.loads(result.read_text())["contests"][0]
    ours, skimage = first["rows"][:2]
    assert ours["name"] == "segkit" and skimage["ratio"] == pytest.approx(skimage["seconds"] / ours["seconds"])
    page.write_text("# Title\n<!-- benchmark:begin -->\n<!-- benchmark:end -->\n")
    script("report.py", result, "--page", page)
    assert "| evaluate: VOI and adapted Rand |" in page.read_text()
