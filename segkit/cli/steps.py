"""The steps of a recipe: each a verb with typed values, and the words that a user would type for them."""

import sys
from collections.abc import Collection, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from segkit.cli.common import Verb
from segkit.cli.main import VERBS, verb_named
from segkit.cli.types import Assignment, components, texts
from segkit.errors import InvalidInput, sentence
from segkit.parameters import parse_value
from segkit.run.recipe import RecipeStage, Results, as_assignment, fill, flatten, result_among

Values = dict[str, Any]
"""What the function of a verb is called with, by the names of its parameters."""


@dataclass(frozen=True)
class Step:
    """A stage of a recipe, its options told apart by the parameters of its verb."""

    name: str
    verb: Verb
    options: Mapping[str, object]
    """By the name of the parameter. Results of earlier stages are filled in when they are known."""

    @classmethod
    def of(cls, stage: RecipeStage) -> "Step":
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
            rule = f"must be an argument or option of 'segkit {stage.verb}'"
            raise InvalidInput(sentence(f"{next(iter(left))!r} of stage {stage.name!r}", rule))
        return cls(stage.name, verb, options)

    @property
    def takes(self) -> Collection[str | None]:
        """The names of the parameters of its verb."""
        return {param.name for param in self.verb.params}

    def filled(self, results: Results) -> "Step":
        """Fill in what earlier stages came to."""
        return replace(self, options=fill(self.options, result_among(results)))

    def supposed(self) -> "Step":
        """Fill in any numbers, to see what is wrong with the step before its results are known."""
        return replace(self, options=fill(self.options, lambda stage, key: 0.5))

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

    def files(self, values: Values) -> tuple[list[Path], list[Path]]:
        """Name the files that it reads, and those that it writes."""
        from segkit.io import parse_address

        written = [values[str(param.name)] for param in self.verb.params if getattr(param.type, "writes", False)]
        read = [text for value in self.given(values).values() for text in texts(value)]
        return [parse_address(text).path for text in read], [parse_address(text).path for text in written if text]

    def components(self, values: Values) -> list[tuple[str, str]]:
        """Pick the components that it names: kind and name."""
        named = [(kind, values[str(param.name)]) for param, kind in components(self.verb.params)]
        return [(kind, name) for kind, value in named for name in texts(value)]


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
