"""Which names a new plugin may have, and what its package and its class are called."""

import builtins
import keyword
import re
import sys
from collections.abc import Container
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from segkit.errors import InvalidParameter, sentence
from segkit.registry import ARTICLE, components

NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9_-]*[A-Za-z0-9])?")
LONGEST = 40
"""Characters; generated lines stay short enough."""


def check_name(name: str, plural: str) -> None:
    """Raise InvalidParameter unless a distribution and a component of this kind may be called so.

    A name is that of the distribution, of the component and, with underscores, of the package to import. It must be
    new as each of these here; whether the package index knows it is not looked up.
    """
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        rule = f"must be up to {LONGEST} letters, digits, '-' and '_', beginning with a letter and ending with no sign"
        raise InvalidParameter(sentence("NAME", rule, repr(name), _suggestion(name)))
    package = package_of(name)
    another = f"choose another name, such as 'my-{name}'"
    if keyword.iskeyword(package) or keyword.issoftkeyword(package):
        raise InvalidParameter(sentence("NAME", "must not be a word of the Python language", repr(name), another))
    if package in sys.stdlib_module_names:
        rule = "must not be a module of Python's standard library"
        raise InvalidParameter(sentence("NAME", rule, repr(package), another))
    for component in components(plural):
        if component.name.lower() == name.lower():
            rule = f"must not be that of {ARTICLE[plural]} that {component.distribution} {component.version} offers"
            raise InvalidParameter(sentence("NAME", rule, repr(component.name), another))
    if (holder := _installed(name, package)) is not None:
        rule = f"must not be that of {holder}, which is installed here"
        raise InvalidParameter(sentence("NAME", rule, next_step=another))


def package_of(name: str) -> str:
    """The package to import.

    >>> package_of("My-Agglomerator")
    'my_agglomerator'
    """
    return re.sub(r"[-_]+", "_", name).lower()


def class_of(name: str, taken: Container[str]) -> str:
    """The class of the component, in camel case; a name that is `taken`, or means something to Python, gets "My".

    >>> class_of("mean-affinity2", ()), class_of("loss", {"Loss"}), class_of("none", ())
    ('MeanAffinity2', 'MyLoss', 'MyNone')
    """
    camel = "".join(part[0].upper() + part[1:] for part in re.split(r"[-_]+", name) if part)
    if camel in taken or hasattr(builtins, camel) or keyword.iskeyword(camel) or camel.startswith("Test"):
        return f"My{camel}"  # pytest would collect a class Test...
    return camel


def _installed(name: str, package: str) -> str | None:
    """What is installed under this name: a distribution, or a package of another one."""
    try:
        return f"the distribution {name} {version(name)}"
    except PackageNotFoundError:
        return f"the package {package}" if find_spec(package) is not None else None


def _suggestion(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:LONGEST].strip("-")
    plain = plain if NAME.fullmatch(plain) else "my-component"
    return f"choose a name such as {plain.lower()!r}"
