"""Options that travel together reach a verb as one argument."""

from dataclasses import dataclass, replace

import click
from click.testing import CliRunner

from segkit.cli.common import NetworkUse, gathered


@dataclass(frozen=True)
class Place:
    bind: str
    port: int


@click.command()
@click.argument("name")
@click.option("--bind", default="here")
@click.option("--port", type=int)
@gathered("place", Place)
def command(name, place):
    click.echo(f"{name} {place}")


def test_a_verb_gets_one_argument_and_help_shows_all_options():
    assert CliRunner().invoke(command, ["it", "--port", "7"]).output == "it Place(bind='here', port=7)\n"
    assert "--port" in CliRunner().invoke(command, ["--help"]).output


def test_a_network_is_used_by_the_keywords_of_predict():
    sizes = {"tile": (), "memory": None, "margin": (), "batch_size": 2}
    use = NetworkUse(**sizes, precision="32", augment="flips", compiled=False, device="cpu")
    expected = {"tile_shape": None, "margin": None, "batch_size": 2, "precision": "32", "augment": "flips"}
    assert use.keywords() == expected | {"compiled": False, "device": "cpu"}
    assert replace(use, memory=10**9).keywords()["memory"] == 10**9
