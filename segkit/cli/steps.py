"""The steps of a recipe: each a verb with typed values, and the words that a user would type for them."""

import sys
from collections.abc import Collection, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segkit.cli.common import Verb, parse_neighborhood
from segkit.cli.main import VERBS, verb_named
from segkit.cli.types import COMPONENT_SETTING, RUN_FOLDER, Assignment, components, texts
from segkit.errors import InvalidInput, InvalidParameter, SegkitError, sentence
from segkit.parameters import nearest, parse_value
from segkit.run.recipe import RecipeStage, Results, as_assignment, fill, flatten, result_among

if TYPE_CHECKING:
    from segkit.io.remote import Remote

Values = dict[str, Any]
"""What the function of a verb is called with, by the names of its parameters."""


@dataclass(frozen=True)
class Step:
    """A stage of a recipe, its options told apart by the parameters of its verb."""

    name: str
    verb: Verb
    options: Mapping[str, object]
    """By the name of the parameter. Results of earlier stages are filled in when they are known."""
    where: str = ""
    """The recipe and the table in it, for messages."""

    @classmethod
    def of(cls, stage: RecipeStage, recipe: str = "") -> "Step":
        """Find the verb of a stage and the parameter of each option. Raises InvalidInput where there is none."""
        verb = verb_named(stage.verb) if stage.verb in VERBS else None
        if not isinstance(verb, Verb) or not verb.stage:
            known = [name for name in VERBS if getattr(verb_named(name), "stage", False)]
            rule = f"must be one of {', '.join(known)}"
            raise InvalidInput(sentence(f"verb of stage {stage.name!r}", rule, repr(stage.verb)))
        left, options = dict(stage.options), {}
        for param in verb.params:
            key = next((key for key in left if _means(param, key)), None)
            if key is not None:
                options[str(param.name)] = _checked(param, left.pop(key), f"{key} of stage {stage.name!r}")
        if left:
            rule, known = f"must be an argument or option of 'segkit {stage.verb}'", list(map(_key, verb.params))
            guess = nearest(next(iter(left)), known)
            next_step = f"did you mean {guess!r}?" if guess else f"it takes {', '.join(known)}"
            raise InvalidInput(sentence(f"{next(iter(left))!r} of stage {stage.name!r}", rule, next_step=next_step))
        return cls(stage.name, verb, options, f"{recipe}, [{stage.name}]" if recipe else "")

    @property
    def takes(self) -> Collection[str | None]:
        """The names of the parameters of its verb."""
        return {param.name for param in self.verb.params}

    def filled(self, results: Results) -> "Step":
        """Fill in what earlier stages came to."""
        return replace(self, options=fill(self.options, result_among(results)))

    def supposed(self, earlier: "Earlier") -> "Step":
        """Fill in any values, to see what is wrong with the step before its results are known."""
        return replace(self, options=fill(self.options, earlier.result))

    def words(self, *, without: Collection[str] = ()) -> list[str]:
        """Write the step as a user would type it, `without` some parameters."""
        positional: list[str] = []
        named: list[str] = []
        for param in self.verb.params:
            value = self.options.get(str(param.name))
            if value is None or param.name in without:
                continue
            if isinstance(param, click.Argument):
                positional += map(str, _listed(value))
            elif isinstance(value, Mapping):
                named += [word for item in flatten(value).items() for word in (param.opts[0], as_assignment(*item))]
            elif isinstance(value, bool) and _is_flag(param):
                named += [param.opts[-1]] if value else []
            elif param.multiple:
                named += [word for item in _listed(value) for word in (param.opts[0], str(item))]
            else:
                named += [param.opts[0], *map(str, _listed(value))]
        return ["segkit", str(self.verb.name), *positional, *named]

    def values(self) -> Values:
        """Convert and check the options by the types of the parameters, and add what the others are by default.

        Raises click.UsageError, as a call with these options does.
        """
        context = self.verb.make_context(str(self.verb.name), [], resilient_parsing=True)
        values = dict(context.params)
        for param in self.verb.params:
            given = self.options.get(str(param.name))
            if param.required and given in (None, []):
                raise click.MissingParameter(ctx=context, param=param)
            if given is not None:
                values[str(param.name)] = _typed(param, given, context)
        return values

    def check(self, earlier: "Earlier") -> None:
        """Raise what is wrong with the step before any has begun. The message begins with the place in the recipe."""
        try:
            self.supposed(earlier)._check(earlier)
        except (SegkitError, click.UsageError) as error:
            said = error.format_message() if isinstance(error, click.UsageError) else str(error)
            kind = InvalidParameter if isinstance(error, click.UsageError) else type(error)
            raise kind(f"{self.where}: {said}" if self.where else said) from error

    def _check(self, earlier: "Earlier") -> None:
        from segkit import io
        from segkit.io.missing import missing_file
        from segkit.registry import find

        def there(text: str) -> bool:
            paths = [io.parse_address(part).path for part in io.parts_of(text).values()]
            return not any(path == each or each in path.parents for path in paths for each in earlier.files)

        values = self.values()
        for kind, name in self.components(values):
            find(kind, name)
        for path in self.files(values)[0]:
            if there(str(path)) and not path.exists():
                raise missing_file(path)
        offsets = parse_neighborhood(values.get("neighborhood"))
        for param in self.verb.params:
            role = getattr(param.type, "role", None)
            if role is not None:
                for text in filter(there, texts(values[str(param.name)])):
                    _look_at(text, role, offsets)
        for text, role in self.reads(values):
            earlier.check(text, role)
        if self.verb.check is not None:
            self.verb.check(values, there)

    def reads(self, values: Values) -> list[tuple[str, str]]:
        """Find the addresses that it reads, each with its role; "run" for the folder of a training run."""
        found = [*self.verb.makes(values).reads]
        for param in self.verb.params:
            role = "run" if param.type is RUN_FOLDER else getattr(param.type, "role", None)
            found += [(text, role) for text in texts(values[str(param.name)]) if role]
        return found

    def run(self, values: Values) -> dict:
        """Call the verb; what it prints for people goes to stderr."""
        context = click.Context(self.verb, info_name=self.verb.name)
        context.params = dict(values)
        with context, redirect_stdout(sys.stderr):
            return self.verb.work(context)

    def given(self, values: Values) -> Values:
        """Pick the addresses that it reads, by parameter: one, or a tuple of several."""
        names = [str(param.name) for param in self.verb.params if getattr(param.type, "reads", False)]
        return {name: values[name] for name in names if values[name]}

    def files(self, values: Values) -> "tuple[list[Path | Remote], list[Path | Remote]]":
        """Name the files that it reads, and those that it writes."""
        from segkit.io import parse_address, parts_of

        written = [values[str(param.name)] for param in self.verb.params if getattr(param.type, "writes", False)]
        given = [text for value in self.given(values).values() for text in texts(value)]
        read = [part for text in given for part in parts_of(text).values()]
        found = [*(parse_address(text).path for text in read), *self._component_files(values)]
        return found, [parse_address(text).path for text in written if text]

    def _component_files(self, values: Values) -> "list[Path | Remote]":
        """Name the files that its component reads, such as a model that was learned."""
        from segkit.registry import find
        from segkit.registry.settings import files_of

        named = self.components(values)
        names = [str(param.name) for param in self.verb.params if param.type is COMPONENT_SETTING]
        settings = values[names[0]] if names else ()
        if len(named) != 1 or not isinstance(settings, Mapping):
            return []
        return list(files_of(find(*named[0]), settings).values())

    def components(self, values: Values) -> list[tuple[str, str]]:
        """Pick the components that it names: kind and name."""
        named = [(kind, values[str(param.name)]) for param, kind in components(self.verb.params)]
        return [(kind, name) for kind, value in named for name in texts(value)]


@dataclass
class Earlier:
    """What the stages before one come to, as far as it is known before any has begun."""

    results: dict[str, Mapping[str, Any] | None] = field(default_factory=dict)
    """By stage, see :class:`segkit.cli.common.Made`."""
    files: "dict[Path | Remote, dict[str, str]]" = field(default_factory=dict)
    """What they write: in each file the role of each thing, by the name of its dataset."""

    def add(self, step: Step) -> None:
        """Add what a step makes."""
        from segkit import io

        step = step.supposed(self)
        values = step.values()
        made = step.verb.makes(values)
        self.results[step.name] = made.result
        written = [values[str(param.name)] for param in step.verb.params if getattr(param.type, "writes", False)]
        for address in map(io.parse_address, filter(None, written)):
            things = {"" if role == "run" else address.at(role): role for role in made.roles}
            self.files.setdefault(address.path, {}).update(things)

    def result(self, stage: str, key: str) -> object:
        """Look up any value of a result. Raises InvalidInput for a key that the stage does not return."""
        known = self.results.get(stage)
        return 0.5 if known is None else result_among({stage: known})(stage, key)

    def check(self, text: str, role: str) -> None:
        """Raise InvalidInput for an address of what plays a role, where stages write other things."""
        from segkit import io
        from segkit.io.address import MADE_BY
        from segkit.io.missing import WORDS

        address = io.parse_address(text)
        made = self.files.get(address.path)
        if made is None:
            return
        found = made.get("" if role == "run" else address.at(role))
        if found is not None and _plays(found, role):
            return
        if found is None and "run" not in {role, *made.values()} and (address.dataset or io.exists(address, role)):
            return  # nobody knows all names of datasets; or it lies there already
        words = {"run": "training run"} | WORDS
        others = " and ".join(words.get(each, each) for each in ([found] if found else made.values()))
        value = f"{others or 'the datasets of other names'}, which an earlier stage writes there"
        next_step = MADE_BY.get(role, "`segkit train DATA --out RUN` makes one")
        raise InvalidInput(sentence(text, f"must hold {words.get(role, role)}", value, next_step))


def _plays(made: str, role: str) -> bool:
    """Whether what was made for one role can play another."""
    from segkit.io.address import role_of

    if "run" in (made, role):
        return made == role
    return role_of(made)[1] in (role_of(role)[1], *(("labels",) if role == "mask" else ()))


def _look_at(text: str, role: str, neighborhood: list[list[int]] | None) -> None:
    """Raise what is wrong with the objects at an address, as far as it is seen without reading their voxels."""
    from segkit import io

    if role == "merge_tree":
        io.read_notes(text, role)
        return
    for address in io.matching(text, role):
        with io.open_volume(address, role, neighborhood if role == "affinities" else None):
            pass


def _key(param: click.Parameter) -> str:
    """What a recipe calls a parameter."""
    return str(param.name) if isinstance(param, click.Argument) else param.opts[0].lstrip("-")


def _means(param: click.Parameter, key: str) -> bool:
    if isinstance(param, click.Argument):
        return key == param.name
    return any(key.replace("_", "-") == option.lstrip("-") for option in param.opts)


def _checked(param: click.Parameter, value: object, what: str) -> object:
    """The value, if it is of the form that the parameter takes."""
    rule = None
    if isinstance(param.type, Assignment):
        rule = None if isinstance(value, Mapping) else "must be a table"
    elif _is_flag(param):
        rule = None if isinstance(value, bool) else "must be true or false"
    elif isinstance(value, Mapping):
        rule = "must be no table"
    elif isinstance(value, list) and param.nargs == 1 and not param.multiple:
        rule = "must be one value"
    if rule:
        raise InvalidInput(sentence(what, rule, repr(value)))
    return value


def _typed(param: click.Parameter, value: object, context: click.Context) -> object:
    """The value as click makes it of words; but settings have types in a recipe, and only texts are read."""
    if isinstance(value, Mapping):
        settings = flatten(value).items()
        return {name.strip(): parse_value(item.strip()) if isinstance(item, str) else item for name, item in settings}
    several = param.multiple or param.nargs != 1
    words = [str(item) for item in _listed(value)] if several else value if _is_flag(param) else str(value)
    return param.type_cast_value(context, words)


def _is_flag(param: click.Parameter) -> bool:
    return bool(getattr(param, "is_flag", False))


def _listed(value: object) -> list:
    return value if isinstance(value, list) else [value]
