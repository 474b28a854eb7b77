"""Which tests of a suite run with which of a component's parameters."""

import os
import subprocess
import sys
from collections import defaultdict

import pytest

from segkit.testing.conformance import agglomerators, fragmenters, losses, metrics, models

SOURCE = """
from segkit.testing import MetricConformance

class TestIt(MetricConformance):
    name = "voi"
    parameters = ({}, {"border": 1.0})
"""
SUITES = [
    agglomerators.AgglomeratorConformance,
    fragmenters.FragmenterConformance,
    losses.LossConformance,
    metrics.MetricConformance,
    models.ModelConformance,
]


def collected(folder, *words):
    """Test -> the parameters that it runs with."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_it.py").write_text(SOURCE)
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "pytest", "-p", "segkit.testing.pytest_plugin", "--strict-markers", *words]
    command += ["--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    found = defaultdict(set)
    for line in done.stdout.splitlines():
        if "::" in line:
            test, _, case = line.rpartition("::")[2].partition("[")
            found[test].add("border" in case)
    return found


def test_the_core_runs_with_all_parameters_and_the_rest_with_the_first(tmp_path):
    found = collected(tmp_path, "-m", "not slow")
    assert found["test_repeats"] == found["test_known_values"] == found["test_memory_layout"] == {False, True}
    assert found["test_pickle"] == found["test_misaligned"] == {False}
    everything = collected(tmp_path)
    assert everything.keys() == found.keys()
    assert all(cases == {False, True} for cases in everything.values())


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.kind)
def test_each_suite_has_a_core_and_a_rest(suite):
    tests = {name for name in dir(suite) if name.startswith("test_")}
    core = {name for name in tests if hasattr(getattr(suite, name), "core")}
    assert {"test_repeats", "test_input_unchanged", "test_thread_limit"} < core < tests
    assert core & vars(suite).keys()
