"""Finding objects in files, and what can be said of them without reading their voxels."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from segkit.errors import MissingDataset, MissingFile, sentence
from segkit.io.address import Address, as_address
from segkit.io.formats import EXCHANGE, FORMATS, format_to_read, module_of
from segkit.io.records import Stored, check_axes, check_kind, located
from segkit.parameters import nearest

AnyAddress = str | Path | Address
NOTES = "notes"
"""The attribute that holds what was said of an object when it was written, as JSON."""


@contextmanager
def opened(address: AnyAddress, role: str, kinds: tuple[str, ...]) -> Iterator[tuple[Stored, str]]:
    """An array as it is stored, for reading part by part, and its place; of any axes and any convention.

    `kinds` are those that the array may be of, if the file says a kind. The crop of the address is not applied.
    """
    address = as_address(address)
    with find_object(address, role, whole=address.dataset is None) as (store, name):
        place = str(Address(address.path, name or None))
        with located(place):
            stored = store.array(name)
            check_kind(stored.attributes, kinds)
        yield stored, place


def states_voxel_size(address: AnyAddress, role: str) -> bool:
    """Whether the object at `address` says how large its voxels are; without that they are taken to be 1 nm long."""
    address = as_address(address)
    with find_object(address, role) as (store, name), located(Address(address.path, name)):
        return "resolution" in store.array(name).attributes


def matching(address: AnyAddress, role: str) -> list[Address]:
    """The addresses of all datasets that `address` names, by name, where its dataset has wildcards (* and ?).

    One without wildcards is returned as it is. Raises MissingDataset if nothing matches.
    """
    address = as_address(address)
    if address.dataset is None or not set("*?") & set(address.dataset):
        return [address]
    if not address.path.exists():
        raise MissingFile(sentence(f"{address.path}", "does not exist", next_step=_beside(address.path)))
    with format_to_read(address.path).reading(address.path) as store:
        known = store.names()
    found = [name for name in known if fnmatchcase(name, address.dataset)]
    if not found:
        rule, next_step = f"has no dataset {address.dataset!r}", f"it holds {', '.join(known) or 'nothing'}"
        raise MissingDataset(sentence(f"{address.path}", rule, next_step=next_step))
    return [Address(address.path, name, address.crop) for name in found]


def datasets(path: Path) -> list[str]:
    """The names of all objects in a file. Raises InvalidInput for one of an unknown format."""
    with format_to_read(path).reading(path) as store:
        return store.names()


def exists(address: AnyAddress, role: str) -> bool:
    """Whether there is an object at `address`; the usual name of the role is taken where no dataset is given."""
    address = as_address(address)
    name = address.at(role)
    if not address.path.exists():
        return False
    with format_to_read(address.path).reading(address.path) as store:
        return store.find(name, _may_be_whole(address, role)) is not None


def shape_of(address: AnyAddress, role: str) -> tuple[int, int, int]:
    """Size in voxels, (Z, Y, X), of the crop where there is one; of affinities too. The voxels are not read."""
    address = as_address(address)
    with find_object(address, role) as (store, name), located(Address(address.path, name)):
        return part_of(check_axes(store.array(name)), address)[1]


def read_notes(address: AnyAddress, role: str) -> dict[str, object]:
    """What was written about an object by `notes` of :func:`write`; empty where nothing was, or in foreign formats."""
    address = as_address(address)
    with find_object(address, role) as (store, name):
        stated = getattr(store, "attributes", lambda _: {})(name).get(NOTES)
    try:
        found = json.loads(stated) if isinstance(stated, str) else {}
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}


def part_of(stored: Stored, address: Address) -> tuple[tuple[slice, ...], tuple[int, int, int]]:
    """What to read of an array for the crop of its address, and the size of that in voxels."""
    if len(stored.shape) < 3 or 0 in stored.shape:  # whoever asked will refuse it, in its own words
        return (slice(None),) * len(stored.shape), stored.shape  # type: ignore[return-value]
    bounds = address.bounds(stored.shape[-3:])
    part = (slice(None),) * (len(stored.shape) - 3) + bounds
    return part, tuple(along.stop - along.start for along in bounds)  # type: ignore[return-value]


@contextmanager
def find_object(address: Address, role: str, whole: bool | None = None) -> Iterator[tuple]:
    """The file of an address, open, and the name of the object in it; if it is not there, the error says what is.

    `whole`: whether the file itself may be the object.
    """
    wanted, path = address.at(role), address.path
    backend = format_to_read(path)
    if not path.exists():
        raise MissingFile(sentence(f"{path}", "does not exist", next_step=_beside(path)))
    with backend.reading(path) as store:
        name = store.find(wanted, _may_be_whole(address, role) if whole is None else whole)
        if name is None:
            known = store.names()
            guess = nearest(wanted, known)
            next_step = f"did you mean {path}:{guess}? " if guess else ""
            next_step += f"it holds {', '.join(known) or 'nothing'}"
            raise MissingDataset(sentence(f"{path}", f"has no dataset {wanted!r}", next_step=next_step))
        yield store, name


def _may_be_whole(address: Address, role: str) -> bool:
    """Other tools' Zarr stores are often one image and nothing else; that is raw data unless the user says more.

    A TIFF stack or a precomputed volume is never anything else, so that it is taken for what is asked for.
    """
    single = module_of(address.path) in EXCHANGE.values()
    return address.dataset is None and (role == "raw" or single)


def _beside(path: Path) -> str:
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"there is no folder {folder} either"
    guess = nearest(path.name, sorted(item.name for item in folder.iterdir() if item.suffix in FORMATS))
    return f"did you mean {path.with_name(guess)}?" if guess else "check the spelling"
