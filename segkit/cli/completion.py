"""Shell completion of names, files, datasets, runs, recipes and settings; it imports no component."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import click
from click.shell_completion import CompletionItem

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
CHOSEN_BY = {"model": "models", "method": "fragmenters", "backend": "agglomerators", "metrics": "metrics"}
"""Options that name a component whose parameters --set gives -> its kind."""
BENCHMARKED = {"agglomerate": "agglomerators", "fragment": "fragmenters", "evaluate": "metrics", "loss": "losses"}
"""Verbs of `segkit benchmark` -> the kind that they compare."""
USUAL = {"metrics": ("cremi",)}
"""What is taken where the option names none, and has no default."""


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


def complete_file(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Lets the shell complete names of files."""
    return [CompletionItem(incomplete, type="file")]


def complete_address(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes files, and after a colon the datasets in one; its file is opened for that, and not before."""
    file, colon, dataset = incomplete.rpartition(":")
    path = Path(file).expanduser()
    if not colon or not path.exists():
        return complete_file(ctx, param, incomplete)
    from segkit.errors import SegkitError
    from segkit.io import datasets

    try:
        names = datasets(path)
    except (SegkitError, OSError, ImportError):
        return []
    return [CompletionItem(f"{file}:{name}") for name in names if name.startswith(dataset)]


def complete_run(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes folders: those of training runs first, then those that may hold some."""
    folders = [(name, path) for name, path in _entries(incomplete) if path.is_dir()]
    runs = [name for name, path in folders if (path / "config.json").is_file()]
    others = [f"{name}/" for name, _ in folders if name not in runs]
    return [CompletionItem(name) for name in runs + others]


def complete_recipe(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes names of shipped recipes, then files of recipes and, once something is typed, folders."""
    from segkit.run import shipped_recipes

    shipped = [name for name in shipped_recipes() if name.startswith(incomplete)]
    entries = _entries(incomplete)
    files = [name for name, path in entries if path.suffix == ".toml" and path.is_file()]
    folders = [f"{name}/" for name, path in entries if path.is_dir() and incomplete]
    return [CompletionItem(name) for name in shipped + files + folders]


def complete_setting(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes NAME= of ``--set``, for what is chosen on the line, and values where there are a few."""
    name, equals, value = incomplete.partition("=")
    known = _settings(ctx)
    if equals:
        values = known.get(name, ())
        return [CompletionItem(f"{name}={each}") for each in values if each.startswith(value)]
    return [CompletionItem(f"{each}=") for each in known if each.startswith(name)]


def _settings(ctx: click.Context) -> Mapping[str, Sequence[str]]:
    """Names that ``--set`` of this verb takes, each with its values where these are a few."""
    from segkit.errors import SegkitError

    try:
        if ctx.command.name == "run":
            from segkit.run import recipe_values

            recipe = ctx.params.get("recipe") or next(iter(ctx.args), "")  # --set without a value leaves it in args
            return dict.fromkeys(recipe_values(recipe), ())
        return _training_settings(ctx.params) if ctx.command.name == "train" else _component_settings(ctx)
    except SegkitError:
        return {}


def _component_settings(ctx: click.Context) -> dict[str, Sequence[str]]:
    """Parameters of the components that the options of a verb name, or of the usual ones."""
    found: dict[str, Sequence[str]] = {}
    for param in ctx.command.params:
        kind = BENCHMARKED.get(ctx.command.name or "") if param.name == "names" else CHOSEN_BY.get(param.name or "")
        if kind:
            chosen = ctx.params.get(param.name) or param.default
            names = (chosen,) if isinstance(chosen, str) else chosen if isinstance(chosen, tuple) else ()
            for name in names or USUAL.get(kind, ()):
                found |= _parameters(kind, name.rpartition("=")[2])
    return found


def _training_settings(params: Mapping[str, object]) -> dict[str, Sequence[str]]:
    """All settings of training, with the parameters of the network and of each term of the loss."""
    from segkit.train.config import described_settings

    rows = {row.name: row for row in described_settings()}
    model, loss = (str(params.get(name) or rows[name].default) for name in ("model", "loss"))
    found: dict[str, Sequence[str]] = {}
    for name, row in rows.items():
        if not name.endswith(".NAME"):
            found[name] = ("true", "false") if row.type == "bool" else re.findall(r"'(.+?)'", row.type)
        elif name == "model.NAME":
            parameters = _parameters("models", model).items()
            found |= {f"model.{each}": values for each, values in parameters if each != "channels"}
        elif name == "loss.NAME":
            terms = [term.rpartition("*")[2].strip() for term in loss.split("+")]
            for term in terms:
                table = f"loss.{term}" if len(terms) > 1 else "loss"
                found |= {f"{table}.{each}": values for each, values in _parameters("losses", term).items()}
    return found


def _parameters(kind: str, name: str) -> dict[str, tuple[str, ...]]:
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


COMPLETED = {
    "RUN": complete_run,
    "RECIPE": complete_recipe,
    **dict.fromkeys(("ADDRESS", "DATA", "RAW", "AFFINITIES", "MERGE_TREE", "SEGMENTATION", "TRUTH"), complete_address),
    **dict.fromkeys(("LABELS", "IN", "OUT", "FILE"), complete_address),
    **dict.fromkeys(("F.toml", "FILE.json", "FILE.png", "FOLDER", "DIR", "SPEC"), complete_file),
    **dict.fromkeys(("NAME=VALUE", "TABLE.NAME=VALUE", "[LABEL.]NAME=VALUE"), complete_setting),
}
"""How a value is called in the help -> what completes it."""


def equip(params: Iterable[click.Parameter]) -> None:
    """Give each parameter the completion that goes with the name of its value in the help."""
    for param in params:
        named = param.metavar or (param.name or "").upper()
        if named in COMPLETED:
            setattr(param, "shell_complete", partial(_complete, COMPLETED[named], param))  # noqa: B010  # a method


def _complete(complete: Complete, param: click.Parameter, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    return complete(ctx, param, incomplete)


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
