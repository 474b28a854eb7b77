"""What a call meets beside its arguments: pipes, devices, readers that go, a folder that went, scores that are none."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from segkit import Grid, Labels, io
from segkit.cli.common import as_json_text, failures
from segkit.evaluate.voi import VOI

LABELS = Labels.convert(np.ones((2, 3, 4), int), Grid())


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "words",
    [
        ("convert", "pipe.h5", "out.h5", "--kind", "raw"),
        ("convert", "pipe.tif", "out.h5", "--kind", "raw"),
        ("evaluate", "pipe.h5", "labels.h5"),
        ("fragment", "pipe.zarr", "--out", "out.h5"),
        ("segment", "pipe.h5", "--threshold", "0.5", "--out", "out.h5"),
        ("train", "labels.h5", "--config", "pipe.toml", "--out", "run"),
        ("evaluate", "labels.h5", "labels.h5", "--blockwise", "--cluster", "pipe.yaml"),
    ],
)
def test_a_pipe_is_refused_at_once(segkit, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    for suffix in ("h5", "tif", "zarr", "toml", "yaml"):
        os.mkfifo(f"pipe.{suffix}")
    io.write_all("labels.h5", {"segmentation": LABELS, "truth": LABELS})
    done = segkit(*words)
    assert done.exit_code == 2 and "must be a file or a folder, not a pipe or a device" in done.stderr


@pytest.mark.parametrize("name", ["/dev/null", "/dev/zero", "/dev/stdin"])
def test_devices_are_refused(segkit, name):
    done = segkit("convert", name, "out.h5", "--kind", "raw")
    assert done.exit_code == 2 and done.stderr.startswith("Error: ") and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan"), np.float64("-inf")])
def test_what_is_no_number_is_null(value):
    found = json.loads(as_json_text({"a": [value, (value, 1.5)], "b": np.float32(0.5)}))
    assert found == {"a": [None, [None, 1.5]], "b": 0.5}


def test_a_score_that_is_no_number(segkit, tmp_path, monkeypatch):
    monkeypatch.setattr(VOI, "of", lambda self, table: {"voi_split": float("nan"), "voi_merge": 0.0})
    io.write_all(tmp_path / "labels.h5", {"segmentation": LABELS, "truth": LABELS})
    done = segkit("evaluate", tmp_path / "labels.h5", tmp_path / "labels.h5", "--metric", "voi", "--json")
    assert json.loads(done.stdout, parse_constant=pytest.fail) == {"voi_split": None, "voi_merge": 0.0}


def test_a_folder_that_is_gone(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    program = f"import os; os.rmdir({str(folder)!r}); from segkit.cli.main import main; main(['plugins', 'list'])"
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 2 and "the folder that segkit was started in does not exist any more" in done.stderr


@pytest.mark.parametrize("words", ["plugins list --json", "train --settings", "run --help"])
def test_a_reader_that_goes_away(words):
    program = f"from segkit.cli.main import main; main({words.split()})"
    command = '"$0" -c "$1" | true; exit "${PIPESTATUS[0]}"'
    call = ["bash", "-c", command, sys.executable, program]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode in (0, 1, 141) and done.stderr == ""


def test_no_place_for_compiled_code():
    with pytest.raises(Exception, match="set NUMBA_CACHE_DIR to a folder that you may write to"), failures(False):
        raise RuntimeError("cannot cache function 'find_root': no locator available for file 'union_find.py'")


@pytest.mark.parametrize("debug", [False, True])
def test_an_interrupt_inside_a_kernel_is_an_interrupt(debug: bool) -> None:
    with pytest.raises(KeyboardInterrupt), failures(debug):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as interrupt:  # as Python itself chains them, where Numba returns with one set
            raise SystemError("CPUDispatcher returned a result with an exception set") from interrupt
