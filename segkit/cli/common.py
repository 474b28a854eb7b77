"""What all verbs share: error sentences and exit codes, common options, tables and progress."""

import functools
import json
import math
import os
import shutil
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, fields
from typing import IO, Any

import click

from segkit.cli.compiling import telling_of_compiling
from segkit.cli.types import COMPONENT_SETTING, SETTINGS_FILE, TARGET, TRAINING_SETTING, Bytes, ComponentName, LossSum
from segkit.errors import InvalidParameter, SegkitError, interrupt_in, out_of_memory, sentence
from segkit.memory import give_back, keep_freed
from segkit.parameters import parse_assignments, parse_value


class Failure(click.ClickException):
    """An error as the user sees it: one sentence and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click says that it belongs to the class


class Terminated(KeyboardInterrupt):
    """The signal by which batch systems end a process, SIGTERM: what Ctrl-C undoes, it undoes."""


@contextmanager
def terminated_in_order() -> Iterator[None]:
    """Let SIGTERM raise :class:`Terminated`; further ones are ignored, so that none disturbs the tidying up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Stopped(Failure):
    """The end by a signal, of Ctrl-C as a rule: a sentence that says how to go on, and the exit code of shells."""

    def __init__(self, message: str, cause: KeyboardInterrupt) -> None:
        by = signal.SIGTERM if isinstance(cause, Terminated) else signal.SIGINT
        super().__init__(message, 128 + by)

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the sentence on stderr."""
        note(f"Stopped: {self.message}")


LOG_EVERY = 60
"""Seconds between lines of progress in a log."""
AGAIN = "the same command goes on, and keeps what is done"


def nothing_written(params: Mapping[str, object]) -> str:
    """What Ctrl-C leaves of most verbs: blocks that are done, or nothing."""
    return AGAIN if params.get("blockwise") else "nothing was written"


Check = Callable[[Mapping[str, Any], Callable[[str], bool]], None]
"""Refuses the call of a verb; see :class:`Verb`."""


@dataclass(frozen=True)
class Made:
    """What a call of a verb makes, as far as it is known before."""

    result: Mapping[str, object] | None
    """What it returns, by name, each with any value of its kind; None where nobody knows the names."""
    roles: tuple[str, ...] = ()
    """The roles of what it writes under their usual names ("run" for the folder of a training run)."""
    reads: tuple[tuple[str, str], ...] = ()
    """Addresses of what it reads, with its role, where no parameter's type says so."""


class Verb(click.Command):
    """A command with `-v`, `--debug` and `--threads`, that turns errors into sentences.

    One that uses a `network` keeps the memory that it frees while it works (:func:`segkit.memory.keep_freed`).
    `stopped` is a callable(params) that says in a sentence how to go on after Ctrl-C or SIGTERM, or what is left. A
    `stage` may be called by a recipe; `check(params, there)` then raises what is wrong with a call of it, before any
    stage has begun: ``there(address)`` says whether a file can be looked at, or is yet to be made by an earlier stage;
    and `makes(params)` says what a call makes.
    """

    def __init__(
        self,
        *args: Any,
        stopped: Callable[[Mapping[str, Any]], str] = nothing_written,
        stage: bool = False,
        network: bool = False,
        check: Check | None = None,
        makes: Callable[[Mapping[str, Any]], Made] = lambda params: Made(None),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.stopped, self.stage, self.check, self.makes = stopped, stage, check, makes
        self.network = network
        self.params += [
            click.Option(["--threads"], type=click.IntRange(min=1), help="CPU threads at most.  [default: all cores]"),
            click.Option(["-v", "--verbose"], is_flag=True, help="Report the seconds of each phase on stderr."),
            click.Option(["--debug"], is_flag=True, help="Show the Python traceback of an error."),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb as the user's own call."""
        configure_warnings()
        params = dict(ctx.params)
        try:
            with failures(params["debug"]):
                return self.work(ctx)
        except KeyboardInterrupt as cause:
            raise Stopped(self.stopped(params), cause) from None

    def work(self, ctx: click.Context) -> Any:
        """Run the verb, and let its errors pass."""
        ctx.params.pop("debug")
        limit_threads(ctx.params.pop("threads"))
        with telling_of_compiling(note), keeping_memory() if self.network else nullcontext():
            return self._timed(ctx)

    def _timed(self, ctx: click.Context) -> Any:
        if not ctx.params.pop("verbose"):
            return super().invoke(ctx)
        from segkit.timing import listening

        with listening() as phases:
            started = time.perf_counter()
            result = super().invoke(ctx)
            found = {"all": time.perf_counter() - started, **phases}
        said = [*(f"{name} {seconds:.2f} s" for name, seconds in found.items()), *phases.remarks]
        note(f"{ctx.info_name}: " + ", ".join(said))
        return result


@contextmanager
def keeping_memory() -> Iterator[None]:
    """Keep freed memory for the network, and return in the end what is free then: later stages of a recipe need it."""
    keep_freed()
    try:
        yield
    finally:
        give_back()


@contextmanager
def failures(debug: bool) -> Iterator[None]:
    """Turn errors into :class:`Failure`, unless `debug`."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except BrokenPipeError as error:
        if not reader_is_gone():
            raise Failure(f"{type(error).__name__}: {error}", 1) from error
        raise
    except Exception as error:
        if interrupt := interrupt_in(error):
            raise interrupt from None
        if debug:
            raise
        if isinstance(error, SegkitError):
            raise Failure(str(error), error.exit_code) from error
        if out_of_memory(error):
            next_step = "take a smaller crop, patch, batch, --tile or --memory"
            raise Failure(f"the memory is not enough ({_first_line(error)}); {next_step}", 1) from error
        if isinstance(error, RuntimeError) and "no locator available" in str(error):
            next_step = "set NUMBA_CACHE_DIR to a folder that you may write to"
            raise Failure(f"Numba finds no folder in which to keep compiled code; {next_step}", 1) from error
        if isinstance(error, OSError):
            raise Failure(f"{type(error).__name__}: {error}", 1) from error
        message = f"unexpected {type(error).__name__}: {error}; run it again with --debug and report the traceback"
        raise Failure(message, 1) from error


def reader_is_gone() -> bool:
    """Whether nobody reads stdout or stderr any more, as after ``segkit plugins list | head -1``."""
    import select

    found = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # streams that are no files
            found.register(stream.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in found.poll(0))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def configure_warnings() -> None:
    """Show warnings as one line on stderr, each once: a file that is read twice says the same twice."""
    import warnings

    told: set[str] = set()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        if str(message) not in told:
            told.add(str(message))
            click.echo(f"Warning: {message}", err=True)

    warnings.showwarning = show


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


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
DEVICES = "Where to compute: auto (a GPU if there is one), cpu, cuda, cuda:1 or mps."
device_option = click.option("--device", default="auto", show_default=True, metavar="NAME", help=DEVICES)


def precision_option(default: str | None) -> Callable:
    """--precision; without a default here, that of the settings."""
    text = "Numbers that the network computes with: float32, bfloat16, on a GPU float16; auto is bf16 where it is fast."
    text += "" if default else "  [default: 32]"
    choices = click.Choice(["auto", "32", "bf16", "fp16"])
    return click.option("--precision", type=choices, default=default, show_default=bool(default), help=text)


def network_options(command: Callable) -> Callable:
    """How a network goes over a volume: --tile, --memory, --margin, --batch-size, --precision, --augment, --compile."""
    options = (
        click.option(
            "--tile",
            nargs=3,
            type=click.IntRange(min=1),
            metavar="Z Y X",
            help="Output of the network in one pass, in voxels.  [default: the largest that --memory allows]",
        ),
        click.option(
            "--memory",
            type=Bytes(),
            help="Memory for the tiles under way, as 4GB or 500MB, beside the network and what is written.  "
            "[default: 2.5GB]",
        ),
        click.option(
            "--margin",
            nargs=3,
            type=click.IntRange(min=0),
            metavar="Z Y X",
            help="Context of a network that pads, in voxels at each side of a tile, beyond the volume too.  "
            "[default: up to 16 or two strides, beyond the volume 8 or one]",
        ),
        click.option(
            "--batch-size", type=click.IntRange(min=1), default=1, show_default=True, help="Tiles in one pass."
        ),
        precision_option("auto"),
        click.option(
            "--augment",
            type=click.Choice(["none", "flips", "all"]),
            default="none",
            show_default=True,
            help="Test-time augmentation: mean over the mirrored (flips: 8 times the work) or also transposed (all) "
            "volumes.",
        ),
        click.option(
            "--compile", "compiled", is_flag=True, help="Compile the network by torch.compile; needs a C++ compiler."
        ),
    )
    return _with_options(command, options)


def setting_options(command: Callable) -> Callable:
    """What a training is made of: --model, --loss, --loss-backend, --cache, --config and --set."""
    options = (
        click.option(
            "--model",
            type=ComponentName("models"),
            help="Architecture of the network; see `segkit plugins list models`.  [default: unet3d]",
        ),
        click.option(
            "--loss",
            type=LossSum(),
            help="Loss, or weighted sum of losses, constrained-malis+0.1*mse say; see `segkit plugins list losses`.  "
            "[default: constrained-malis]",
        ),
        click.option("--loss-backend", metavar="NAME", help="Code of MALIS: auto, cpu, gpu or higra.  [default: auto]"),
        click.option(
            "--cache",
            type=Bytes(),
            help="Memory for the volumes, as 4GB: of those that do not fit, boxes are read while training goes on.  "
            "[default: half of what is free]",
        ),
        click.option("--config", type=SETTINGS_FILE, help="Settings in a file; options and --set override them."),
        click.option(
            "--set",
            "assignments",
            multiple=True,
            type=TRAINING_SETTING,
            help="Any setting, as `segkit train --settings` lists them: patch=56,56,56 (the network's output in "
            "voxels, z, y, x), model.features=16, learning_rate=1e-4, averaging.decay=0.999 (moving average of the "
            "weights), ...; repeatable.",
        ),
    )
    return _with_options(command, options)


def _with_options(command: Callable, options: Sequence[Callable]) -> Callable:
    """The command with these options, which its help shows in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def gathered(name: str, group: type) -> Callable:
    """Hand a verb those of its options that are fields of a dataclass as one argument, `name`: they travel together."""
    names = [each.name for each in fields(group)]

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def call(*args: Any, **given: Any) -> Any:
            options = group(**{each: given.pop(each) for each in names})
            return function(*args, **{name: options}, **given)

        return call

    return decorate


def taken(group: type, params: Mapping[str, Any]) -> Any:
    """Make a dataclass of those parameters of a verb that are its fields, as :func:`gathered` does."""
    return group(**{each.name: params[each.name] for each in fields(group)})


@dataclass(frozen=True)
class NetworkUse:
    """What --tile, --memory, --margin, --batch-size, --precision, --augment, --compile and --device say."""

    tile: tuple[int, ...] | None
    memory: int | None
    margin: tuple[int, ...] | None
    batch_size: int
    precision: str
    augment: str
    compiled: bool
    device: str

    def keywords(self) -> dict[str, Any]:
        """Return them as the keywords of :func:`segkit.infer.predict`; a slow precision is noted."""
        precision = chosen_precision(self.precision, self.device)
        options = {name: value for name, value in vars(self).items() if name != "tile" and value is not None}
        return options | {"tile_shape": self.tile or None, "margin": self.margin or None, "precision": precision}


def chosen_precision(precision: str, device: str) -> str:
    """What "auto" stands for on a device; bfloat16 that the device only emulates is noted."""
    from segkit.models.device import computes_bf16, resolve_device, resolve_precision

    found = resolve_device(device)
    if precision == "bf16" and not computes_bf16(found):
        note(f"this {found.type} has no instructions for bfloat16, so that bf16 may take many times as long as 32")
    return resolve_precision(precision, found)


def checked_range(given: tuple[float, float] | None) -> tuple[float, float] | None:
    """The values of --intensity-range. Refuses what is no range."""
    if given is not None and not -math.inf < given[0] < given[1] < math.inf:
        rule = "must be two finite numbers, the lower first"
        raise InvalidParameter(sentence("--intensity-range", rule, " ".join(f"{each:g}" for each in given)))
    return given


intensity_option = click.option(
    "--intensity-range",
    nargs=2,
    type=float,
    metavar="LOW HIGH",
    help="Raw values that are black and white; 0 4095, say, for 12 bits.  [default: in `infer` those of the run, else "
    "all of the dtype, and 0 1 of floats]",
)
seed_option = click.option("--seed", type=int, help="Seed of all random numbers.  [default: 0]")
set_option = click.option(
    "--set",
    "assignments",
    multiple=True,
    type=COMPONENT_SETTING,
    help="Parameter of the component, as `segkit plugins show` lists them; repeatable.",
)
out_option = click.option("--out", required=True, type=TARGET, help="File to write, .h5 or .zarr.")
neighborhood_option = click.option(
    "--neighborhood",
    metavar="LIST",
    help="Edge offset of each channel in voxels, z, y, x, as [[-1,0,0],[0,-1,0],[0,0,-1]], where the file states none.",
)


def examples(*calls: str) -> str:
    r"""The end of a verb's help: calls as one would type them, a long one with backslashes at the ends of its lines.

    It begins with the backspace by which click leaves the lines after it as they are.

    >>> examples("segkit demo")
    '\x08\nExamples:\n  segkit demo'
    """
    lines = [line for call in calls for line in call.splitlines()]
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def parse_neighborhood(text: str | None) -> list[list[int]] | None:
    """The offsets of ``--neighborhood``."""
    if text is None:
        return None
    value = parse_value(text)
    if not isinstance(value, list):
        raise InvalidParameter(sentence("--neighborhood", "must look like [[-1,0,0],[0,-1,0],[0,0,-1]]", repr(text)))
    return value


def parse_thresholds(thresholds: tuple[float | str, ...]) -> list[float]:
    """Those of ``--threshold`` that are numbers, each once, in order. Refuses what is no altitude."""
    numbers = [threshold for threshold in thresholds if not isinstance(threshold, str)]
    for threshold in numbers:
        if not 0 <= threshold <= 1:
            rule, next_step = "must lie in 0..1, where the altitudes (1 - affinity) are", "choose one such as 0.5"
            raise InvalidParameter(sentence("--threshold", rule, f"{threshold:g}", next_step))
    return sorted({threshold + 0.0 for threshold in numbers})  # -0 is 0


def component_parameters(assignments: tuple[str, ...], **shortcuts: object) -> dict[str, object]:
    """Parameters from ``--set`` and from options that are shortcuts for them; None = not given."""
    values = {name: value for name, value in shortcuts.items() if value is not None}
    assigned = parse_assignments(assignments)
    for name in values.keys() & assigned.keys():
        if values[name] != assigned[name]:
            rule = f"must be the {name} of --set, {assigned[name]!r}"
            raise InvalidParameter(sentence(f"--{name.replace('_', '-')}", rule, repr(values[name]), "leave one out"))
    return values | assigned


def echo_json(result: object) -> None:
    """Print a result for programs, on stdout."""
    click.echo(as_json_text(result))


def as_json_text(result: object) -> str:
    """A result as strict JSON, in which what is no finite number is null.

    >>> as_json_text({"score": float("nan")})
    '{\\n  "score": null\\n}'
    """
    return json.dumps(_strict(result), indent=2, default=str, allow_nan=False)


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _strict(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(each) for each in value]
    if getattr(value, "shape", None) == () and hasattr(value, "item"):  # a number of NumPy
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def echo_table(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Print a table on stdout, one row a mapping, their keys as heads, in lines that fit the terminal or 80 columns."""
    from segkit.cli.tables import layout, screen_width

    width = screen_width()
    click.echo(textwrap.fill(title, width, break_long_words=False, break_on_hyphens=False))
    click.echo(layout(rows, width) + "\n")


def echo_described(title: str, rows: Iterable[tuple[str, str, str, str]]) -> None:
    """Print on stdout, for each row, a line ``name = default  (type)`` and a description indented below."""
    width = min(shutil.get_terminal_size().columns, 100)
    click.echo(title)
    for name, kind, default, description in rows:
        head, kind = f"{name} = {default}" if default else name, f"({kind})"
        click.echo(f"{head}  {kind}" if len(head) + len(kind) + 2 <= width else f"{head}\n    {kind}")
        text = textwrap.fill(description, width - 4, break_long_words=False, break_on_hyphens=False)
        click.echo(textwrap.indent(text, " " * 4))


def note(message: str) -> None:
    """Say something to a person, on stderr."""
    click.echo(message, err=True)


def _logged(title: str) -> Callable[..., None]:
    last = time.monotonic()

    def report(done: int, total: int, text: str = "", more: str = "") -> None:
        nonlocal last
        if time.monotonic() - last >= LOG_EVERY:
            last = time.monotonic()
            note(f"{title}: {done} of {total}  {text}  {more}".rstrip())

    return report


@contextmanager
def progress(title: str) -> Iterator:
    """Yields a callable(done, total, text="", more="") that moves a bar on stderr; where that is no terminal but a log,
    say, it prints a line when a minute has passed since the last. `more` are details for which there may be no room."""
    if not sys.stderr.isatty():
        yield _logged(title)
        return
    from rich.console import Console

    from segkit.cli.progress_bar import Bar

    with Bar(title, Console(stderr=True)) as bar:
        yield bar.report
