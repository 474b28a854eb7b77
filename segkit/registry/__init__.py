"""The core: finds components by entry point.

The built-in components are declared in segkit's own pyproject.toml in the same groups, so there is one path, and a
third party has the same rights, except that nobody can take a built-in name away. Listing imports nothing; a component
is imported when it is used, see :class:`segkit.registry.component.Component`. Discovery goes through the `entrypoints`
package, here and nowhere else.
"""

import configparser
import re
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from segkit.errors import AmbiguousComponent, UnknownComponent, sentence
from segkit.parameters import nearest
from segkit.protocols import GROUPS
from segkit.registry.component import OWN, SINGULAR, Component

ARTICLE = {kind: ("an " if name[0] in "aeiou" else "a ") + name for kind, name in SINGULAR.items()}
RECIPES = "segkit.recipes"
"""Entry points of this group name packages with a folder `recipes`; it holds files, and no component."""
UNREADABLE = (configparser.Error, UnicodeError, OSError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Misdeclared:
    """A declaration that gives no component: a file that cannot be read, or a group that does not exist."""

    group: str
    """"" if the file as a whole cannot be read."""
    name: str
    distribution: str
    version: str
    problem: str
    """What is wrong and how to mend it, in one sentence."""


def components(kind: str) -> list[Component]:
    """All declared components of a kind, sorted by name, then distribution. Imports none of them."""
    _require(kind)
    return [component for component in declarations()[0] if component.kind == kind]


def declarations() -> tuple[list[Component], list[Misdeclared]]:
    """What installed distributions declare in segkit's groups, and what is wrong with that. Imports nothing."""
    found, wrong = set(), set()
    kinds = {group: kind for kind, group in GROUPS.items()}
    for distribution, version, groups in _entry_points():
        if isinstance(groups, str):
            problem = f"its entry_points.txt is damaged ({groups}); reinstall it, or remove it"
            wrong.add(Misdeclared("", "", distribution, version, problem))
            continue
        for group in groups.sections():
            for name, target in groups.items(group, raw=True) if group.startswith("segkit.") else ():
                if group in kinds:
                    target = re.sub(r"\s*\[.*\]$", "", target).strip()  # extras: mymodule:Class [fast]
                    found.add(Component(kinds[group], name, distribution, version, re.sub(r"\s*:\s*", ":", target)))
                elif group != RECIPES:
                    wrong.add(Misdeclared(group, name, distribution, version, _no_group(group)))
    order = list(GROUPS)
    return (
        sorted(found, key=lambda each: (order.index(each.kind), each.name, each.distribution)),
        sorted(wrong, key=lambda each: (each.distribution, each.group, each.name)),
    )


def find(kind: str, name: str) -> Component:
    """The component called `name`, or ``distribution:name``.

    A name without a distribution means the built-in component, if there is one. Raises AmbiguousComponent where two
    other distributions offer the name.
    """
    _require(kind)
    found, wrong = declarations()
    declared = [component for component in found if component.kind == kind]
    distribution, _, short = name.rpartition(":")
    wanted = _normalize(distribution)
    matches = [each for each in declared if each.name == short and wanted in ("", each.distribution)]
    matches = [each for each in matches if each.distribution == OWN] or matches
    if len(matches) > 1:
        holders = " and ".join(f"{m.distribution} {m.version}" for m in matches)
        choices = " or ".join(f"'{m.distribution}:{m.name}'" for m in matches)
        raise AmbiguousComponent(f"{SINGULAR[kind]} {short!r} is offered by {holders}; choose {choices}")
    if not matches:
        unreadable = [f"{each.distribution} {each.version}" for each in wrong if not each.group]
        hint = f"; the declarations of {', '.join(unreadable)} cannot be read" if unreadable else ""
        raise UnknownComponent(_unknown(kind, name, [component.name for component in declared]) + hint)
    return matches[0]


def load(kind: str, name: str, **values: object) -> Any:
    """A component, ready to use.

    >>> import segkit
    >>> segkit.load("agglomerators", "python", score="mean").score
    'mean'
    """
    return find(kind, name).create(**values)


def recipe_folders() -> list[tuple[str, Path]]:
    """Find the folders of recipes that distributions declare: each with its distribution, segkit's own first.

    One that is not there is left out.
    """
    found = set()
    for distribution, _, groups in _entry_points():
        if not isinstance(groups, str) and groups.has_section(RECIPES):
            for _, package in groups.items(RECIPES, raw=True):
                found |= {(distribution, folder) for folder in _folders(package)}
    return sorted(found, key=lambda each: (each[0] != OWN, each))


def known_elsewhere() -> dict[tuple[str, str], str]:
    """Read which distributions of segkit's repository offer what: kind, or "recipes", and name -> distribution."""
    told = tomllib.loads(Path(__file__).with_name("elsewhere.toml").read_text(encoding="utf-8"))
    return {
        (kind, name): distribution
        for distribution, offered in told.items()
        for kind, names in offered.items()
        for name in names
    }


def what_to_install(kind: str, name: str) -> str | None:
    """Say which distribution offers something that is not installed, and how to install it; None if that is not known.

    >>> what_to_install("agglomerators", "waterz")
    "it comes with segkit-waterz: 'pip install plugins/segkit-waterz' in segkit's repository"
    """
    distribution = known_elsewhere().get((kind, name))
    where = f"'pip install plugins/{distribution}' in segkit's repository"
    return f"it comes with {distribution}: {where}" if distribution else None


def kind_named(text: str) -> str:
    """The kind that a user means by its name or by that of one component: "agglomerators" or "agglomerator"."""
    names = {name: kind for kind, singular in SINGULAR.items() for name in (kind, singular)}
    if text.lower() in names:
        return names[text.lower()]
    guess = nearest(text.lower(), names)
    next_step = f"did you mean {guess!r}?" if guess else None
    raise UnknownComponent(sentence("kind", f"must be one of {', '.join(GROUPS)}", repr(text), next_step))


def _require(kind: str) -> None:
    if kind not in GROUPS:
        raise UnknownComponent(sentence("kind", f"must be one of {', '.join(GROUPS)}", repr(kind)))


def _entry_points() -> Iterator[tuple[str, str, configparser.ConfigParser | str]]:
    """Name, version and entry points of each distribution that has any, or why they cannot be read.

    Of two distributions of one name, the first on sys.path is the one that Python imports.
    """
    seen = set()
    for folder in dict.fromkeys(map(str, sys.path)):
        for distribution, groups in _in_folder(folder):
            name = _normalize(distribution.name)
            if name not in seen:
                yield name, distribution.version or "", groups
            seen.add(name)


def _folders(package: str) -> list[Path]:
    """The folder `recipes` of a package, if it is there; no module of it is imported, but its parents are."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return []
    inside = [Path(place) / "recipes" for place in (spec.submodule_search_locations or ())] if spec else []
    return [folder for folder in inside if folder.is_dir()]


def _in_folder(folder: str) -> list[tuple[Any, configparser.ConfigParser | str]]:
    """All distributions in one entry of sys.path. The package stops at the first damaged file; we go on."""
    import entrypoints

    try:
        return [(found, groups) for groups, found in entrypoints.iter_files_distros([folder], repeated_distro="all")]
    except UNREADABLE:
        files = [
            path for end in ("dist", "egg") for path in sorted(Path(folder).glob(f"*.{end}-info/entry_points.txt"))
        ]
    read = []
    for path in files:
        groups = entrypoints.CaseSensitiveConfigParser(delimiters=("=",))
        try:
            groups.read_string(path.read_text(encoding="utf-8"), source=path.parent.name)
        except UNREADABLE as error:
            groups = " ".join(str(error).split())
        read.append((entrypoints.Distribution.from_name_version(path.parent.stem), groups))
    return read


def _normalize(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _no_group(group: str) -> str:
    read = [*GROUPS.values(), RECIPES]
    guess = nearest(group, read)
    hint = f"did you mean {guess!r}?" if guess else f"segkit reads {', '.join(read)}"
    return f"there is no group {group!r}; {hint}"


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    message = f"no installed distribution offers {ARTICLE[kind]} {name!r}"
    if hint := what_to_install(kind, name):
        return f"{message}; {hint}"
    guess = nearest(name, known)
    return f"{message}; {f'did you mean {guess!r}? ' if guess else ''}known are {', '.join(known) or 'none'}"
