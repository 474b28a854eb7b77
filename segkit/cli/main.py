"""The `segkit` command: finds the module of each verb when it is asked for."""

import os
import signal
import sys
from importlib import import_module

import click

from segkit import __version__

if "_SEGKIT_COMPLETE" in os.environ:
    import_module("segkit.cli.shell_bash")  # takes the place of click's
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
"""Else torch's threads, when they have nothing to do, keep the cores busy for milliseconds, and ours wait for them."""

VERBS = {
    "demo": "A small volume, everything from raw to scores, in minutes, on a CPU.",
    "train": "Train a network to predict affinities.",
    "infer": "Predict affinities of a volume of any size.",
    "fragment": "Cut affinities, or ground truth, into fragments (supervoxels).",
    "agglomerate": "Merge fragments into a merge tree.",
    "segment": "Cut a merge tree at a threshold into a segmentation.",
    "evaluate": "Score a segmentation against the truth.",
    "view": "Show volumes, runs and results in the browser, the threshold live.",
    "report": "Write one HTML page about a run: curves, scores, sections, mistakes.",
    "diagnose": "Say what is wrong with affinities, in figures and words.",
    "benchmark": "Time interchangeable components head to head, and compare their results.",
    "convert": "Read and write the files and conventions of other tools.",
    "run": "Run a recipe: the stages composed.",
    "plugins": "List, show, check and start plugins.",
}
"""Verb V lives in segkit/cli/V.py; the sentence is here so that --help imports none of them."""

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
        return import_module(f"segkit.cli.{name}").command if name in VERBS else None

    def invoke(self, ctx: click.Context):
        """As click does; but a reader that has gone, as `head` does, ends the program in silence."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            from segkit.cli.common import Stopped

            raise Stopped("nothing was written") from None
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for stream in (sys.stdout, sys.stderr):  # or Python would complain when it flushes them in the end
                os.dup2(nowhere, stream.fileno())
            ctx.exit(128 + signal.SIGPIPE)

    def resolve_command(self, ctx: click.Context, args: list[str]):
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


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]}, epilog=COMPLETION)
@click.version_option(__version__, prog_name="segkit")
def main() -> None:
    """Segment neurons in electron microscopy: affinities, fragments, agglomeration, scores.

    Files are HDF5 (.h5, .hdf) or Zarr, addressed as PATH:DATASET, if need be with a crop in voxels, z, y, x:
    'sample_A.hdf:volumes/raw[0:50,0:500,:]'. Without a dataset the usual one is taken: volumes/raw for raw images,
    volumes/labels/neuron_ids for ground truth, and volumes/affinities, volumes/fragments, merge_tree and
    volumes/segmentation for what the verbs make of them.
    """
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # it would read all distributions, damaged ones too
    from segkit.registry.distributions import stranger

    if (version := stranger()) is not None:
        whose = "another project's (this one is segkit-em), and its extras bring nothing for this one"
        click.echo(f"Warning: the distribution segkit {version} is {whose}; pip uninstall segkit", err=True)
