"""segkit benchmark loss, as typed."""

import json

import pytest

from segkit import io
from segkit.infer.oracle import oracle_affinities
from segkit.testing.phantoms import neurites


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A file with affinities and truth."""
    path = tmp_path_factory.mktemp("benchmark") / "inputs.h5"
    truth = neurites((8, 9, 10), count=4, seed=3).truth
    io.write_all(path, {"truth": truth, "affinities": oracle_affinities(truth, noise=0.15, seed=0)})
    return path


@pytest.mark.slow
def test_synthetic_volume_tables_and_trace(segkit, tmp_path):
    trace = tmp_path / "trace.json"
    words = ["--loss", "mse", "--size", 8, "--repeat", 1, "--device", "cpu", "--trace", trace]
    result = segkit("benchmark", "loss", *words)
    assert result.exit_code == 0, result.stderr
    for word in ("mse", "seconds", "argsorts", "peak MB", "yes: loss and gradient", "np.argsort", "batch of 1"):
        assert word in result.stdout
    assert f"profiler trace -> {trace}; on the CPU, nothing to copy" in result.stderr
    assert json.loads(trace.read_text())["traceEvents"]


def test_report_and_exit_code(segkit, inputs, tmp_path):
    out = tmp_path / "report.json"
    words = [inputs, f"{inputs}:volumes/labels/neuron_ids", "--backend", "cpu", "--size", 6, "--repeat", 1]
    result = segkit("benchmark", "loss", *words, "--set", "balanced=maybe", "--json", "--out", out, "--threads", 1)
    assert result.exit_code == 1 and "constrained-malis by cpu, size 6, failed: parameter 'balanced'" in result.stderr
    report = json.loads(result.stdout)
    assert report == json.loads(out.read_text())
    (row,) = report["rows"]
    assert row["size"] == 6 and row["backend"] == "cpu" and "must be bool" in row["error"]
    assert report["inputs"] == {"affinities": str(inputs), "truth": f"{inputs}:volumes/labels/neuron_ids"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--size", "9"], "size must fit into affinities of (8, 9, 10) voxels, not 9; the largest that fits is 8"),
        (["--loss", "constrained-malice"], "did you mean 'constrained-malis'"),
        (["--loss", "mse", "--backend", "cpu"], "--backend must not be given with a loss that has no parameter"),
        (["--backend", "graphics"], "parameter 'backend' of loss 'constrained-malis' must be"),
        (["--size", "4", "--size", "5", "--trace", "t.json"], "trace must be asked of one loss"),
        (["--size", "0"], "--size"),
        (["--batch", "0"], "--batch"),
        (["--size", "4", "--device", "abacus"], "device must be auto, cpu"),
        (["--size", "4", "nowhere.h5"], "nowhere.h5 does not exist"),
        (["--trace", "nowhere/trace.json"], "nowhere must exist"),
        (["--out", "."], ". is a folder"),
        (["--neighborhood", "x"], "--neighborhood must look like"),
        (["--set", "maliss.balanced=true"], "must name one of those that run"),
    ],
)
def test_calls_that_are_wrong(segkit, inputs, tmp_path, monkeypatch, options, sentence):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("segkit.benchmark.loss.in_fresh_process", lambda *_, **__: pytest.fail("a worker was started"))
    result = segkit("benchmark", "loss", inputs, *options)
    assert result.exit_code == 2 and sentence in result.stderr and "Traceback" not in result.stderr
    assert result.stdout == ""
