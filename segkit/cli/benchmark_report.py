"""What all verbs of `segkit benchmark` do with their report."""

import json
from collections.abc import Mapping
from pathlib import Path

import click


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
