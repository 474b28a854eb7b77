"""The check of a GPU, tried on a CPU: each part on small inputs, and what becomes of parts that fail."""

import json
import subprocess
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

pytest.importorskip("torch")
SCRIPT = Path(__file__).parent / "gpu_check.py"


@pytest.fixture
def script(monkeypatch):
    """The script as a module."""
    spec = spec_from_file_location("gpu_check", SCRIPT)
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_check", module)  # dataclasses look there
    spec.loader.exec_module(module)
    monkeypatch.setattr("segkit.threads._limit", [])  # verbs run in this process here
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    return module


def wanted(script, folder, **changes):
    given = {"device": "cpu", "tiny": True, "data": None, "python": sys.executable, "folder": folder, "seconds": 300.0}
    return script.Wanted(**given | changes)


@pytest.mark.parametrize("part", ["malis", "unet-step", "inference", "agglomeration", "training"])
def test_each_part_finds_what_it_is_to(script, tmp_path, part):
    found = {each.name: each for each in script.PARTS[part][0](wanted(script, tmp_path))}
    expected = {
        "malis": {"step at 20^3", "copied to the host at 20^3"},
        "unet-step": {"input", "step of the loop", "bare network", "share of the loss", "share of waiting for patches"},
        "inference": {"input tile", "bare network", "from file to file", "of the bare network"},
        "training": {"training", "steps", "data", "cremi_score", "voi_split", "voi_merge"},
    }
    assert expected.get(part, set()) <= found.keys(), found
    assert found and not any(each.verdict == "missed" for each in found.values())
    if part == "agglomeration":
        assert sum(each.verdict == "met" for each in found.values()) == 2
    assert part != "training" or found["steps"].value == 2


def test_the_whole_reports_and_says_what_is_skipped(tmp_path):
    out = tmp_path / "report.json"
    words = ["--device", "cpu", "--tiny", "--only", "tests", "--out", str(out)]
    found = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    report = json.loads(out.read_text())
    (part,) = report["parts"]
    assert report["succeeded"] and (part["part"], part["state"]) == ("tests", "done")
    assert "needs a CUDA GPU" in found.stdout or "passed" in found.stdout
    short = subprocess.run([sys.executable, str(SCRIPT), *words, "--minutes", "0.1"], capture_output=True, text=True)
    assert short.returncode == 0 and "no time was left" in short.stdout
    assert json.loads(out.read_text())["parts"][0]["state"] == "skipped"


def test_a_part_that_fails_leaves_the_others(script, tmp_path, monkeypatch):
    stand_in = tmp_path / "stand_in.py"
    stand_in.write_text(STAND_IN)
    monkeypatch.setattr(script, "__file__", str(stand_in))
    monkeypatch.setattr(script, "LEAST", 0.0)
    names = ["raises", "dies", "hangs", "works"]
    monkeypatch.setattr(script, "PARTS", {name: (None, 2.0 if name == "hangs" else 60.0) for name in names})
    outcomes = script.check(names, wanted(script, tmp_path), time.monotonic() + 200)
    assert [outcome.state for outcome in outcomes] == ["failed", "failed", "failed", "done"]
    assert "exit code 1" in outcomes[0].reason and "out of memory" in outcomes[0].reason
    assert "signal 11" in outcomes[1].reason and "not done within 2 s" in outcomes[2].reason
    assert not script.succeeded(outcomes) and script.succeeded(outcomes[3:])
    text = script.table(outcomes)
    assert "not done within 2 s" in text and "met" in text
    time.sleep(1.5)
    assert not (tmp_path / "grandchild").exists(), "what a part had started outlived it"


STAND_IN = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
part, asked = sys.argv[2], json.loads(sys.argv[4])
folder = Path(asked["folder"])
if part == "raises":
    sys.exit("RuntimeError: out of memory")
if part == "dies":
    os.kill(os.getpid(), signal.SIGSEGV)
if part == "hangs":
    code = f"import time; time.sleep(3); open({str(folder / 'grandchild')!r}, 'w')"
    subprocess.Popen([sys.executable, "-c", code])
    time.sleep(100)
found = {"name": "n", "value": 1.0, "unit": "", "bar": "at most 2", "verdict": "met"}
(folder / f"{part}.answer").write_text(json.dumps([found]))
"""


def test_verdicts_are_of_a_gpu_alone(script, tmp_path):
    on_gpu = wanted(script, tmp_path, device="cuda", tiny=False)
    assert [script.bar(on_gpu, "a", value, "ms", 10).verdict for value in (10, 10.1, None)] == [
        "met",
        "missed",
        "not measured",
    ]
    assert script.bar(wanted(script, tmp_path), "a", 1.0, "ms", 10).verdict == "not measured"
