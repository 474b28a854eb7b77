"""Completion in the shells themselves: what stands on the line after TAB."""

import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.shell_completion import FishComplete, ZshComplete

from segkit import Grid, Labels, Volume, io
from segkit.cli.main import main
from segkit.cli.shell_bash import Bash, split_line
from segkit.protocols import GROUPS
from segkit.registry import OWN, components
from segkit.registry.signature import stated_parameters

BINARIES = Path(sys.executable).parent
BASH = shutil.which("bash")
needs_bash = pytest.mark.skipif(
    BASH is None or not (BINARIES / "segkit").exists(), reason="needs bash, and segkit beside the interpreter"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with volumes, runs and other things to complete."""
    folder = tmp_path_factory.mktemp("place")
    raw, truth = Volume(np.zeros((2, 4, 4), np.uint8), Grid()), Labels.convert(np.ones((2, 4, 4), int), Grid())
    for name in ("sample.h5", "my file.h5", "store.zarr"):
        io.write_all(folder / name, {"raw": raw, "truth": truth})
    (folder / "home").mkdir()
    shutil.copy(folder / "sample.h5", folder / "home" / "mine.h5")
    for name in ("runs/first", "runs/second"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text("{}")
    (folder / "runs/a-folder").mkdir()
    (folder / "own.toml").write_text("")
    return folder


class Terminal:
    """An interactive bash in a terminal of its own, with the completion of segkit switched on."""

    def __init__(self, folder):
        self.master, slave = pty.openpty()
        environment = {"PATH": f"{BINARIES}:{os.environ['PATH']}", "HOME": str(folder / "home"), "TERM": "dumb"}
        environment |= {"PS1": "", "INPUTRC": "/dev/null", "HISTFILE": ""}
        words = [BASH, "--norc", "--noprofile", "-i"]
        streams = {"stdin": slave, "stdout": slave, "stderr": slave}
        self.process = subprocess.Popen(words, cwd=folder, env=environment, start_new_session=True, **streams)
        os.close(slave)
        self.send("bind 'set enable-bracketed-paste off'; bind 'set page-completions off'; stty -echo cols 200\r")
        self.send('eval "$(_SEGKIT_COMPLETE=bash_source segkit)"; echo rea"dy"\r')
        self.until("ready")

    def send(self, text):
        os.write(self.master, text.encode())

    def until(self, text, seconds=60):
        seen, end = "", time.monotonic() + seconds
        while text not in seen:
            ready, _, _ = select.select([self.master], [], [], max(end - time.monotonic(), 0))
            assert ready, f"{text!r} did not come within {seconds} s, but {seen!r}"
            seen += os.read(self.master, 65536).decode(errors="replace")
        return seen

    def complete(self, line):
        """The arguments that bash would call segkit with, after TAB at the end of `line`.

        The keys at once: bash reads them in turn. In front of the line goes a command that prints its arguments.
        """
        self.send(line + "\t" + "\x01" + "printf '<%s>' " + "\x05" + " end\r")
        return [word.partition("<")[2] for word in self.until("<end>").rpartition("<segkit>")[2].split(">")][:-2]

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture(scope="module")
def terminal(place):
    shell = Terminal(place)
    yield shell
    shell.close()


@needs_bash
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("segkit evaluate samp", ["evaluate", "sample.h5"]),
        ("segkit evaluate my", ["evaluate", "my file.h5"]),
        ("segkit evaluate 'my", ["evaluate", "my file.h5"]),
        ("segkit evaluate ~/mi", ["evaluate", "{home}/mine.h5"]),
        ("segkit evaluate sample.h5:volumes/r", ["evaluate", "sample.h5:volumes/raw"]),
        ("segkit evaluate sample.h5:volumes/la", ["evaluate", "sample.h5:volumes/labels/neuron_ids"]),
        ("segkit evaluate sample.h5:", ["evaluate", "sample.h5:volumes/"]),
        ("segkit evaluate my\\ file.h5:volumes/r", ["evaluate", "my file.h5:volumes/raw"]),
        ("segkit evaluate 'my file.h5:volumes/r", ["evaluate", "my file.h5:volumes/raw"]),
        ("segkit evaluate sample.h5:volumes/raw ~/mine.h5:volumes/r", None),
        ("segkit evaluate store.zarr:volumes/r", ["evaluate", "store.zarr:volumes/raw"]),
        ("segkit infer sample.h5:volumes/raw --run runs/fi", ["infer", "sample.h5:volumes/raw", "--run", "runs/first"]),
        ("segkit infer sample.h5 --run=runs/fi", ["infer", "sample.h5", "--run=runs/first"]),
        ("segkit infer sample.h5 --run ru", ["infer", "sample.h5", "--run", "runs/"]),
        ("segkit infer sample.h5 --out sam", ["infer", "sample.h5", "--out", "sample.h5"]),
        ("segkit run fib25-s", ["run", "fib25-small"]),
        ("segkit run ow", ["run", "own.toml"]),
        ("segkit fragment a.h5 --set size_th", ["fragment", "a.h5", "--set", "size_threshold="]),
        ("segkit train d.h5 --set check", ["train", "d.h5", "--set", "checkpoint_every="]),
        ("segkit train d.h5 --set schedule=cos", ["train", "d.h5", "--set", "schedule=cosine"]),
        ("segkit train d.h5 --model unet3d --set model.upsampling=t", None),
        ("segkit agglomerate a:b --backend refe", ["agglomerate", "a:b", "--backend", "reference"]),
    ],
)
def test_tab_in_bash(terminal, place, line, expected):
    found = terminal.complete(line)
    if expected is None:
        assert found[-1] in (
            f"{place}/home/mine.h5:volumes/raw",
            "~/mine.h5:volumes/raw",
            "model.upsampling=transposed",
        )
    else:
        assert found == [word.format(home=place / "home") for word in expected]


@pytest.mark.parametrize(
    ("line", "value", "start"),
    [
        ("segkit infer a:b", "a:b", 2),
        ("segkit infer a\\:b", "a:b", 0),
        ("segkit infer 'a:b", "a:b", 0),
        ('segkit infer --run="x y', "--run=x y", 6),
        ("segkit infer a ", "", 0),
        ("segkit   infer\ta  b=c:", "b=c:", 4),
    ],
)
def test_bash_splits_words(line, value, start):
    word = split_line(line, " \t\n\"'><=;|&(:")[-1]
    assert (word.value, word.start) == (value, start)


def offered(*words, shell=Bash):
    *before, incomplete = words
    found = shell(main, {}, "segkit", "_SEGKIT_COMPLETE").get_completions(before, incomplete)
    return [item.value for item in found]


@pytest.mark.parametrize("shell", [Bash, ZshComplete, FishComplete])
def test_every_shell_asks_the_same(place, monkeypatch, shell):
    monkeypatch.chdir(place)
    assert offered("evaluate", "sample.h5:volumes/r", shell=shell) == ["sample.h5:volumes/raw"]
    assert offered("infer", "sample.h5", "--run", "runs/", shell=shell) == [
        "runs/first",
        "runs/second",
        "runs/a-folder/",
    ]
    assert offered("train", "--like", "runs/s", shell=shell) == ["runs/second"]
    assert offered("segment", "sample.h5", "--like", "sample.h5:v", shell=shell)[0].startswith("sample.h5:volumes/")
    recipes = offered("run", "", shell=shell)
    assert "demo" in recipes and "own.toml" in recipes and "runs/" not in recipes
    assert offered("run", "ru", shell=shell) == ["runs/"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["agglomerate", "a.h5", "--backend", "python", "--set", "score=m"], ["score=mean", "score=max", "score=min"]),
        (["train", "d", "--model", "unet2d-padded", "--set", "model.l"], ["model.levels="]),
        (["train", "d", "--loss", "mse+0.1*malis", "--set", "loss.malis.bal"], ["loss.malis.balanced="]),
        (["train", "d", "--set", "loss.bal"], ["loss.balanced="]),
        (["train", "d", "--set", "augmentation.elastic.s"], ["augmentation.elastic.spacing="]),
        (["train", "d", "--set", "model.channels"], []),
        (["train", "d", "--set", "components="], ["components=true", "components=false"]),
        (["benchmark", "train", "d", "--set", "steps"], ["steps="]),
        (["benchmark", "infer", "d", "--model", "unet3d", "--set", "grow"], ["growth="]),
        (["benchmark", "agglomerate", "a", "--backend", "x=python", "--set", "max_s"], ["max_size="]),
        (["evaluate", "s", "t", "--set", "bord"], ["border="]),
        (["run", "fib25-small", "--set", "data.tr"], ["data.train="]),
        (["run", "no-such-recipe", "--set", ""], []),
        (["fragment", "a", "--method", "no-such", "--set", ""], []),
    ],
)
def test_names_and_values_of_settings(words, expected):
    found = offered(*words)
    assert set(expected) <= set(found) if expected else found == []


BUILT_IN = [each for kind in GROUPS for each in components(kind) if each.distribution == OWN]


@pytest.mark.parametrize("component", BUILT_IN, ids=lambda component: component.title)
def test_the_source_says_what_an_import_says(component):
    stated, known = stated_parameters(component), component.parameters()
    assert list(stated) == list(known)
    for name, parameter in known.items():
        expected = ("true", "false") if parameter.annotation is bool else parameter.choices or ()
        assert set(map(str, expected)) - {"None"} <= set(stated[name])


def test_options_get_files_from_the_shell():
    found = Bash(main, {}, "segkit", "_SEGKIT_COMPLETE").get_completions(["evaluate"], "sam")
    assert [item.type for item in found] == ["file"]


def test_a_file_that_is_none_offers_nothing(tmp_path):
    (tmp_path / "broken.h5").write_text("no HDF5")
    (tmp_path / "text.txt").write_text("")
    assert offered("evaluate", f"{tmp_path}/broken.h5:") == [] and offered("evaluate", f"{tmp_path}/text.txt:") == []


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        (["train", "d", "--set", "model.f"], {"pydantic"}),
        (["fragment", "a", "--set", "s"], set()),
        (["infer", "a", "--run", "r"], set()),
        (["run", ""], set()),
        (["evaluate", "a"], set()),
        (["evaluate", "sample.h5:v"], {"h5py", "pydantic"}),
    ],
)
def test_tab_loads_nothing_heavy(place, words, allowed):
    code = (
        "import json, sys; from segkit.cli.main import main; from segkit.cli.shell_bash import Bash\n"
        f"words = json.loads({json.dumps(json.dumps(words))})\n"
        "found = Bash(main, {}, 'segkit', 'X').get_completions(words[:-1], words[-1]); assert found\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=place)
    assert done.returncode == 0, done.stderr
    heavy = {"torch", "lightning_fabric", "numba", "scipy", "skimage", "higra", "pydantic", "h5py", "zarr"}
    assert heavy & set(done.stdout.split()) <= allowed
