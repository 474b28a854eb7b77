"""The `segkit` command: finds the module of each verb when it is asked for."""

import os
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from segkit import __version__
from segkit.system import BROKEN_PIPE

if "_SEGKIT_COMPLETE" in os.environ:
    import_module("segkit.cli.shell_bash")  # takes the place of click's
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
"""Else torch's threads, when they have nothing to do, keep the cores busy for milliseconds, and ours wait for them."""

ORDER = (
    *("demo", "train", "infer", "fragment", "fit", "agglomerate", "fuse", "segment", "evaluate", "view", "report"),
    *("diagnose", "benchmark", "convert", "run", "plugins"),
)
"""That of the pipeline, in which --help shows the verbs; any other follows, by name."""
FIRST_LINE = re.compile(r'"""segkit (\w+): (.+?)(?:""")?$')


def find_verbs(folder: Path) -> dict[str, str]:
    """Find the verbs in a folder, each with its sentence: modules NAME.py that begin with ``segkit NAME: SENTENCE``.

    They are read and not imported, so that --help costs milliseconds.
    """
    found = {}
    for path in sorted(folder.glob("*.py")):
        with path.open(encoding="utf-8") as file:
            match = FIRST_LINE.match(file.readline().rstrip())
        if match and match[1] == path.stem:
            found[match[1]] = match[2]
    return {name: found[name] for name in sorted(found, key=lambda name: (*ORDER, name).index(name))}


VERBS = find_verbs(Path(__file__).parent)
"""Verb V lives in segkit/cli/V.py, as `command`."""


def verb_named(name: str) -> click.Command:
    """Import the command of a verb."""
    return import_module(f"segkit.cli.{name}").command


COMPLETION = """\b
Completion by TAB: put the line of your shell into its start-up file.
  bash  eval "$(_SEGKIT_COMPLETE=bash_source segkit)"
  zsh   eval "$(_SEGKIT_COMPLETE=zsh_source segkit)"
  fish  _SEGKIT_COMPLETE=fish_source segkit | source
"""


class Verbs(click.Group):
    """Imports a verb when it is used, so that `segkit --help` costs milliseconds."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of the pipeline."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of a verb."""
        return verb_named(name) if name in VERBS else None

    def invoke(self, ctx: click.Context) -> Any:
        """As click does; but a reader that has gone, as `head` does, ends the program in silence."""
        from segkit.cli.common import Stopped, terminated_in_order

        try:
            with terminated_in_order():
                return super().invoke(ctx)
        except KeyboardInterrupt as cause:
            raise Stopped("nothing was written", cause) from None
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for stream in (sys.stdout, sys.stderr):  # or Python would complain when it flushes them in the end
                os.dup2(nowhere, stream.fileno())
            ctx.exit(128 + BROKEN_PIPE)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but an unknown verb is answered with the nearest one."""
        from segkit.parameters import nearest

        name = args[0]
        if name not in VERBS and not name.startswith("-"):
            guess = nearest(name, VERBS)
            hint = f"did you mean {guess!r}?" if guess else f"the verbs are {', '.join(VERBS)}"
            ctx.fail(f"there is no verb {name!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of verbs, without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


def _check_folder() -> None:
    """Refuse to start in a folder that somebody removed, in which no file can be found or written."""
    try:
        os.getcwd()
    except FileNotFoundError:
        error = click.ClickException("the folder that segkit was started in does not exist any more; cd to another")
        error.exit_code = 2  # type: ignore[misc]  # click says that it belongs to the class
        raise error from None


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]}, epilog=COMPLETION)
@click.version_option(__version__, prog_name="segkit")
def main() -> None:
    """Segment neurons in electron microscopy: affinities, fragments, agglomeration, scores.

    Files are HDF5 (.h5, .hdf) or Zarr, addressed as PATH:DATASET, if need be with a crop in voxels, z, y, x:
    'sample_A.hdf:volumes/raw[0:50,0:500,:]'. Without a dataset the usual one is taken: volumes/raw for raw images,
    volumes/labels/neuron_ids for ground truth, and volumes/affinities, volumes/fragments, merge_tree and
    volumes/segmentation for what the verbs make of them.
    """
    _check_folder()
    os.environ["PYTHONSAFEPATH"] = "1"  # whatever process is started, by libraries too, takes no code from this folder
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # it would read all distributions, damaged ones too
    from segkit.registry.distributions import stranger

    if (version := stranger()) is not None:
        whose = "another project's (this one is segkit-em), and its extras bring nothing for this one"
        click.echo(f"Warning: the distribution segkit {version} is {whose}; pip uninstall segkit", err=True)
