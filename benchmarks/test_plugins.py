"""`segkit plugins list` among 50 plugins, as a user runs it: pytest benchmarks/test_plugins.py --benchmark-enable."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import segkit

PLUGINS = 50
LIST = "from segkit.cli.main import main; main(['plugins', 'list'], prog_name='segkit')"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of installed distributions, each with a requirement and a component that cannot be imported."""
    folder = tmp_path_factory.mktemp("site")
    for number in range(PLUGINS):
        name = f"lab_{number:02}"
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0"]
        lines += ["Requires-Dist: numpy>=1.26", "Requires-Dist: segkit>=0.1"]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
        (info / "entry_points.txt").write_text(f"[segkit.metrics]\n{name} = {name}:Thing\n")
        (folder / f"{name}.py").write_text("raise RuntimeError('imported')\n")
    return folder


@pytest.mark.benchmark(group="plugins")
def test_list(benchmark, site):
    """The whole process, from start to end."""
    path = os.pathsep.join([str(site), str(Path(segkit.__file__).parents[1])])
    command = [sys.executable, "-c", LIST]

    def run():
        return subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)

    done = benchmark.pedantic(run, rounds=9, warmup_rounds=1)
    assert done.returncode == 0 and done.stdout.count("lab_") >= PLUGINS
