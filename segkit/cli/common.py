"""What all verbs share: error sentences and exit codes, common options, tables and progress."""

import json
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import click

from segkit.cli.completion import equip
from segkit.errors import InvalidParameter, SegkitError, sentence
from segkit.parameters import parse_assignments, parse_value


class Failure(click.ClickException):
    """An error as the user sees it: one sentence and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Verb(click.Command):
    """A command with `-v`, `--debug` and `--threads`, that turns errors into sentences."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.params += [
            click.Option(["--threads"], type=click.IntRange(min=1), help="CPU threads; all cores if not given."),
            click.Option(["-v", "--verbose"], is_flag=True, help="Say where the time went, on stderr."),
            click.Option(["--debug"], is_flag=True, help="Show the traceback of an error."),
        ]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The parameters, with what completes their values."""
        found = super().get_params(ctx)
        equip(found)
        return found

    def invoke(self, ctx: click.Context):
        """Run the verb as the user's own call."""
        configure_warnings()
        with failures(ctx.params["debug"]):
            return self.work(ctx)

    def work(self, ctx: click.Context):
        """Run the verb, and let its errors pass."""
        ctx.params.pop("debug")
        limit_threads(ctx.params.pop("threads"))
        if not ctx.params.pop("verbose"):
            return super().invoke(ctx)
        from segkit.timing import listening

        with listening() as phases:
            started = time.perf_counter()
            result = super().invoke(ctx)
            phases = {"all": time.perf_counter() - started, **phases}
        note(f"{ctx.info_name}: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in phases.items()))
        return result


@contextmanager
def failures(debug: bool) -> Iterator[None]:
    """Turn errors into :class:`Failure`, unless `debug`."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except Exception as error:
        if debug:
            raise
        if isinstance(error, SegkitError):
            raise Failure(str(error), error.exit_code) from error
        if isinstance(error, MemoryError) or _is_out_of_memory(error):
            next_step = "take a smaller crop, patch, batch or --tile"
            raise Failure(f"the memory is not enough ({_first_line(error)}); {next_step}", 1) from error
        if isinstance(error, OSError):
            raise Failure(f"{type(error).__name__}: {error}", 1) from error
        message = f"unexpected {type(error).__name__}: {error}; run it again with --debug and report the traceback"
        raise Failure(message, 1) from error


def _is_out_of_memory(error: Exception) -> bool:
    """Whether torch, which need not be imported here, ran out of memory, on a GPU or on the CPU."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def configure_warnings() -> None:
    """Show warnings as one line on stderr."""
    import warnings

    warnings.showwarning = lambda message, *_, **__: click.echo(f"Warning: {message}", err=True)


def limit_threads(threads: int | None) -> None:
    """Let the numerical libraries use at most `threads` threads, whether or not they are imported yet."""
    if threads is None:
        return
    from segkit.threads import set_thread_limit

    set_thread_limit(threads)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    if "numba" not in sys.modules:
        os.environ["NUMBA_NUM_THREADS"] = str(threads)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
seed_option = click.option("--seed", type=int, help="Seed of everything random.")
set_option = click.option(
    "--set", "assignments", multiple=True, metavar="NAME=VALUE", help="A parameter of the component; repeatable."
)
out_option = click.option("--out", required=True, metavar="FILE", help="File to write, .h5 or .zarr.")
neighborhood_option = click.option(
    "--neighborhood",
    metavar="LIST",
    help="Offsets of the channels, [[-1,0,0],...], for a file that does not say them.",
)


def parse_neighborhood(text: str | None) -> list[list[int]] | None:
    """The offsets of ``--neighborhood``."""
    if text is None:
        return None
    value = parse_value(text)
    if not isinstance(value, list):
        raise InvalidParameter(sentence("--neighborhood", "must look like [[-1,0,0],[0,-1,0],[0,0,-1]]", repr(text)))
    return value


def parse_thresholds(thresholds: tuple[float, ...]) -> list[float]:
    """Those of ``--threshold``, each once, in order. Refuses what is no number, before the work."""
    for threshold in thresholds:
        if threshold != threshold:
            raise InvalidParameter(sentence("--threshold", "must be a number", threshold))
    return sorted({threshold + 0.0 for threshold in thresholds})  # -0 is 0


def component_parameters(assignments: tuple[str, ...], **shortcuts) -> dict[str, object]:
    """Parameters from ``--set`` and from options that are shortcuts for them; None = not given."""
    values = {name: value for name, value in shortcuts.items() if value is not None}
    return values | parse_assignments(assignments)


def echo_json(result: object) -> None:
    """Print a result for programs, on stdout."""
    click.echo(json.dumps(result, indent=2, default=str))


def echo_table(title: str, rows: list[Mapping[str, object]]) -> None:
    """Print a table on stdout, one row a mapping, the keys of the first as head."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for column in columns:
        numeric = all(isinstance(row.get(column, 0), int | float) for row in rows)
        table.add_column(escape(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(_cell(row.get(column, ""))) for column in columns))
    width = None if sys.stdout.isatty() else 160
    Console(width=width).print(table)


def echo_described(title: str, rows: Iterable[tuple[str, str, str, str]]) -> None:
    """Print on stdout, for each row, a line ``name = default  (type)`` and a description indented below."""
    width = min(shutil.get_terminal_size().columns, 100)
    click.echo(title)
    for name, kind, default, description in rows:
        head, kind = f"{name} = {default}" if default else name, f"({kind})"
        click.echo(f"{head}  {kind}" if len(head) + len(kind) + 2 <= width else f"{head}\n    {kind}")
        fit = {"initial_indent": " " * 4, "subsequent_indent": " " * 4, "break_on_hyphens": False}
        click.echo(textwrap.fill(description, width, break_long_words=False, **fit))


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def note(message: str) -> None:
    """Say something to a person, on stderr."""
    click.echo(message, err=True)


@contextmanager
def progress(title: str) -> Iterator:
    """Yields a callable(done, total, text="") that moves a bar on stderr; silent where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total, text="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[text]}"), console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, text="")
        yield lambda done, total, text="": bar.update(task, completed=done, total=total, text=text)
