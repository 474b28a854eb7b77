"""The registry against real distributions: folders on sys.path with a module and a dist-info."""

import os
import re
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent

import pytest

import segkit
from segkit import registry
from segkit.errors import AmbiguousComponent, BrokenComponent, InvalidParameter, UnknownComponent
from segkit.registry.component import OWN

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
    monkeypatch.setattr(sys, "path", list(sys.path))

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
    monkeypatch.setattr(registry, "known_elsewhere", lambda: {("metrics", "ted"): "segkit-ted"})
    with pytest.raises(UnknownComponent, match="pip install plugins/segkit-ted"):
        registry.find("metrics", "ted")


def test_what_is_known_elsewhere_is_what_the_plugins_of_the_repository_offer():
    """elsewhere.toml says it for those who have segkit alone."""
    offered = {}
    for path in sorted((Path(__file__).parents[2] / "plugins").glob("*/pyproject.toml")):
        project = tomllib.loads(path.read_text())["project"]
        for group, points in project["entry-points"].items():
            kind = group.removeprefix("segkit.")
            names = [file.stem for file in path.parent.glob("src/*/recipes/*.toml")] if kind == "recipes" else points
            offered |= {(kind, name): project["name"] for name in names}
    assert registry.known_elsewhere() == offered


def test_folders_of_recipes(install, tmp_path):
    """Those of segkit come first; a package without the folder, or that is not there, is no harm."""
    declared = "[segkit.recipes]\nlab = lab\ngone = no_such_package.inside\n"
    install("lab", "", declaration=declared)
    assert [name for name, _ in registry.recipe_folders() if name == "lab"] == []
    package = tmp_path / "lab" / "lab"
    (package / "recipes").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "lab" / "lab.py").unlink()
    found = registry.recipe_folders()
    assert found[0][0] == OWN and ("lab", package / "recipes") in found
    assert not [each for each in registry.declarations()[1] if each.group == "segkit.recipes"]


@pytest.mark.parametrize(
    "content",
    [
        b"[segkit.agglomerators\nthing",
        b"thing = lab:Thing\n",
        b"[segkit.agglomerators]\nthing\n",
        b"[segkit.agglomerators]\nthing = lab:Thing\nthing = lab:Other\n",
        b"\xff\x00\x01",
    ],
)
def test_a_damaged_declaration_is_named_and_hides_no_other(install, tmp_path, content):
    """The good one lies in the same folder, behind the damaged one."""
    install("damaged-lab", "thing")
    (tmp_path / "damaged-lab" / "damaged_lab-1.2.dist-info" / "entry_points.txt").write_bytes(content)
    good = tmp_path / "damaged-lab" / "good_lab-3.0.dist-info"
    good.mkdir()
    (good / "entry_points.txt").write_text("[segkit.agglomerators]\nother = good_lab:Thing [fast]\n")
    found, wrong = registry.declarations()
    others = [component for component in found if component.distribution == "good-lab"]
    assert [(c.name, c.version, c.target) for c in others] == [("other", "3.0", "good_lab:Thing")]
    assert [(each.distribution, each.version, each.group) for each in wrong] == [("damaged-lab", "1.2", "")]
    assert "its entry_points.txt is damaged (" in wrong[0].problem and "reinstall it" in wrong[0].problem
    assert "python" in {component.name for component in registry.components("agglomerators")}
    with pytest.raises(UnknownComponent, match=r"the declarations of damaged-lab 1\.2 cannot be read"):
        registry.find("agglomerators", "thing")


def test_a_group_that_does_not_exist(install):
    install("typo-lab", "thing", kind="agglomerator")
    (wrong,) = registry.declarations()[1]
    assert (wrong.group, wrong.name, wrong.distribution) == ("segkit.agglomerator", "thing", "typo-lab")
    assert "did you mean 'segkit.agglomerators'?" in wrong.problem


def test_a_percent_sign_is_no_damage(install):
    install("odd-lab", "thing", declaration="[segkit.metrics]\nodd = odd_lab:Thing\nx = 50%\n")
    assert "odd" in {component.name for component in registry.components("metrics")}
    assert registry.declarations()[1] == []


def test_the_first_on_the_path_hides_another_of_the_same_distribution(install, tmp_path):
    install("lab", "old")
    copy = tmp_path / "copy" / "Lab-2.0.dist-info"
    copy.mkdir(parents=True)
    (copy / "entry_points.txt").write_text("[segkit.agglomerators]\nnew = lab:Thing\n")
    sys.path.insert(0, str(copy.parent))  # put back by the fixture
    names = {component.name for component in registry.components("agglomerators")}
    assert "new" in names and "old" not in names


def test_a_built_in_name_cannot_be_taken_away(install):
    install("greedy-lab", "reference")
    assert registry.find("agglomerators", "reference").distribution == "segkit-em"
    assert segkit.load("agglomerators", "greedy-lab:reference").size == 3


@pytest.mark.parametrize("statement", ["sys.exit(3)", "raise BaseException('3')", "raise GeneratorExit('3')"])
def test_what_would_end_the_program_does_not(install, statement):
    install("lab", "thing", f"import sys\n{statement}")
    with pytest.raises(BrokenComponent, match=r"\((SystemExit|BaseException|GeneratorExit): 3\)"):
        segkit.load("agglomerators", "thing")


def test_an_interrupt_is_the_user_s(install):
    install("lab", "thing", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        segkit.load("agglomerators", "thing")


def test_what_an_import_prints_goes_to_stderr(install, capfd):
    install("loud-lab", "thing", "import os\nprint('python')\nos.write(1, b'below python')\n" + dedent(GOOD))
    segkit.load("agglomerators", "thing")
    print("afterwards")
    written = capfd.readouterr()
    assert written.out == "afterwards\n"
    assert "python\n" in written.err and "below python" in written.err


@pytest.mark.parametrize("target", ["lab.Thing", "lab:", ":Thing", "my lab:Thing", "lab:Thing()"])
def test_a_target_that_is_no_class(install, target):
    install("lab", "thing", declaration=f"[segkit.agglomerators]\nthing = {target}\n")
    with pytest.raises(BrokenComponent, match="does not look like 'module:Class'"):
        registry.find("agglomerators", "thing").load()


@pytest.mark.parametrize(
    ("text", "kind"), [("losses", "losses"), ("loss", "losses"), ("Model", "models"), ("metrics", "metrics")]
)
def test_kinds_by_name(text, kind):
    assert registry.kind_named(text) == kind


def test_an_unknown_kind():
    with pytest.raises(UnknownComponent, match=r"kind must be one of models, .*, not 'modle'; did you mean 'model'\?"):
        registry.kind_named("modle")


def test_every_kind_of_component_is_declared():
    for kind in registry.GROUPS:
        declared = registry.components(kind)
        assert declared and {"segkit-em"} <= {component.distribution for component in declared}
        assert all(re.fullmatch(r"[\w.]+:\w+", component.target) for component in declared)


def test_loading_in_many_threads_keeps_stdout(install, capfd):
    for number in range(8):
        install(
            f"loud-{number}", "thing", f"import time\nprint('loud')\ntime.sleep({number % 3} / 100)\n" + dedent(GOOD)
        )
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: segkit.load("agglomerators", f"loud-{number}:thing"), range(8)))
    print("afterwards", flush=True)
    os.write(1, b"below")
    written = capfd.readouterr()
    assert written.out == "afterwards\nbelow" and written.err.count("loud") == 8
