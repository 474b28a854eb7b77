"""Checking installed distributions: folders on sys.path with a module and a dist-info."""

import json

import pytest

from segkit.errors import InvalidInput, SegkitError, UnknownComponent
from segkit.testing import check as module
from segkit.testing.check import check, components_of

MODULE = """
import os

from segkit.evaluate.voi import VOI


class Loud(VOI):
    def score(self, segmentation, truth):
        print("scoring")
        return super().score(segmentation, truth)


class Good(VOI):
    pass


class Needy(VOI):
    segkit_example = {"ready": True}

    def __init__(self, *, ready: bool = False) -> None:
        super().__init__()
        self.ready = ready

    def score(self, segmentation, truth):
        if not self.ready:
            raise ValueError("not ready")
        return super().score(segmentation, truth)


class Fatal(VOI):
    def score(self, segmentation, truth):
        os._exit(7)


class Wrong(VOI):
    segkit_api = "0"
"""
NAMES = ("Loud", "Good", "Needy", "Fatal", "Wrong")


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A distribution of metrics, one of them good."""
    info = tmp_path / "some_lab-1.2.dist-info"
    info.mkdir()
    (tmp_path / "some_lab.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-lab\nVersion: 1.2\n")
    points = "\n".join(f"{name.lower()} = some_lab:{name}" for name in NAMES)
    (info / "entry_points.txt").write_text(f"[segkit.metrics]\n{points}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "some-lab"


def found(distribution, name):
    (component,) = components_of(distribution, name=name)
    return {finding.test: finding for finding in check(component)}


def test_what_a_distribution_offers(lab):
    assert [each.name for each in components_of("Some_Lab")] == ["fatal", "good", "loud", "needy", "wrong"]
    assert [each.name for each in components_of("some.lab", "metrics", "good")] == ["good"]
    assert {each.kind for each in components_of("segkit-em", "losses")} == {"losses"}


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("some-lap",), UnknownComponent, "no distribution 'some-lap' is installed; did you mean 'some-lab'?"),
        (("some-lab", "losses"), UnknownComponent, "some-lab offers no loss; it offers metrics fatal, metrics good"),
        (("some-lab", None, "god"), UnknownComponent, "some-lab offers no component 'god'; it offers"),
        (("numpy",), UnknownComponent, "is installed and offers no component"),
        (("some-lab", "metric"), InvalidInput, "kind must be one of models, .*, not 'metric'"),
    ],
)
def test_what_it_does_not_offer(lab, words, error, message):
    with pytest.raises(error, match=message) as caught:
        components_of(*words)
    assert caught.value.exit_code == 2


def test_a_broken_promise_and_those_that_hold(lab):
    findings = found(lab, "loud")
    broken = [finding for finding in findings.values() if finding.result == "FAILS"]
    assert [(finding.promise, finding.reason) for finding in broken] == [
        ("It prints nothing.", "it printed 'scoring\\n'")
    ]
    assert len(findings) > 20 and findings["test_known_values"].result == "holds"


def test_a_component_that_cannot_be_made_is_one_finding(lab):
    (finding,) = found(lab, "wrong").values()
    assert finding.result == "FAILS" and "version 0 of segkit's plug points" in finding.reason


def test_a_component_that_ends_the_process(lab):
    finding = found(lab, "fatal")["process"]
    assert finding.result == "FAILS" and "exit code 7 in test_prints_nothing" in finding.reason


def test_the_command(lab, segkit):
    done = segkit("plugins", "check", lab, "good", "--json", "--set", "border=0.0")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert {(row["kind"], row["name"]) for row in rows} == {("metrics", "good")}
    assert {"It prints nothing.", "Hand-worked examples come out right."} <= {row["promise"] for row in rows}
    assert {row["result"] for row in rows} <= {"holds", "skipped"}
    done = segkit("plugins", "check", lab, "wrong")
    assert done.exit_code == 1 and "FAILS" in done.stdout and "1 of 1 promises broken" in done.stderr
    assert segkit("plugins", "check", "nobody").exit_code == 2


def test_parameters_that_are_refused(lab):
    (component,) = components_of(lab, name="good")
    (finding,) = check(component, {"bodrer": 1})
    assert finding.result == "FAILS" and "did you mean 'border'" in finding.reason


def test_without_pytest(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "pytest" else object())
    with pytest.raises(SegkitError, match=r"need pytest, .*; pip install 'segkit-em\[test\]'"):
        module.require_libraries()


@pytest.mark.slow
def test_a_component_says_itself_what_it_does_not_claim(tmp_path, monkeypatch):
    info = tmp_path / "other_lab-1.0.dist-info"
    info.mkdir()
    source = "from segkit.evaluate.voi import VOI\n\n\n"
    nothing = {"symmetric": (), "exchanged": ()}
    for name, claims in (("Plain", {}), ("Stated", nothing), ("Misspelt", {"symetric": ()})):
        source += f"class {name}(VOI):\n    segkit_claims = {claims}\n\n\n"
    (tmp_path / "other_lab.py").write_text(source)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-lab\nVersion: 1.0\n")
    points = "\n".join(f"{name.lower()} = other_lab:{name}" for name in ("Plain", "Stated", "Misspelt"))
    (info / "entry_points.txt").write_text(f"[segkit.metrics]\n{points}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = {each.name: {f.test: f.result for f in check(each)} for each in components_of("other-lab")}
    assert found["plain"]["test_exchanged"] == "holds"
    differing = {test: result for test, result in found["stated"].items() if result != found["plain"][test]}
    assert differing == {"test_exchanged": "skipped"}
    assert set(found["misspelt"].values()) == {"FAILS"}


def test_a_component_is_tried_with_the_example_that_it_states(lab):
    (component,) = components_of(lab, name="needy")
    assert not [each for each in check(component) if each.result == "FAILS"]
    assert [each for each in check(component, {"ready": False}) if each.result == "FAILS"]
