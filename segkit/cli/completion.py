"""Shell completion of names, files, datasets, runs, recipes and settings; it imports no component."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from click.shell_completion import CompletionItem


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
        return component_names(kind_named(ctx.params.get("kind") or ""), "", incomplete)
    except UnknownComponent:
        return []


def complete_file(incomplete: str) -> list[CompletionItem]:
    """Lets the shell complete names of files."""
    return [CompletionItem(incomplete, type="file")]


def complete_address(incomplete: str) -> list[CompletionItem]:
    """Completes files, and after a colon the datasets in one; its file is opened for that, and not before."""
    file, colon, dataset = incomplete.rpartition(":")
    path = Path(file).expanduser()
    if not colon or not path.exists():
        return complete_file(incomplete)
    from segkit.errors import SegkitError
    from segkit.io import datasets

    try:
        names = datasets(path)
    except (SegkitError, OSError, ImportError):
        return []
    return [CompletionItem(f"{file}:{name}") for name in names if name.startswith(dataset)]


def complete_run(incomplete: str) -> list[CompletionItem]:
    """Completes folders: those of training runs first, then those that may hold some."""
    folders = [(name, path) for name, path in _entries(incomplete) if path.is_dir()]
    runs = [name for name, path in folders if (path / "config.json").is_file()]
    others = [f"{name}/" for name, _ in folders if name not in runs]
    return [CompletionItem(name) for name in runs + others]


def complete_recipe(incomplete: str) -> list[CompletionItem]:
    """Completes names of shipped recipes, then files of recipes and, once something is typed, folders."""
    from segkit.run import shipped_recipes

    shipped = [name for name in shipped_recipes() if name.startswith(incomplete)]
    entries = _entries(incomplete)
    files = [name for name, path in entries if path.suffix == ".toml" and path.is_file()]
    folders = [f"{name}/" for name, path in entries if path.is_dir() and incomplete]
    return [CompletionItem(name) for name in shipped + files + folders]


def recipe_settings(recipe: str) -> dict[str, Sequence[str]]:
    """Name all values of a recipe."""
    from segkit.run import recipe_values

    return dict.fromkeys(recipe_values(recipe), ())


def training_settings(params: Mapping[str, object]) -> dict[str, Sequence[str]]:
    """Name all settings of training, with the parameters of the network and of each term of the loss."""
    from segkit.train.config import described_settings

    rows = {row.name: row for row in described_settings()}
    model, loss = (str(params.get(name) or rows[name].default) for name in ("model", "loss"))
    found: dict[str, Sequence[str]] = {}
    for name, row in rows.items():
        if not name.endswith(".NAME"):
            found[name] = ("true", "false") if row.type == "bool" else re.findall(r"'(.+?)'", row.type)
        elif name == "model.NAME":
            parameters = parameter_values("models", model).items()
            found |= {f"model.{each}": values for each, values in parameters if each != "channels"}
        elif name == "loss.NAME":
            terms = [term.rpartition("*")[2].strip() for term in loss.split("+")]
            for term in terms:
                table = f"loss.{term}" if len(terms) > 1 else "loss"
                found |= {f"{table}.{each}": values for each, values in parameter_values("losses", term).items()}
    return found


def parameter_values(kind: str, name: str) -> dict[str, tuple[str, ...]]:
    """Read the parameters of a component from its source, each with its values where these are a few."""
    from segkit.registry import find
    from segkit.registry.signature import stated_parameters

    return stated_parameters(find(kind, name))


def _entries(incomplete: str) -> list[tuple[str, Path]]:
    """What a folder holds that begins as typed, in order: each as it is typed, and its path; hidden ones if meant."""
    folder, slash, start = incomplete.rpartition("/")
    try:
        items = sorted(Path(folder + slash or ".").expanduser().iterdir())
    except (OSError, RuntimeError):  # no such folder, or no such user
        return []
    shown = [item for item in items if item.name.startswith(start) and (start or not item.name.startswith("."))]
    return [(f"{folder}{slash}{item.name}", item) for item in shown]


def component_names(kind: str, prefix: str, incomplete: str) -> list[CompletionItem]:
    """Complete names of components, each with its distribution where two offer it and neither is built in."""
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
