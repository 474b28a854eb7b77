"""Which module reads and writes what, by the suffix or by what lies in a folder."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from segkit.errors import InvalidInput, sentence
from segkit.io.address import Address
from segkit.io.atomic import check_kept

if TYPE_CHECKING:
    import numpy as np

    from segkit.io.records import About, Stored

FORMATS = {".h5": "hdf5", ".hdf": "hdf5", ".hdf5": "hdf5", ".zarr": "zarr"}
"""Suffix -> module of this package. (".ome.zarr" ends in ".zarr".)"""
ZARR = ("zarr.json", ".zgroup", ".zarray")
"""Files that make a folder a group or an array of Zarr."""
EXCHANGE = {".tif": "tiff", ".tiff": "tiff", ".precomputed": "precomputed"}
"""The same for formats of one volume a file, which every verb reads and :func:`segkit.io.write_blocks` alone writes."""


class Store(Protocol):
    """A file of any format, open for reading: what `reading` of its module gives."""

    def names(self) -> list[str]:
        """Names of all objects, sorted."""

    def find(self, name: str, whole: bool) -> str | None:
        """`name`, if there is such an object; "" if the file is itself one, and may be taken as a `whole`; or None."""

    def about(self, name: str) -> "About":
        """What segkit wrote about an object; nothing in formats that keep no notes."""

    def array(self, name: str) -> "Stored":
        """The array of that name, for reading part by part."""

    def group(self, name: str) -> "tuple[dict[str, np.ndarray], About]":
        """The arrays of the group of that name, and what is said about it."""


def own_format(path: Path) -> ModuleType:
    """The module of a format that holds containers of every kind."""
    check_kept(path)
    if path.suffix.lower() not in FORMATS:
        rule = "must end in .h5, .hdf, .hdf5, .zarr or .ome.zarr"
        next_step = "rename it if it is of such a format" if path.exists() else "add .h5 or .zarr"
        if path.suffix.lower() in EXCHANGE:
            next_step = f"take .h5 or .zarr, and `segkit convert` that to {path.suffix}"
        raise InvalidInput(sentence("the file name", rule, repr(path.name), next_step))
    return import_module(f"segkit.io.{FORMATS[path.suffix.lower()]}")


def format_to_read(path: Path) -> ModuleType:
    """The module of the format to read: that of the suffix, or of what lies in a folder that has none."""
    check_kept(path)
    module = module_of(path)
    if module is None:
        rule = "must end in .h5, .hdf, .hdf5, .zarr, .ome.zarr, .tif or .tiff, or be a folder"
        rule += " of TIFF sections or of a precomputed volume"
        next_step = "rename it if it is of such a format"
        if (path / "config.json").is_file():
            next_step = f"{path} is a training run: `segkit infer RAW --run {path} --out FILE` makes affinities with it"
        raise InvalidInput(sentence("the file name", rule, repr(path.name), next_step))
    return import_module(f"segkit.io.{module}")


@contextmanager
def reading(path: Path, allowed: Collection[str] = ()) -> Iterator[Store]:
    """A file of any format, open for reading; `allowed` are those of :data:`segkit.io.address.OPTIONS` that hold."""
    with format_to_read(path).reading(path, allowed) as store:
        yield store


def module_of(path: Path) -> str | None:
    """The name of that module; None where neither the suffix nor the folder says it."""
    module = (FORMATS | EXCHANGE).get(path.suffix.lower())
    if module is None and path.is_dir():
        if (path / "info").is_file():
            return "precomputed"
        if any((path / name).is_file() for name in ZARR):
            return "zarr"
        if any(EXCHANGE.get(item.suffix.lower()) == "tiff" for item in path.iterdir()):
            return "tiff"
    return module


def format_to_write(address: Address) -> ModuleType:
    """The module of the format to write. An address that cannot be written to is refused."""
    if address.crop:
        raise InvalidInput(sentence(f"{address}", "must have no crop where something is written"))
    check_kept(address.path)
    suffix = address.path.suffix.lower()
    if suffix not in FORMATS | EXCHANGE:
        rule = f"must end in {', '.join(FORMATS | EXCHANGE)}"
        raise InvalidInput(sentence("the name of what is written", rule, repr(address.path.name), "add the suffix"))
    if suffix in EXCHANGE and address.dataset:
        raise InvalidInput(sentence(f"{address}", f"must name no dataset: a {suffix} holds one volume"))
    return import_module(f"segkit.io.{(FORMATS | EXCHANGE)[suffix]}")
