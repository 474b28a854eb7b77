"""What formats of one volume a file have in common, and the libraries that read formats, each an extra of its own."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from segkit.errors import BrokenComponent, MissingDataset, sentence
from segkit.io.atomic import storage_errors
from segkit.io.records import About, Stored


class OneVolume:
    """A file that is one volume without a name."""

    def __init__(self, stored: Stored, what: str) -> None:
        """`what` such a file is called, for messages."""
        self._stored, self._what = stored, what

    def names(self) -> list[str]:
        """None: the volume has no name."""
        return []

    def find(self, name: str, whole: bool) -> str | None:
        """ "" if the file may be taken as a `whole`."""
        return "" if whole else None

    def about(self, name: str) -> About:
        """What segkit wrote about it: its kind; no notes are kept here."""
        return self._stored.about

    def array(self, name: str) -> Stored:
        """The volume."""
        return self._stored

    def group(self, name: str) -> tuple[dict[str, np.ndarray], About]:
        """Refuse: there is no merge tree."""
        raise MissingDataset(sentence(self._what, "holds one volume and no merge tree"))


def parts_of(path: Path, values: Callable[[], Any]) -> Callable[[tuple[slice, ...]], np.ndarray]:
    """How to read parts of an array that is mapped, in memory or read as it is indexed: copies, for the caller."""

    def read(part: tuple[slice, ...]) -> np.ndarray:
        with storage_errors("read", path):
            return np.array(values()[part])

    return read


def library(name: str, what: str, extra: str) -> ModuleType:
    """Import the library that reads `what`. Raises BrokenComponent with the extra that installs it."""
    try:
        return import_module(name)
    except ImportError as error:
        next_step = f"pip install 'segkit-em[{extra}]'"
        raise BrokenComponent(sentence(what, f"needs the package {name}", next_step=next_step)) from error
