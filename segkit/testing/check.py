"""The suites of :mod:`segkit.testing.conformance`, run on installed components, each in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distributions, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from segkit.errors import InvalidInput, SegkitError, UnknownComponent, sentence
from segkit.parameters import nearest
from segkit.protocols import GROUPS
from segkit.registry import components
from segkit.registry.component import SINGULAR, Component

SUITES = {kind: f"{name.capitalize()}Conformance" for kind, name in SINGULAR.items()}
MADE = "It can be loaded, and made with these parameters."
HOLDS, FAILS, SKIPPED = "holds", "FAILS", "skipped"


@dataclass(frozen=True)
class PromiseResult:
    """What one promise of one component came to."""

    test: str
    """Name of the test, of the suite of the component's kind."""
    promise: str
    """The sentence that it checks."""
    result: str
    """"holds", "FAILS" or "skipped"."""
    reason: str = ""
    """Why it fails or was skipped."""


def components_of(distribution: str, kind: str | None = None, name: str | None = None) -> list[Component]:
    """What a distribution offers, of one kind and of one name if these are given.

    Raises UnknownComponent if it is not installed, or offers nothing that fits.
    """
    if kind is not None and kind not in GROUPS:
        raise InvalidInput(sentence("kind", f"must be one of {', '.join(GROUPS)}", repr(kind)))
    declared = [component for each in GROUPS for component in components(each)]
    wanted = distribution.replace("_", "-").replace(".", "-").lower()
    own = [component for component in declared if component.distribution == wanted]
    if not own:
        raise UnknownComponent(_no_components(distribution, sorted({each.distribution for each in declared})))
    fitting = [each for each in own if kind in (None, each.kind) and name in (None, each.name)]
    if not fitting:
        what = f"{SINGULAR[kind] if kind else 'component'}{f' {name!r}' if name else ''}"
        offered = ", ".join(f"{each.kind} {each.name}" for each in own)
        raise UnknownComponent(f"{wanted} offers no {what}; it offers {offered}")
    return fitting


def check(component: Component, values: Mapping[str, object] | None = None) -> list[PromiseResult]:
    """Every promise of the component's kind, tried with the parameters `values`, in the order of the suite.

    Without values it is tried with those that its class states as `segkit_example`, if any.

    A component that cannot be made is one finding. Raises SegkitError if pytest or hypothesis are not installed.
    """
    require_libraries()
    values = values or getattr(_class_of(component), "segkit_example", {})
    source = (
        f"from segkit.testing import {SUITES[component.kind]}\n\n\n"
        f"class TestIt({SUITES[component.kind]}):\n"
        f"    name = {f'{component.distribution}:{component.name}'!r}\n"
        f"    parameters = ({dict(values or {})!r},)\n"
    )
    records, problem = run(source)
    broken = {record["reason"] for record in records if record["outcome"] == "failed" and record["when"] == "setup"}
    if records and len(broken) == 1 and all(record.get("when") == "setup" for record in _ended(records)):
        return [PromiseResult("component", MADE, FAILS, broken.pop())]
    findings = summed_up(records)
    return [*findings, PromiseResult("process", "It survives the tests.", FAILS, problem)] if problem else findings


def _class_of(component: Component) -> type | None:
    """The class; None where it cannot be loaded, which the suite will say."""
    try:
        return component.load()
    except SegkitError:
        return None


def require_libraries() -> None:
    """Raise SegkitError unless what the suites need is installed."""
    missing = [library for library in ("pytest", "hypothesis") if find_spec(library) is None]
    if missing:
        rule = f"need {' and '.join(missing)}, which this environment lacks"
        raise SegkitError(sentence("the suites for components", rule, next_step="pip install 'segkit-em[test]'"))


def run(source: str) -> tuple[list[dict], str | None]:
    """Run the tests in `source`; the records of :mod:`segkit.testing.recorder`, and how the process went wrong."""
    with TemporaryDirectory(prefix="segkit-check-") as folder:
        records, tests = Path(folder, "records"), Path(folder, "test_it.py")
        tests.write_text(source, encoding="utf-8")
        Path(folder, "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        command = [sys.executable, "-P", "-m", "pytest", "-q", "--tb=line", "-p", "segkit.testing.recorder"]
        command += ["-p", "no:cacheprovider", "--findings", str(records), str(tests)]
        done = subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True)
        lines = records.read_text(encoding="utf-8").splitlines() if records.exists() else []
    found = [json.loads(line) for line in lines]
    return found, _problem(found, done)


def summed_up(records: Sequence[Mapping]) -> list[PromiseResult]:
    """One finding a test: it fails if any of its cases does, and is skipped if all are."""
    findings: dict[str, list[Mapping]] = {}
    for record in _ended(records):
        findings.setdefault(record["test"], []).append(record)
    return [_finding(test, cases) for test, cases in findings.items()]


def _finding(test: str, cases: Sequence[Mapping]) -> PromiseResult:
    failed = [case for case in cases if case["outcome"] == "failed"]
    skipped = [case for case in cases if case["outcome"] == "skipped"]
    if failed:
        return PromiseResult(test, cases[0]["promise"], FAILS, failed[0]["reason"])
    if len(skipped) == len(cases):
        return PromiseResult(test, cases[0]["promise"], SKIPPED, skipped[0]["reason"])
    return PromiseResult(test, cases[0]["promise"], HOLDS)


def _ended(records: Sequence[Mapping]) -> list[Mapping]:
    return [record for record in records if record["outcome"] != "started"]


def _problem(records: Sequence[Mapping], done: subprocess.CompletedProcess) -> str | None:
    """What is wrong if the process ended otherwise than with the tests: 0 = all passed, 1 = some failed."""
    if records and done.returncode in (0, 1):
        return None
    how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    during = f" in {records[-1]['test']}" if records else ""
    lines = [line for line in (done.stderr + "\n" + done.stdout).splitlines() if line.strip()]
    said = next((line for line in lines if "Error" in line), lines[-1] if lines else "nothing was said")
    return f"the process ended with {how}{during}: {said.strip()}"


def _environment() -> dict[str, str]:
    """That of this process, with its import path; pytest plugins of the environment stay out."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return kept | {"PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def _no_components(distribution: str, offering: Sequence[str]) -> str:
    try:
        return (
            f"{distribution} {version(distribution)} is installed and offers no component: "
            f"it declares no entry point in {', '.join(GROUPS.values())}"
        )
    except PackageNotFoundError:
        installed = {each.metadata["Name"] for each in distributions()} - {None}
        guess = nearest(distribution, offering) or nearest(distribution, installed)
        hint = f"did you mean {guess!r}? " if guess else ""
        return f"no distribution {distribution!r} is installed; {hint}components come from {', '.join(offering)}"
