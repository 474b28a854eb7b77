"""What is installed, and what is wrong with it: the rows of `segkit plugins list`, and all there is to say of one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from segkit.errors import BrokenComponent
from segkit.registry import declarations, distributions, quarantine
from segkit.registry.component import OWN, Component


@dataclass(frozen=True)
class Row:
    """A component that a distribution declares, or a declaration that gives none."""

    kind: str
    """One of `segkit.protocols.GROUPS`; a group that does not exist; "" if the declarations cannot be read."""
    name: str
    distribution: str
    version: str
    usable: bool | None
    """None: nobody has tried, since that needs an import."""
    problem: str
    """What is wrong and how to mend it; "" if nothing is known to be."""


def inventory(
    kind: str | None = None,
    *,
    check: bool = False,
    timeout: float = quarantine.TIMEOUT,
    progress: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """All components, of one kind if it is given, and all declarations that cannot be understood.

    Without `check` nothing is imported: requirements, names and declarations are looked at. With it every distribution
    is imported in a process of its own, for at most `timeout` seconds each: :func:`segkit.registry.quarantine.examine`.
    """
    found, wrong = declarations()
    problems = _problems(found, imported=check)
    chosen = [component for component in found if kind in (None, component.kind)]
    tried = quarantine.examine(chosen, timeout, progress) if check else [None] * len(chosen)
    rows = [_row(component, problems[component], finding) for component, finding in zip(chosen, tried, strict=True)]
    return rows + [Row(each.group, each.name, each.distribution, each.version, False, each.problem) for each in wrong]


def describe(component: Component, timeout: float = quarantine.TIMEOUT) -> dict[str, Any]:
    """All there is to say of a component, for programs; it is imported in another process.

    Raises BrokenComponent if it cannot be used.
    """
    (finding,) = quarantine.examine([component], timeout)
    if not finding.usable:
        raise BrokenComponent("; ".join(finding.problems))
    static = _problems(declarations()[0], imported=True).get(component, [])
    return {
        "kind": component.kind,
        "name": component.name,
        "distribution": component.distribution,
        "version": component.version,
        "summary": distributions.summary(component.distribution),
        "home_page": distributions.home_page(component.distribution),
        "class": component.target,
        **finding.description,
        "problem": "; ".join([*static, *finding.problems]),
    }


def _row(component: Component, known: Sequence[str], finding: quarantine.Examination | None) -> Row:
    usable = None if finding is None else finding.usable
    seen = finding.problems if finding else ()
    new = [each for each in known if not any(each.partition(":")[0] in problem for problem in seen)]
    problem = "; ".join([*new, *seen])
    return Row(component.kind, component.name, component.distribution, component.version, usable, problem)


def _problems(found: Sequence[Component], *, imported: bool) -> dict[Component, list[str]]:
    """What is wrong with each component as far as can be seen without importing it, and if it is not."""
    environment = distributions.Environment()
    holders: dict[tuple[str, str], list[Component]] = {}
    for component in found:
        holders.setdefault((component.kind, component.name), []).append(component)
    unmet = {name: _unmet(environment, name) for name in {component.distribution for component in found}}
    return {
        each: _clash(each, holders[each.kind, each.name])
        + unmet[each.distribution]
        + ([] if imported else _missing(each))
        for each in found
    }


def _unmet(environment: distributions.Environment, distribution: str) -> list[str]:
    upgrade = f"upgrade {distribution}, or "
    return [
        f"it {each}: {upgrade if each.installed else ''}pip install '{each.requirement}'"
        for each in environment.unmet(distribution)
    ]


def _clash(component: Component, holders: Sequence[Component]) -> list[str]:
    others = [f"{each.distribution} {each.version}" for each in holders if each.distribution != component.distribution]
    if component.distribution == OWN or not others:
        return []
    built_in = OWN in {each.distribution for each in holders}
    taken = "is that of a built-in component" if built_in else f"is also offered by {' and '.join(others)}"
    return [f"its name {taken}; call it '{component.distribution}:{component.name}'"]


def _missing(component: Component) -> list[str]:
    """Whether the package it is in can be found; looking for it imports nothing."""
    package = component.module.partition(".")[0]
    try:
        missing = bool(package) and find_spec(package) is None
    except (ImportError, ValueError):
        missing = True
    return [f"its package {package!r} is not installed; reinstall {component.distribution}"] if missing else []
