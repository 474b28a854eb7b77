"""The page about a benchmark, of a report as `segkit benchmark --json` prints it."""

import pytest
from report_pages import Page, check

from segkit.report import write_benchmark_report

MACHINE = {
    "processor": "an abacus",
    "cores": 2,
    "system": "Linux",
    "python": "3.12",
    "versions": {"segkit": "0.1.0"},
    "date": "2026-01-01",
}


def row(name: str, seconds: float, **more) -> dict:
    found = {
        "backend": name,
        "seconds": seconds,
        "cpu_seconds": seconds,
        "compile_seconds": 0.5,
        "peak_bytes": 2_000_000,
    }
    return found | {"identical_to": {"python": name == "python"}} | more


def report(verb: str, *rows: dict) -> dict:
    head = {"verb": verb, "inputs": {"affinities": "a.h5"}, "shape": [4, 5, 6], "repeat": 1, "threads": None}
    return head | {"machine": MACHINE, "rows": list(rows)}


def curve(best: float) -> dict:
    points = [
        {"threshold": t, "cremi_score": best + abs(t - 0.5), "voi_split": 1 - t, "voi_merge": t}
        for t in (0.2, 0.5, 0.8)
    ]
    return {"thresholds": points, "best": {"threshold": 0.5, "cremi_score": best}, "merges": 7}


def written(found: dict, tmp_path) -> Page:
    page = Page(write_benchmark_report(found, tmp_path / "page.html").read_text())
    check(page)
    return page


def test_agglomerators(tmp_path):
    rows = [row("python", 2.0, **curve(0.5)), row("waterz", 1.0, **curve(0.25)), {"backend": "gpu", "error": "no GPU"}]
    page = written(report("agglomerate", *rows), tmp_path)
    table = {each["backend"]: each for each in page.rows("ratio")}
    assert table["waterz"]["ratio"] == "0.50" and table["waterz"]["identical"] == "no"
    assert table["waterz"]["best CREMI score"] == "0.2500" and table["waterz"]["peak MB"] == "2"
    assert "The fastest is waterz, with 1 s; the best CREMI score is 0.250, by waterz" in page.text
    assert "gpu failed: no GPU" in page.sections["table"]
    labels = [each["aria-label"] for each in page.all("svg")]
    assert "Time in seconds: python 2, waterz 1" in labels
    assert "CREMI score over the threshold: python, waterz" in labels


def test_fragmenters_and_metrics(tmp_path):
    scores = {"voi_split": 2.0, "voi_merge": 0.5, "adapted_rand_error": 0.3, "cremi_score": 0.9}
    page = written(report("fragment", row("watershed", 1.0, fragments=9, **scores)), tmp_path)
    assert page.rows("VOI split")[0]["CREMI score"] == "0.9000"
    assert any("watershed 0.50, 2.00" in each["aria-label"] for each in page.all("svg"))
    page = written(
        report("evaluate", row("voi", 1.0, voi_split=2.0), row("rand", 1.0, adapted_rand_error=0.3)), tmp_path
    )
    assert [each["adapted Rand error"] for each in page.rows("adapted Rand error")] == ["", "0.3000"]


def test_without_truth_there_are_no_scores(tmp_path):
    page = written(report("fragment", row("watershed", 1.0, fragments=9)), tmp_path)
    assert "without --truth there are none" in page.sections["scores"]


@pytest.mark.parametrize("peak", [None, 0])
def test_memory_that_is_not_known(tmp_path, peak):
    written(report("fragment", row("watershed", 1.0, fragments=9) | {"peak_bytes": peak}), tmp_path)


def test_all_failed(tmp_path):
    page = written(report("agglomerate", {"backend": "gpu", "error": "no GPU"}), tmp_path)
    assert "gpu failed: no GPU" in page.text
