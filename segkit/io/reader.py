"""One way to read: an object in a file that is open gives boxes of its voxels, or all of them as a container.

:class:`Reader` is such an object; the functions ``read_...`` take all of it, and :class:`RegionSource` is a handle
that travels to other processes.

What values mean is decided once, for the array as it is stored, so that all of it, a crop and a block of it are read
alike: see :class:`_Meaning`.
"""

import math
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from segkit.data import Affinities, Grid, Labels, MergeTree, Volume
from segkit.data.affinities import as_fractions, as_neighborhood, check_fractions, cut_leaving
from segkit.data.boxes import within
from segkit.data.labels import as_ids
from segkit.data.volume import check_finite
from segkit.errors import InvalidInput, MissingDataset, sentence
from segkit.io.address import Address, Box, as_address, role_of
from segkit.io.atomic import storage_errors
from segkit.io.handed import held_at, settle
from segkit.io.lookup import AnyAddress, find_object
from segkit.io.records import (
    TREE,
    Stored,
    as_mask,
    check_kind,
    check_memory,
    grid_of,
    located,
    neighborhood_of,
    oriented,
)
from segkit.io.remote import FOLDER_FILES, Remote

RECHECK = 5.0
"""Seconds after which a bucket or a web server is asked whether an object there is still the same."""
KEPT = 16
"""Files that a process keeps open."""
LOOKED_AT = 16
"""Boxes along each axis that are looked at to see what values mean."""
SMALL_MASK = 2**27
"""Bytes of a mask that is looked at whole, where a part of it is read."""
MOST_VALUES = 2**58
"""Voxels of an array; one that states more is damaged."""


@dataclass(frozen=True, eq=False)
class Reader:
    """A volume in a file that is open."""

    shape: tuple[int, int, int]
    """Size in voxels, (Z, Y, X), of the crop where there is one."""
    grid: Grid
    """Where these voxels lie."""
    dtype: np.dtype
    """Of the values."""
    chunks: tuple[int, ...] | None
    """Sides, z, y, x, of what is decoded at once, from the first voxel on that is stored; None: any box is as good."""
    read: Callable[[Box], np.ndarray]
    """The values of a box, (Z, Y, X) or, of affinities, (C, Z, Y, X), which the caller may change; from any thread."""
    whole: Callable[[], Any]
    """All of it, checked: the container of the role."""
    neighborhood: np.ndarray | None = None
    """Offsets of affinities, int64 (C, 3)."""
    identity: Callable[[], str] = str
    """What differs once the content may be another; see :attr:`RegionSource.identity`."""


@contextmanager
def open_volume(address: AnyAddress, role: str = "raw", neighborhood: ArrayLike | None = None) -> Iterator[Reader]:
    """Open a volume that plays a `role`: boxes of it, of the values that the reader of the whole gives.

    Of raw data, values that are not finite are not looked for. Of affinities, edges that leave the volume, or the crop
    of the address, are 0; those that leave the box are as they are.
    """
    with _opened(as_address(address), role, neighborhood) as reader:
        yield reader


def read_volume(address: AnyAddress) -> Volume:
    """Read raw data, of any real dtype, (Z, Y, X)."""
    return _read(address, "raw")


def read_mask(address: AnyAddress) -> Volume:
    """Read a mask, bool (Z, Y, X): True inside the annotation.

    On disk it is of booleans, or of integers of 0 and one other value.
    """
    return _read(address, "mask")


def read_labels(address: AnyAddress, role: str = "truth") -> Labels:
    """Read labels, uint64 (Z, Y, X), from any integer dtype; 2^64 - 1 and 2^64 - 2 stay "outside the annotation"."""
    return _read(address, role)


def read_affinities(address: AnyAddress, neighborhood: ArrayLike | None = None) -> Affinities:
    """Read affinities, float32 (C, Z, Y, X); 8 and 16 bits are scaled to 0..1.

    `neighborhood`, offsets (C, 3), is needed where the file does not state one, and must agree with it where it does.
    Edges that leave the crop become 0, as those that leave the volume.
    """
    return _read(address, "affinities", neighborhood)


def _read(address: AnyAddress, role: str, neighborhood: ArrayLike | None = None) -> Any:
    with _opened(as_address(address), role, neighborhood) as reader:
        return reader.whole()


def read_merge_tree(address: AnyAddress) -> MergeTree:
    """Read a merge tree: a group with the arrays leaf_ids, parents and altitudes."""
    address = as_address(address)
    if address.crop:
        raise InvalidInput(sentence(f"{address}", "must have no crop, for a merge tree has no voxels"))
    with find_object(address, "merge_tree") as (store, name), located(address.path):
        arrays, about = store.group(name)
    with located(f"{address.path}:{name}"):
        check_kind(about, ("merge_tree",), name, "merge_tree")
        for member in TREE:
            if member not in arrays:
                rule = f"must hold {', '.join(TREE)}"
                raise MissingDataset(sentence("the merge tree", rule, ", ".join(sorted(arrays)) or "an empty group"))
        tree = MergeTree(**{member: arrays[member] for member in TREE})
        tree.check()
        return tree


class RegionSource:
    """A volume that is read box by box, in any process: a handle that travels, and opens the file where it is used.

    A process opens the object once for all handles of the same address, and anew when it was replaced; in a bucket or
    on a web server it is looked at for that when a handle is made, and then every few seconds. For what it gives see
    :func:`open_volume`.
    """

    def __init__(
        self, address: AnyAddress, role: str, neighborhood: ArrayLike | None = None, *, travels: bool = True
    ) -> None:
        """One that `travels` has an absolute path, which messages name as well."""
        address, _ = as_address(address), role_of(role)
        path = address.path.absolute() if travels else address.path
        self.address = replace(address, path=path)
        self.role = role
        if travels:
            settle(path)  # other processes know of files alone
        self._given = None if neighborhood is None else as_neighborhood(neighborhood).tolist()
        self._found = _stated(path, self.address.at(role)) if isinstance(path, Remote) else ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size in voxels, (Z, Y, X), of the crop where there is one."""
        return self._reader().shape

    @property
    def grid(self) -> Grid:
        """Where these voxels lie."""
        return self._reader().grid

    @property
    def neighborhood(self) -> np.ndarray | None:
        """Offsets of affinities, int64 (C, 3); None of all else."""
        return self._reader().neighborhood

    @property
    def dtype(self) -> np.dtype:
        """Of the values that are read."""
        return self._reader().dtype

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Sides, z, y, x, of what is decoded at once, counted from the first voxel of the file; None: any box."""
        return self._reader().chunks

    def read(self, part: Box) -> np.ndarray:
        """The values of a box, which the caller may change. `part` has both ends given, inside the volume."""
        return self._reader().read(part)

    def whole(self) -> Any:
        """All of it as the container of its role, checked: what :func:`read_volume` gives, :func:`read_labels` ...

        The file is closed then, for what HDF5 keeps of it in memory.
        """
        found = self._reader().whole()
        _OPEN.forget(self.address, self.role, self._given, self._found)
        return found

    @property
    def identity(self) -> str:
        """What differs once the content may be another: part of the key of all that is made from it.

        Of an object that :class:`segkit.io.shard_target.ShardTarget` made it is its key, wherever it lies; of any other
        its place, grid, size and the time of its last change. All folders of a Zarr array are looked at for that: a
        chunk that is put in place of another, as Zarr does it, changes its folder.
        """
        return self._reader().identity()

    def __repr__(self) -> str:
        return f"RegionSource({str(self.address)!r}, {self.role!r})"

    def _reader(self) -> Reader:
        return _OPEN.get(self.address, self.role, self._given, self._found)


class _Cache:
    """The objects that this process has open, those used last."""

    def __init__(self) -> None:
        self._found: OrderedDict[tuple, Reader] = OrderedDict()
        self._lock = Lock()

    def get(self, address: Address, role: str, neighborhood: list | None, found: str) -> Reader:
        """That object, opened if need be. One that falls out is closed once nobody reads it.

        `found` is the state of the object in a bucket that who asks knows of: what was opened before that is not given.
        """
        key = self._key(address, role, neighborhood, found)
        with self._lock:
            if key not in self._found:
                self._found[key] = _held(address, role, neighborhood)
                while len(self._found) > KEPT:
                    self._found.popitem(last=False)
            self._found.move_to_end(key)
            return self._found[key]

    def forget(self, address: Address, role: str, neighborhood: list | None, found: str) -> None:
        """Close that object once nobody reads it."""
        with self._lock:
            self._found.pop(self._key(address, role, neighborhood, found), None)

    @staticmethod
    def _key(address: Address, role: str, neighborhood: list | None, found: str) -> tuple:
        return str(address), address.dataset, role, repr(neighborhood), found, _version(address, role)


_OPEN = _Cache()


def _version(address: Address, role: str) -> tuple:
    """What differs once a file, or the folder of an object in a Zarr store, was replaced."""
    if (held := held_at(address.path)) is not None:
        return ("held", held.serial)
    if isinstance(address.path, Remote):
        return (_version_there(address.path, address.at(role), int(time.monotonic() / RECHECK)),)
    for path in (address.path / address.at(role), address.path):
        try:
            status = os.stat(path)
        except OSError:
            continue
        return status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino
    return ()


@lru_cache(maxsize=KEPT)
def _version_there(path: Remote, name: str, now: int) -> str:
    """The same of a bucket or a web server, which is asked once in `RECHECK` seconds."""
    return _stated(path, name)


def _stated(path: Remote, name: str) -> str:
    """What a bucket or a web server says of the first of these files."""
    places = [path, *(folder / each for folder in (path / name, path) for each in FOLDER_FILES)]
    return next((str(found) for found in (place.etag() for place in places) if found), "")


def _held(address: Address, role: str, neighborhood: list | None) -> Reader:
    """The reader of an object that is open for as long as somebody holds it."""
    files = ExitStack()
    reader = files.enter_context(_opened(address, role, neighborhood))
    object.__setattr__(reader, "_files", files)  # closed when it is collected
    return reader


@contextmanager
def _opened(address: Address, role: str, neighborhood: ArrayLike | None = None) -> Iterator[Reader]:
    kind = role_of(role)[1]
    kinds = ("volume", "labels") if role == "mask" else (kind,)
    files = ExitStack()
    store, name = files.enter_context(find_object(address, role))
    place = str(replace(address, dataset=name))
    try:
        with located(place):
            stored = store.array(name)
            check_kind(stored.about, kinds, name, role)
            stored = oriented(stored, address, channels=kind == "affinities")
            reader = _reader(address, stored, place, role, neighborhood)
        yield reader
    finally:
        files.close()  # not told of an error: what fails meanwhile is not the fault of this file


def _reader(address: Address, stored: Stored, place: str, role: str, neighborhood: ArrayLike | None) -> Reader:
    grid, offsets = grid_of(stored.placement, place), None
    if role_of(role)[1] == "affinities":
        offsets = neighborhood_of(stored.about, neighborhood)
    leading = _check_form(role, stored.shape, stored.dtype, offsets)
    bounds = address.bounds(stored.shape[-3:])
    z, y, x = (along.stop - along.start for along in bounds)
    grid = grid.crop([along.start for along in bounds]) if address.crop else grid
    meaning = _Meaning(stored, role, offsets)

    def values(part: Box) -> np.ndarray:
        with storage_errors("read", address.path):
            array = stored.read((*leading, *within(bounds, part)))
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    def read(part: Box) -> np.ndarray:
        array = values(part)
        with located(place):
            array = np.require(meaning.of(array), requirements="W")
            if offsets is not None:
                if array.size:
                    check_fractions(array)
                cut_leaving(array, offsets, part, (z, y, x))
            return array

    held = _dtype_of(role, stored.dtype)

    def whole() -> Any:
        with located(place):
            _check_fits(max(held.itemsize, stored.dtype.itemsize if stored.dtype else 1), (z, y, x), offsets)
        array = values((slice(0, z), slice(0, y), slice(0, x)))
        with located(place):
            return _container(role, meaning.of(array), grid, offsets)

    def identity() -> str:
        with located(place):
            meaning.decide()  # now, for who asks is about to divide the volume among others
        made_by = stored.about.made_by
        if made_by:
            return f"{made_by} {bounds}" if address.crop else str(made_by)
        with storage_errors("read", address.path):
            return f"{place} {grid} {_last_change(address, role, stored)}"

    return Reader((z, y, x), grid, held, stored.chunks and stored.chunks[-3:], read, whole, offsets, identity)


def _check_form(
    role: str, shape: tuple[int, ...], dtype: np.dtype | None, neighborhood: np.ndarray | None
) -> tuple[slice, ...]:
    """Refuse what the container would refuse of such an array; what comes before z, y, x, to be read whole."""
    if math.prod(shape) > MOST_VALUES:
        raise InvalidInput(sentence("the array", "states more voxels than there can be", shape, "correct the file"))
    if dtype is not None and dtype.subdtype:
        next_step = "store them as an axis of the array"
        raise InvalidInput(sentence("the array", "must hold one number a voxel", dtype, next_step))
    empty = np.zeros((), dtype or np.uint8)
    if role_of(role)[1] == "labels":
        Labels(np.broadcast_to(np.uint64(0), shape), Grid())
        as_ids(empty)
    elif neighborhood is None:
        Volume(np.broadcast_to(empty, shape), Grid())
    else:
        Affinities(np.broadcast_to(np.float32(0), shape), neighborhood, Grid())
        as_fractions(empty)
    return () if neighborhood is None else (slice(None),)


def _dtype_of(role: str, stored: np.dtype | None) -> np.dtype:
    """The dtype in which what is stored is read."""
    kind = "mask" if role == "mask" else role_of(role)[1]
    found = {"labels": np.uint64, "affinities": np.float32, "mask": np.bool_}.get(kind, stored or np.uint8)
    return np.dtype(found).newbyteorder("=")


def _check_fits(itemsize: int, shape: tuple[int, int, int], neighborhood: np.ndarray | None) -> None:
    """Refuse to read what does not fit into memory, before anything is taken for it."""
    channels = 1 if neighborhood is None else len(neighborhood)
    check_memory(f"the volume of {shape} voxels", math.prod(shape) * channels * itemsize)


def _container(role: str, array: np.ndarray, grid: Grid, neighborhood: np.ndarray | None) -> Any:
    """All that an object holds, from values of which it is known what they mean."""
    if neighborhood is not None:
        return Affinities.convert(array, neighborhood, grid)
    return (Labels if role_of(role)[1] == "labels" else Volume)(array, grid)


def _full_scale(stored: Stored) -> bool:
    """Whether the file says what stands for an affinity of 1. Raises InvalidInput for another than the largest."""
    stated, dtype = stored.about.full_scale, np.dtype(stored.dtype or np.uint8)
    if stated is not None and (dtype.kind != "u" or stated != np.iinfo(dtype).max):
        raise InvalidInput(sentence("full_scale", f"must be the largest number of {dtype}", stated, "correct the file"))
    return stated is not None


class _Meaning:
    """What the values of an array as it is stored mean; boxes of it in any order give the same.

    8 and 16 bits of affinities are fractions of the largest number, if the file says so (`full_scale`), or else if one
    above 1 is among them: an array of 0 and 1
    alone means something else, and is refused, as 16 bits of another tool are that hold 12 bits or fewer. That one is
    looked for when the first values are read, in boxes of the array, one in the middle first, until it is found: in all
    of it, or, of an array with more than `LOOKED_AT` boxes along an axis, in so many that are spread over it. A mask of
    integers has one value besides 0, which is looked for in the same way where a part of it is read; one of up to
    `SMALL_MASK` bytes is looked at whole for others, which in a larger one are refused where they are read. Floats of
    another tool are looked at in the middle: those that leave 0..1 there are refused wherever they are read.
    """

    def __init__(self, stored: Stored, role: str, neighborhood: np.ndarray | None) -> None:
        self._stored, self._role, self._affinities = stored, role, neighborhood is not None
        self._lock = Lock()
        self._known = self._affinities and _full_scale(stored)
        self._inside: Any = None
        self._foreign = stored.about.kind is None
        self._least = 4095 if self._foreign and np.dtype(stored.dtype or np.uint8) == np.uint16 else 1

    def of(self, array: np.ndarray) -> np.ndarray:
        """The values of a box as the container of the role has them."""
        if self._affinities:
            if array.dtype.kind == "f" and self._foreign:
                self._look_in_the_middle()
            elif array.dtype.kind == "u" and not self._known and array.size and array.max() <= self._least:
                self._look()
            return as_fractions(array)
        if self._role == "mask":
            if array.dtype.kind in "ui" and array.shape != self._stored.shape:
                self._look_at_mask()
            return as_mask(array, self._inside)
        if role_of(self._role)[1] == "labels":
            return as_ids(array)
        check_finite(array)
        return array

    def decide(self) -> None:
        """Look at the array now, where there is something to decide."""
        kind = np.dtype(self._stored.dtype or np.uint8).kind
        if kind in "ui" and self._affinities:
            self._look()
        elif kind in "ui" and self._role == "mask":
            self._look_at_mask()

    def _look_at_mask(self) -> None:
        """Find the value of a mask. Raises InvalidInput where it has two besides 0."""
        with self._lock:
            if self._known:
                return
            shape = self._stored.shape
            small = math.prod(shape) * np.dtype(self._stored.dtype).itemsize <= SMALL_MASK
            for part in _slabs(shape, 64) if small else _parts(shape, 64):
                values = self._stored.read(part)
                inside = as_mask(values, self._inside)
                if self._inside is None and inside.any():
                    self._inside = values[inside][0]
                if self._inside is not None and not small:
                    break
            self._known = True

    def _look(self) -> None:
        """Find a value above 1 of affinities. Raises InvalidInput for 0 and 1."""
        with self._lock:
            if self._known:
                return
            largest = 0
            for part in _parts(self._stored.shape, 64):
                largest = max(largest, int(self._stored.read(part).max(initial=0)))
                if largest > self._least:
                    break
            if 0 < largest <= self._least:
                dtype = np.dtype(self._stored.dtype)
                rule = f"of {dtype} must span 0..{np.iinfo(dtype).max}"
                next_step = "store them as floats if 1 = same object"
                next_step = next_step if largest == 1 else "store them as floats, divided by what stands for 1"
                raise InvalidInput(sentence("affinities", rule, f"0..{largest}", next_step))
            self._known = True

    def _look_in_the_middle(self) -> None:
        """Raise InvalidInput for floats that leave 0..1 in the first box."""
        with self._lock:
            if not self._known:
                values = self._stored.read(next(_parts(self._stored.shape, 64)))
                check_fractions(np.nan_to_num(values, nan=0.0))
                self._known = True


def _parts(shape: tuple[int, ...], side: int) -> Iterator[Box]:
    """Boxes of all voxels, one in the middle first."""
    every = tuple(slice(0, size) for size in shape[:-3])
    low = [max(0, (size - side) // 2) for size in shape[-3:]]
    yield (*every, *(slice(a, min(a + side, size)) for a, size in zip(low, shape[-3:], strict=True)))
    corners = [range(0, size, side) for size in shape[-3:]]
    for corner in product(*(along[:: max(1, -(-len(along) // LOOKED_AT))] for along in corners)):
        yield (*every, *(slice(a, min(a + side, size)) for a, size in zip(corner, shape[-3:], strict=True)))


def _slabs(shape: tuple[int, ...], thickness: int) -> Iterator[Box]:
    """Slabs of all voxels, in order: each file of a stack is read once."""
    depth, *others = shape
    for start in range(0, depth, thickness):
        yield (slice(start, min(start + thickness, depth)), *(slice(0, size) for size in others))


def _last_change(address: Address, role: str, stored: Stored) -> str:
    """Size of a file and when it was changed; of a folder, when that one was, or the last one of those below it.

    In a bucket or on a web server that is its metadata: its chunks are too many to be asked for.
    """
    if isinstance(address.path, Remote):
        return _stated(address.path, address.at(role))
    path = address.path / stored.folder
    status = os.stat(path)
    times = [status.st_mtime_ns]
    for folder, names, _ in os.walk(path):
        names[:] = [name for name in names if not name.startswith(".")]
        times += [os.stat(os.path.join(folder, name)).st_mtime_ns for name in names]
    return f"{status.st_size} {max(times)}"
