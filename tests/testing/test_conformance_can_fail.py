"""Each test of the suites can fail: components that break a promise are caught by the test for it, by no other."""

from collections import defaultdict
from importlib import import_module
from pathlib import Path

import pytest

from segkit.testing.check import run
from segkit.testing.conformance._base import Conformance

KINDS = ("agglomerators", "fragmenters", "metrics", "losses", "models")
NOT_BROKEN = {"test_devices", "test_files"}
"""A GPU is needed for the one, and a model that is registered for the other."""

TOGETHER = """
import sys
from types import ModuleType

for kind, source in {sources!r}.items():
    module = sys.modules[kind] = ModuleType(kind)
    exec(compile(source, kind + ".py", "exec"), vars(module))
    for name, suite in vars(module).copy().items():
        if name.startswith("Test"):
            suite.__name__ = name + " of " + kind
            globals()[name + kind] = suite
"""
"""One file of tests for all kinds, so that one process runs them."""
MEANT_ALONE = """
for suite in [each for name, each in list(globals().items()) if name.startswith("Test") and each.fails]:
    for test in {name for name in dir(suite) if name.startswith("test_")} - {*suite.fails}:
        setattr(suite, test, None)
"""
"""Leaves a broken component the tests that are meant for it; a sound one keeps all."""


def source_of(kind):
    return (Path(__file__).parent / "broken" / f"{kind}.py").read_text()


def suites_of(kind):
    names = {"__name__": kind}
    exec(compile(source_of(kind), f"{kind}.py", "exec"), names)
    return {name: suite for name, suite in names.items() if name.startswith("Test")}


@pytest.mark.parametrize(
    "more", [MEANT_ALONE, pytest.param("", marks=pytest.mark.slow)], ids=["tests meant for them", "all tests"]
)
def test_broken_components_fail_the_tests_that_are_meant_for_them_and_no_other(more):
    records, problem = run(TOGETHER.format(sources={kind: source_of(kind) for kind in KINDS}) + more)
    assert problem is None
    failed = defaultdict(set)
    for record in records:
        failed[record["suite"]] |= {record["test"]} if record["outcome"] == "failed" else set()
    assert dict(failed) == {
        f"{name} of {kind}": set(suite.fails) for kind in KINDS for name, suite in suites_of(kind).items()
    }


def test_every_test_is_failed_by_some_component():
    broken = {kind: {test for suite in suites_of(kind).values() for test in suite.fails} for kind in KINDS}
    common = {name for name in vars(Conformance) if name.startswith("test_")}
    assert common <= set().union(*broken.values())
    for kind in KINDS:
        module = import_module(f"segkit.testing.conformance.{kind}")
        suite = next(
            each for each in vars(module).values() if isinstance(each, type) and vars(each).get("kind") == kind
        )
        own = {name for name in vars(suite) if name.startswith("test_")}
        assert own - NOT_BROKEN <= broken[kind], kind
