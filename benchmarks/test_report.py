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


RATES = {"bandwidth": 1e6, "float32": 1e9, "bfloat16": 2e9}
MACHINE = {
    "processor": "a CPU",
    "cores": 2,
    "python": "3.11",
    "versions": {"segkit": "1"},
    "date": "2026-01-01T",
    "load": 0.0,
}


def measurement(*seconds: float) -> dict:
    """A report of peers.py on 10^3 voxels, of so many rounds."""
    contest = {"what": "agglomerate", "title": "mean, ws"}
    ours = {"function": "segkit_tree", "options": {"fragments": "ws"}}
    theirs = {"function": "waterz_agglomerate", "options": {}}
    runs = []
    for number, cost in enumerate(seconds):
        found = [
            {"name": "segkit", "seconds": cost, "peak_bytes": 2e6} | ours,
            {"name": "waterz", "seconds": 4 * cost, "peak_bytes": None} | theirs,
            {"name": "other", "error": "ModuleNotFoundError: no module named 'other'"} | theirs,
        ]
        runs += [contest | {"round": number} | run for run in found]
    inputs = {"name": "small", "shape": [10] * 3, "fragments": {"ws": 10}, "stored": 0}
    return {"inputs": inputs, "machine": MACHINE, "threads": 2, "rates": {"2": RATES}, "runs": runs}


def test_rows(report):
    """The floor: 20 bytes a voxel and 32 a fragment, 20,320 at 1 MB/s; segkit takes 25 times that."""
    text = report.section([measurement(0.508)])
    assert "| agglomerate: mean, ws | 0.508 | 2 | 25.0 | waterz | 2.03 | ? | **4.0** |" in text
    assert "| other | failed |  |  |" in text and "a CPU, 2 cores, 2 threads" in text
    assert "2 threads 0.0 GB/s (triad), 1 GFLOP/s in float32, 2 in bfloat16" in text


def test_the_middle_round_counts(report):
    contest = report.contest_of(measurement(9.0, 1.0, 2.0), "agglomerate", "mean, ws")
    assert [row.get("seconds") for row in contest["rows"]] == [2.0, 8.0, None]


def grown(*, threads: int, voxels: int, merging: float, graph: float) -> dict:
    run = {"stage": "agglomerate", "function": "segkit_tree", "options": {"fragments": "ws"}, "threads": threads}
    phases = {"merging": merging, "region graph": graph}
    costs = {"seconds": merging + graph, "phases": phases, "peak_bytes": 5 * voxels}
    return run | {"voxels": voxels} | costs


def test_growth(report):
    """8 us a voxel, then 16; by one thread 20 s in place of 16, so s = 0.6: of it 8 s of merging, 4 s of the graph."""
    runs = [
        grown(threads=2, voxels=10**6, merging=4.0, graph=4.0),
        grown(threads=2, voxels=10**6, merging=8.0, graph=8.0),
        grown(threads=1, voxels=10**6, merging=8.0, graph=12.0),
    ]
    runs[0]["voxels"] //= 8
    runs[0] |= {"seconds": 1.0, "phases": {"merging": 0.5, "region graph": 0.5}, "peak_bytes": 10**6}
    inputs = [
        {"name": f"n-{edge}", "shape": [edge] * 3, "voxels": edge**3, "fragments": {"ws": 0}} for edge in (50, 100)
    ]
    found = {"inputs": inputs, "machine": MACHINE, "threads": 2, "rates": {"1": RATES, "2": RATES}, "runs": runs}
    text = report.growth_section(found)
    assert "| seconds a megavoxel | 50^3 | 100^3 | times | |" in text
    assert "| agglomerate | 8 | 16 | **2.00** | merging, 4 to 8 us a voxel |" in text
    assert "| agglomerate | 8 | 5 |" in text
    assert "| agglomerate | 20 | 16 | 0.60 | 1.6 | merging, 67 % | 0.8 | bytes |" in text
    runs[1] |= {"seconds": 9.0}
    assert "| agglomerate | 8 | 9 | 1.12 |  |" in report.growth_section(found)


def test_a_stage_that_failed_has_no_row(report):
    run = {"stage": "infer", "function": "segkit_infer", "options": {}, "threads": 2, "voxels": 8, "error": "no memory"}
    inputs = [{"name": "n", "shape": [2, 2, 2], "voxels": 8, "fragments": {}}]
    found = {"inputs": inputs, "machine": MACHINE, "threads": 2, "rates": {"1": RATES, "2": RATES}, "runs": [run]}
    assert "| infer" not in report.growth_section(found)


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
    yardsticks = [{"size": 8, "edges": 1344, "argsort_seconds": 0.125}]
    report = {"verb": "loss", "sizes": [8], "threads": threads, "batch": batch, "rows": rows}
    return report | {"yardsticks": yardsticks, "machine": MACHINE | {"load": None}}


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


def test_the_page_holds_all_tables(report):
    text = (report.PAGES / "benchmarks.md").read_text()
    assert report.insert(text, "new") != text
    assert report.insert(text, "new", report.GROWTH_BEGIN, report.GROWTH_END) != text
    assert report.insert(text, "new", report.LOSSES_BEGIN, report.LOSSES_END) != text


def test_the_page_shows_the_results_that_are_kept(report, tmp_path, monkeypatch):
    page, text = tmp_path / "page.md", (report.PAGES / "benchmarks.md").read_text()
    page.write_text(text)
    monkeypatch.setattr(sys, "argv", ["report.py", "--page", str(page)])
    report.main()
    assert page.read_text() == text


def script(name, *words):
    command = [sys.executable, str(HERE / name), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | {"COLUMNS": "200"})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_from_inputs_to_table(tmp_path):
    """The whole way, on a tiny volume, with the contests that need no other package than segkit's own."""
    inputs, result, page = tmp_path / "tiny.zarr", tmp_path / "tiny.json", tmp_path / "page.md"
    script("make_inputs.py", inputs, "--size", 24)
    words = ("peers.py", inputs, "--what", "evaluate", "--rounds", 1, "--out", result)
    assert "times segkit's" in script(*words)
    before = result.read_bytes()
    script(*words)
    assert result.read_bytes() == before
    page.write_text("# Title\n<!-- benchmark:begin -->\n<!-- benchmark:end -->\n")
    script("report.py", result, "--page", page)
    assert "| evaluate: VOI and adapted Rand |" in page.read_text()


@pytest.mark.slow
def test_growth_of_tiny_volumes(tmp_path):
    names = [tmp_path / f"tiny-{size}.zarr" for size in (16, 24)]
    for size, name in zip((16, 24), names, strict=True):
        script("make_inputs.py", name, "--size", size)
    script("growth.py", *names, "--stage", "watershed", "--stage", "infer", "--out", tmp_path / "g.json")
    runs = json.loads((tmp_path / "g.json").read_text())["runs"]
    assert not [run for run in runs if "error" in run]
    assert {(run["stage"], run["voxels"]) for run in runs} == {
        (stage, size**3)
        for stage in ("infer, small U-Net", "watershed, 3-D", "watershed, section by section", "affinity-watershed")
        for size in (16, 24)
    }
