"""The page on architecture: it names what there is, and its layers are those that are enforced."""

import ast
import importlib.util
import re
from pathlib import Path

import segkit

TEXT = (Path(__file__).parents[1] / "docs" / "explanation" / "architecture.md").read_text()
ROOT = Path(segkit.__file__).parent


def section(title: str) -> str:
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)[1]


def enforced():
    """The module that enforces the layers."""
    spec = importlib.util.spec_from_file_location("enforced_layers", Path(__file__).with_name("test_imports.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_layers_are_those_that_are_enforced():
    lines = re.findall(r"^\d+\. ((?:`\w+` ?)+):", section("Layers"), re.M)
    assert [set(re.findall(r"`(\w+)`", line)) for line in lines] == enforced().LAYERS


def test_the_exceptions_are_those_that_are_made():
    for package, imported in enforced().EXCEPTIONS:
        assert f"`{package}` imports `{imported}`" in section("Layers").replace("\n", " ")


def test_every_package_and_module_has_a_row():
    there = {path.stem for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/__init__.py")}
    rows = re.findall(r"^\| `(\w+)` \|", section("Packages and modules"), re.M)
    assert sorted(rows) == sorted(there - {"__init__"})


def test_every_verb_is_followed():
    from segkit.cli.main import VERBS

    followed = set(re.findall(r"^## Follow `segkit (\w+)`", TEXT, re.M))
    followed |= set(re.findall(r"^\| `(\w+)` \|", section("The other verbs"), re.M))
    assert followed == set(VERBS)


def test_the_modules_that_it_names_exist():
    files = {str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py")} | {"tests/test_imports.py"}
    names = set(re.findall(r"`([\w/]+\.py)`", TEXT)) - {"segkit/cli/V.py", "cli/V.py", "_kernels_NAME.py"}
    assert len(names) > 50
    assert not {name for name in names if not any(f"/{file}".endswith(f"/{name}") for file in files)}


LONGEST, LONGEST_KERNEL = 60, 80
"""Lines of a function, its docstring included."""
REPOSITORY = Path(__file__).parents[1]


def lines_of_functions(text: str) -> list[tuple[str, int]]:
    """The name of each function, nested ones too, and its lines from `def` on."""
    functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return [(node.name, node.end_lineno - node.lineno + 1) for node in functions]


def test_functions_are_short():
    files = [*ROOT.rglob("*.py"), *REPOSITORY.glob("plugins/*/src/**/*.py")]
    assert len(files) > 200
    for path in sorted(files):
        kernel = path.name.startswith("_kernels") or path.parent == ROOT / "kernels"
        limit = LONGEST_KERNEL if kernel else LONGEST
        long = [name for name, lines in lines_of_functions(path.read_text()) if lines > limit]
        assert not long, f"{path.relative_to(REPOSITORY)}: {', '.join(long)} of more than {limit} lines"


def test_lines_are_counted():
    assert lines_of_functions("@decorated\ndef outer():\n    def inner():\n        pass\n    return 1\n") == [
        ("outer", 4),
        ("inner", 2),
    ]
