"""segkit plugins: which components there are, and what they take."""

import inspect

import click

from segkit.cli.common import Verb, echo_json, echo_table, json_option


@click.group("plugins")
def command() -> None:
    """List components, and show their parameters."""


@command.command("list", cls=Verb)
@click.option("--check", is_flag=True, help="Import each one, and say what is wrong with those that fail.")
@json_option
def list_components(check, as_json) -> list[dict]:
    """All components that the installed distributions declare."""
    from segkit.protocols import GROUPS
    from segkit.registry import components

    rows = []
    for kind in GROUPS:
        declared = components(kind)
        names = [component.name for component in declared]
        for component in declared:
            row = {
                "kind": kind,
                "name": component.name,
                "distribution": component.distribution,
                "version": component.version,
            }
            problem = component.problem() if check else None
            if names.count(component.name) > 1:
                problem = f"the name is taken twice; call it '{component.distribution}:{component.name}'"
            rows.append(row | {"problem": problem or ""})
    echo_json(rows) if as_json else echo_table("Components", rows)
    return rows


@command.command("show", cls=Verb)
@click.argument("group")
@click.argument("name")
@json_option
def show(group, name, as_json) -> dict:
    """The parameters and the description of one component, such as: show agglomerators waterz."""
    from segkit.registry import find

    component = find(group, name)
    parameters = component.parameters()
    description = inspect.getdoc(component.load()) or ""
    rows = [
        {
            "parameter": parameter.name,
            "type": parameter.type_name,
            "default": "must be given" if parameter.required else repr(parameter.default),
        }
        for parameter in parameters.values()
        if (group, parameter.name) != ("models", "channels")  # follows from the neighborhood
    ]
    result = {
        "kind": group,
        "name": component.name,
        "distribution": component.distribution,
        "version": component.version,
        "class": component.target,
        "parameters": rows,
        "description": description,
    }
    if as_json:
        echo_json(result)
        return result
    click.echo(f"{component.title}, {component.distribution} {component.version} ({component.target})\n")
    click.echo(description + "\n")
    prefix = {"models": "model.", "losses": "loss."}.get(group, "")
    echo_table(f"Parameters, as --set {prefix}NAME=VALUE", rows) if rows else click.echo("It takes no parameters.")
    return result
