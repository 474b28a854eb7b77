"""A component that an installed distribution declares: imported when it is used, and harmless where it is broken."""

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from segkit.errors import BrokenComponent
from segkit.parameters import Parameter, construct, parameters
from segkit.registry.contract import breach
from segkit.registry.distributions import Environment

OWN = "segkit-em"
"""The distribution whose components are built in; the name `segkit` is another project's on the package index."""
SINGULAR = {
    "models": "model",
    "losses": "loss",
    "fragmenters": "fragmenter",
    "agglomerators": "agglomerator",
    "metrics": "metric",
}
_KEEPING = threading.RLock()
"""Two threads that take turns with one stdout could lose it."""


@dataclass(frozen=True)
class Component:
    """A component that some installed distribution declares; whether it works is seen when it is loaded."""

    kind: str
    """One of `GROUPS`: "models", "losses", "fragmenters", "agglomerators", "metrics"."""
    name: str
    distribution: str
    version: str
    target: str
    """"module:Class", as declared."""

    @property
    def title(self) -> str:
        """How messages call it: ``agglomerator 'waterz'``."""
        return f"{SINGULAR[self.kind]} {self.name!r}"

    @property
    def module(self) -> str:
        """The module that loading it imports."""
        return self.target.partition(":")[0].strip()

    def load(self) -> type[Any]:
        """Import the class. Raises BrokenComponent, with the reason and how to mend it, whatever the import does.

        What the import prints goes to stderr, since stdout belongs to results.
        """
        if not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", self.target):
            raise BrokenComponent(self.broken(f"its entry point {self.target!r} does not look like 'module:Class'"))
        try:
            with _stdout_kept(self.module):
                component: object = import_module(self.module)
            for part in self.target.partition(":")[2].split("."):
                component = getattr(component, part)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # sys.exit() in a plugin must not end the program
            raise BrokenComponent(self._not_imported(error)) from error
        if not isinstance(component, type):
            raise BrokenComponent(self.broken(f"{self.target} is no class"))
        if reason := breach(self.kind, component):
            raise BrokenComponent(self.broken(reason))
        return component

    def create(self, **values: object) -> Any:
        """An instance, its parameters checked and converted."""
        return construct(self.load(), values, self.title)

    def parameters(self) -> dict[str, Parameter]:
        """The parameters of the constructor, by name."""
        return parameters(self.load())

    def problem(self) -> str | None:
        """Why it cannot be used, in one sentence; None if it can. Imports it."""
        try:
            self.load()
        except BrokenComponent as error:
            return str(error)
        return None

    def broken(self, reason: str, how: str | None = None) -> str:
        """The sentence that says why it cannot be used, and how to mend it."""
        how = how or f"upgrade or reinstall it, or remove it with 'pip uninstall {self.distribution}'"
        return f"{self.title} of {self.distribution} {self.version} cannot be used ({reason}); {how}"

    def _not_imported(self, error: BaseException) -> str:
        unmet = Environment().unmet(self.distribution)
        reasons = [f"{type(error).__name__}: {error}", *(f"it {each}" for each in unmet)]
        wanted = " ".join(f"'{each.requirement}'" for each in unmet)
        return self.broken("; ".join(reasons), f"pip install {wanted}" if unmet else None)


@contextmanager
def _stdout_kept(module: str) -> Iterator[None]:
    """Send to stderr what is written to stdout, also below Python, while a module is imported for the first time."""
    if module in sys.modules or module.startswith("segkit."):
        yield
        return
    with _KEEPING:
        yield from _to_stderr()


def _to_stderr() -> Iterator[None]:
    try:
        sys.stdout.flush()
        saved = os.dup(1)
        os.dup2(2, 1)
    except (AttributeError, OSError, ValueError):  # one of them is closed
        yield
        return
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 1)
        os.close(saved)
