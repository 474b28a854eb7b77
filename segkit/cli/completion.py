"""Shell completion of component names, for click's shell_complete; it imports no component."""

from collections.abc import Callable

import click
from click.shell_completion import CompletionItem

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete_component(kind: str, separators: str = "") -> Complete:
    """Completes names of components of a kind.

    What stands before the last of `separators` stays: in ``mse+0.1*cons`` a loss is completed after "*".
    """

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        start = max((incomplete.rfind(separator) + 1 for separator in separators), default=0)
        return _names(kind, incomplete[:start], incomplete[start:])

    return complete


def complete_kind(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes kinds of components."""
    from segkit.registry.component import SINGULAR

    kinds = [kind for kind in SINGULAR if kind.startswith(incomplete)]
    return [CompletionItem(kind) for kind in kinds or SINGULAR.values() if kind.startswith(incomplete)]


def complete_component_of_kind(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes names of components of the kind that the argument before it names."""
    from segkit.errors import UnknownComponent
    from segkit.registry import kind_named

    try:
        return _names(kind_named(ctx.params.get("kind") or ""), "", incomplete)
    except UnknownComponent:
        return []


def _names(kind: str, prefix: str, incomplete: str) -> list[CompletionItem]:
    """One item a name; where two distributions offer a name, each with its distribution, unless one is built in."""
    from segkit.registry import components
    from segkit.registry.component import OWN

    found = components(kind)
    names = [component.name for component in found]
    built_in = {component.name for component in found if component.distribution == OWN}
    items = []
    for component in found:
        own = component.distribution == OWN
        bare = own or (names.count(component.name) == 1 and component.name not in built_in)
        name = component.name if bare else f"{component.distribution}:{component.name}"
        if name.startswith(incomplete):
            items.append(CompletionItem(prefix + name, help=f"{component.distribution} {component.version}"))
    return items
