"""What all tests share: the real volumes, where there are any, and a way to call the command line."""

import gc
import os
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is loaded: the workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish():
    """Leave what was imported out of every later search for garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real volumes that SEGKIT_DATA names; tests that use it are marked `data`."""
    return Path(os.environ["SEGKIT_DATA"])


@pytest.fixture
def segkit(monkeypatch):
    """A callable(*words) that runs the command line in this process; the result has exit_code, stdout, stderr.

    A number of threads that the words set, and what the command says to the processes that it starts, hold in this test
    alone.
    """
    from click.testing import CliRunner

    from segkit.cli.main import main

    monkeypatch.setattr("segkit.threads._limit", [])
    monkeypatch.setenv("PYTHONSAFEPATH", "1")

    def call(*words):
        return CliRunner().invoke(main, [str(word) for word in words], prog_name="segkit")

    return call
