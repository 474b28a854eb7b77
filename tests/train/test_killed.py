"""Runs that are killed (SIGKILL, so that nothing is tidied up) end with the weights of a run that was left alone."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]

PROGRAM = """
import json, os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from training_helpers import TINY, same, tubes
from segkit.models.checkpoint import load_model
from segkit.train import TrainConfig, run, train

volume, folder = tubes(), Path(sys.argv[2])
values = {**TINY, "checkpoint_every": 2, "log_every": 1, "health": {"every": 3}, "averaging": {"decay": 0.5},
          "model_parameters": {**TINY["model_parameters"], "normalisation": "batch"}}

def start(name, prepare=lambda: None):
    # A process that trains or goes on training, with everything imported already.
    process = os.fork()
    if process == 0:
        try:
            prepare()
            resume = (folder / name / "config.json").exists()
            train(TrainConfig(**values), [volume], folder / name, resume=resume)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(9)
    return process

def ended(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

def die_at_replacement(number):
    # SIGKILL just before the number-th file is moved into its place
    replace, done = os.replace, []
    def replacing(*paths):
        done.append(paths)
        if len(done) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*paths)
    os.replace = replacing

begin = time.perf_counter()
assert ended(start("whole")) == 0
whole = time.perf_counter() - begin
random.seed(int(sys.argv[3]))
kills = {"random": 0, "writing": 0}
for _ in range(int(sys.argv[4])):
    process = start("random")
    time.sleep(random.uniform(0, 0.6) * whole)
    os.kill(process, signal.SIGKILL)
    if ended(process) == 0:
        break
    kills["random"] += 1
else:
    assert ended(start("random")) == 0
for number in map(int, sys.argv[5:]):
    code = ended(start("writing", lambda: die_at_replacement(number)))
    kills["writing"] += code == -signal.SIGKILL
    if code == 0:
        break
else:
    assert ended(start("writing")) == 0
found = {"kills": kills}
expected = load_model(folder / "whole" / "model.safetensors")
steps = [[json.loads(line)["step"] for line in (folder / name / "metrics.jsonl").open()] for name in ("whole", *kills)]
for name, lines in zip(kills, steps[1:]):
    network = load_model(folder / name / "model.safetensors")
    left = [path.name for path in (folder / name).rglob(".*")]
    equal = same(network.module.state_dict(), expected.module.state_dict())
    found[name] = [equal, network.extra["steps"], left, lines == steps[0]]
print(json.dumps(found))
"""


def test_a_killed_run_ends_with_the_same_weights(tmp_path):
    """Three times at random, and just before each file is moved into its place."""
    kills, writes = 3, (1, 2, 3, 4, 5, 6, 7)
    words = [sys.executable, "-c", PROGRAM, os.path.dirname(__file__), str(tmp_path), "1"]
    words += map(str, (kills, *writes))
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kills"]["random"] >= 1 and found["kills"]["writing"] >= min(len(writes), 4)
    assert found["random"] == found["writing"] == [True, 6, [], True]
