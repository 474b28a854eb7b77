"""A pytest plugin that writes what each promise came to, one JSON object a line; see :mod:`segkit.testing.check`."""

import inspect
import json
from collections.abc import Generator

import pytest
from hypothesis import Phase, settings

from segkit.testing import pytest_plugin


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where to write."""
    parser.addoption("--findings", default=None, metavar="FILE", help="write what each promise came to")


def pytest_configure(config: pytest.Config) -> None:
    """Let hypothesis be: nobody will see how small an example it could have found."""
    if not config.pluginmanager.is_registered(pytest_plugin):
        config.pluginmanager.register(pytest_plugin)
    settings.register_profile("recorder", phases=[Phase.explicit, Phase.generate])
    settings.load_profile("recorder")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Function) -> Generator[None, None, None]:
    """Say what begins, in case that the process does not survive it."""
    _write(item, {"outcome": "started"})
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write the outcome of the test, or that of its preparation or its end where these go wrong."""
    report = yield
    if report.when == "call" or not report.passed:
        _write(item, {"outcome": report.outcome, "when": report.when, "reason": _reason(report, call)})
    return report


def _write(item: pytest.Function, outcome: dict) -> None:
    path = item.config.getoption("--findings")
    if path is None:
        return
    promise = (inspect.getdoc(item.function) or item.originalname).splitlines()[0]
    case = item.callspec.id if hasattr(item, "callspec") else ""
    suite = item.cls.__name__ if item.cls else ""
    record = {"suite": suite, "test": item.originalname, "promise": promise, "case": case, **outcome}
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def _reason(report: pytest.TestReport, call: pytest.CallInfo) -> str:
    if report.passed or call.excinfo is None:
        return ""
    error = call.excinfo.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = (str(error).splitlines() or [""])[0]
    plain = isinstance(error, AssertionError | pytest.fail.Exception | pytest.skip.Exception)
    return text if plain else f"{type(error).__name__}: {text}"
