"""The files of new plugins, and the command that writes them."""

import ast
import json
import shlex
import tomllib
from itertools import chain

import pytest
import yaml

from segkit.errors import InvalidInput, InvalidParameter, MissingFile, StorageError
from segkit.protocols import GROUPS
from segkit.registry import SINGULAR
from segkit.registry.component import OWN
from segkit.scaffold import KINDS, Plugin, create, files, next_commands
from segkit.scaffold import write as module

AUTHOR = 'Ada "the \\ Lab" Müller & Söhne'


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["a", "Mean-Affinity_2", "labels", "x" * 40])
def test_every_file_can_be_read(kind, name):
    plugin = Plugin(name, kind, author=AUTHOR, year=2031)
    written = files(plugin)
    project = tomllib.loads(written["pyproject.toml"])["project"]
    module, _, attribute = project["entry-points"][GROUPS[KINDS[kind]]][name].partition(":")
    assert module == f"{plugin.package}.{kind}" and project["authors"] == [{"name": AUTHOR}]
    tree = ast.parse(written[f"src/{module.replace('.', '/')}.py"])
    assert attribute in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert yaml.safe_load(written[".github/workflows/test.yml"])["jobs"]["test"]["steps"]
    assert f"Copyright (c) 2031 {AUTHOR}" in written["LICENSE"]
    for path, text in written.items():
        assert "@" not in path and not module_word(text), path
        assert (text.endswith("\n") and max(map(len, text.splitlines())) <= 120) or not path.endswith(".py"), path


def module_word(text: str) -> list[str]:
    """Words that were not filled in."""
    return module.WORD.findall(text)


def test_requirements_are_what_is_imported():
    for kind in KINDS:
        plugin = Plugin("mine", kind)
        written = files(plugin)
        requirements = tomllib.loads(written["pyproject.toml"])["project"]["dependencies"]
        tree = ast.walk(ast.parse(written[f"src/mine/{kind}.py"]))
        nodes = [node for node in tree if isinstance(node, ast.Import | ast.ImportFrom)]
        names = chain.from_iterable(
            [node.module] if hasattr(node, "module") else [a.name for a in node.names] for node in nodes
        )
        imported = {name.partition(".")[0] for name in names} & {"numpy", "scipy", "torch", "segkit"}
        required = {requirement.partition(">")[0] for requirement in requirements}
        assert {OWN if each == "segkit" else each for each in imported} <= required


def test_kinds_are_those_of_the_registry():
    assert {plural: singular for singular, plural in KINDS.items()} == SINGULAR
    with pytest.raises(InvalidParameter, match="not 'los'; did you mean 'loss'"):
        Plugin("mine", "los")


@pytest.mark.parametrize("author", ["two\nlines", "bell\a"])
def test_authors_have_one_line(author):
    with pytest.raises(InvalidParameter, match="author must be printable"):
        Plugin("mine", "loss", author=author)


def test_an_existing_folder_is_left_alone(tmp_path):
    plugin, folder = Plugin("mine", "loss"), tmp_path / "mine"
    folder.mkdir()
    with pytest.raises(InvalidInput, match="must not exist yet"):
        create(plugin, folder)
    assert list(tmp_path.rglob("*")) == [folder]
    with pytest.raises(MissingFile, match="must exist"):
        create(plugin, tmp_path / "nowhere" / "mine")


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    texts = files(Plugin("mine", "loss"))
    monkeypatch.setattr(module, "files", lambda plugin: texts | {"README.md/below-a-file": "x"})
    with pytest.raises(StorageError):
        create(Plugin("mine", "loss"), tmp_path / "mine")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("folder", "expected"),
    [("mine", "./mine[test]"), ("a b/mine", "./a b/mine[test]"), ("/x/mine", "/x/mine[test]"), ("../m", "../m[test]")],
)
def test_commands_are_for_a_shell(folder, expected):
    install, test, use = map(shlex.split, next_commands(Plugin("mine", "metric"), folder))
    assert install == ["pip", "install", "-e", expected]
    assert test == ["python", "-m", "pytest", expected.removesuffix("[test]")]
    assert use[-1] == "mine"


def test_the_command(segkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = segkit("plugins", "new", "my-cut", "--kind", "agglomerator")
    assert done.exit_code == 0 and "    pip install -e './my-cut[test]'\n" in done.stdout
    assert "the authors of my-cut" in (tmp_path / "my-cut" / "LICENSE").read_text()
    done = segkit("plugins", "new", "my-cut", "--kind", "metric", "--out", "other", "--json", "--author", "Ada")
    result = json.loads(done.stdout)
    assert result["next"][2] == "segkit evaluate SEGMENTATION TRUTH --metric my-cut"
    found = {str(path.relative_to(tmp_path / "other")) for path in (tmp_path / "other").rglob("*") if path.is_file()}
    assert found == set(result["files"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("my-cut", "--kind", "backend"), "'backend' is not one of"),
        (("my-cut",), "--kind"),
        (("python", "--kind", "agglomerator"), "that segkit-em 0.1.0 offers"),
        (("my-cut", "--kind", "loss", "--out", "."), "must not exist yet"),
    ],
)
def test_wrong_calls_write_nothing(segkit, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    done = segkit("plugins", "new", *words)
    assert done.exit_code == 2 and message in done.stderr
    assert list(tmp_path.iterdir()) == []
