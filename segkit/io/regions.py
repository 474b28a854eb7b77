"""Volumes of every kind, read box by box: what the readers of whole volumes give, without the whole.

What can only be seen of a whole volume is not refused: 8-bit affinities whose largest value is 1, a mask of two values
besides 0 that never meet in one box.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np

from segkit.data import Grid
from segkit.data.affinities import as_fractions, as_neighborhood, check_fractions
from segkit.data.labels import as_ids
from segkit.errors import InvalidInput, sentence
from segkit.io.address import Address, Slices, as_address, role_of
from segkit.io.atomic import storage_errors
from segkit.io.lookup import AnyAddress, find_object
from segkit.io.records import KEY, Stored, as_mask, check_axes, check_kind, grid_of, located, neighborhood_of

KEPT = 16
"""Files that a process keeps open."""


@dataclass(frozen=True, eq=False)
class Regions:
    """A volume in a file that is open."""

    shape: tuple[int, int, int]
    """Size in voxels, (Z, Y, X), of the crop where there is one."""
    grid: Grid
    """Where these voxels lie."""
    read: Callable[[Slices], np.ndarray]
    """The values of a box, (Z, Y, X) or, of affinities, (C, Z, Y, X), which the caller may change; from any thread."""
    neighborhood: np.ndarray | None = None
    """Offsets of affinities, int64 (C, 3)."""
    identity: Callable[[], str] = str
    """What differs once the content may be another; see :attr:`RegionSource.identity`."""


@contextmanager
def open_labels(address: AnyAddress, role: str = "fragments") -> Iterator[Regions]:
    """Labels: boxes of uint64, as :func:`segkit.io.read_labels` reads them."""
    with _opened(as_address(address), role, None) as regions:
        yield regions


@contextmanager
def open_affinities(address: AnyAddress, neighborhood=None) -> Iterator[Regions]:
    """Affinities: boxes of float32, scaled and checked as :func:`segkit.io.read_affinities` does.

    Edges that leave the volume, or the crop of the address, are 0; those that leave the box are as they are.
    """
    with _opened(as_address(address), "affinities", neighborhood) as regions:
        yield regions


@contextmanager
def open_mask(address: AnyAddress) -> Iterator[Regions]:
    """A mask: boxes of bool, as :func:`segkit.io.read_mask` reads it."""
    with _opened(as_address(address), "mask", None) as regions:
        yield regions


class RegionSource:
    """A volume that is read box by box, in any process: a handle that travels, and opens the file where it is used.

    A process opens the object once for all handles of the same address, and anew when it was replaced. Raw data keep
    their dtype; what other roles give is said at :func:`open_labels`, :func:`open_affinities` and :func:`open_mask`.
    """

    def __init__(self, address: AnyAddress, role: str, neighborhood=None) -> None:
        address, _ = as_address(address), role_of(role)
        self.address = Address(address.path.absolute(), address.dataset, address.crop)
        self.role = role
        self._given = None if neighborhood is None else as_neighborhood(neighborhood).tolist()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size in voxels, (Z, Y, X), of the crop where there is one."""
        return self._regions().shape

    @property
    def grid(self) -> Grid:
        """Where these voxels lie."""
        return self._regions().grid

    @property
    def neighborhood(self) -> np.ndarray | None:
        """Offsets of affinities, int64 (C, 3); None of all else."""
        return self._regions().neighborhood

    def read(self, part: Slices) -> np.ndarray:
        """The values of a box, which the caller may change. `part` has both ends given, inside the volume."""
        return self._regions().read(part)

    @property
    def identity(self) -> str:
        """What differs once the content may be another: part of the key of all that is made from it.

        Of an object that :class:`segkit.io.zarr_target.Target` made it is its key, wherever it lies; of any other its
        place, grid, size and the time of its last change. All folders of a Zarr array are looked at for that: a chunk
        that is put in place of another, as Zarr does it, changes its folder.
        """
        return self._regions().identity()

    def __repr__(self) -> str:
        return f"RegionSource({str(self.address)!r}, {self.role!r})"

    def _regions(self) -> Regions:
        return _OPEN.get(self.address, self.role, self._given)


class _Cache:
    """The objects that this process has open, those used last."""

    def __init__(self) -> None:
        self._found: OrderedDict[tuple, Regions] = OrderedDict()
        self._lock = Lock()

    def get(self, address: Address, role: str, neighborhood: list | None) -> Regions:
        """That object, opened if need be. One that falls out is closed once nobody reads it."""
        key = (str(address), address.dataset, role, repr(neighborhood), _version(address, role))
        with self._lock:
            if key not in self._found:
                self._found[key] = _held(address, role, neighborhood)
                while len(self._found) > KEPT:
                    self._found.popitem(last=False)
            self._found.move_to_end(key)
            return self._found[key]


_OPEN = _Cache()


def _version(address: Address, role: str) -> tuple[int, ...]:
    """What differs once a file, or the folder of an object in a Zarr store, was replaced."""
    for path in (address.path / address.at(role), address.path):
        try:
            status = os.stat(path)
        except OSError:
            continue
        return status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino
    return ()


def _held(address: Address, role: str, neighborhood) -> Regions:
    """The regions of an object that is open for as long as somebody holds them."""
    files = ExitStack()
    regions = files.enter_context(_opened(address, role, neighborhood))
    object.__setattr__(regions, "_files", files)  # closed when it is collected
    return regions


@contextmanager
def _opened(address: Address, role: str, neighborhood) -> Iterator[Regions]:
    kind = role_of(role)[1]
    kinds = ("volume", "labels") if role == "mask" else (kind,)
    files = ExitStack()
    store, name = files.enter_context(find_object(address, role))
    place = str(Address(address.path, name, address.crop))
    try:
        with located(place):
            stored = check_axes(store.array(name))
            check_kind(stored.attributes, kinds, name, role)
            regions = _regions(address, stored, place, role, neighborhood)
        yield regions
    finally:
        files.close()  # not told of an error: what fails meanwhile is not the fault of this file


def _regions(address: Address, stored: Stored, place: str, role: str, neighborhood) -> Regions:
    axes = 4 if role == "affinities" else 3
    if len(stored.shape) != axes or 0 in stored.shape:
        rule = f"must have {axes} dimensions ({'channel, ' if axes == 4 else ''}z, y, x) and not be empty"
        raise InvalidInput(sentence(role, rule, f"{len(stored.shape)}, of shape {stored.shape}"))
    bounds = address.bounds(stored.shape[-3:])
    z, y, x = (along.stop - along.start for along in bounds)
    grid = grid_of(stored.attributes, place)
    grid = grid.crop([along.start for along in bounds]) if address.crop else grid
    offsets = as_neighborhood(neighborhood_of(stored.attributes, neighborhood)) if axes == 4 else None
    if offsets is not None and len(offsets) != stored.shape[0]:
        rule = f"must have one channel an offset, {len(offsets)}, first"
        raise InvalidInput(sentence("affinities", rule, f"{stored.shape[0]}, of shape {stored.shape}"))
    convert = _conversion(role, (z, y, x), offsets)

    def read(part: Slices) -> np.ndarray:
        moved = [slice(whole.start + a.start, whole.start + a.stop) for a, whole in zip(part, bounds, strict=True)]
        with storage_errors("read", address.path):
            array = stored.read((*(slice(None),) * (axes - 3), *moved))
        with located(place):
            array = convert(array.astype(array.dtype.newbyteorder("="), copy=False), part)
        return np.require(array, requirements="W")

    def identity() -> str:
        made_by = stored.attributes.get(KEY)
        if made_by:
            return f"{made_by} {bounds}" if address.crop else str(made_by)
        with storage_errors("read", address.path):
            return f"{place} {grid} {_last_change(address.path / stored.folder)}"

    return Regions((z, y, x), grid, read, offsets, identity)


def _last_change(path: Path) -> str:
    """Size of a file and when it was changed; of a folder, when that one was, or the last one of those below it."""
    status = os.stat(path)
    times = [status.st_mtime_ns]
    for folder, names, _ in os.walk(path):
        names[:] = [name for name in names if not name.startswith(".")]
        times += [os.stat(os.path.join(folder, name)).st_mtime_ns for name in names]
    return f"{status.st_size} {max(times)}"


def _conversion(role: str, shape, neighborhood) -> Callable[[np.ndarray, Slices], np.ndarray]:
    """From what a box holds in the file to what a reader of the whole would give."""
    if role == "affinities":
        return lambda array, part: _fractions(array, part, shape, neighborhood)
    if role == "mask":
        return lambda array, part: as_mask(array)
    if role == "raw":
        return lambda array, part: array
    return lambda array, part: as_ids(array)


def _fractions(array: np.ndarray, part: Slices, shape, neighborhood: np.ndarray) -> np.ndarray:
    array = np.require(as_fractions(array), requirements="W")
    if array.size:
        check_fractions(array)
    for channel, offset in zip(array, neighborhood, strict=True):
        for axis, step in enumerate(map(int, offset)):
            leaving = slice(0, -step) if step < 0 else slice(shape[axis] - step, shape[axis])
            low = max(leaving.start - part[axis].start, 0) if step else 0
            high = max(leaving.stop - part[axis].start, 0) if step else 0
            channel[(slice(None),) * axis + (slice(low, high),)] = 0
    return array
