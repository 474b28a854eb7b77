"""segkit plugins new: a complete small distribution, to start from."""

import click

from segkit.cli.common import Verb, echo_json, examples, json_option
from segkit.cli.types import FILE

EXAMPLES = examples("segkit plugins new my-watershed --kind fragmenter")


@click.command("new", cls=Verb, epilog=EXAMPLES)
@click.argument("name")
@click.option(
    "--kind",
    required=True,
    type=click.Choice(["model", "loss", "fragmenter", "agglomerator", "metric"]),
    help="What the plugin adds.",
)
@click.option("--out", type=FILE, metavar="DIR", help="Folder to write; it must not exist.  [default: NAME]")
@click.option("--author", default="", metavar="NAME", help="Copyright holder.  [default: the authors of NAME]")
@json_option
def new(name: str, kind: str, out: str | None, author: str, as_json: bool) -> dict:
    """Write a plugin called NAME: a distribution with a working component, tests, README, licence and CI.

    NAME becomes the distribution, the component and, with underscores, the package. It installs and passes its tests
    as it is; change the component from there.
    """
    from segkit.scaffold import Plugin, create, next_commands

    plugin = Plugin(name, kind, author=author)
    folder = out or name
    written = create(plugin, folder)
    commands = next_commands(plugin, folder)
    result = {"name": name, "kind": kind, "folder": folder, "files": written, "next": commands}
    if as_json:
        echo_json(result)
        return result
    click.echo(f"{folder}: {len(written)} files; the {kind} is class {plugin.class_name} in {_module(written)}\n")
    click.echo("Next:\n\n" + "\n".join(f"    {command}" for command in commands))
    return result


def _module(written: list[str]) -> str:
    return next(path for path in written if path.startswith("src/") and not path.endswith("__init__.py"))
