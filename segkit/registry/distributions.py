"""What installed distributions say of themselves, read from their metadata; nothing of theirs is imported."""

import os
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import Distribution

    from packaging.specifiers import SpecifierSet

HOME_PAGES = ("homepage", "home", "repository", "source", "documentation")
"""Labels of project URLs, the best first."""
STRANGER = re.compile(r"segkit-([^-]+)(?:-py[\d.]+)?\.(?:dist|egg)-info", re.IGNORECASE)


@dataclass(frozen=True)
class Unmet:
    """A requirement of a distribution that this environment does not meet."""

    requirement: str
    """As declared, without its marker: ``waterz>=0.10``."""
    installed: str | None
    """The version that is installed, if any."""

    def __str__(self) -> str:
        instead = f"{self.installed} is installed" if self.installed else "it is not installed"
        return f"needs {self.requirement}, and {instead}"


class Environment:
    """The distributions of this process's import path. Remembers what it has read: make one for each question."""

    def __init__(self) -> None:
        self._versions: dict[str, str | None] = {}

    def version(self, name: str) -> str | None:
        """The installed version of a distribution, None if there is none."""
        if name not in self._versions:
            self._versions[name] = _read(find(name), "version")
        return self._versions[name]

    def unmet(self, name: str) -> list[Unmet]:
        """The direct requirements of a distribution that are not installed, or not in a version that fits."""
        from packaging.requirements import InvalidRequirement, Requirement

        found = find(name)
        unmet = []
        for text in _read(found, "requires") or ():
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                continue  # pip, which has read it, knew better
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            installed = self.version(requirement.name)
            if installed is None or not _fits(requirement.specifier, installed):
                unmet.append(Unmet(f"{requirement.name}{requirement.specifier}", installed))
        return unmet


def find(name: str) -> "Distribution | None":
    """An installed distribution, None if there is none of that name."""
    from importlib import metadata

    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def stranger() -> str | None:
    """The version of an installed distribution called `segkit`, which is not this one; None if there is none.

    Names of folders are enough, so that every call of the command line can afford to look.
    """
    for folder in dict.fromkeys(sys.path):
        try:
            names = os.listdir(folder or ".")
        except OSError:  # a zip file, or gone
            continue
        for name in names:
            if match := STRANGER.fullmatch(name):
                return match[1]
    return None


def summary(name: str) -> str:
    """The one line in which a distribution describes itself; "" if it does not."""
    return _field(name, "Summary")


def home_page(name: str) -> str:
    """Where to read more on a distribution; "" if it does not say."""
    found = find(name)
    urls = {}
    metadata = _read(found, "metadata")
    for text in (metadata.get_all("Project-URL") if metadata else None) or ():
        label, _, url = text.partition(",")
        urls[label.strip().lower().replace(" ", "").replace("-", "")] = url.strip()
    known = [urls[label] for label in HOME_PAGES if label in urls]
    return next(filter(None, [*known, _field(name, "Home-page"), *urls.values()]), "")


def _field(name: str, field: str) -> str:
    metadata = _read(find(name), "metadata")
    value = metadata.get(field) if metadata else None
    return "" if value in (None, "UNKNOWN") else value


def _read(found: "Distribution | None", attribute: str) -> Any:
    """An attribute of a distribution; None if it is not installed, or its metadata are damaged."""
    try:
        return getattr(found, attribute, None)
    except Exception:  # what importlib.metadata raises for a damaged file is said nowhere
        return None


def _fits(specifier: "SpecifierSet", installed: str) -> bool:
    from packaging.version import InvalidVersion

    try:
        return specifier.contains(installed, prereleases=True)
    except InvalidVersion:
        return True  # not a version that could be compared
