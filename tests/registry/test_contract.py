"""Whether a class keeps the contract of its plug point."""

import functools

import pytest

from segkit.protocols import GROUPS, Fragmenter
from segkit.registry import components
from segkit.registry.contract import METHODS, POINTS, breach, lapses


def fragmenter(method, **attributes):
    return type("Thing", (), {"fragment": method} | attributes)


@pytest.mark.parametrize(
    "method",
    [
        lambda self, affinities, mask=None: None,
        lambda self, affinities, mask=None, *, threads=1: None,
        lambda self, affinities, mask=None, extra=3: None,
        lambda self, *given, **named: None,
        staticmethod(lambda affinities, mask=None: None),
        classmethod(lambda cls, affinities, mask=None: None),
        functools.partialmethod(lambda self, how, affinities, mask=None: None, 3),
    ],
)
def test_methods_that_fit(method):
    thing = fragmenter(method)
    thing().fragment(None)  # they do
    thing().fragment(None, mask=None)
    assert breach("fragmenters", thing) is None and lapses("fragmenters", thing) == []


@pytest.mark.parametrize(
    "method",
    [
        lambda self, affinities: None,
        lambda self, affinities, mask: None,
        lambda affinities, mask=None: None,
        lambda self, affinities, mask=None, *, threads: None,
        lambda self, *, affinities, mask=None: None,
        staticmethod(lambda self, affinities, mask: None),
    ],
)
def test_methods_that_do_not_fit(method):
    thing = fragmenter(method)
    with pytest.raises(TypeError):
        thing().fragment(None, None)
        thing().fragment(None)
    assert breach("fragmenters", thing).startswith(
        "Thing must have the method fragment(self, affinities, mask=None), not"
    )


def test_other_names_of_arguments_are_a_lapse():
    thing = fragmenter(lambda self, affs, mask=None: None)
    assert breach("fragmenters", thing) is None
    (lapse,) = lapses("fragmenters", thing)
    assert "it names arguments otherwise than fragment(self, affinities, mask=None): fragment(self, affs" in lapse


def test_a_call_that_every_class_has_is_no_loss():
    assert breach("losses", type("Thing", (), {})) == "Thing has no method '__call__'"
    assert breach("losses", type("Thing", (), {"__call__": lambda self, prediction: None})) is None


def test_a_method_that_is_none():
    assert breach("fragmenters", fragmenter(None)) == "Thing has no method 'fragment'"


def test_an_abstract_method_is_not_implemented():
    assert breach("fragmenters", type("Thing", (Fragmenter,), {})) == "Thing does not implement fragment"


@pytest.mark.parametrize(("stated", "works"), [("1", True), (1, True), ("0", False), ("2", False)])
def test_versions(stated, works):
    thing = fragmenter(lambda self, affinities, mask=None: None, segkit_api=stated)
    assert (breach("fragmenters", thing) is None) is works


def test_a_model_needs_channels():
    class Thing:
        def forward(self, raw): ...

        def output_shape(self, input_shape): ...

        def input_shape(self, output_shape): ...

    assert "Thing takes no parameter 'channels', the number of affinities to predict" in breach("models", Thing)
    good = type("Good", (Thing,), {"__init__": _with_channels})
    assert breach("models", good) is None


def _with_channels(self, *, channels: int) -> None: ...


def test_a_type_that_cannot_be_checked_is_a_lapse():
    class Odd:
        def __init__(self, *, odd: Unknown) -> None: ...

        def score(self, segmentation, truth): ...

    assert breach("metrics", Odd) is None
    assert lapses("metrics", Odd) == ["it has parameters of types that cannot be checked: odd"]


class Unknown:
    """A class that pydantic knows nothing of."""


def test_the_methods_are_those_of_the_plug_points():
    assert POINTS.keys() == METHODS.keys() == GROUPS.keys()
    for kind, methods in METHODS.items():
        assert all(callable(getattr(POINTS[kind], name)) for name in methods)
        assert set(methods) >= getattr(POINTS[kind], "__abstractmethods__", set())


@pytest.mark.parametrize("kind", ["fragmenters", "metrics"])
def test_ours_keep_it(kind):
    for component in components(kind):
        if component.distribution == "segkit-em":
            assert lapses(kind, component.load()) == []
