"""Parameters of a component as its source states them: nothing is imported, so that pressing TAB costs milliseconds."""

import ast
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path

from segkit.registry.component import Component


def stated_parameters(component: Component) -> dict[str, tuple[str, ...]]:
    """Read the parameters of the constructor from the source, in order, each with the values of its Literal, if any.

    Empty where the source is not found or does not say: this is for hints, not for checks.
    """
    module, _, name = component.target.partition(":")
    return _of_class(module.strip(), name.strip(), seen=())


def _of_class(module: str, name: str, seen: Sequence[str]) -> dict[str, tuple[str, ...]]:
    tree = _parsed(module)
    if tree is None or f"{module}:{name}" in seen:
        return {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _of_class(_absolute(node, module), alias.name, (*seen, f"{module}:{name}"))
        if isinstance(node, ast.ClassDef) and node.name == name:
            if constructor := next((each for each in node.body if _is_constructor(each)), None):
                arguments = [*constructor.args.args[1:], *constructor.args.kwonlyargs]
                return {each.arg: _choices(each.annotation, tree, module) for each in arguments}
            bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
            found = (_of_class(module, base, (*seen, f"{module}:{name}")) for base in bases)
            return next(filter(None, found), {})
    return {}


def _is_constructor(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "__init__"


def _choices(annotation: ast.expr | None, tree: ast.Module, module: str) -> tuple[str, ...]:
    """The values that an annotation in a module names: of Literal and bool, also beside other types."""
    if isinstance(annotation, ast.Name):
        return ("true", "false") if annotation.id == "bool" else _alias(annotation.id, tree, module)
    if isinstance(annotation, ast.BinOp):
        return _choices(annotation.left, tree, module) + _choices(annotation.right, tree, module)
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).endswith("Literal"):
        inside = annotation.slice
        values = inside.elts if isinstance(inside, ast.Tuple) else [inside]
        return tuple(str(value.value) for value in values if isinstance(value, ast.Constant))
    return ()


def _alias(name: str, tree: ast.Module, module: str) -> tuple[str, ...]:
    """The values of ``name = Literal[...]``, in a module or where it imports the name from."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and name in map(ast.unparse, node.targets) and not _is(node.value, name):
            return _choices(node.value, tree, module)
        if isinstance(node, ast.ImportFrom) and name in (alias.name for alias in node.names if not alias.asname):
            home = _absolute(node, module)
            there = _parsed(home) if home != module else None
            return _alias(name, there, home) if there is not None else ()
    return ()


def _is(value: ast.expr, name: str) -> bool:
    return isinstance(value, ast.Name) and value.id == name


def _absolute(node: ast.ImportFrom, module: str) -> str:
    if not node.level:
        return node.module or ""
    return ".".join([*module.split(".")[: -node.level], *filter(None, [node.module])])


def _parsed(module: str) -> ast.Module | None:
    """The source of a module, found without importing the packages that it lies in."""
    path, spec = None, None
    parts = module.split(".")
    for number in range(len(parts)):
        spec = PathFinder.find_spec(".".join(parts[: number + 1]), path)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    try:
        return ast.parse(Path(spec.origin).read_text()) if spec and spec.origin else None
    except (OSError, SyntaxError, ValueError):
        return None
