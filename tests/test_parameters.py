import inspect
from collections.abc import Sequence
from typing import Literal, Optional

import numpy as np
import pytest

from segkit.errors import BrokenComponent, InvalidInput, InvalidParameter
from segkit.parameters import construct, descriptions, nearest, nest, overlay, parameters, parse_assignments, prose


class Example:
    def __init__(
        self,
        *,
        channels: int,
        rate: float = 0.5,
        padding: Literal["valid", "same"] = "valid",
        pooling: list[tuple[int, int, int]] | None = None,
        bias: bool = True,
        title: str = "",
        sizes: Sequence[int] = (),
    ) -> None:
        self.values = {k: v for k, v in locals().items() if k != "self"}


def test_signature():
    found = parameters(Example)
    assert list(found) == ["channels", "rate", "padding", "pooling", "bias", "title", "sizes"]
    assert [p.required for p in found.values()] == [True] + [False] * 6
    assert found["rate"].default == 0.5
    assert [p.type_name for p in found.values()] == [
        "int",
        "float",
        "'valid' | 'same'",
        "list[tuple[int, int, int]] | None",
        "bool",
        "str",
        "Sequence[int]",
    ]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("channels", "16", 16),
        ("channels", 16.0, 16),
        ("rate", 1, 1.0),
        ("rate", "1e-4", 1e-4),
        ("padding", "same", "same"),
        ("pooling", [[1, 3, 3]], [(1, 3, 3)]),
        ("pooling", None, None),
        ("bias", "false", False),
        ("sizes", [1, 2], [1, 2]),
    ],
)
def test_values_are_converted(name, value, expected):
    made = construct(Example, {"channels": 1, name: value}, "model 'example'").values[name]
    assert made == expected and type(made) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "type_name"),
    [
        ("channels", 1.5, "int"),
        ("channels", "many", "int"),
        ("channels", True, "int"),
        ("rate", "fast", "float"),
        ("rate", True, "float"),
        ("padding", "sane", "'valid' | 'same'"),
        ("pooling", [[1, 3]], r"list\[tuple\[int, int, int\]\] | None"),
        ("bias", "perhaps", "bool"),
        ("title", 3, "str"),
    ],
)
def test_values_are_refused_by_name(name, value, type_name):
    with pytest.raises(InvalidParameter, match=rf"parameter '{name}' of model 'example' must be {type_name}") as caught:
        construct(Example, {"channels": 1, name: value}, "model 'example'")
    assert repr(value) in str(caught.value)


def test_unknown_and_missing():
    with pytest.raises(
        InvalidParameter, match=r"has no parameter 'chanels'; did you mean 'channels'\? it takes channels, "
    ):
        construct(Example, {"chanels": 1}, "model 'example'")
    with pytest.raises(InvalidParameter, match="parameter 'channels' of model 'example' must be given"):
        construct(Example, {}, "model 'example'")


def test_no_constructor_takes_nothing():
    class Bare:
        pass

    assert parameters(Bare) == {} and isinstance(construct(Bare, {}, "metric 'bare'"), Bare)
    with pytest.raises(InvalidParameter, match="it takes none"):
        construct(Bare, {"x": 1}, "metric 'bare'")


class Swallows:
    def __init__(self, **kwargs: int) -> None: ...


class Positional:
    def __init__(self, *args: int) -> None: ...


class PositionalOnly:
    def __init__(self, x: int, /) -> None: ...


class Untyped:
    def __init__(self, *, x=1) -> None: ...


class Unresolvable:
    def __init__(self, *, x: "NoSuchType" = 1) -> None: ...  # noqa: F821


@pytest.mark.parametrize("component", [Swallows, Positional, PositionalOnly, Untyped, Unresolvable])
def test_constructors_that_break_the_contract(component):
    with pytest.raises(BrokenComponent, match=component.__name__):
        parameters(component)


class Array:
    def __init__(self, *, weights: np.ndarray | None = None) -> None: ...


def test_a_type_that_cannot_be_checked():
    with pytest.raises(BrokenComponent, match="'weights'"):
        construct(Array, {"weights": [1]}, "loss 'array'")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=16", 16),
        ("a = 1e-4", 1e-4),
        ("a=true", True),
        ("a=[[1, 3, 3], [1, 1, 1]]", [[1, 3, 3], [1, 1, 1]]),
        ("a=same", "same"),
        ("a='16'", "16"),
        ("a=x=y", "x=y"),
        ("a=", ""),
        ("a=sample_A.hdf:volumes/raw[0:1]", "sample_A.hdf:volumes/raw[0:1]"),
    ],
)
def test_assignments(text, expected):
    assert parse_assignments([text]) == {"a": expected}


@pytest.mark.parametrize("text", ["features", "=3", " =3"])
def test_assignments_that_are_none(text):
    with pytest.raises(InvalidParameter, match="name=value"):
        parse_assignments([text])


def test_nest_and_overlay():
    assert nest({"a.b": 1, "a.c.d": 2, "e": 3}) == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    with pytest.raises(InvalidInput):
        nest({"a": 1, "a.b": 2})
    base = {"a": {"b": 1, "c": 2}, "d": 3}
    assert overlay(base, {"a": {"b": 9}, "d": {"e": 4}}) == {"a": {"b": 9, "c": 2}, "d": {"e": 4}}
    assert base == {"a": {"b": 1, "c": 2}, "d": 3}


def test_nearest():
    assert nearest("watershd", ["threshold", "watershed"]) == "watershed"
    assert nearest("zzz", ["threshold", "watershed"]) is None


class Described:
    """One line.

    Parameters
    ----------
    features
        Channels
        of the first level.

        More on them.
    low, high : float, optional
        Bounds.
    bare

    Notes
    -----
    padding
        Not a parameter.
    """

    def __init__(self, *, features: int = 3, low: float = 0, high: float = 1, bare: int = 0, more: int = 0) -> None: ...


class Inheriting(Described):
    """Another line.

    Parameters
    ----------
    high
        The upper bound.
    """


def test_descriptions():
    assert {p.name: p.description for p in parameters(Described).values()} == {
        "features": "Channels of the first level. More on them.",
        "low": "Bounds.",
        "high": "Bounds.",
        "bare": "",
        "more": "",
    }
    assert descriptions(Inheriting)["high"] == "The upper bound." and descriptions(Inheriting)["low"] == "Bounds."
    assert descriptions(Example) == {}


def test_prose():
    text = prose(inspect.getdoc(Described))
    assert text.startswith("One line.\n\nNotes\n-----") and "features" not in text


def test_choices():
    class Choosing:
        def __init__(
            self,
            *,
            a: Literal["x", 2],
            b: Literal["x"] | None,
            c: Optional[Literal[1]],  # noqa: UP045
            d: int | None,
            e: list[Literal["x"]],
        ) -> None: ...

    expected = [("x", 2), ("x", None), (1, None), None, None]
    assert [parameter.choices for parameter in parameters(Choosing).values()] == expected


def test_types_that_cannot_be_checked():
    class Odd:
        def __init__(self, *, good: dict[str, int], bad: "Odd") -> None: ...

    Odd.__init__.__annotations__ = {"good": dict[str, int], "bad": Odd}
    assert {p.name: p.checkable for p in parameters(Odd).values()} == {"good": True, "bad": False}


@pytest.mark.parametrize("kind", ["agglomerators", "fragmenters", "metrics"])
def test_every_parameter_of_ours_is_described(kind):
    from segkit.registry import components

    for component in components(kind):
        if component.distribution == "segkit-em" and component.name != "gpu":  # which imports torch
            assert all(p.description for p in component.parameters().values()), component
