"""A component as it travels to other processes: by name."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from segkit.registry import find
from segkit.registry.component import Component
from segkit.registry.settings import settings


@dataclass(frozen=True)
class ComponentSpec:
    """Which component, with which parameters. Every process makes its own from its own registry."""

    kind: str
    """As in :data:`segkit.protocols.GROUPS`: "fragmenters"."""
    name: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    """Those that are not left at their defaults."""

    def load(self) -> Any:
        """The component. Raises what :func:`segkit.registry.load` raises."""
        return _found(self.kind, self.name, tuple(sys.path)).create(**self.parameters)

    def settings(self) -> dict[str, object]:
        """Its name and all its parameters, as they are noted in files."""
        return settings(self.kind, self.name, self.parameters)

    def identity(self) -> list[object]:
        """All that decides what it computes, the version of its distribution included, as plain values."""
        component = find(self.kind, self.name)
        return [self.kind, self.settings(), component.distribution, component.version]


@lru_cache(maxsize=16)
def _found(kind: str, name: str, path: tuple[str, ...]) -> Component:
    """Where it is declared. To look through all distributions takes as long as a small block."""
    return find(kind, name)
