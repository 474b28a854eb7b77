"""No code from the working directory runs in the processes that segkit starts."""

import os
import subprocess
import sys

import pytest

NAMES = ("numba", "pickle", "torch", "signal", "json", "distributed", "segkit", "pytest", "struct")
"""Modules that a child imports early, and what a folder of somebody else's may hold."""
CHILDREN = {
    "benchmark": "from segkit.benchmark.process import in_fresh_process as f; print(f('builtins:dict', {}))",
    "training": """
from pathlib import Path
from tempfile import TemporaryDirectory
from segkit.train.distributed import _start
with TemporaryDirectory() as folder:
    child = _start(Path(folder), 1, 2, "cpu")
    child.wait(60)
""",
    "cluster": """
from segkit.blockwise.cluster import open_executor
if __name__ == "__main__":
    with open_executor("local:1") as executor:
        print(executor.workers)
""",
    "quarantine": "from segkit.registry.quarantine import examine; print(examine([], 60))",
    "conformance": "from segkit.testing.check import run; print(run('def test_it(): pass'))",
    "library": """
import subprocess, sys
from segkit.cli.main import main
main(["plugins", "list"], standalone_mode=False)
subprocess.run([sys.executable, "-c", "import json, pickle, signal, struct"], check=True)
""",
}
"""One program for each kind of process that segkit starts; the last one stands for those that libraries start."""


@pytest.mark.parametrize("kind", CHILDREN)
def test_the_working_directory_is_no_place_of_modules(tmp_path, kind):
    folder, seen = tmp_path / "folder", tmp_path / "seen"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text(f"open({str(seen)!r}, 'a').write({name + ' '!r})\nraise SystemExit(3)\n")
    program = tmp_path / "program.py"
    program.write_text(CHILDREN[kind])
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONSAFEPATH", "PYTHONPATH")}
    command = [sys.executable, str(program)]  # as the command `segkit`: its first place of modules is not this folder
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert not seen.exists(), f"{seen.read_text()}ran; {done.stderr[-500:]}"
    assert done.returncode == 0, done.stderr
