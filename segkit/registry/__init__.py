"""The core: finds components by entry point, imports them when they are used, and isolates the broken ones.

The built-in components are declared in segkit's own pyproject.toml in the same groups, so there is one path, and a
third party has the same rights. Listing imports nothing. Discovery goes through the `entrypoints` package, here and
nowhere else.
"""

import configparser
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module

from segkit.errors import AmbiguousComponent, BrokenComponent, UnknownComponent, sentence
from segkit.parameters import Parameter, construct, nearest, parameters
from segkit.protocols import API_VERSION, GROUPS

SINGULAR = {
    "models": "model",
    "losses": "loss",
    "fragmenters": "fragmenter",
    "agglomerators": "agglomerator",
    "metrics": "metric",
}
ARTICLE = {kind: ("an " if name[0] in "aeiou" else "a ") + name for kind, name in SINGULAR.items()}
METHODS = {
    "models": ("forward", "output_shape", "input_shape"),
    "losses": ("__call__",),
    "fragmenters": ("fragment",),
    "agglomerators": ("agglomerate",),
    "metrics": ("score",),
}
KNOWN_ELSEWHERE = {
    ("agglomerators", "waterz"): "segkit-waterz",
    ("fragmenters", "waterz"): "segkit-waterz",
}
"""Components that are not built in, and the distribution that brings them."""


@dataclass(frozen=True)
class Component:
    """A component that some installed distribution declares; whether it works is seen when it is loaded."""

    kind: str
    """One of `GROUPS`: "models", "losses", "fragmenters", "agglomerators", "metrics"."""
    name: str
    distribution: str
    version: str
    target: str
    """"module:Class"."""

    @property
    def title(self) -> str:
        """How messages call it: ``agglomerator 'waterz'``."""
        return f"{SINGULAR[self.kind]} {self.name!r}"

    def load(self) -> type:
        """Import the class. Raises BrokenComponent, with the reason and how to mend it."""
        module, _, attribute = self.target.partition(":")
        try:
            component = import_module(module)
            for part in attribute.split("."):
                component = getattr(component, part)
        except Exception as error:
            raise BrokenComponent(self._broken(f"{type(error).__name__}: {error}")) from error
        self._verify(component)
        return component

    def create(self, **values):
        """An instance, its parameters checked and converted."""
        return construct(self.load(), values, self.title)

    def parameters(self) -> dict[str, Parameter]:
        """The parameters of the constructor, by name."""
        return parameters(self.load())

    def problem(self) -> str | None:
        """Why it cannot be used, in one sentence; None if it can. Imports it."""
        try:
            self.parameters()
        except BrokenComponent as error:
            return str(error)
        return None

    def _verify(self, component: object) -> None:
        if not isinstance(component, type):
            raise BrokenComponent(self._broken(f"{self.target} is no class"))
        for method in METHODS[self.kind]:
            if not callable(getattr(component, method, None)):
                raise BrokenComponent(self._broken(f"{component.__qualname__} has no method {method!r}"))
        stated = getattr(component, "segkit_api", API_VERSION)
        if stated != API_VERSION:
            raise BrokenComponent(
                self._broken(
                    f"it was written for version {stated} of segkit's plug points; this segkit has {API_VERSION}"
                )
            )

    def _broken(self, reason: str) -> str:
        how = f"upgrade or reinstall it, or remove it with 'pip uninstall {self.distribution}'"
        return f"{self.title} of {self.distribution} {self.version} cannot be used ({reason}); {how}"


def components(kind: str) -> list[Component]:
    """All declared components of a kind, sorted by name, then distribution. Imports none of them."""
    found = {_component(kind, point) for point in _entry_points(_group(kind))}
    return sorted(found, key=lambda component: (component.name, component.distribution))


def find(kind: str, name: str) -> Component:
    """The component called `name`, or ``distribution:name`` where two distributions offer that name."""
    declared = components(kind)
    distribution, _, short = name.rpartition(":")
    matches = [
        component
        for component in declared
        if component.name == short and (not distribution or component.distribution == _normalize(distribution))
    ]
    if len(matches) > 1:
        holders = " and ".join(f"{m.distribution} {m.version}" for m in matches)
        choices = " or ".join(f"'{m.distribution}:{m.name}'" for m in matches)
        raise AmbiguousComponent(f"{SINGULAR[kind]} {short!r} is offered by {holders}; choose {choices}")
    if not matches:
        raise UnknownComponent(_unknown(kind, name, [component.name for component in declared]))
    return matches[0]


def load(kind: str, name: str, **values):
    """A component, ready to use.

    >>> import segkit
    >>> segkit.load("agglomerators", "python", score="mean").score
    'mean'
    """
    return find(kind, name).create(**values)


def _group(kind: str) -> str:
    if kind not in GROUPS:
        raise UnknownComponent(sentence("kind", f"must be one of {', '.join(GROUPS)}", repr(kind)))
    return GROUPS[kind]


def _entry_points(group: str) -> Iterable:
    import entrypoints

    try:
        return entrypoints.get_group_all(group)
    except configparser.Error as error:
        reason = " ".join(str(error).split())
        message = f"an installed distribution has a damaged entry_points.txt ({reason}); reinstall or remove it"
        raise BrokenComponent(message) from error


def _component(kind: str, point) -> Component:
    name, version = (point.distro.name, point.distro.version) if point.distro else ("unknown", "")
    return Component(kind, point.name, _normalize(name), version, f"{point.module_name}:{point.object_name}")


def _normalize(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    message = f"no installed distribution offers {ARTICLE[kind]} {name!r}"
    if (kind, name) in KNOWN_ELSEWHERE:
        distribution = KNOWN_ELSEWHERE[kind, name]
        return f"{message}; it comes with {distribution}: 'pip install plugins/{distribution}' in segkit's repository"
    guess = nearest(name, known)
    return f"{message}; {f'did you mean {guess!r}? ' if guess else ''}known are {', '.join(known) or 'none'}"
