"""A recipe is a TOML file: a `[data]` table, and a table of options for every stage, in order.

A stage is a verb of the command line; its table is named after the verb, or says ``verb = "agglomerate"`` under a name
of its own. Keys are the names of arguments and options; a list repeats an option; the table `set` becomes
``--set NAME=VALUE``. In any text, ``{data.train}`` is a value of the recipe, ``{out}`` the folder of the run, and
``{result.STAGE.KEY}`` what an earlier stage came to: ``threshold = "{result.tune.threshold}"``. The table `budget` is
for values that several stages share. With ``base = "NAME"`` a recipe changes what another one says, a shipped one or a
file beside it.
"""

import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segkit.errors import InvalidInput, InvalidParameter, MissingFile, sentence
from segkit.parameters import nearest, overlay
from segkit.registry import recipe_folders, what_to_install
from segkit.registry.component import OWN

REFERENCE = re.compile(r"\{([\w.-]+)\}")
LONGEST = 20_000
"""Characters of a value once its references are replaced: they may grow without bound."""
RESULT = re.compile(r"\{result\.([\w-]+)\.(\w+)\}")
HEAD = ("title", "description", "base", "data", "budget")
Results = Mapping[str, Mapping[str, Any]]
"""What the stages that are done came to, by their names."""
EXAMPLES = {"train": "sample_A.hdf", "val": "sample_B.hdf", "test": "sample_C.hdf"}
"""Value of `[data]` -> what a message gives as an example of it."""


@dataclass(frozen=True)
class RecipeStage:
    """One step: a verb with its options."""

    name: str
    verb: str
    options: Mapping[str, object]


@dataclass(frozen=True)
class Recipe:
    """A recipe whose references are all resolved."""

    name: str
    title: str
    stages: tuple[RecipeStage, ...]
    path: Path
    """Its file."""


def shipped_recipes() -> dict[str, Path]:
    """The recipes that installed distributions bring, by name; those in folders as FOLDER/NAME.

    A name is that of segkit's own recipe, if there is one; any other that two offer is called DISTRIBUTION:NAME.
    """
    found = [
        (path.relative_to(folder).with_suffix("").as_posix(), distribution, path)
        for distribution, folder in recipe_folders()
        for path in sorted(folder.rglob("*.toml"))
    ]
    holders = Counter(name for name, _, _ in found)
    return {
        name if holders[name] == 1 or distribution == OWN else f"{distribution}:{name}": path
        for name, distribution, path in found
    }


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path ending in .toml, or the name of a shipped one."""
    shipped = shipped_recipes()
    if name in shipped:
        return shipped[name]
    path = Path(name)
    if path.suffix == ".toml" and path.is_file():
        return path
    guess = nearest(name, shipped)
    known = (f"did you mean {guess!r}? " if guess else "") + f"shipped recipes are {', '.join(shipped)}"
    next_step = what_to_install("recipes", name) or known
    raise MissingFile(sentence("recipe", "must be an existing .toml file or a shipped recipe", repr(name), next_step))


def recipe_values(name: str) -> list[str]:
    """The names of all values of a recipe that may be changed, such as ``train.set.patch``."""
    content = _read(find_recipe(name))
    return [key for key in flatten(content) if key.partition(".")[0] not in ("title", "description", "base")]


def load_recipe(name: str, out: Path, changes: Mapping[str, object] | None = None) -> Recipe:
    """Read a recipe, lay `changes` (nested tables) over it, and resolve its references.

    Raises InvalidParameter if a change names no table of the recipe or data that must be given is missing.
    """
    path = find_recipe(name)
    content = _read(path)
    for table in changes or {}:
        if table not in content or table in ("title", "description", "base"):
            known = ", ".join(key for key in content if key not in ("title", "description", "base"))
            raise InvalidParameter(sentence(f"--set {table}", f"must name a table of recipe {name!r}: {known}"))
    for table in ("data", "budget"):
        _check_values(name, table, content.get(table, {}), (changes or {}).get(table, {}))
    content = overlay(content, changes or {})
    values = content | {"out": str(out)}
    stages = []
    for key, value in content.items():
        if key in HEAD:
            continue
        if not isinstance(value, Mapping):
            raise InvalidInput(sentence(f"{key!r} in recipe {path}", "must be a table of options", repr(value)))
        options = _resolve(dict(value), values, path)
        verb = options.pop("verb", key)
        stages.append(RecipeStage(key, str(verb), options))
    if not stages:
        raise InvalidInput(
            sentence(f"recipe {path}", "must have at least one stage", next_step="add a table [infer], say")
        )
    _check_results(stages, path)
    return Recipe(path.stem, str(content.get("title", path.stem)), tuple(stages), path)


def _read(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, object]:
    """What the file says, laid over what its base says."""
    if path.resolve() in seen:
        raise InvalidInput(sentence(f"recipe {path}", "is its own base"))
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"recipe {path} is not valid TOML: {error}") from error
    if "base" not in content:
        return content
    beside = path.parent / str(content["base"])
    base = beside if beside.is_file() else find_recipe(str(content["base"]))
    return overlay(_read(base, (*seen, path.resolve())), content)


def fill(value: Any, result: Callable[[str, str], object]) -> Any:
    """Replace ``{result.STAGE.KEY}`` in all texts of `value` by ``result(STAGE, KEY)``; a text of nothing else becomes
    the result itself.

    >>> fill(["{result.tune.threshold}", "at_{result.tune.threshold}.h5"], lambda stage, key: 0.25)
    [0.25, 'at_0.25.h5']
    """
    if isinstance(value, Mapping):
        return {name: fill(item, result) for name, item in value.items()}
    if isinstance(value, list):
        return [fill(item, result) for item in value]
    if not isinstance(value, str):
        return value
    if whole := RESULT.fullmatch(value):
        return result(whole[1], whole[2])
    return RESULT.sub(lambda match: str(result(match[1], match[2])), value)


def result_among(results: Results) -> Callable[[str, str], object]:
    """Look results up by stage and key. Raises InvalidInput for a key that the stage does not return."""

    def result(stage: str, key: str) -> object:
        if key not in results[stage]:
            rule = f"must be one of {', '.join(results[stage]) or 'nothing'}, what stage {stage!r} returns"
            raise InvalidInput(sentence(f"result {key!r}", rule))
        return results[stage][key]

    return result


def _check_results(stages: list[RecipeStage], path: Path) -> None:
    """Raise InvalidInput if a stage asks for the result of one that does not come before it."""
    earlier: list[str] = []
    for stage in stages:
        for name, _ in RESULT.findall(json.dumps(dict(stage.options), default=str)):
            if name not in earlier:
                rule = f"refers to the result of {name!r}, which is no stage before {stage.name!r}"
                raise InvalidInput(sentence(f"recipe {path}", rule))
        earlier.append(stage.name)


def _check_values(name: str, table: str, known: object, changed: object) -> None:
    if not isinstance(known, Mapping) or not isinstance(changed, Mapping):
        rule = "must be a table"
        raise InvalidParameter(sentence(f"{table} of recipe {name!r}", rule, next_step=f"set {table}.NAME"))
    for key in changed:
        if key not in known:
            raise InvalidParameter(sentence(f"--set {table}.{key}", f"must be one of {', '.join(known)}"))


def _missing_data(data: Mapping[str, object], path: Path) -> str:
    """What to say where a volume that must be given is not: all of those, so that one call more is enough."""
    missing = [name for name, value in data.items() if value == ""]
    hint = "add " + " ".join(f"--set data.{name}={EXAMPLES.get(name, 'sample_A.hdf')}" for name in missing)
    if "val" in missing:
        hint += "; data.val chooses network and threshold, and can be a crop that data.train leaves out"
    names = ", ".join(f"data.{name}" for name in missing)
    return sentence(f"{names} of recipe {path.stem!r}", "must be given", next_step=hint)


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


def _resolve(value: Any, values: Mapping[str, Any], path: Path, seen: tuple[str, ...] = ()) -> Any:
    """`value` with all references replaced, those in what they refer to included; `seen` guards against circles."""
    if isinstance(value, Mapping):
        found: Any = {name: _resolve(item, values, path, seen) for name, item in value.items()}
    elif isinstance(value, list):
        found = [_resolve(item, values, path, seen) for item in value]
    elif not isinstance(value, str):
        return value
    elif match := REFERENCE.fullmatch(value):
        found = _look_up(match[1], values, path, seen)
    else:
        found = REFERENCE.sub(lambda match: str(_look_up(match[1], values, path, seen)), value)
    if seen and len(str(found)) > LONGEST:
        rule = f"refers to {{{seen[-1]}}}, which becomes longer than {LONGEST} characters"
        raise InvalidInput(sentence(f"recipe {path}", rule, next_step="take references out of it"))
    return found


def _look_up(name: str, values: Mapping[str, Any], path: Path, seen: tuple[str, ...]) -> Any:
    if name in seen:
        raise InvalidInput(sentence(f"recipe {path}", f"refers to {{{name}}} in a circle"))
    if RESULT.fullmatch(f"{{{name}}}"):
        return f"{{{name}}}"  # known when that stage is done
    found: object = values
    for key in name.split("."):
        if not isinstance(found, Mapping) or key not in found:
            raise InvalidInput(sentence(f"recipe {path}", f"refers to {{{name}}}, which it does not define"))
        found = found[key]
    if found == "" and name.startswith("data."):
        raise InvalidParameter(_missing_data(values["data"], path))
    return _resolve(found, values, path, (*seen, name))
