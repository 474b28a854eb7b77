"""Parameters of components, read from the signatures of their constructors."""

import inspect
import math
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from segkit.errors import BrokenComponent, InvalidParameter, sentence

_SECTION = re.compile(r"^Parameters *\n-{3,} *\n(.*?)(?=^\S[^\n]*\n-{3,} *$|\Z)", re.M | re.S)
_ENTRY = re.compile(r"^([*\w][\w, *]*?)(?: *:[^\n]*)?\n((?:[ \t]+\S.*\n|[ \t]*\n)*)", re.M)
"""The names of an entry, ``a, b : int``, and its indented text."""


@dataclass(frozen=True)
class Parameter:
    """One keyword parameter of a component."""

    name: str
    annotation: object
    default: object
    """`inspect.Parameter.empty` where the parameter must be given."""
    description: str = ""
    """What the class says of it in the section "Parameters" of its docstring."""

    @property
    def type_name(self) -> str:
        """The type as a user would write it: ``int``, ``'valid' | 'same'``."""
        return type_name(self.annotation)

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is inspect.Parameter.empty

    @property
    def choices(self) -> tuple[object, ...] | None:
        """The values of a Literal, also of one that may be None; None where the type names no values."""
        if typing.get_origin(self.annotation) is typing.Literal:
            return typing.get_args(self.annotation)
        parts = [Parameter(self.name, part, None) for part in typing.get_args(self.annotation)]
        values = [(None,) if part.annotation is type(None) else part.choices for part in parts]
        if not isinstance(self.annotation, types.UnionType) and typing.get_origin(self.annotation) is not typing.Union:
            return None
        named = [part for part in values if part is not None]
        return tuple(value for part in named for value in part) if len(named) == len(values) else None

    @property
    def checkable(self) -> bool:
        """Whether values can be checked against the type."""
        from pydantic import PydanticUserError, TypeAdapter

        try:
            TypeAdapter(self.annotation)
        except PydanticUserError:
            return False
        return True


def parameters(component: type[Any]) -> dict[str, Parameter]:
    """The parameters of a component class, by name, in order. Raises BrokenComponent if it breaks the contract."""
    if component.__init__ is object.__init__:
        return {}
    try:
        hints = typing.get_type_hints(component.__init__)
    except Exception as error:
        raise BrokenComponent(f"{component.__qualname__} has an annotation that cannot be read: {error}") from error
    found: dict[str, Parameter] = {}
    described = descriptions(component)
    for parameter in list(inspect.signature(component.__init__).parameters.values())[1:]:
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            rule = "must take explicit keyword parameters only"
            raise BrokenComponent(sentence(f"the constructor of {component.__qualname__}", rule, str(parameter)))
        if parameter.name not in hints:
            name = f"parameter {parameter.name!r} of {component.__qualname__}"
            raise BrokenComponent(sentence(name, "must have a type annotation"))
        description = described.get(parameter.name, "")
        found[parameter.name] = Parameter(parameter.name, hints[parameter.name], parameter.default, description)
    return found


def descriptions(component: type[Any]) -> dict[str, str]:
    """What the docstrings of a class and of its bases say of each parameter, in numpydoc's section "Parameters"."""
    found: dict[str, str] = {}
    for base in component.__mro__:
        section = _SECTION.search(inspect.cleandoc(vars(base).get("__doc__") or ""))
        for names, text in _ENTRY.findall(section[1] + "\n" if section else ""):
            for name in names.split(","):
                found.setdefault(name.strip().lstrip("*"), " ".join(text.split()))
    return found


def prose(docstring: str) -> str:
    """A docstring without its section "Parameters"."""
    return _SECTION.sub("", docstring).strip()


def construct(component: type[Any], values: Mapping[str, object], title: str) -> Any:
    """An instance of `component`, after every value was checked against the annotation of its parameter.

    `title` names the component in messages, such as ``agglomerator 'waterz'``.
    """
    return component(**convert(parameters(component), values, title))


def convert(known: Mapping[str, Parameter], values: Mapping[str, object], title: str) -> dict[str, object]:
    """The values, converted to the types of their parameters. Raises InvalidParameter, naming the culprit."""
    from pydantic import PydanticUserError, TypeAdapter, ValidationError

    for name in values:
        if name not in known:
            raise InvalidParameter(_unknown(name, known, title))
    for parameter in known.values():
        if parameter.required and parameter.name not in values:
            raise InvalidParameter(sentence(f"parameter {parameter.name!r} of {title}", "must be given"))
    converted = {}
    for name, value in values.items():
        rule = f"must be {known[name].type_name}"
        if isinstance(value, bool) and known[name].annotation in (int, float):  # pydantic would take true for 1
            raise InvalidParameter(sentence(f"parameter {name!r} of {title}", rule, repr(value)))
        if isinstance(value, float) and math.isnan(value):
            raise InvalidParameter(sentence(f"parameter {name!r} of {title}", f"{rule} and a number", "nan"))
        try:
            value = as_numbers(value, known[name].annotation)
            converted[name] = TypeAdapter(known[name].annotation).validate_python(value)
        except PydanticUserError as error:
            problem = f"parameter {name!r} of {title} has a type that cannot be checked, {known[name].type_name}"
            raise BrokenComponent(problem) from error
        except ValidationError as error:
            reason = error.errors()[0]["msg"].lower()
            raise InvalidParameter(
                sentence(f"parameter {name!r} of {title}", rule, repr(value), f"the reason given is: {reason}")
            ) from None
    return converted


def parse_assignments(assignments: Iterable[str] | Mapping[str, object]) -> dict[str, object]:
    """Values from the ``name=value`` of a command line; a value is TOML where it can be, else a bare string.

    A mapping, as a recipe has it, is taken as it is.

    >>> parse_assignments(["features=16", "pooling=[[1, 3, 3]]", "padding=same", "bias=true"])
    {'features': 16, 'pooling': [[1, 3, 3]], 'padding': 'same', 'bias': True}
    """
    if isinstance(assignments, Mapping):
        return dict(assignments)
    values = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.strip():
            raise InvalidParameter(sentence("--set", "must look like name=value", repr(assignment)))
        values[name.strip()] = parse_value(text.strip())
    return values


def parse_value(text: str) -> object:
    """`text` as TOML where it is, else the text itself.

    >>> parse_value("1e-4"), parse_value("[1, 2]"), parse_value("sample_A.hdf")
    (0.0001, [1, 2], 'sample_A.hdf')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def as_numbers(value: object, annotation: object) -> object:
    """The list that a text such as "48,48,48" means where `annotation` takes sequences of numbers; else `value`.

    >>> as_numbers("48, 48,48", tuple[int, ...] | None), as_numbers("1,2", str), as_numbers("auto", list[float])
    ([48, 48, 48], '1,2', 'auto')
    """
    if not isinstance(value, str) or not _takes_numbers(annotation):
        return value
    found = parse_value(f"[{value}]")
    return found if isinstance(found, list) and found and all(type(each) in (int, float) for each in found) else value


def _takes_numbers(annotation: object) -> bool:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _takes_numbers(args[0])
    if origin in (typing.Union, types.UnionType):
        return any(map(_takes_numbers, args))
    inner = [arg for arg in args if arg is not Ellipsis]
    inner = [typing.get_args(arg)[0] if typing.get_origin(arg) is typing.Annotated else arg for arg in inner]
    return origin in (list, tuple, Sequence) and bool(inner) and all(arg in (int, float) for arg in inner)


def nest(values: Mapping[str, object]) -> dict[str, object]:
    """Values with dotted names as nested tables.

    >>> nest({"steps": 10, "loss.mse.weight": 2})
    {'steps': 10, 'loss': {'mse': {'weight': 2}}}
    """
    nested: dict[str, object] = {}
    for name, value in values.items():
        *tables, last = name.split(".")
        table = nested
        for key in tables:
            below = table.setdefault(key, {})
            if not isinstance(below, dict):
                raise InvalidParameter(sentence(f"{name!r}", f"must not go below {key!r}, which has a value"))
            table = below
        if isinstance(table.get(last), dict):
            rule = "must not have a value beside the values below it"
            raise InvalidParameter(sentence(f"{name!r}", rule, repr(value)))
        table[last] = value
    return nested


def overlay(base: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    """`base` with `changes` on top, table by table; neither is changed.

    >>> overlay({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}})
    {'a': {'b': 1, 'c': 3}}
    """
    result = dict(base)
    for name, value in changes.items():
        below = result.get(name)
        result[name] = overlay(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was most likely meant to be, if any is near."""
    return next(iter(get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


def _unknown(name: str, known: Mapping[str, Parameter], title: str) -> str:
    guess = nearest(name, known)
    next_step = f"did you mean {guess!r}? " if guess else ""
    next_step += f"it takes {', '.join(known)}" if known else "it takes none"
    return sentence(f"{title}", f"has no parameter {name!r}", next_step=next_step)


def type_name(annotation: object) -> str:
    """A type as a user would write it.

    >>> type_name(list[int] | None), type_name(typing.Literal["valid", "same"])
    ('list[int] | None', "'valid' | 'same'")
    """
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_name(args[0]) + _bounds(args[1:])
    if origin is typing.Literal:
        return " | ".join(map(repr, args))
    if annotation is type(None):
        return "None"
    if isinstance(annotation, type) and not args:
        return annotation.__name__
    if not args:
        return str(annotation)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(type_name, args))
    name = getattr(origin, "__name__", str(origin))
    return f"{name}[{', '.join('...' if arg is Ellipsis else type_name(arg) for arg in args)}]"


def _bounds(metadata: Iterable[object]) -> str:
    """The bounds that pydantic checks, such as " > 0" or " in 0..1"; `metadata` stands beside a type in Annotated."""
    found: dict[str, object] = {}
    for item in [inner for outer in metadata for inner in getattr(outer, "metadata", [outer])]:
        found |= {sign: getattr(item, sign) for sign in ("gt", "ge", "lt", "le") if hasattr(item, sign)}
    if found.keys() == {"ge", "le"}:
        return f" in {found['ge']}..{found['le']}"
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    return " and".join(f" {signs[name]} {bound}" for name, bound in found.items())
