"""No kernel is compiled when a verb is called for the second time: all are found where the first call kept them."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys
from numba.core import event
from segkit.cli.main import main

compiled = {}

class Listener(event.Listener):
    def on_start(self, event):
        compiled.setdefault(verb, []).append(str(event.data["dispatcher"].py_func.__qualname__))
    def on_end(self, event):
        pass

event.register("numba:compile", Listener())
for line in json.loads(sys.argv[1]):
    verb = " ".join(line)
    main(line, standalone_mode=False)
print(json.dumps(compiled))
"""
SETTINGS = ["patch=[4, 16, 16]", "device=cpu", "threads=1", "model.features=2", "model.growth=1"]
SETTINGS += ["model.pooling=[[1, 2, 2]]", "model.padding=same"]
TRAIN = ["train", "data.h5", "--val", "data.h5", "--loss", "constrained-malis+malis", "--steps", "2", "--out"]
INFER = ["infer", "data.h5", "--run", "{out}/run", "--out"]
FRAGMENT = ["fragment", "{out}/a.h5", "--out"]
AGGLOMERATE = ["agglomerate", "{out}/a.h5", "--fragments", "{out}/f.h5"]
BY_BLOCKS = ["--blockwise", "--block", "8", "16", "16"]
VERBS = [
    [*TRAIN, "{out}/run", *(word for each in SETTINGS for word in ("--set", each))],
    [*INFER, "{out}/a.h5"],
    ["diagnose", "{out}/a.h5"],
    [*FRAGMENT, "{out}/f.h5", "--set", "statistic=min", "--set", "size_threshold=3"],
    [*FRAGMENT, "{out}/f2.h5", "--method", "affinity-watershed"],
    [*FRAGMENT, "{out}/f3.zarr", *BY_BLOCKS],
    [*AGGLOMERATE, "--threshold", "0.5", "--out", "{out}/t.h5"],
    [*AGGLOMERATE, "--score", "quantile", "--threshold", "0.4", "--threshold", "0.5", "--out", "{out}/t2.h5"],
    [*AGGLOMERATE[:3], "{out}/f3.zarr", *BY_BLOCKS, "--out", "{out}/t3.zarr"],
    ["segment", "{out}/t.h5", "--threshold", "0.3", "--out", "{out}/s.h5"],
    ["segment", "{out}/t.h5", "--threshold", "0.5", "--uncertain", "3"],
    ["evaluate", "{out}/t.h5", "data.h5", "--set", "border=10", "--worst", "2"],
    ["evaluate", "{out}/t.h5", "data.h5", "--sweep"],
]


def compiled(folder, out):
    """The kernels that a fresh process has compiled, by the call of the verb."""
    (folder / out).mkdir()
    calls = [[word.replace("{out}", out) for word in words] for words in VERBS]
    words = [sys.executable, "-c", PROGRAM, json.dumps(calls)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder, timeout=550, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.timeout(1200)
def test_the_second_start_compiles_nothing(tmp_path):
    from segkit import io
    from segkit.testing.phantoms import neurites

    phantom = neurites((12, 32, 32), count=6, seed=3)
    io.write_all(tmp_path / "data.h5", {"raw": phantom.raw, "truth": phantom.truth})
    compiled(tmp_path, "first")
    assert compiled(tmp_path, "second") == {}


def test_compiling_would_be_seen(tmp_path):
    """A kernel that nobody keeps is compiled whenever it is called."""
    (tmp_path / "once").mkdir()
    program = PROGRAM.replace("main(line, standalone_mode=False)", "numba.njit(lambda x: x + 1)(2)")
    words = [sys.executable, "-c", f"import numba\n{program}", '[["a verb"]]']
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout.splitlines()[-1]) == {"a verb": ["<lambda>"]}, done.stderr
