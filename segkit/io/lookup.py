"""Finding objects in files, and what can be said of them without reading their voxels."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from segkit.io.address import Address, as_address, parse_address
from segkit.io.formats import Store, reading
from segkit.io.handed import is_there
from segkit.io.lock import restore
from segkit.io.missing import missing_dataset, missing_file
from segkit.io.records import Stored, check_kind, located, oriented
from segkit.io.remote import Remote

AnyAddress = str | Path | Remote | Address
UNNAMED = "?"
"""A name that no dataset has: a file where it is found all the same is one volume."""
NOTES = "notes"
"""The attribute that holds what was said of an object when it was written, as JSON."""


@contextmanager
def opened(address: AnyAddress, role: str, kinds: tuple[str, ...]) -> Iterator[tuple[Stored, str]]:
    """An array as it is stored, for reading part by part, and its place; of any axes and any convention.

    `kinds` are those that the array may be of, if the file says a kind. The crop of the address is not applied.
    """
    address = as_address(address)
    with find_object(address, role, whole=address.dataset is None) as (store, name):
        place = str(replace(address, dataset=name or None, crop=None))
        with located(place):
            stored = store.array(name)
            check_kind(stored.about, kinds, name, role)
        yield stored, place


def states_voxel_size(address: AnyAddress, role: str) -> bool:
    """Whether the object at `address` says how large its voxels are; without that they are taken to be 1 nm long."""
    address = as_address(address)
    with find_object(address, role) as (store, name), located(Address(address.path, name)):
        placement = store.array(name).placement
        return placement.voxel_size is not None and placement.certain


def matching(address: AnyAddress, role: str) -> list[Address]:
    """The addresses of all datasets that `address` names, by name, where its dataset has wildcards (* and ?).

    One without wildcards is returned as it is. Raises MissingDataset if nothing matches.
    """
    address = as_address(address)
    if address.dataset is None or not set("*?") & set(address.dataset):
        return [address]
    with open_file(address, role) as store, located(address.path):
        found = [name for name in store.names() if fnmatchcase(name, address.dataset)]
        if not found:
            raise missing_dataset(address, role, store)
    return [replace(address, dataset=name) for name in found]


def datasets(path: Path | Remote) -> list[str]:
    """The names of all objects in a file. Raises InvalidInput for one of an unknown format."""
    with reading(path) as store, located(path):
        return store.names()


def exists(address: AnyAddress, role: str) -> bool:
    """Whether there is an object at `address`; the usual name of the role is taken where no dataset is given.

    A file that is one volume and nothing else holds raw data: it is nothing else unless somebody says so.
    """
    address = as_address(address)
    name = address.at(role)
    _restore(address.path, name)
    if not is_there(address.path):
        return False
    with open_file(address) as store, located(address.path):
        return store.find(name, address.dataset is None and role == "raw") is not None


def holds_one(address: AnyAddress) -> bool:
    """Whether the file at `address` is itself one volume: a TIFF stack, say, or a Zarr store that is one image."""
    address = as_address(address)
    with open_file(address) as store, located(address.path):
        return store.find(UNNAMED, True) == ""


def takes_name(address: Address) -> bool:
    """Whether `address` leaves a dataset to be named: it names none, and its file is not one volume without a name."""
    if address.dataset is not None or not is_there(address.path):
        return address.dataset is None
    return not holds_one(address) or bool(datasets(address.path))


def named(address: Address, dataset: str | None) -> Address:
    """The address with this dataset, where it leaves one to be named."""
    return replace(address, dataset=dataset) if dataset and takes_name(address) else address


def shape_of(address: AnyAddress, role: str) -> tuple[int, int, int]:
    """Size in voxels, (Z, Y, X), of the crop where there is one; of affinities too. The voxels are not read."""
    address = as_address(address)
    with find_object(address, role) as (store, name), located(Address(address.path, name)):
        stored = oriented(store.array(name), address, channels=role == "affinities")
        if len(stored.shape) < 3 or 0 in stored.shape:  # whoever asked will refuse it, in words of its own
            return stored.shape  # type: ignore[return-value]
        z, y, x = (along.stop - along.start for along in address.bounds(stored.shape[-3:]))
        return z, y, x


def read_notes(address: AnyAddress, role: str) -> dict[str, object]:
    """What was written about an object by `notes` of :func:`write`; empty where nothing was, or in foreign formats."""
    address = as_address(address)
    with find_object(address, role) as (store, name):
        stated = store.about(name).notes
    try:
        found = json.loads(stated) if isinstance(stated, str) else {}
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}


def fragments_of(merge_tree: AnyAddress, notes: Mapping[str, object]) -> Address:
    """The fragments of a merge tree: where its notes say, or beside it if both were moved; without notes, in its file.

    Why not first in its file? Those there may be of an earlier tree, and ids of other fragments fit as a rule.
    """
    path = as_address(merge_tree).path
    stated = notes.get("fragments")
    if not isinstance(stated, str):
        return Address(path)
    found = parse_address(stated)
    beside = replace(found, path=path.parent / found.path.name)
    there = next((each for each in (found, beside) if each.path.exists()), None)
    return there or (Address(path) if exists(path, "fragments") else found)


@contextmanager
def open_file(address: Address, role: str | None = None) -> Iterator[Store]:
    """An existing file, open for reading, whatever its format; `role` is what is looked for in it, for the message."""
    if not isinstance(address.path, Remote):
        restore(address.path)
    if not is_there(address.path) and not _is_below(address):
        raise missing_file(address.path, role)
    with reading(address.path, dict(address.options)) as store:
        yield store


@contextmanager
def find_object(address: Address, role: str, whole: bool | None = None) -> Iterator[tuple[Store, str]]:
    """The file of an address, open, and the name of the object in it; if it is not there, the error says what is.

    `whole`: whether the file itself may be the object.
    """
    wanted = address.at(role)
    _restore(address.path, wanted)
    with open_file(address, role) as store:
        with located(address.path):
            name = store.find(wanted, _may_be_whole(address, role) if whole is None else whole)
            if name is None:
                raise missing_dataset(address, role, store)
        yield store, name


def _restore(path: Path | Remote, name: str) -> None:
    """Put back what a process moved aside that was killed: the file, or in a store the object."""
    if isinstance(path, Remote):
        return
    restore(path)
    if path.is_dir():
        restore(path, name)


def _may_be_whole(address: Address, role: str) -> bool:
    """A store that is one image and nothing else is taken for what is asked for; a merge tree is never an image."""
    return address.dataset is None and role != "merge_tree"


def _is_below(address: Address) -> bool:
    """Whether the dataset is there that is named, on a web server, which says nothing of the folder that it lies in."""
    path, name = address.path, address.dataset
    return isinstance(path, Remote) and not path.listed and name is not None and (path / name).exists()
