"""A component as it travels to other processes: by name."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from segkit.blockwise.store import file_digest
from segkit.io.missing import missing_file
from segkit.registry import find
from segkit.registry.component import Component
from segkit.registry.settings import files_of, settings


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
        return self._component.create(**self.parameters)

    def check_files(self) -> None:
        """Raise MissingFile unless all files that it reads are there; those of a recipe may be yet to be made."""
        for path in self.files().values():
            if not path.exists():
                raise missing_file(path)

    def settings(self) -> dict[str, object]:
        """Its name and all its parameters, as they are noted in files."""
        return settings(self.kind, self.name, self.parameters)

    def identity(self) -> list[object]:
        """All that decides what it computes, as plain values: the version of it, and what its files hold."""
        component = find(self.kind, self.name)
        contents = [file_digest(path) for path in self.files().values()]
        return [self.kind, self.settings(), component.distribution, component.version, *contents]

    def files(self) -> dict[str, Path]:
        """The files that it reads, such as one of what was learned, by the parameter that names each."""
        return files_of(self._component, self.parameters)

    @property
    def _component(self) -> Component:
        return _found(self.kind, self.name, tuple(sys.path))


@lru_cache(maxsize=16)
def _found(kind: str, name: str, path: tuple[str, ...]) -> Component:
    """Where it is declared. To look through all distributions takes as long as a small block."""
    return find(kind, name)
