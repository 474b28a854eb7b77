"""Which module reads and writes what, by the suffix or by what lies in a folder."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from segkit.errors import InvalidInput, sentence
from segkit.io.address import Address
from segkit.io.atomic import check_kept
from segkit.io.fetch import fetched, named
from segkit.io.handed import HeldStore, held_at, settle
from segkit.io.records import located
from segkit.io.remote import AnyPath, Remote

if TYPE_CHECKING:
    import numpy as np

    from segkit.io.records import About, Stored

FORMATS = {".h5": "hdf5", ".hdf": "hdf5", ".hdf5": "hdf5", ".zarr": "zarr"}
"""Suffix -> module of this package. (".ome.zarr" ends in ".zarr".)"""
ZARR = ("zarr.json", ".zgroup", ".zarray")
"""Files that make a folder a group or an array of Zarr."""
FOLDERS = (
    (("info",), "precomputed"),
    (("datasource-properties.json",), "webknossos"),
    (ZARR, "zarr"),
    (("attributes.json",), "n5"),
)
"""Files of which one makes a folder what it is, and its module."""
EXCHANGE = {".tif": "tiff", ".tiff": "tiff", ".precomputed": "precomputed"}
"""The same for formats of one volume a file, which every verb reads and :func:`segkit.io.write_blocks` alone writes."""
SECTIONS = {".tif": "tiff", ".tiff": "tiff", ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}
"""Suffix of a section in a folder -> its format."""
READ = {
    ".zip": "zarr",
    ".ozx": "zarr",
    ".npy": "numpy_file",
    ".npz": "numpy_file",
    ".n5": "n5",
    ".png": "sections",
    ".jpg": "sections",
    ".jpeg": "sections",
    **dict.fromkeys((".mrc", ".mrcs", ".map", ".rec", ".st", ".ali"), "mrc"),
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".nrrd": "nrrd",
    ".nhdr": "nrrd",
}
"""Suffix -> module, for formats that are read, and not written."""
ALL = FORMATS | EXCHANGE | READ
PACKED = (".zip", ".ozx")
"""Suffixes of stores of Zarr in one file."""
IN_PLACE = ("zarr", "precomputed", "n5", "webknossos", "sections")
"""Modules of formats of which an object is a folder of files: these are read where they lie."""


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


def own_format(path: AnyPath) -> ModuleType:
    """The module of a format that holds containers of every kind."""
    check_kept(path)
    if path.suffix.lower() not in FORMATS:
        rule = "must end in .h5, .hdf, .hdf5, .zarr or .ome.zarr"
        next_step = "rename it if it is of such a format" if path.exists() else "add .h5 or .zarr"
        if path.suffix.lower() in EXCHANGE:
            next_step = f"take .h5 or .zarr, and `segkit convert` that to {path.suffix}"
        raise InvalidInput(sentence("the file name", rule, repr(path.name), next_step))
    return import_module(f"segkit.io.{FORMATS[path.suffix.lower()]}")


def format_to_read(path: AnyPath, stated: str | None = None) -> ModuleType:
    """The module of the format to read: that `stated`, of the suffix, or of what lies in a folder that has none."""
    check_kept(path)
    module = stated or module_of(path)
    if module is None:
        rule = f"must end in {', '.join(ALL)}, or be a folder of sections, N5, webKnossos or a precomputed volume"
        next_step = "rename it if it is of such a format"
        if (path / "config.json").is_file():
            next_step = f"{path} is a training run: `segkit infer RAW --run {path} --out FILE` makes affinities with it"
        raise InvalidInput(sentence("the file name", rule, repr(path.name), next_step))
    return import_module(f"segkit.io.{module}")


@contextmanager
def reading(path: AnyPath, options: Mapping[str, str] | None = None) -> Iterator[Store]:
    """A file of any format, open for reading; `options` are those of :data:`segkit.io.address.OPTIONS` that are given.

    A single file of a bucket or a web server is fetched first, see :func:`segkit.io.fetch.fetched`. Objects that are
    handed over are those in memory, see :mod:`segkit.io.handed`.
    """
    options = options or {}
    held = None if options else held_at(path)
    if held is None:
        with _reading_file(path, options) as store:
            yield store
        return
    with ExitStack() as files:

        def rest() -> Store:
            settle(path)
            return files.enter_context(_reading_file(path, options))

        yield HeldStore(held, cache(rest))


@contextmanager
def _reading_file(path: AnyPath, options: Mapping[str, str]) -> Iterator[Store]:
    settle(path)
    module = format_to_read(path, options.get("format"))
    one_file = module.__name__.rpartition(".")[2] not in IN_PLACE or suffix_of(path) in PACKED
    place: AnyPath = path
    with ExitStack() as files:
        if isinstance(path, Remote) and one_file:
            place = fetched(path)
            files.enter_context(named(path, place))
        with located(place):
            store = files.enter_context(module.reading(place, options))
        yield store


def module_of(path: AnyPath) -> str | None:
    """The name of that module; None where neither the suffix nor the folder says it."""
    module = ALL.get(suffix_of(path))
    if module in (None, "tiff", "sections") and not path.is_file() and path.is_dir():
        return _module_of_folder(path)
    return module


def suffix_of(path: AnyPath) -> str:
    """The suffix by which a format goes, in small letters: the last, and of what is packed the one before too."""
    last = path.suffix.lower()
    return f"{Path(path.stem).suffix.lower()}{last}" if last == ".gz" else last


def _module_of_folder(path: AnyPath) -> str | None:
    """The name of the module by the files of a folder; runs and results of recipes, which hold pictures, have none."""
    for names, module in FOLDERS:
        if any((path / name).is_file() for name in names):
            return module
    kinds = {SECTIONS.get(item.suffix.lower()) for item in path.iterdir()}
    pictures = kinds & {"png", "jpeg"} and not any((path / name).is_file() for name in ("config.json", "stages.json"))
    return "sections" if "tiff" in kinds or pictures else None


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
