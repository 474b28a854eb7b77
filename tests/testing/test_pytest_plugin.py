"""The plugin that makes markers known, as pytest finds it."""

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import segkit

TESTS = """
import pytest

@pytest.mark.gpu
@pytest.mark.data
def test_nothing():
    pass
"""


def pytest_in(folder, *words):
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "pytest", "--strict-markers", "-p", "no:cacheprovider", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_its_markers_are_known(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(TESTS)
    assert pytest_in(tmp_path).returncode != 0
    done = pytest_in(tmp_path, "-p", "segkit.testing.pytest_plugin")
    assert done.returncode == 0, done.stdout
    marked = pytest_in(tmp_path, "-p", "segkit.testing.pytest_plugin", "--markers").stdout
    assert "@pytest.mark.gpu: needs a GPU" in marked and "SEGKIT_DATA" in marked


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
