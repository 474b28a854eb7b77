"""The registry against real distributions: folders on sys.path with a module and a dist-info."""

import re
import sys
from textwrap import dedent

import pytest

import segkit
from segkit import registry
from segkit.errors import AmbiguousComponent, BrokenComponent, InvalidParameter, UnknownComponent

GOOD = """
    class Thing:
        "A thing."
        def __init__(self, *, size: int = 3) -> None:
            self.size = size
        def agglomerate(self, affinities, fragments):
            return None
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a distribution on sys.path that declares `name` in a group, and the source of its module."""
    imported = set(sys.modules)

    def make(distribution, name, source=GOOD, *, kind="agglomerators", target="Thing", version="1.2", declaration=None):
        folder = tmp_path / distribution
        module = distribution.replace("-", "_").lower()
        info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (folder / f"{module}.py").write_text(dedent(source))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        declared = declaration or f"[segkit.{kind}]\n{name} = {module}:{target}\n"
        (info / "entry_points.txt").write_text(declared)
        monkeypatch.syspath_prepend(str(folder))
        return module

    yield make
    for name in set(sys.modules) - imported:
        del sys.modules[name]


def test_a_third_party_has_the_same_rights(install):
    install("other-lab", "thing")
    component = registry.find("agglomerators", "thing")
    assert (component.distribution, component.version, component.title) == ("other-lab", "1.2", "agglomerator 'thing'")
    assert segkit.load("agglomerators", "thing", size="5").size == 5
    assert component.parameters()["size"].default == 3 and component.problem() is None
    with pytest.raises(InvalidParameter, match="agglomerator 'thing' has no parameter 'sise'; did you mean 'size'"):
        segkit.load("agglomerators", "thing", sise=5)


def test_listing_imports_nothing(install):
    module = install("other-lab", "thing")
    names = [component.name for component in registry.components("agglomerators")]
    assert "thing" in names and "python" in names and names == sorted(names)
    assert module not in sys.modules


def test_a_name_taken_twice(install):
    install("Lab_A", "thing")
    install("lab-b", "thing", GOOD.replace("= 3", "= 4"), version="7.0")
    with pytest.raises(AmbiguousComponent) as caught:
        registry.find("agglomerators", "thing")
    for part in ("lab-a 1.2", "lab-b 7.0", "'lab-a:thing'", "'lab-b:thing'"):
        assert part in str(caught.value)
    assert segkit.load("agglomerators", "lab-b:thing").size == 4
    assert segkit.load("agglomerators", "Lab.A:thing").size == 3


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("import no_such_module_at_all", "Thing", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("raise RuntimeError('no GPU')", "Thing", "RuntimeError: no GPU"),
        ("this is no Python", "Thing", "SyntaxError"),
        (GOOD, "Thong", "AttributeError"),
        ("def Thing(): ...", "Thing", "is no class"),
        ("class Thing: ...", "Thing", "has no method 'agglomerate'"),
        (GOOD.replace("*, size: int = 3", "**size: int"), "Thing", "explicit keyword parameters"),
    ],
)
def test_a_broken_one_is_a_row_and_no_crash(install, source, target, reason):
    install("broken-lab", "thing", source, target=target)
    component = registry.find("agglomerators", "thing")
    problem = component.problem()
    assert reason in problem
    with pytest.raises(BrokenComponent, match=re.escape(reason)):
        segkit.load("agglomerators", "thing")
    assert segkit.load("agglomerators", "reference") is not None


def test_how_to_mend_a_broken_one(install):
    install("broken-lab", "thing", "import no_such_module_at_all")
    problem = registry.find("agglomerators", "thing").problem()
    assert "of broken-lab 1.2 cannot be used" in problem and "pip uninstall broken-lab" in problem


@pytest.mark.parametrize(("stated", "works"), [("1", True), ("0", False), ("2", False)])
def test_versions_of_the_plug_points(install, stated, works):
    install("old-lab", "thing", GOOD.replace('"A thing."', f"segkit_api = {stated!r}"))
    problem = registry.find("agglomerators", "thing").problem()
    assert problem is None if works else f"version {stated} of segkit's plug points; this segkit has 1" in problem


def test_unknown_names(monkeypatch):
    with pytest.raises(
        UnknownComponent, match=r"an agglomerator 'refrence'; did you mean 'reference'\? known are .*python"
    ):
        registry.find("agglomerators", "refrence")
    with pytest.raises(UnknownComponent, match=r"kind must be one of models, .*, not 'agglomerator'"):
        registry.components("agglomerator")
    with pytest.raises(UnknownComponent, match="a fragmenter 'nobody:watershed'"):
        registry.find("fragmenters", "nobody:watershed")


def test_a_name_known_elsewhere_says_what_to_install(monkeypatch):
    monkeypatch.setitem(registry.KNOWN_ELSEWHERE, ("metrics", "ted"), "segkit-ted")
    with pytest.raises(UnknownComponent, match="pip install plugins/segkit-ted"):
        registry.find("metrics", "ted")
    assert registry.KNOWN_ELSEWHERE["agglomerators", "waterz"] == "segkit-waterz"


def test_a_damaged_declaration_is_named(install):
    install("damaged-lab", "thing", declaration="[segkit.agglomerators\nthing")
    with pytest.raises(BrokenComponent, match=r"damaged entry_points\.txt .*damaged-lab"):
        registry.components("agglomerators")


def test_every_kind_of_component_is_declared():
    for kind in registry.GROUPS:
        declared = registry.components(kind)
        assert declared and {"segkit"} <= {component.distribution for component in declared}
        assert all(re.fullmatch(r"[\w.]+:\w+", component.target) for component in declared)
