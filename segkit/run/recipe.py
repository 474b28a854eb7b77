"""A recipe is a TOML file: a `[data]` table, and a table of options for every stage, in order.

A stage is a verb of the command line; its table is named after the verb, or says ``verb = "agglomerate"`` under a name
of its own. Keys are the names of arguments and options; a list repeats an option; the table `set` becomes
``--set NAME=VALUE``. In any text, ``{data.train}`` is a value of the recipe and ``{out}`` the folder of the run.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from segkit.errors import InvalidInput, InvalidParameter, MissingFile, sentence
from segkit.parameters import nearest, overlay

REFERENCE = re.compile(r"\{([\w.-]+)\}")
HEAD = ("title", "description", "data")


@dataclass(frozen=True)
class Stage:
    """One step: a verb with its options."""

    name: str
    verb: str
    options: Mapping[str, object]


@dataclass(frozen=True)
class Recipe:
    """A recipe whose references are all resolved."""

    name: str
    title: str
    stages: tuple[Stage, ...]


def shipped_recipes() -> dict[str, Path]:
    """The recipes inside the package, by name."""
    folder = Path(str(resources.files("segkit.run") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path ending in .toml, or the name of a shipped one."""
    shipped = shipped_recipes()
    if name in shipped:
        return shipped[name]
    path = Path(name)
    if path.suffix == ".toml" and path.is_file():
        return path
    guess = nearest(name, shipped)
    next_step = (f"did you mean {guess!r}? " if guess else "") + f"shipped recipes are {', '.join(shipped)}"
    raise MissingFile(sentence("recipe", "must be an existing .toml file or a shipped recipe", repr(name), next_step))


def load_recipe(name: str, out: Path, changes: Mapping[str, object] | None = None) -> Recipe:
    """Read a recipe, lay `changes` (nested tables) over it, and resolve its references.

    Raises InvalidParameter if a change names no table of the recipe or data that must be given is missing.
    """
    path = find_recipe(name)
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"recipe {path} is not valid TOML: {error}") from error
    for table in changes or {}:
        if table not in content:
            known = ", ".join(key for key in content if key not in ("title", "description"))
            raise InvalidParameter(sentence(f"--set {table}", f"must name a table of recipe {name!r}: {known}"))
    _check_data(name, content.get("data", {}), (changes or {}).get("data", {}))
    content = overlay(content, changes or {})
    values = content | {"out": str(out)}
    stages = []
    for key, table in content.items():
        if key in HEAD:
            continue
        if not isinstance(table, Mapping):
            raise InvalidInput(sentence(f"{key!r} in recipe {path}", "must be a table of options", repr(table)))
        options = _resolve(dict(table), values, path)
        verb = options.pop("verb", key)
        stages.append(Stage(key, str(verb), options))
    if not stages:
        raise InvalidInput(
            sentence(f"recipe {path}", "must have at least one stage", next_step="add a table [infer], say")
        )
    return Recipe(path.stem, str(content.get("title", path.stem)), tuple(stages))


def _check_data(name: str, known: object, changed: object) -> None:
    if not isinstance(known, Mapping) or not isinstance(changed, Mapping):
        raise InvalidParameter(sentence(f"data of recipe {name!r}", "must be a table", next_step="set data.NAME"))
    for key in changed:
        if key not in known:
            raise InvalidParameter(sentence(f"--set data.{key}", f"must be one of {', '.join(known)}"))


def as_assignment(name: str, value: object) -> str:
    """The text after ``--set`` that gives `value` back.

    >>> as_assignment("model.pooling", [[1, 3, 3]]), as_assignment("padding", "same"), as_assignment("bias", True)
    ('model.pooling=[[1, 3, 3]]', 'padding=same', 'bias=true')
    """
    return f"{name}={value if isinstance(value, str) else json.dumps(value)}"


def flatten(table: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested tables as dotted names.

    >>> flatten({"model": {"features": 12}, "steps": 5})
    {'model.features': 12, 'steps': 5}
    """
    flat: dict[str, object] = {}
    for name, value in table.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _resolve(value, values: Mapping[str, object], path: Path, seen: tuple[str, ...] = ()):
    """`value` with all references replaced, those in what they refer to included; `seen` guards against circles."""
    if isinstance(value, Mapping):
        return {name: _resolve(item, values, path, seen) for name, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, values, path, seen) for item in value]
    if not isinstance(value, str):
        return value
    if match := REFERENCE.fullmatch(value):
        return _look_up(match[1], values, path, seen)
    return REFERENCE.sub(lambda match: str(_look_up(match[1], values, path, seen)), value)


def _look_up(name: str, values: Mapping[str, object], path: Path, seen: tuple[str, ...]):
    if name in seen:
        raise InvalidInput(sentence(f"recipe {path}", f"refers to {{{name}}} in a circle"))
    found: object = values
    for key in name.split("."):
        if not isinstance(found, Mapping) or key not in found:
            raise InvalidInput(sentence(f"recipe {path}", f"refers to {{{name}}}, which it does not define"))
        found = found[key]
    if found == "" and name.startswith("data."):
        hint = f"add --set {name}=sample_A.hdf"
        raise InvalidParameter(sentence(f"{name} of recipe {path.stem!r}", "must be given", next_step=hint))
    return _resolve(found, values, path, (*seen, name))
