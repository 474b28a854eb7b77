"""segkit plugins: List, show, check and start plugins."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from segkit.cli.common import Verb, echo_described, echo_json, echo_table, examples, json_option, progress
from segkit.cli.completion import complete_component_of_kind, complete_kind
from segkit.cli.plugins_check import check
from segkit.cli.plugins_new import new
from segkit.cli.types import Number
from segkit.errors import UnknownComponent, sentence
from segkit.parameters import nearest, prose

if TYPE_CHECKING:
    from segkit.registry.component import Component

USABLE = {True: "yes", False: "no", None: "not checked"}


TRY_LIST = examples("segkit plugins list", "segkit plugins list losses")
TRY_SHOW = examples("segkit plugins show agglomerators python", "segkit plugins show unet3d")


@click.group("plugins", epilog=examples("segkit plugins list", "segkit plugins show agglomerators python"))
def command() -> None:
    """List components, show their parameters, check what they promise, and start new ones."""


command.add_command(check)
command.add_command(new)


@command.command("list", cls=Verb, epilog=TRY_LIST)
@click.argument("kind", required=False, shell_complete=complete_kind)
@click.option("--check", is_flag=True, help="Import each distribution, in a process of its own, and report failures.")
@click.option(
    "--timeout",
    type=Number(min=0, min_open=True),
    default=60,
    show_default=True,
    help="Seconds for the imports of one distribution, with --check.",
)
@json_option
def list_components(kind: str | None, check: bool, timeout: float, as_json: bool) -> list[dict]:
    """List all components that the installed distributions declare, or those of one KIND.

    KIND is models, losses, fragmenters, agglomerators or metrics.

    Nothing is imported unless --check is given, so that "usable" is known only then. A problem says what is wrong and
    how to mend it; what can be seen without an import, such as a requirement that is not met, is shown always.
    """
    from segkit.registry import kind_named
    from segkit.registry.inventory import inventory

    chosen = kind_named(kind) if kind else None
    with progress("importing") as report:
        found = inventory(chosen, check=check, timeout=timeout, progress=report)
    rows = [asdict(row) for row in found]
    echo_json(rows) if as_json else _list(rows)
    return rows


def _list(rows: list[dict]) -> None:
    """The table, and below it what is wrong."""
    shown = [row | {"usable": USABLE[row["usable"]]} for row in rows]
    echo_table("Components", [{key: row[key] for key in row if key != "problem"} for row in shown])
    for row in rows:
        if row["problem"]:
            click.echo(f"{row['name'] or row['distribution']}: {row['problem']}")


@command.command("show", cls=Verb, epilog=TRY_SHOW)
@click.argument("kind", shell_complete=complete_kind)
@click.argument("name", required=False, shell_complete=complete_component_of_kind)
@json_option
def show(kind: str, name: str | None, as_json: bool) -> dict:
    """Show the parameters, their defaults and the description of the component NAME of a KIND.

    KIND is models, losses, fragmenters, agglomerators or metrics. It may be left out where only one kind has the name.
    """
    from segkit.registry import find, kind_named
    from segkit.registry.inventory import describe

    component = find(kind_named(kind), name) if name else _of_any_kind(kind)
    result = describe(component)
    echo_json(result) if as_json else _echo(component, result)
    return result


def _of_any_kind(name: str) -> "Component":
    """The one component of this name."""
    from segkit.protocols import GROUPS
    from segkit.registry import components, find

    known = [each for kind in GROUPS for each in components(kind)]
    kinds = sorted({each.kind for each in known if each.name == name.rpartition(":")[2]})
    if len(kinds) > 1:
        next_step = f"such as `segkit plugins show {kinds[0]} {name}`"
        rule = f"must have its kind before it, {' or '.join(kinds)}"
        raise UnknownComponent(sentence(repr(name), rule, None, next_step))
    if not kinds:
        guess = nearest(name, [each.name for each in known])
        next_step = f"did you mean {guess!r}?" if guess else "`segkit plugins list` lists all"
        raise UnknownComponent(sentence("NAME", "must be that of a component", repr(name), next_step))
    return find(kinds[0], name)


def _echo(component: "Component", result: dict) -> None:
    """The description for a person: the docstring, but for what the table of parameters says."""
    click.echo(f"{component.title}, {component.distribution} {component.version} ({component.target})\n")
    click.echo(prose(result["description"]) + "\n")
    prefix = {"models": "model.", "losses": "loss."}.get(component.kind, "")
    rows = [
        (prefix + each["parameter"], each["type"], _default(each), each["description"]) for each in result["parameters"]
    ]
    echo_described("Parameters, as --set NAME=VALUE:\n", rows) if rows else click.echo("It takes no parameters.")
    click.echo()
    facts = {
        "": result["summary"],
        "Home page": result["home_page"],
        "References": ", ".join(result["references"]),
        "Defined in": result["file"],
        "Written for": f"version {result['segkit_api']} of segkit's plug points",
        "Problem": result["problem"],
    }
    for title, text in facts.items():
        if text:
            click.echo(f"{title}: {text}" if title else f"{component.distribution}: {text}")


def _default(parameter: dict) -> str:
    return "must be given" if parameter["required"] else str(parameter["default"])
