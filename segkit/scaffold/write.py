"""The files of a new plugin, written whole or not at all."""

import re
import shlex
from pathlib import Path

from segkit.errors import InvalidInput, sentence
from segkit.io.atomic import check_folder, storage_errors
from segkit.io.lock import writing
from segkit.scaffold.plugin import Plugin

PLACES = {
    ".github/workflows/test.yml": "workflow.yml",
    ".gitignore": "gitignore",
    "CHANGELOG.md": "CHANGELOG.md",
    "LICENSE": "LICENSE",
    "README.md": "README.md",
    "pyproject.toml": "pyproject.toml",
    "src/@package@/__init__.py": "init.py",
    "src/@package@/@kind@.py": "component.py",
    "tests/test_@package@.py": "test.py",
}
"""File of the plugin -> its template."""
WORD = re.compile(r"@(\w+)@")


def files(plugin: Plugin) -> dict[str, str]:
    """Path and text of every file."""
    values = plugin.values()
    values["use"] = _filled(plugin.template("use.md"), values).strip("\n")
    return {_filled(path, values): _filled(plugin.template(name), values) for path, name in PLACES.items()}


def create(plugin: Plugin, folder: Path | str) -> list[str]:
    """Write all files into `folder`, which must not exist yet; their paths in it.

    Raises InvalidInput if it exists, MissingFile if the folder that it would lie in does not, and StorageError if
    writing fails; then nothing is left.
    """
    folder = Path(folder)
    if folder.exists() or folder.is_symlink():
        rule, next_step = "must not exist yet", "remove it, or write elsewhere with --out"
        raise InvalidInput(sentence(f"the folder {folder}", rule, next_step=next_step))
    check_folder(folder)
    texts = files(plugin)
    with storage_errors("written", folder), writing(folder) as temporary:
        for path, text in texts.items():
            file = temporary / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    return sorted(texts)


def next_commands(plugin: Plugin, folder: Path | str) -> list[str]:
    """What the author does next: install it, run its tests, use it."""
    path = Path(folder).as_posix()
    if not path.startswith((".", "/", "~")) and not Path(folder).is_absolute():
        path = f"./{path}"  # pip would look for a bare name in the package index
    return [
        f"pip install -e {shlex.quote(f'{path}[test]')}",
        f"python -m pytest {shlex.quote(path)}",
        plugin.use,
    ]


def _filled(text: str, values: dict[str, str]) -> str:
    return WORD.sub(lambda match: values[match[1]], text)
