"""What a component was made with, in a form that can be written down and compared."""

import json
from collections.abc import Mapping
from pathlib import Path

from segkit.parameters import convert
from segkit.registry import find
from segkit.registry.component import OWN


def files_named(kind: str, name: str, values: Mapping[str, object]) -> list[Path]:
    """The files that a component reads: the values of its parameters of the type Path, or Path and others."""
    component = find(kind, name)
    known = component.parameters()
    given = convert(known, values, component.title)
    full = (given.get(each, parameter.default) for each, parameter in known.items())
    return [value for value in full if isinstance(value, Path)]


def settings(kind: str, name: str, values: Mapping[str, object]) -> dict[str, object]:
    """The component and all its parameters, those that `values` leaves out at their defaults, as JSON has them.

    Raises what creating it would raise for a wrong name or value.

    >>> found = settings("agglomerators", "python", {"score": "max"})
    >>> found["name"], found["parameters"]["score"], found == settings("agglomerators", "segkit-em:python", {})
    ('python', 'max', False)
    """
    component = find(kind, name)
    known = component.parameters()
    given = convert(known, values, component.title)
    full = {each: given.get(each, parameter.default) for each, parameter in known.items()}
    whose = "" if component.distribution == OWN else f"{component.distribution}:"
    return {"name": f"{whose}{component.name}", "parameters": json.loads(json.dumps(full, default=str))}
