"""`segkit plugins list` among good and bad plugins, without and with imports."""

import json
import re

import pytest

from segkit.registry import components

STATIC = {
    "good-lab": "",
    "needs-lab": "it needs no-such-lib>=2, and it is not installed: pip install 'no-such-lib>=2'",
    "old-numpy-lab": r"it needs numpy<1, and [\d.]+ is installed: upgrade old-numpy-lab, or pip install 'numpy<1'",
    "cremi-lab": "its name is that of a built-in component; call it 'cremi-lab:cremi'",
    "twin-a": "its name is also offered by twin-b 1.0; call it 'twin-a:twin'",
    "twin-b": "its name is also offered by twin-a 1.0; call it 'twin-b:twin'",
    "gone-lab": "its package 'gone_lab' is not installed; reinstall gone-lab",
    "group-lab": r"there is no group 'segkit.metric'; did you mean 'segkit.metrics'\?",
    "damaged-lab": r"its entry_points.txt is damaged \(.+\); reinstall it, or remove it",
}
"""Distribution -> the whole problem, as it is seen without importing anything."""
CHECKED = {
    "good-lab": (True, "^$"),
    "raises-lab": (
        False,
        r"^metric 'raises-lab' of raises-lab 1.0 cannot be used \(RuntimeError: no GPU\); upgrade or",
    ),
    "needs-lab": (
        False,
        r"No module named 'no_such_lib'; it needs no-such-lib>=2, .*\); pip install 'no-such-lib>=2'$",
    ),
    "old-numpy-lab": (True, "^it needs numpy<1"),
    "stars-lab": (False, "explicit keyword parameters only"),
    "untyped-lab": (False, "parameter 'factor' of Thing must have a type annotation"),
    "methodless-lab": (False, "Thing has no method 'score'"),
    "arguments-lab": (
        False,
        r"must have the method score\(self, segmentation, truth\), not score\(self, segmentation\)",
    ),
    "renamed-lab": (True, r"otherwise than score\(self, segmentation, truth\): score\(self, segmentation, reference\)"),
    "abstract-lab": (False, "Thing does not implement score"),
    "version-lab": (False, "written for version 0 of segkit's plug points; this segkit has 1"),
    "cremi-lab": (True, "call it 'cremi-lab:cremi'$"),
    "loud-lab": (True, "^it prints when it is imported .'hello.*; ask its authors to remove that$"),
    "warns-lab": (True, "^it warns when it is imported .UserWarning: 'mind the gap'.; upgrade it, or ask its authors$"),
    "exits-lab": (False, r"\(SystemExit: 0\)"),
    "gone-lab": (False, "No module named 'gone_lab'"),
    "target-lab": (False, "its entry point 'target_lab.Thing' does not look like 'module:Class'"),
    "damaged-lab": (False, "damaged"),
}
"""Distribution -> whether it can be used, and how its problem reads, when it was imported."""


def by_distribution(rows):
    return {row["distribution"]: row for row in rows}


@pytest.fixture(scope="module")
def listed(installed):
    rows = installed.json("plugins", "list")
    assert installed.imported() == []
    return rows


@pytest.fixture(scope="module")
def checked(installed):
    return installed.json("plugins", "list", "metric", "--check")


def test_the_keys(listed, checked):
    keys = ["kind", "name", "distribution", "version", "usable", "problem"]
    assert all(list(row) == keys for row in listed + checked)


def test_listing_shows_all_and_imports_none(listed):
    assert sum(row["name"] == "many" for row in listed) == 50
    own = [row for row in listed if row["distribution"] == "segkit-em"]
    assert {"unet3d", "mse", "watershed", "python", "cremi"} <= {row["name"] for row in own}
    assert all(row["usable"] is None and row["problem"] == "" for row in own)


@pytest.mark.parametrize(("distribution", "problem"), STATIC.items())
def test_what_is_seen_without_importing(listed, distribution, problem):
    row = by_distribution(listed)[distribution]
    assert re.fullmatch(problem, row["problem"])
    assert row["version"] == "1.0" and row["usable"] is (
        False if distribution in ("group-lab", "damaged-lab") else None
    )


@pytest.mark.parametrize(("distribution", "usable", "problem"), [(key, *value) for key, value in CHECKED.items()])
def test_what_is_seen_by_importing(checked, distribution, usable, problem):
    row = by_distribution(checked)[distribution]
    assert row["usable"] is usable
    assert re.search(problem, row["problem"])


def test_all_that_is_printed_is_blamed(checked):
    problem = by_distribution(checked)["loud-lab"]["problem"]
    assert all(word in problem for word in ("hello", "from C", "oh"))


def test_the_built_in_ones_are_not_harmed(checked):
    own = [row for row in checked if row["distribution"] == "segkit-em"]
    assert {row["name"] for row in own} == {c.name for c in components("metrics") if c.distribution == "segkit-em"}
    assert all(row["usable"] is True and row["problem"] == "" for row in own)


def test_only_the_kind_asked_for(checked):
    assert {row["kind"] for row in checked} == {"metrics", "segkit.metric", ""}


def test_the_table(installed):
    done = installed.segkit("plugins", "list", "metrics")
    assert done.returncode == 0 and "not checked" in done.stdout and "good-lab" in done.stdout


def test_an_import_that_ends_the_process_or_never_ends_is_a_row(fatal):
    code = (
        "import json, sys; from segkit.registry.quarantine import examine; from segkit.registry import components\n"
        "chosen = [c for c in components('metrics') if c.distribution.endswith('-lab')]\n"
        "slow = [c for c in chosen if c.distribution == 'hangs-lab']\n"
        "fast = [c for c in chosen if c.distribution != 'hangs-lab']\n"
        "found = zip(slow + fast, examine(slow, timeout=1) + examine(fast))\n"
        "print(json.dumps({c.name: [f.usable, *f.problems] for c, f in found}))"
    )
    done = fatal.python(code)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    expected = {
        "hangs-lab": "its import does not end within 1 s",
        "ends-lab": "its import ends the interpreter, exit code 0: 'farewell'",
        "crashes-lab": "its import crashes the interpreter, SIGSEGV",
        "mixed-bad": "its import ends the interpreter, exit code 0",
        "mixed-worse": "its import ends the interpreter, exit code 0",
    }
    assert found.keys() == {*expected, "mixed-good"}
    for name, problem in expected.items():
        assert found[name][0] is False and problem in found[name][1]
    assert found["mixed-good"] == [True]


@pytest.mark.parametrize("name", ["hangs-lab", "ends-lab", "crashes-lab"])
def test_those_can_be_listed(fatal, name):
    assert name in by_distribution(fatal.json("plugins", "list"))


def test_an_unknown_kind(installed):
    done = installed.segkit("plugins", "list", "metrik")
    assert done.returncode == 2 and "did you mean 'metric'?" in done.stderr
