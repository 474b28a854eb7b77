"""The plugin that makes markers known, as pytest finds it."""

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import segkit

TESTS = """
import pytest

@pytest.mark.data
def test_on_real_volumes():
    pass

@pytest.mark.compiler
@pytest.mark.parametrize("number", range(2))
def test_compiled(number):
    pass

def test_always():
    pass
"""


def pytest_in(folder, *words, **variables):
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment |= variables
    command = [sys.executable, "-m", "pytest", "--strict-markers", "-p", "no:cacheprovider", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_its_markers_are_known(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(TESTS)
    assert pytest_in(tmp_path).returncode != 0
    done = pytest_in(tmp_path, "-p", "segkit.testing.pytest_plugin")
    assert done.returncode == 0, done.stdout
    marked = pytest_in(tmp_path, "-p", "segkit.testing.pytest_plugin", "--markers").stdout
    assert "@pytest.mark.gpu: needs a CUDA GPU" in marked and "SEGKIT_DATA" in marked


@pytest.mark.parametrize("processes", [(), ("-p", "xdist.plugin", "-n", "2")], ids=["one process", "two processes"])
def test_what_a_machine_lacks_is_skipped_and_said_at_the_end(tmp_path, processes):
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "c++").write_text("#!/bin/sh\nexit 1\n")  # a compiler that finds no header
    (tmp_path / "c++").chmod(0o755)
    plugin = ("-p", "segkit.testing.pytest_plugin", *processes)
    text = pytest_in(tmp_path, *plugin, PATH=str(tmp_path), SEGKIT_DATA=str(tmp_path / "nowhere")).stdout
    assert "1 passed, 3 skipped" in text
    assert "    1 test: needs the real volumes in the folder that SEGKIT_DATA names" in text
    assert "    2 tests: needs a C++ compiler and the boost headers" in text
    (tmp_path / "c++").write_text("#!/bin/sh\nexit 0\n")
    text = pytest_in(tmp_path, *plugin, PATH=str(tmp_path), SEGKIT_DATA=str(tmp_path)).stdout
    assert "4 passed" in text and "this machine lacks" not in text


def test_it_imports_nothing():
    program = "import sys, segkit.testing.pytest_plugin; print(*sorted({n.partition('.')[0] for n in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert not {"numpy", "torch", "numba", "hypothesis", "pytest"} & set(done.stdout.split())


def test_phantoms_need_neither_pytest_nor_hypothesis():
    program = "import sys, segkit.testing.phantoms; print(*sorted({n.partition('.')[0] for n in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert not {"torch", "hypothesis", "pytest"} & set(done.stdout.split())


def test_it_is_declared():
    declaration = Path(segkit.__file__).parents[1] / "pyproject.toml"
    points = tomllib.loads(declaration.read_text())["project"]["entry-points"]["pytest11"]
    assert [import_module(target).MARKERS for target in points.values()]


def test_names_of_the_package():
    from segkit import testing

    assert set(testing.__all__) <= set(dir(testing))
    for name in testing.__all__:
        assert getattr(testing, name).__name__ == name
