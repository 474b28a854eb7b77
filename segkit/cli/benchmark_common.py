"""What the verbs of `segkit benchmark` share: their options, and what becomes of a report."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from segkit.cli.common import Verb, as_json_text, echo_json, note
from segkit.cli.types import COMPONENT_SETTING, FILE, Number

Report = dict[str, Any]
"""What a benchmark returns, or one row of it."""


class Measured(Verb):
    """A verb that needs to know `--threads`, which it passes on to other processes, and has the common options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += [
            click.Option(
                ["--set", "assignments"],
                multiple=True,
                type=COMPONENT_SETTING,
                metavar="[LABEL.]NAME=VALUE",
                help="Parameter of all components, or of the one called LABEL; repeatable.",
            ),
            click.Option(["--repeat"], type=click.IntRange(min=1), default=3, show_default=True, help="Timed calls."),
            click.Option(
                ["--timeout"],
                type=Number(min=0, min_open=True),
                help="Seconds after which a component is stopped.  [default: never]",
            ),
            click.Option(["--out"], type=FILE, metavar="FILE.json", help="Write the report, as --json prints it."),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb."""
        ctx.obj = ctx.params.get("threads")
        return super().invoke(ctx)


def check_outputs(*paths: str | None) -> None:
    """Refuse what is no name of a file that could be written."""
    from segkit.io.atomic import check_folder

    for path in filter(None, paths):
        check_folder(Path(path))
        if Path(path).is_dir():
            raise click.UsageError(f"{path} is a folder: give the name of a file")


def write_report(path: str | None, report: Mapping) -> None:
    """Write it, whole or not at all, if a file was named."""
    if not path:
        return
    from segkit.io.lock import writing

    with writing(Path(path)) as temporary:
        temporary.write_text(as_json_text(report) + "\n")


def finish(
    ctx: click.Context,
    report: Report,
    options: Mapping[str, Any],
    show: Callable[[Report], None],
    name: Callable[[Report], str],
) -> Report:
    """Write the report where --out says, print it, and end with exit code 1 if a component failed.

    `show` prints it as tables; `name` says what a row is called.
    """
    write_report(options["out"], report)
    if options.get("page"):
        from segkit.report import write_benchmark_report

        note(f"report -> {write_benchmark_report(report, options['page'])}")
    if options["as_json"]:
        echo_json(report)
    else:
        show(report)
    failed = [row for row in report["rows"] if "error" in row]
    for row in failed:
        note(f"{name(row)} failed: {row['error']}")
    if failed:
        ctx.exit(1)
    return report
