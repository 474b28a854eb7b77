"""What is tried: fragmenters and agglomerators, each with values of its parameters, and every one with every other."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from segkit.blockwise import ComponentSpec
from segkit.data import Grid
from segkit.errors import InvalidInput, InvalidParameter, sentence
from segkit.io.atomic import storage_errors
from segkit.io.missing import missing_file
from segkit.registry import find

KINDS = {"fragmenter": "fragmenters", "agglomerator": "agglomerators"}
"""Table of a file of a space -> kind of component."""
APART = 2.0
"""Sections that are so many times as far apart as voxels in them are cut one by one."""
MOST = 100_000
"""Combinations that a space may have."""
Place = tuple[int, ...]


@dataclass(frozen=True)
class Choices:
    """One component, and the values that are tried of each of its parameters; the others keep their defaults."""

    kind: str
    """As in :data:`segkit.protocols.GROUPS`: "fragmenters"."""
    name: str
    values: Mapping[str, Sequence[object]] = field(default_factory=dict)
    """Each is tried once. Numbers of one parameter are sorted: those beside each other are neighbours."""

    def __post_init__(self) -> None:
        for name, tried in self.values.items():
            if not tried:
                what = f"{name} of {self.kind[:-1]} {self.name!r}"
                raise InvalidParameter(sentence(what, "must have a value", next_step="leave it out, or give one"))
        tidy = {name: _sorted(tried) if _numbers(tried) else _once(tried) for name, tried in self.values.items()}
        object.__setattr__(self, "values", tidy)

    def __len__(self) -> int:
        return prod(map(len, self.values.values()))

    def points(self) -> Iterator[tuple[Place, ComponentSpec]]:
        """Yield the component with each choice of values, and the position of each value among those tried."""
        for place in product(*(range(len(tried)) for tried in self.values.values())):
            chosen = {name: tried[k] for (name, tried), k in zip(self.values.items(), place, strict=True)}
            yield place, ComponentSpec(self.kind, self.name, chosen)

    def steps(self, place: Place) -> Iterator[Place]:
        """Yield the positions that differ by one step of one parameter that is a number."""
        for axis, tried in enumerate(self.values.values()):
            for step in (-1, 1) if _numbers(tried) else ():
                if 0 <= place[axis] + step < len(tried):
                    yield (*place[:axis], place[axis] + step, *place[axis + 1 :])


@dataclass(frozen=True)
class Combination:
    """A fragmenter and an agglomerator with their parameters."""

    fragmenter: ComponentSpec
    agglomerator: ComponentSpec
    position: tuple[int, Place, int, Place]
    """The numbers of both choices in the space, and the places in them."""


@dataclass(frozen=True)
class Space:
    """Every fragmenter with every agglomerator."""

    fragmenters: tuple[Choices, ...]
    agglomerators: tuple[Choices, ...]

    @cached_property
    def combinations(self) -> tuple[Combination, ...]:
        """All of them, those of one fragmentation one after the other.

        Raises InvalidParameter if there are none, or more than 100000.
        """
        numbers = [sum(map(len, choices)) for choices in (self.fragmenters, self.agglomerators)]
        if not 0 < prod(numbers) <= MOST:
            rule = f"must have a fragmenter and an agglomerator, and at most {MOST} combinations"
            raise InvalidParameter(sentence("the space", rule, prod(numbers), "name fewer values, or more"))
        merging = [(b, place, spec) for b, choice in enumerate(self.agglomerators) for place, spec in choice.points()]
        return tuple(
            Combination(cutting, agglomerator, (a, at, b, place))
            for a, choice in enumerate(self.fragmenters)
            for at, cutting in choice.points()
            for b, place, agglomerator in merging
        )

    @cached_property
    def neighbours(self) -> list[list[int]]:
        """Of each combination the numbers of those that differ by one step of one parameter that is a number."""
        numbers = {each.position: number for number, each in enumerate(self.combinations)}
        found = []
        for a, at, b, place in numbers:
            near = [(a, step, b, place) for step in self.fragmenters[a].steps(at)]
            near += [(a, at, b, step) for step in self.agglomerators[b].steps(place)]
            found.append([numbers[each] for each in near])
        return found

    def check(self) -> None:
        """Refuse unknown components and parameters, and values that they do not take, as the registry does."""
        for choice in (*self.fragmenters, *self.agglomerators):
            for _, spec in choice.points():
                spec.load()
                spec.check_files()


def default_space(voxels: Grid, neighborhood: ArrayLike) -> Space:
    """Return the 60 combinations that are tried unless others are named; all are built in.

    Fragments: `watershed` on the least affinity of a voxel, at three thresholds and seed distances, and
    `affinity-watershed` with three sizes. Scores: the mean and four quantiles. In `voxels` that are at least twice as
    long along z as in the section, and where no offset of the `neighborhood` leaves it, sections are cut one by one.
    """
    size = voxels.voxel_size
    apart = size[0] >= APART * max(size[1:]) or not np.asarray(neighborhood)[:, 0].any()
    sizes, least = ((30, 100, 300), 100) if apart else ((100, 300, 1000), 300)
    common: dict[str, Sequence[object]] = {"per_section": (True,)} if apart else {}
    seeded = {"threshold": (0.6, 0.75, 0.9), "statistic": ("min",), "seed_distance": (6, 8, 12)}
    return Space(
        (
            Choices("fragmenters", "watershed", seeded | {"size_threshold": (least,)} | common),
            Choices("fragmenters", "affinity-watershed", {"size_threshold": sizes} | common),
        ),
        (
            Choices("agglomerators", "python", {"score": ("mean",)}),
            Choices("agglomerators", "python", {"score": ("quantile",), "quantile": (0.5, 0.65, 0.8, 0.9)}),
        ),
    )


def read_space(path: Path) -> Space:
    """Read a space from a TOML file: tables ``[[fragmenter]]`` and ``[[agglomerator]]``.

    Each has a `name`, and parameters: a list is the values that are tried, anything else the only one. Raises
    InvalidInput for what is no such file.
    """
    if not path.exists():
        raise missing_file(path)
    with storage_errors("read", path):
        text = path.read_bytes()
    try:
        content = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"space {path} is not valid TOML: {error}") from error
    for key in content:
        if key not in KINDS:
            raise InvalidInput(sentence(f"{key!r} in space {path}", "must be [[fragmenter]] or [[agglomerator]]"))
    choices: dict[str, tuple[Choices, ...]] = {}
    for key, kind in KINDS.items():
        tables = content.get(key)
        if not isinstance(tables, list) or not all(isinstance(each, dict) and "name" in each for each in tables):
            rule = f"must have tables [[{key}]], each with a name"
            raise InvalidInput(sentence(f"space {path}", rule, next_step=f"add one such as name = {_example(key)}"))
        choices[key] = tuple(_choices(kind, dict(each)) for each in tables)
    return Space(choices["fragmenter"], choices["agglomerator"])


def named_choices(
    kind: str, names: Sequence[str], values: Mapping[str, Sequence[object]], usual: Sequence[Choices]
) -> tuple[Choices, ...]:
    """Return choices of the components `names` with the `values` of those parameters that they know.

    One that is given no value has the choices of `usual` that are its own, if there are such; without names those of
    `usual` are meant. A parameter that none knows is refused by the first, in the words of the registry.
    """
    if not names and not values:
        return tuple(usual)
    names = list(dict.fromkeys(names or (choice.name for choice in usual)))
    known = {name: find(kind, name).parameters() for name in names}
    strange = {key: tried for key, tried in values.items() if not any(key in each for each in known.values())}
    found: list[Choices] = []
    for name in names:
        own = {key: tried for key, tried in values.items() if key in known[name]}
        own |= strange if name == names[0] else {}
        own_usual = [choice for choice in usual if choice.name == name]
        found += [Choices(kind, name, own)] if own or not own_usual else own_usual
    return tuple(found)


def _choices(kind: str, table: dict[str, object]) -> Choices:
    name = str(table.pop("name"))
    return Choices(kind, name, {key: value if isinstance(value, list) else [value] for key, value in table.items()})


def _example(key: str) -> str:
    return '"watershed"' if key == "fragmenter" else '"python"'


def _numbers(values: Sequence[object]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _once(values: Sequence[object]) -> tuple[object, ...]:
    return tuple(value for k, value in enumerate(values) if value not in values[:k])


def _sorted(values: Sequence[Any]) -> tuple[object, ...]:
    return tuple(sorted(set(values)))
