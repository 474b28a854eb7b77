"""Volumes that are read, and affinities that are written, part by part: memory never holds the whole."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from segkit.data import Affinities, Grid
from segkit.errors import InvalidInput, StorageError, sentence
from segkit.io.address import Address, Slices, as_address
from segkit.io.atomic import storage_errors
from segkit.io.files import as_attributes, check_writable, write_blocks
from segkit.io.lookup import AnyAddress, opened
from segkit.io.records import Blocks, Stored, check_axes, encode, grid_of, located

Part = tuple[tuple[slice, ...], np.ndarray]


@dataclass(frozen=True)
class OpenVolume:
    """Raw data in a file that is open."""

    shape: tuple[int, int, int]
    """Size in voxels, (Z, Y, X), of the crop where there is one."""
    grid: Grid
    """Where these voxels lie."""
    read: Callable[[tuple[slice, ...]], np.ndarray]
    """The values of a box; any thread may call it."""


@contextmanager
def open_volume(address: AnyAddress, role: str = "raw") -> Iterator[OpenVolume]:
    """The volume at `address`, as :func:`segkit.io.read_volume` would read it, open for as long as the block runs.

    Values that are not finite are not looked for.
    """
    address = as_address(address)
    files = ExitStack()
    stored, place = files.enter_context(opened(address, role, ("volume",)))
    try:
        yield _volume(address, stored, place)
    finally:
        files.close()  # not told of an error: what fails meanwhile is not the fault of this file


def _volume(address: Address, stored: Stored, place: str) -> OpenVolume:
    with located(place):
        check_axes(stored)
        if len(stored.shape) != 3 or 0 in stored.shape:
            value = f"{len(stored.shape)}, of shape {stored.shape}"
            raise InvalidInput(sentence("volume", "must have 3 dimensions (z, y, x) and not be empty", value))
        bounds = address.bounds(stored.shape)
        grid = grid_of(stored.attributes, place)
    grid = grid.crop([along.start for along in bounds]) if address.crop else grid
    z, y, x = (along.stop - along.start for along in bounds)
    return OpenVolume((z, y, x), grid, _reader(stored, bounds, address.path))


def _reader(stored: Stored, bounds: Slices, path) -> Callable[[tuple[slice, ...]], np.ndarray]:
    def read(part: tuple[slice, ...]) -> np.ndarray:
        moved = [slice(whole.start + a.start, whole.start + a.stop) for a, whole in zip(part, bounds, strict=True)]
        with storage_errors("read", path):
            array = stored.read(tuple(moved))
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    return read


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
