"""Which precision "auto" stands for, and that a run and an inference take it."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from segkit.cli.common import chosen_precision
from segkit.models import device as module
from segkit.models.device import computes_bf16, resolve_precision
from segkit.testing.phantoms import neurites

CPU = torch.device("cpu")
SMALL = ["patch=[8,16,16]", "model.features=2", "model.growth=1", "model.pooling=[[1,2,2]]", "model.padding=same"]


@pytest.mark.parametrize(("able", "auto"), [(True, "bf16"), (False, "32")])
def test_auto_goes_by_the_instructions_of_the_device(monkeypatch, able, auto):
    monkeypatch.setattr(module, "computes_bf16", lambda device: able)
    assert resolve_precision("auto", CPU) == auto
    assert [resolve_precision(name, CPU) for name in ("32", "bf16", "fp16")] == ["32", "bf16", "fp16"]


def test_what_the_processor_says_of_itself():
    stated = Path("/proc/cpuinfo")
    flags = stated.read_text().split() if stated.exists() else []
    if "avx2" not in flags:
        pytest.skip("needs Linux on x86, which says what a processor can do")
    assert computes_bf16(CPU) == ("avx512_bf16" in flags)


def test_a_torch_without_onednn_has_no_bf16(monkeypatch):
    monkeypatch.setattr(module.platform, "machine", lambda: "arm64")  # as macOS says
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    assert not computes_bf16(CPU)


@pytest.mark.parametrize("able", [True, False])
def test_a_run_writes_down_what_it_took(tmp_path, monkeypatch, segkit, able):
    from segkit import io

    monkeypatch.setattr(module, "computes_bf16", lambda device: able)
    phantom = neurites((12, 24, 24), count=4, seed=1)
    io.write_all(tmp_path / "a.h5", {"raw": phantom.raw, "truth": phantom.truth})
    small = [word for setting in SMALL for word in ("--set", setting)]
    run, wanted = tmp_path / "run", ["--precision", "auto"]
    made = segkit("train", tmp_path / "a.h5", "--out", run, "--steps", 1, "--device", "cpu", *wanted, *small)
    assert made.exit_code == 0, made.stderr
    assert json.loads((run / "config.json").read_text())["precision"] == ("bf16" if able else "32")
    affinities = ["--out", tmp_path / "b.h5", "--device", "cpu", *wanted]
    assert segkit("infer", tmp_path / "a.h5", "--run", run, *affinities).exit_code == 0
    by_blocks = ["--run", run, "--out", tmp_path / "c.zarr", "--device", "cpu", "--blockwise", "--block", 12, 24, 24]
    said = {}
    for now in (able, not able):  # what is auto on one machine is gone on with on another
        monkeypatch.setattr(module, "computes_bf16", lambda device, now=now: now)
        done = segkit("infer", tmp_path / "a.h5", *by_blocks)
        assert done.exit_code == 0, done.stderr
        said[now] = io.read_notes(tmp_path / "c.zarr", "affinities")["precision"]
        assert ("computed in bfloat16" if able else "computed in float32") in done.stderr
    assert said[able] == said[not able] == io.read_notes(tmp_path / "b.h5", "affinities")["precision"]


def test_bf16_that_is_only_emulated_is_noted(monkeypatch, capsys):
    monkeypatch.setattr(module, "computes_bf16", lambda device: False)
    assert chosen_precision("auto", "cpu") == chosen_precision("32", "cpu") == "32" and not capsys.readouterr().err
    assert chosen_precision("bf16", "cpu") == "bf16"
    assert "cpu has no instructions for bfloat16" in capsys.readouterr().err
