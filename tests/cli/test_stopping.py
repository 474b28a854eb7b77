"""Ctrl-C, SIGTERM, and readers that go away: real signals and real pipes."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from segkit import Grid, io
from tests.train.training_helpers import tubes

MAIN = "import sys; from segkit.cli.main import main; main(prog_name='segkit')"
SLEEPING = """
import time
from segkit.registry.component import Component

def create(self, **values):
    print("asleep", flush=True)
    time.sleep(120)

Component.create = create
"""
"""A component that takes its time, so that the signal comes in the middle of the work."""

WORKING = """
import time
from segkit.registry import calls

def fragment(*values):
    print("asleep", flush=True)
    time.sleep(120)

calls.fragment = fragment
"""
"""The same where components are made before the work, to be looked at."""


def start(*words, code=MAIN, **options):
    """A verb in a process of its own that takes SIGINT, even if this one was started with it ignored."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


def interrupted(process, by=signal.SIGINT):
    for _ in range(1 if by == signal.SIGINT else 3):  # the wrapper of a batch system may send it again
        process.send_signal(by)
    _, said = process.communicate(timeout=120)
    assert "Traceback" not in said and "Error" not in said and "Aborted" not in said
    assert process.returncode == 128 + by, said
    (line,) = [line for line in said.splitlines() if line.startswith("Stopped: ")]
    return line


@pytest.fixture
def volume(tmp_path):
    tube = tubes()
    io.write_all(tmp_path / "my tubes.h5", {"raw": tube.raw, "truth": tube.labels})
    return tmp_path / "my tubes.h5"


def training(volume, run, *more):
    words = ["train", volume, "--val", volume, "--out", run, "--loss", "mse", "--device", "cpu", "--threads", 1]
    settings = ["model.features=3", "model.growth=2", "model.pooling=[[1,2,2]]", "patch=2,8,8", "health.every=0"]
    settings += ["validation.segmentation=false", "checkpoint_every=5", "log_every=1"]
    return [*words, *(word for each in settings for word in ("--set", each)), *more]


def wait_for(path, process):
    for _ in range(1200):
        if path.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    assert path.exists(), process.communicate()


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_training_says_how_to_resume(segkit, volume, tmp_path, by):
    run = tmp_path / "my run"
    process = start(*training(volume, run, "--steps", 1_000_000))
    wait_for(run / "checkpoints/last.ckpt", process)
    said = interrupted(process, by)
    name, *command = shlex.split(said.partition("checkpoint: ")[2])
    assert (name, command[0]) == ("segkit", "train") and "--resume" in command
    done = segkit(*command, "--set", "max_minutes=0.001")
    assert done.exit_code == 0 and "stopped by max_minutes after step" in done.stderr
    assert json.loads((run / "config.json").read_text())["steps"] == 1_000_000
    assert not list(run.rglob("*.tmp"))


@pytest.mark.slow
def test_training_that_had_not_begun(volume, tmp_path):
    code = (
        "import time\nimport segkit.io as io\nio.shape_of = lambda *_: print('asleep', flush=True) or time.sleep(99)\n"
    )
    process = start(*training(volume, tmp_path / "run"), code=code + MAIN)
    assert process.stdout.readline() == "asleep\n"
    assert interrupted(process) == "Stopped: nothing was written" and not (tmp_path / "run").exists()


@pytest.fixture
def affinities(tmp_path):
    from segkit import Affinities
    from segkit.data import NEAREST

    path = tmp_path / "a.h5"
    io.write(path, Affinities(np.full((3, 8, 16, 16), 0.9, np.float32), NEAREST, Grid()))
    return path


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_other_verbs_leave_nothing(affinities, tmp_path, by):
    process = start("fragment", affinities, "--out", tmp_path / "f.h5", code=SLEEPING + MAIN)
    assert process.stdout.readline() == "asleep\n"
    assert interrupted(process, by) == "Stopped: nothing was written"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5"]


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_work_by_blocks_goes_on(affinities, tmp_path, by):
    words = ["fragment", affinities, "--out", tmp_path / "f.zarr", "--blockwise", "--block", 8, 8, 8]
    process = start(*words, code=SLEEPING + MAIN)
    assert process.stdout.readline() == "asleep\n"
    assert interrupted(process, by) == "Stopped: the same command goes on, and keeps what is done"
    done = start(*words)
    done.communicate(timeout=300)
    assert done.returncode == 0 and io.read_labels(tmp_path / "f.zarr", role="fragments").array.all()


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_recipe_goes_on(affinities, tmp_path, by):
    recipe = tmp_path / "own.toml"
    recipe.write_text(f'[fragment]\naffinities = "{affinities}"\nmethod = "threshold"\nout = "{{out}}/f.h5"\n')
    words = ["run", recipe, "--out", tmp_path / "out"]
    process = start(*words, code=WORKING + MAIN)
    assert process.stderr.readline().startswith("segkit fragment")
    assert process.stderr.readline() == "asleep\n"
    assert interrupted(process, by) == "Stopped: the same command goes on, and keeps what is done"
    done = start(*words)
    done.communicate(timeout=300)
    assert done.returncode == 0 and (tmp_path / "out/f.h5").exists()


def read_one_line(*words):
    """What is left of a verb whose reader takes the first line and goes: its exit code, and what it said."""
    process = start(*words, env={**os.environ, "COLUMNS": "80"})
    assert process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    return process.wait(timeout=120), said


@pytest.fixture
def scored(tmp_path):
    truth = tubes().labels
    io.write_all(tmp_path / "s.h5", {"segmentation": truth, "truth": truth})
    return tmp_path / "s.h5"


@pytest.mark.parametrize("more", [["--json"], []])
def test_a_reader_that_goes(scored, more):
    code = (
        "import sys, time, click\necho = click.echo\n"
        "def slowly(text='', **more):\n    echo('first')\n    time.sleep(1)\n    echo(text, **more)\n"
        "click.echo = slowly\n"
    )
    process = start("evaluate", scored, scored, *more, code=code + MAIN)
    assert process.stdout.readline() == "first\n"
    process.stdout.close()
    said = process.stderr.read()
    assert (process.wait(timeout=120), said) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("words", [["plugins", "list"], ["train", "--settings"], ["plugins", "list", "--json"]])
def test_head_is_silent(words):
    code, said = read_one_line(*words)
    assert said == "" and code in (0, 128 + signal.SIGPIPE)  # 0 if all was written before the reader went
