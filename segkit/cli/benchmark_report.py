"""What all verbs of `segkit benchmark` do with their report."""

import json
from collections.abc import Mapping
from pathlib import Path

import click

from segkit.cli.common import note


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
    from segkit.io.atomic import replacing

    with replacing(Path(path)) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n")


def check_page(page: str | None) -> None:
    """Refuse a page that could not be written."""
    if page:
        from segkit.report.page import check

        check(Path(page))


def write_page(page: str | None, report: Mapping) -> None:
    """Write the page about a benchmark, if one was named."""
    if page:
        from segkit.report import write_benchmark_report

        note(f"report -> {write_benchmark_report(report, page)}")
