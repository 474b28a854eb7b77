"""--blockwise, and what goes with it: options, progress and the summary, the same in all verbs."""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from segkit.cli.common import note, progress
from segkit.cli.types import CLUSTER
from segkit.errors import InvalidParameter, sentence

if TYPE_CHECKING:
    from segkit.blockwise.engine import OnStageProgress
    from segkit.blockwise.progress import StageProgress, StageReport
    from segkit.blockwise.work import Work

BLOCK = (256, 256, 256)
Size = tuple[int, int, int] | None
NEEDS = "--blockwise"
UNITS = ((2**30, "GiB"), (2**20, "MiB"))


@dataclass(frozen=True)
class Blocks:
    """What the options say."""

    wanted: bool = False
    """Whether to work by blocks at all."""
    block: tuple[int, int, int] = BLOCK
    """Size in voxels, z, y, x."""
    halo: tuple[int, int, int] | None = None
    """Voxels that a block sees around it; None leaves it to the stage."""
    cluster: str | None = None
    """Who computes; None: this process."""

    @contextmanager
    def work(self, title: str | None = None) -> Iterator["Work"]:
        """How stages go about it; by blocks with a summary in the end, of what has ended by then.

        A whole volume shows a bar of this title, if one is given.
        """
        from segkit.blockwise import Work

        if not self.wanted:
            with progress(title) if title else nullcontext() as bar:
                yield Work(report=bar and (lambda each: bar(each.done, each.total)))
            return
        from segkit.blockwise import open_executor
        from segkit.threads import thread_limit

        with open_executor(self.cluster, thread_limit(), say=note) as executor:
            if self.cluster:
                note(f"{executor}" + (f"; dashboard: {executor.dashboard}" if executor.dashboard else ""))
            ended: list[StageReport] = []
            try:
                with stage_bars() as bar:
                    yield Work(self.block, self.halo, executor, _telling(bar), ended=ended)
            finally:
                for each in ended:
                    note(summary_line(each.row()))


def _telling(bar: "OnStageProgress") -> "OnStageProgress":
    """Show how far a stage is; say what there is to say."""

    def report(progress: "StageProgress") -> None:
        if progress.message:
            note(f"{progress.stage}: {progress.message}")
        bar(progress)

    return report


def costs(work: "Work") -> dict[str, list[dict[str, object]]]:
    """What each stage by blocks cost, as plain values, under "stages"; nothing of a whole volume."""
    return {} if work.whole else {"stages": [each.row() for each in work.ended]}


def costs_of(params: Mapping[str, Any]) -> dict[str, object]:
    """Say what :func:`costs` gives for a call with these parameters, without the figures."""
    return {"stages": []} if params["blockwise"] else {}


def summary_line(row: dict) -> str:
    """A stage that has ended, in a line.

    >>> row = {"stage": "fragments", "blocks": 8, "kept": 1, "workers": 2, "seconds": 4.0, "work_seconds": 7.0}
    >>> summary_line(row | {"megavoxels_per_second": 2.5, "peak_bytes": 2**30, "slowest": "3"})
    'fragments: 8 blocks (1 done before) in 4.0 s by 2 workers, 2.50 megavoxels/s, at most 1.0 GiB each; slowest: 3'
    """
    kept = f" ({row['kept']} done before)" if row["kept"] else ""
    workers = f" by {row['workers']} workers" if row["workers"] > 1 else ""
    speed = row["megavoxels_per_second"]
    speed = f", {speed:.2f} megavoxels/s" if speed else ""
    memory = f", at most {size(row['peak_bytes'])}{' each' if workers else ''}" if row["peak_bytes"] else ""
    slowest = f"; slowest: {row['slowest']}" if row["slowest"] else ""
    return f"{row['stage']}: {row['blocks']} blocks{kept} in {row['seconds']:.1f} s{workers}{speed}{memory}{slowest}"


def size(count: int) -> str:
    """Bytes as people say them.

    >>> size(3 * 2**29), size(5 * 2**20)
    ('1.5 GiB', '5.0 MiB')
    """
    unit, name = next(((unit, name) for unit, name in UNITS if count >= unit), (2**10, "KiB"))
    return f"{count / unit:.1f} {name}"


@contextmanager
def stage_bars() -> Iterator[Callable]:
    """Yields a callable(progress) that shows one bar a stage on stderr; silent where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda progress: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
    bars: dict[str, int] = {}
    with Progress(*columns, console=console) as shown:

        def show(progress: Any) -> None:
            if progress.stage not in bars:
                bars[progress.stage] = shown.add_task(progress.stage, total=None, text="")
            task = bars[progress.stage]
            shown.update(task, completed=progress.done, total=progress.total, text=how_fast(progress))

        yield show


def how_fast(progress: "StageProgress") -> str:
    """Speed and time left, as far as they are known."""
    from segkit.blockwise import duration

    speed = progress.voxels_per_second
    words = [f"{speed / 1e6:.2f} megavoxels/s"] if speed else []
    words += [f"{duration(progress.seconds_left)} left"] if progress.seconds_left else []
    words += [f"{progress.failed} failed"] if progress.failed else []
    return ", ".join(words)


def blockwise_options(*, halo: bool = False) -> Callable:
    """Give a verb --blockwise, --block, --cluster and perhaps --halo; it gets them as one argument, `blocks`."""

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def call(
            *args: Any, blockwise: bool, block: Size, cluster: str | None, halo: Size = None, **others: Any
        ) -> Any:
            return function(*args, blocks=_chosen(blockwise, block, halo, cluster), **others)

        options = [_BLOCKWISE, _BLOCK, *([_HALO] if halo else []), _CLUSTER]
        return functools.reduce(lambda made, option: option(made), reversed(options), call)

    return decorate


_BLOCKWISE = click.option(
    "--blockwise", is_flag=True, help="Work block by block, for volumes larger than memory (writes .zarr)."
)
_BLOCK = click.option(
    "--block",
    nargs=3,
    type=click.IntRange(min=1),
    metavar="Z Y X",
    help=f"Size of a block in voxels; needs --blockwise.  [default: {' '.join(map(str, BLOCK))}]",
)
_HALO = click.option(
    "--halo",
    nargs=3,
    type=click.IntRange(min=0),
    metavar="Z Y X",
    help="Voxels around a block, on each side, that it sees and does not write.  [default: chosen by the stage]",
)
_CLUSTER = click.option(
    "--cluster",
    type=CLUSTER,
    metavar="SPEC",
    help="What computes the blocks: local:N (N processes here), tcp://HOST:PORT (a Dask scheduler) or FILE.yaml (jobs "
    "of a batch system).  [default: this process]",
)


def _chosen(blockwise: bool, block: Size, halo: Size, cluster: str | None) -> Blocks:
    if not blockwise:
        for name, value in (("--block", block), ("--halo", halo), ("--cluster", cluster)):
            if value is not None:
                raise InvalidParameter(sentence(name, f"needs {NEEDS}", next_step=f"add {NEEDS}"))
        return Blocks()
    return Blocks(True, block or BLOCK, halo, cluster)


def blocks_of(params: Mapping[str, Any]) -> Blocks:
    """Find what the parameters of a verb with :func:`blockwise_options` say."""
    return _chosen(params["blockwise"], params["block"], params.get("halo"), params["cluster"])


def refuse_with_blocks(blocks: Blocks, **given: object) -> None:
    """Raise InvalidParameter for options that do not work by blocks; None and False are not given."""
    for name, value in given.items():
        if blocks.wanted and value not in (None, False, ()):
            rule = "cannot be had with --blockwise"
            raise InvalidParameter(sentence(f"--{name.replace('_', '-')}", rule, next_step="leave one of them out"))
