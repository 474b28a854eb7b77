"""A pytest plugin: markers for tests that need what not every machine has, and for those that take long.

A test that needs something is skipped where that is missing, and the run says at its end what was missing, so that a
part that was not tested is seen. A test marked `slow` runs like any other, unless ``-m "not slow"`` leaves it out. The
plugin imports nothing until a test is to run that needs something.
"""

import os
import shutil
import subprocess
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

MARKERS = {
    "gpu": "a CUDA GPU that torch sees",
    "data": "the real volumes in the folder that SEGKIT_DATA names",
    "browser": "Chromium or Chrome (Debian: apt install chromium)",
    "compiler": "a C++ compiler and the boost headers (Debian: apt install g++ libboost-dev)",
}
"""Marker -> what its tests need."""


def pytest_configure(config: "pytest.Config") -> None:
    """Register the markers."""
    config.addinivalue_line("markers", "slow: takes long, or seldom finds what other tests do not")
    for marker, need in MARKERS.items():
        config.addinivalue_line("markers", f"{marker}: needs {need}; skipped where there is none")


def pytest_runtest_setup(item: "pytest.Item") -> None:
    """Skip a test whose marker names what this machine lacks."""
    import pytest

    for marker, need in MARKERS.items():
        if item.get_closest_marker(marker) and not present(marker):
            pytest.skip(f"needs {need}")


def pytest_terminal_summary(terminalreporter: "pytest.TerminalReporter") -> None:
    """List what was missing, each with the number of tests that were skipped for it."""
    reports = terminalreporter.stats.get("skipped", ())
    reasons = [report.longrepr[2].removeprefix("Skipped: ") for report in reports if isinstance(report.longrepr, tuple)]
    needs = Counter(reason for reason in reasons if reason.startswith("needs "))
    if needs:
        terminalreporter.section("not tested, since this machine lacks something")
        for reason, count in sorted(needs.items()):
            terminalreporter.line(f"{count:5} {'test' if count == 1 else 'tests'}: {reason}")


@cache
def present(marker: str) -> bool:
    """Whether this machine has what the tests of a marker need."""
    return {"gpu": _gpu, "data": _data, "browser": _browser, "compiler": _compiler}[marker]()


def _gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _data() -> bool:
    return os.path.isdir(os.environ.get("SEGKIT_DATA", ""))


def _browser() -> bool:
    from segkit.view.browser import find_browser

    return find_browser() is not None


def _compiler() -> bool:
    """Whether a file that includes a header of boost passes the preprocessor."""
    if shutil.which("c++") is None:
        return False
    command, source = ["c++", "-x", "c++", "-E", "-"], b"#include <boost/version.hpp>"
    return not subprocess.run(command, input=source, capture_output=True).returncode
