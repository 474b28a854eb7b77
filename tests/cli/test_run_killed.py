"""`segkit run`, killed just before and just after it notes that a stage begins or ends, goes on by the same command."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]
RECIPE = """
[data]
file = "data.h5"
[train]
data = "{data.file}"
model = "fcn"
loss = "mse"
steps = 2
out = "{out}/run"
set = { patch = [1, 8, 8], device = "cpu", threads = 1, checkpoint_every = 1, "health.every" = 0 }
[infer]
raw = "{data.file}"
run = "{out}/run"
out = "{out}/affinities.h5"
[fragment]
affinities = "affinities.h5"
out = "{out}/fragments.h5"
[agglomerate]
affinities = "affinities.h5"
fragments = "{out}/fragments.h5"
threshold = [0.5]
out = "{out}/tree.h5"
[evaluate]
segmentation = "{out}/tree.h5"
truth = "{data.file}"
"""
PROGRAM = """
import json, os, signal, sys
from pathlib import Path
from segkit.cli.main import main

def run(out, die=lambda *event: False):
    # The exit code of the recipe in a process of its own.
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    sys.addaudithook(lambda event, arguments: die(event, arguments) and os.kill(os.getpid(), signal.SIGKILL))
    main(["run", "mine.toml", "--out", out])
    os._exit(0)

def at_note(number, after):
    # At the change of stages.json of this number, or at the first change of any file that follows.
    seen = []
    def die(event, arguments):
        if after and len(seen) > number and event in ("open", "os.remove", "os.rename", "os.rmdir", "os.link"):
            return True
        if event == "os.rename" and str(arguments[1]).endswith("stages.json"):
            seen.append(arguments)
            return not after and len(seen) > number
        return False
    return die

main(["run", "mine.toml", "--out", "whole"], standalone_mode=False)  # so that children have all modules
tried, held, number = 0, 0, 0
while True:
    codes = [run(f"out-{number}-{after}", at_note(number, after)) for after in (False, True)]
    if codes == [0, 0]:
        break
    for after, code in zip((False, True), codes):
        assert code == -signal.SIGKILL, code
        folder = Path(f"out-{number}-{after}")
        again = run(str(folder))
        stages = json.loads((folder / "stages.json").read_text())
        left = [str(path) for path in folder.rglob(".*")]
        tried += 1
        held += again == 0 and all("result" in each for each in stages.values()) and len(stages) == 5 and not left
        if left or again:
            print(number, after, again, left, file=sys.stderr)
    number += 1
print(json.dumps([tried, held]))
"""


def test_a_recipe_that_is_killed_between_its_stages_goes_on(tmp_path):
    from segkit import io
    from segkit.infer.oracle import oracle_affinities
    from segkit.testing.phantoms import neurites

    phantom = neurites((6, 24, 24), count=4, seed=3)
    io.write_all(tmp_path / "data.h5", {"raw": phantom.raw, "truth": phantom.truth})
    io.write(tmp_path / "affinities.h5", oracle_affinities(phantom.truth, seed=0), "affinities")
    (tmp_path / "mine.toml").write_text(RECIPE)
    threads = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    words = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        words, capture_output=True, text=True, env=os.environ | threads, cwd=tmp_path, timeout=550, check=False
    )
    assert done.returncode == 0, done.stderr
    tried, held = json.loads(done.stdout.splitlines()[-1])
    assert (tried, held) == (20, 20), done.stderr
