"""What the programs here share: running a recipe as a user would, keeping results, rewriting a page."""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from report import insert

from segkit.io.atomic import replacing

MAIN = "from segkit.cli.main import main; main(prog_name='segkit')"


def segkit(*words: object) -> str:
    """The stdout of a call of the command line, whose stderr is shown. Raises RuntimeError with its last line."""
    command = [sys.executable, "-c", MAIN, *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        last = ""
        for line in process.stderr:
            sys.stderr.write(line)
            last = line.strip() or last
        text = process.stdout.read()
    if process.returncode:
        raise RuntimeError(last)
    return text


def checkout(text: str) -> Path:
    """A folder with another version of segkit, for argparse: one without would be measured as this version is."""
    folder = Path(text).resolve()
    if not (folder / "segkit" / "__init__.py").exists():
        raise argparse.ArgumentTypeError(f"must be a checkout of segkit, and {text} is none")
    return folder


def environment(folder: Path) -> dict[str, str]:
    """That of a process which takes segkit from a checkout, whichever folder it is started in."""
    return os.environ | {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}


def run_recipe(name: str, out: Path, settings: Sequence[str]) -> dict[str, dict]:
    """What each stage of a recipe came to; finished stages are not run again."""
    words = [word for setting in settings for word in ("--set", setting)]
    return json.loads(segkit("run", name, "--out", out, *words, "--json"))


def command(name: str, settings: Sequence[str]) -> str:
    """What a user would type; crops and lists quoted."""
    return shlex.join(["segkit", "run", name, *(word for setting in settings for word in ("--set", setting))])


def read(path: Path) -> dict:
    """Results so far; empty without the file."""
    return json.loads(path.read_text()) if path.exists() else {}


def keep(path: Path, results: dict) -> None:
    """Write results, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(results, indent=2) + "\n")


class Runs:
    """Measurements that are kept one by one in a file: a program that was stopped goes on where it was.

    `about` says of what they are; what was measured of something else, or on another machine, is thrown away. With
    `again` each one that is asked for is measured anew, once, and the others stay.
    """

    def __init__(self, path: Path, about: dict, *, again: bool = False) -> None:
        old = read(path)
        if old and self._compared(old) != self._compared(about):
            print(f"{path} holds measurements of other inputs or of another machine: all are made anew")
            old = {}
        self.path, self.results = path, {"runs": [], **old, **about} if again else old or {**about, "runs": []}
        self._stale = [run | {} for run in self.results["runs"]] if again else []

    @staticmethod
    def _compared(results: dict) -> dict:
        about = {name: value for name, value in results.items() if name not in ("machine", "rates", "runs")}
        machine = {name: value for name, value in results["machine"].items() if name not in ("load", "date")}
        return json.loads(json.dumps({**about, "machine": machine}))

    def once(self, measure: Callable[[], dict], **named: object) -> dict:
        """Return the run that goes by these names; it is measured unless it is there and did not fail."""
        runs = self.results["runs"]
        place = next((k for k, run in enumerate(runs) if named.items() <= run.items()), len(runs))
        if place == len(runs) or "error" in runs[place] or runs[place] in self._stale:
            runs[place:] = [named | measure(), *runs[place + 1 :]]
            keep(self.path, self.results)
        return runs[place]


def publish(page: Path, content: str, name: str) -> None:
    """Put `content` between the markers of `name`; all else in the page stays as it is."""
    text = insert(page.read_text(), content, f"<!-- {name}:begin -->", f"<!-- {name}:end -->")
    with replacing(page) as temporary:
        temporary.write_text(text)
