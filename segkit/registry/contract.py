"""Whether a class keeps the contract of its plug point, as far as can be seen without using it."""

import inspect
from collections.abc import Callable
from typing import Any

from segkit.errors import BrokenComponent
from segkit.parameters import parameters
from segkit.protocols import API_VERSION, Agglomerator, Fragmenter, Loss, Metric, Model

POINTS = {"models": Model, "losses": Loss, "fragmenters": Fragmenter, "agglomerators": Agglomerator, "metrics": Metric}
METHODS = {
    "models": ("forward", "output_shape", "input_shape"),
    "losses": ("__call__",),
    "fragmenters": ("fragment",),
    "agglomerators": ("agglomerate",),
    "metrics": ("score",),
}
"""What segkit calls; the signatures are those in `POINTS`."""


def breach(kind: str, component: type) -> str | None:
    """The first rule that a class breaks so that segkit cannot use it; None if there is none."""
    stated = str(getattr(component, "segkit_api", API_VERSION))
    if stated != API_VERSION:
        return f"it was written for version {stated} of segkit's plug points; this segkit has {API_VERSION}"
    for name in METHODS[kind]:
        method = _lookup(component, name)
        if not callable(getattr(component, name, None)) or method is None:
            return f"{component.__qualname__} has no method {name!r}"
        if not _takes(method, getattr(POINTS[kind], name), by_name=False):
            return f"{component.__qualname__} must have the method {_plain(kind, name)}, not {_written(name, method)}"
    if abstract := sorted(getattr(component, "__abstractmethods__", ())):
        return f"{component.__qualname__} does not implement {', '.join(abstract)}"
    try:
        known = parameters(component)
    except BrokenComponent as error:
        return str(error)
    if kind == "models" and "channels" not in known:
        return f"{component.__qualname__} takes no parameter 'channels', the number of affinities to predict"
    return None


def lapses(kind: str, component: type) -> list[str]:
    """Rules that a class breaks although segkit can use it, each as "it ..."."""
    found = []
    for name in METHODS[kind]:
        method = _lookup(component, name)
        if not _takes(method, getattr(POINTS[kind], name), by_name=True):
            found.append(f"it names arguments otherwise than {_plain(kind, name)}: {_written(name, method)}")
    unchecked = [parameter.name for parameter in parameters(component).values() if not parameter.checkable]
    if unchecked:
        found.append(f"it has parameters of types that cannot be checked: {', '.join(unchecked)}")
    return found


def _lookup(component: type, name: str) -> object:
    """An attribute as the class or a base of it defines it; what every class has from `type` does not count."""
    return next((vars(base)[name] for base in component.__mro__ if name in vars(base)), None)


def _takes(method: object, expected: Callable[..., object], *, by_name: bool) -> bool:
    """Whether a method can be called as that of the plug point, with and without its optional arguments."""
    signature = _signature(method)
    if signature is None:
        return True
    own = () if isinstance(method, staticmethod) else (None,)
    wanted = list(inspect.signature(expected).parameters.values())[1:]
    for some in (wanted, [each for each in wanted if each.default is each.empty]):
        names = dict.fromkeys(each.name for each in some)
        try:
            signature.bind(*own, **names) if by_name else signature.bind(*own, *names)
        except TypeError:
            return False
    return True


def _signature(method: Any) -> inspect.Signature | None:
    """None for what cannot be inspected, such as functions in C."""
    try:
        return inspect.signature(getattr(method, "__func__", method))
    except (TypeError, ValueError):
        return None


def _plain(kind: str, name: str) -> str:
    return _written(name, getattr(POINTS[kind], name))


def _written(name: str, method: Any) -> str:
    """``fragment(self, affinities, mask=None)``"""
    signature = inspect.signature(getattr(method, "__func__", method))
    bare = [each.replace(annotation=each.empty) for each in signature.parameters.values()]
    return f"{name}{signature.replace(parameters=bare, return_annotation=signature.empty)}"
