"""One way to write: containers, or arrays that come part by part, in any format; all appears at once, or nothing."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from segkit.data import Affinities, Grid, Volume
from segkit.errors import InvalidInput, StorageError, sentence
from segkit.io.address import as_address, role_of
from segkit.io.atomic import check_folder
from segkit.io.formats import FORMATS, format_to_write, own_format
from segkit.io.lookup import NOTES, AnyAddress, exists
from segkit.io.records import Blocks, Record, encode, kind_of

Part = tuple[tuple[slice, ...], np.ndarray]
"""Where in an array, and what."""


def write_blocks(address: AnyAddress, role: str, blocks: Blocks, attributes: Mapping[str, object]) -> None:
    """Write one array that comes block by block, with `attributes` as they are; atomic as :func:`write` is.

    TIFF (.tif, .tiff) and neuroglancer precomputed (.precomputed) hold one volume, which is replaced.
    """
    address = as_address(address)
    backend = format_to_write(address)
    check_folder(address.path)
    backend.write(address.path, {address.at(role): Record(blocks, dict(attributes))})


def check_target(address: AnyAddress, role: str, overwrite: bool) -> str:
    """The name of the format that `address` will be written in.

    Raises what :func:`write_blocks` would raise because of the address, and unless `overwrite` if something is there.
    """
    address = as_address(address)
    backend = format_to_write(address)
    check_folder(address.path)
    name = backend.__name__.rpartition(".")[2]
    if name in FORMATS.values():
        check_writable(address)
        there = exists(address, role)
    else:
        there = address.path.exists()
    if there and not overwrite:
        raise InvalidInput(sentence(f"{address}", "exists already", next_step="give --overwrite, or another name"))
    return name


def write(path: AnyAddress, container, role: str | None = None, *, notes: Mapping[str, object] | None = None) -> None:
    """Write a container, beside whatever else is in the file, under its role's usual name or the dataset of `path`.

    Without a role: raw (mask, if boolean) for a Volume, segmentation for Labels, affinities, merge_tree. The suffix
    chooses the format: .h5 .hdf .hdf5 or .zarr .ome.zarr. A failure leaves what was there, and no half file. An
    object of that name is replaced. Two processes must not write to one file at the same time. `notes` are plain
    values (JSON) that :func:`read_notes` gives back: how the object was made, say.
    """
    address = as_address(path)
    if address.crop:
        raise InvalidInput(sentence(f"{address}", "must have no crop where something is written"))
    role = role or _default_role(container)
    _write(address.path, {address.at(role): _record(container, role, notes)})


def write_all(
    path: AnyAddress,
    containers: Mapping[str, object],
    drop: str | None = None,
    *,
    notes: Mapping[str, Mapping[str, object]] | None = None,
) -> None:
    """Write several containers, by role, in one go: in HDF5 all of them appear, or none.

    A key is a role, or ``role:dataset`` where the dataset should not have the role's usual name. Datasets that were
    there before and whose names begin with `drop` are removed, those that are written excepted. `notes` are those of
    :func:`write`, by key.
    """
    address = as_address(path)
    if address.crop or address.dataset:
        raise InvalidInput(sentence(f"{address}", "must name neither a dataset nor a crop", next_step="name the file"))
    records = {}
    for key, container in containers.items():
        role, _, dataset = key.partition(":")
        records[dataset or role_of(role)[0]] = _record(container, role, (notes or {}).get(key))
    backend = own_format(address.path)
    check_folder(address.path)
    stale = []
    if drop is not None and address.path.exists():
        with backend.reading(address.path) as store:
            stale = [name for name in store.names() if name.startswith(drop) and name not in records]
    backend.write(address.path, records, stale)


def check_writable(path: AnyAddress, dataset: bool = True) -> None:
    """Raise what :func:`write` would raise because of the address, the folder or the file that is there already.

    To be called before long work. Without `dataset`, an address that names one is refused too.
    """
    address = as_address(path)
    if address.crop or (address.dataset and not dataset):
        rule = "must have no crop where something is written" if address.crop else "must name a file only"
        raise InvalidInput(sentence(f"{address}", rule))
    backend = own_format(address.path)
    check_folder(address.path)
    folder = address.path.absolute().parent
    if not os.access(folder, os.W_OK):
        raise StorageError(sentence(f"the folder {folder}", "must be writable", next_step="write elsewhere"))
    if address.path.exists():
        with backend.reading(address.path):
            pass


def _default_role(container) -> str:
    if isinstance(container, Volume):
        return "mask" if container.array.dtype == bool else "raw"
    kind = kind_of(container)
    return "segmentation" if kind == "labels" else kind


def _record(container, role: str, notes: Mapping[str, object] | None = None) -> Record:
    kind = kind_of(container)
    expected = role_of(role)[1]
    if kind != expected:
        raise InvalidInput(sentence(f"what is written as {role}", f"must be of kind {expected}", kind))
    record = encode(container)
    return Record(record.data, record.attributes | as_attributes(notes))


def as_attributes(notes: Mapping[str, object] | None) -> dict[str, str]:
    """Notes as an attribute of what is written."""
    return {NOTES: json.dumps(dict(notes))} if notes else {}


def _write(path: Path, records: Mapping[str, object]) -> None:
    backend = own_format(path)
    check_folder(path)
    backend.write(path, records)


def write_affinities(
    address: AnyAddress,
    parts: Iterable[Part],
    shape: tuple[int, int, int],
    neighborhood,
    grid: Grid,
    *,
    notes: Mapping[str, object] | None = None,
) -> None:
    """Write affinities of `shape` (Z, Y, X) that come part by part: what :func:`segkit.io.write` writes of the whole.

    An error of `parts` is raised as it is, and then nothing is written.
    """
    check_writable(address)
    stand_in = np.zeros((len(neighborhood), 1, 1, 1), np.float32)
    header = encode(Affinities(stand_in, neighborhood, grid)).attributes | as_attributes(notes)
    failed: list[Exception] = []

    def watched() -> Iterator[Part]:
        try:
            yield from parts
        except Exception as error:
            failed.append(error)
            raise

    try:
        blocks = Blocks((len(neighborhood), *shape), np.dtype(np.float32), watched())
        write_blocks(address, "affinities", blocks, header)
    except StorageError as error:
        if failed and error is not failed[0]:  # a format takes all that goes wrong while it writes for its own fault
            raise failed[0] from None
        raise
