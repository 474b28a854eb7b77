"""What a component was made with, in a form that can be written down and compared."""

import json
from collections.abc import Mapping
from pathlib import Path

from segkit.parameters import convert
from segkit.registry import find
from segkit.registry.component import OWN, Component


def files_of(component: Component, values: Mapping[str, object]) -> dict[str, Path]:
    """The files that a component reads, by the parameter: those of the type Path, or Path and others."""
    known = component.parameters()
    full = {name: parameter.default for name, parameter in known.items()} | convert(known, values, component.title)
    return {name: value for name, value in full.items() if isinstance(value, Path)}


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
