"""HDF5 in the layout of CREMI, with a checksum a chunk; datasets of other tools are read, whatever they call things."""

import io
import re
import shutil
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numcodecs import Fletcher32

from segkit.errors import InvalidInput, MissingDataset, StorageError, sentence
from segkit.io.atomic import storage_errors
from segkit.io.dialects import of_big_data_viewer, read_placement
from segkit.io.lock import writing
from segkit.io.placement import Placement
from segkit.io.records import About, Blocks, Record, Stored, check_chunk, check_memory
from segkit.io.schemas import KNOWN, plain, stated_about, states_axes
from segkit.threads import share

CHUNK = 64
"""Longest side of a chunk, in voxels."""
LEVEL = 1
"""Of gzip: higher ones take several times as long, and save a few per cent."""
ENCODED = 64
"""Chunks that are encoded before they are written: some 64 MB at most."""
LABELS = "DIMENSION_LABELS"
"""Where HDF5 keeps the labels of dimensions, which are read as such."""
MEND = "mend the file, or name another dataset"
"""What to do about a link that leads nowhere."""
MOST_LINKS = 16
"""Links one after the other that HDF5 follows."""
FILTERS = {
    305: "LZO",
    307: "bzip2",
    32000: "LZF",
    32001: "Blosc",
    32004: "LZ4",
    32008: "bitshuffle",
    32013: "ZFP",
    32015: "zstd",
    32017: "SZ",
    32018: "FCIDECOMP",
    32024: "SZ3",
    32026: "Blosc2",
    32028: "SPERR",
    32033: "HTJ2K",
}
"""Number of a filter -> its name; all but LZO, LZF and those of old versions come with hdf5plugin."""


class Hdf5File:
    """An open file."""

    def __init__(self, file: h5py.File, path: Path, *, follow: bool = False) -> None:
        """`follow`: links may lead to other files."""
        self._file, self._path, self._follow = file, path, follow

    def names(self) -> list[str]:
        """Names of all datasets, and of the groups that are objects themselves, sorted."""
        objects: list[str] = []
        arrays: list[str] = []

        def visit(name: str | bytes, item: Any) -> None:
            if isinstance(name, bytes):  # it is no text, so that nobody can name it
                return
            if isinstance(item, h5py.Dataset):
                arrays.append(name)
            elif "kind" in item.attrs:
                objects.append(name)

        with storage_errors("read", self._path):
            self._file.visititems(visit)
        return sorted(objects + [name for name in arrays if name.rpartition("/")[0] not in objects])

    def find(self, name: str, whole: bool) -> str | None:
        """`name`, if there is such an object. An HDF5 file is never one object as a whole."""
        if not name:
            return None
        self._check_links(name)
        with storage_errors("read", self._path):
            return name if name in self._file else None

    def about(self, name: str) -> About:
        """What segkit wrote about the dataset or group of that name."""
        return stated_about(_attributes(self._item(name)))

    def array(self, name: str) -> Stored:
        """The dataset of that name."""
        dataset = self._item(name)
        if not isinstance(dataset, h5py.Dataset):
            raise MissingDataset(sentence(name, "must be a dataset", "a group", "name one of the datasets in it"))
        self._check_storage(dataset)
        attributes = _attributes(dataset)
        about, shape = stated_about(attributes), dataset.shape or ()
        ours = about.kind is not None and "format_version" in attributes
        with storage_errors("read", self._path):
            scales = [dimension[0] if len(dimension) else None for dimension in dataset.dims] if shape else []
            along = {_name_of(scale): scale for scale in scales if scale is not None}
            labels = [dim.label or _name_of(scale) for dim, scale in zip(dataset.dims, scales, strict=True)]

        def coordinates(axis: str) -> tuple[np.ndarray, Mapping[str, Any]] | None:
            scale = along.get(axis)
            if scale is None or scale.ndim != 1 or scale.attrs.get("NAME", b"").startswith(NO_COORDINATES):
                return None
            self._check_storage(scale)
            check_memory(f"the coordinates {scale.name}", scale.nbytes)
            return self._reading(scale)((slice(None),)), _attributes(scale)

        names = {"the labels of the dimensions": labels}
        placement = read_placement(attributes, len(shape), ours=ours, names=names, coordinates=coordinates)
        if placement.voxel_size is None and (found := BIG_DATA_VIEWER.fullmatch(name)):
            placement = self._of_big_data_viewer(int(found[1]), int(found[2])) or placement
        return Stored(shape, self._reading(dataset), about, placement, dataset.dtype, chunks=dataset.chunks)

    def group(self, name: str) -> tuple[dict[str, np.ndarray], About]:
        """The arrays of the group of that name, and what is said about it."""
        group = self._item(name)
        if not isinstance(group, h5py.Group):
            raise MissingDataset(sentence(name, "must be a group", "a dataset", "name the group of a merge tree"))
        arrays = {}
        for key in group:
            self._check_links(f"{name}/{key}")
            item = self._item(f"{name}/{key}")
            if isinstance(item, h5py.Dataset):
                self._check_storage(item)
                check_memory(f"{name}/{key}", item.nbytes)
                arrays[key] = self._reading(item)(())
        return arrays, stated_about(_attributes(group))

    def _item(self, name: str) -> Any:
        with storage_errors("read", self._path):
            return self._file[name]

    def _reading(self, dataset: h5py.Dataset) -> Callable[[tuple[slice, ...]], np.ndarray]:
        def read(part: tuple[slice, ...]) -> np.ndarray:
            with storage_errors("read", self._path):
                return np.asarray(dataset[part])

        return read

    def _check_links(self, name: str, steps: int = MOST_LINKS) -> None:
        """Raise what is wrong with the way to an object: links to other files, to what is not there, in a circle."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        for end in range(1, len(parts) + 1):
            here = "/".join(parts[:end])
            with storage_errors("read", self._path):
                link = self._file.get(here, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                if not self._follow:
                    self._refuse(f"{here} is a link to", link.filename)
                self._check_leads(here, f"{link.filename}:{link.path}")
            if isinstance(link, h5py.SoftLink):
                if not steps:
                    rule = f"is a link that leads in a circle, or through more than {MOST_LINKS} links"
                    raise MissingDataset(sentence(f"{self._path}:{here}", rule, None, MEND))
                above = [] if link.path.startswith("/") else parts[: end - 1]
                self._check_links("/".join([*above, link.path]), steps - 1)
                self._check_leads(here, link.path)
                return self._check_links("/".join([*above, link.path, *parts[end:]]), steps - 1)
            if link is None:
                return None
        return None

    def _check_leads(self, link: str, to: str) -> None:
        """Raise MissingDataset if a link leads to nothing."""
        with storage_errors("read", self._path):
            there = _item_at(self._file, link) is not None
        if not there:
            raise MissingDataset(sentence(f"{self._path}:{link}", f"is a link to {to}, which is not there", None, MEND))

    def _refuse(self, what: str, where: str) -> None:
        next_step = "if you trust it, allow that by ADDRESS[links=follow]"
        raise InvalidInput(sentence(f"{self._path}", f"must not lead out of the file: {what} {where}", None, next_step))

    def _check_storage(self, dataset: h5py.Dataset) -> None:
        """Refuse data that lie in other files, chunks that are absurdly large, filters that nobody has."""
        with storage_errors("read", self._path):
            outside = [source.file_name for source in dataset.virtual_sources()] if dataset.is_virtual else []
            outside += [str(file[0]) for file in dataset.external or ()]
            properties = dataset.id.get_create_plist()
            filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
        outside = [file for file in outside if file != "."]
        if outside and not self._follow:
            self._refuse(f"{dataset.name} has its values in", outside[0])
        if dataset.chunks:
            check_chunk(dataset.chunks, dataset.dtype)
        missing = [number for number in filters if not h5py.h5z.filter_avail(number)]
        if missing and not _plugins(missing):
            name = FILTERS.get(missing[0], "a filter")
            rule = f"is compressed by {name} (HDF5 filter {missing[0]}), which is not installed"
            next_step = "have it written with another, for hdf5plugin has none of that number"
            next_step = next_step if sys.modules.get("hdf5plugin") else "pip install hdf5plugin"
            raise StorageError(sentence(f"{self._path}:{dataset.name}", rule, next_step=next_step))

    def _of_big_data_viewer(self, setup: int, level: int) -> Placement | None:
        """The voxel size that the XML file beside states, times that of the level."""
        file, name = self._path.with_suffix(".xml"), f"s{setup:02d}/resolutions"
        self._check_links(name)
        with storage_errors("read", self._path):
            factors = self._file.get(name)
        if not isinstance(factors, h5py.Dataset) or factors.ndim != 2 or level >= len(factors):
            return None
        with storage_errors("read", self._path):
            return of_big_data_viewer(file, setup, plain(factors[level]))


NO_COORDINATES = b"This is a netCDF dimension but not a netCDF variable"
"""What netCDF calls a dimension scale that has no values."""
BIG_DATA_VIEWER = re.compile(r"t\d+/s(\d+)/(\d+)/cells")


def _name_of(scale: h5py.Dataset | None) -> str:
    """The last part of the name of a dimension scale, which netCDF takes for that of the axis."""
    return "" if scale is None else str(scale.name).rpartition("/")[2]


def _item_at(file: h5py.File, name: str) -> Any:
    """What lies in a file by that name; None for nothing, and for a link that leads nowhere."""
    try:
        return file.get(name)
    except RuntimeError:  # links in a circle
        return None


def _plugins(missing: list[int]) -> bool:
    """Whether all filters are there once hdf5plugin has brought its own."""
    try:
        import hdf5plugin  # noqa: F401  # it registers them
    except ImportError:
        return False
    return all(h5py.h5z.filter_avail(number) for number in missing)


@contextmanager
def reading(path: Path, options: Mapping[str, str]) -> Iterator[Hdf5File]:
    """The file, open for reading. Links lead to other files where "links" is of the `options`."""
    check_format(path)
    with storage_errors("read", path):
        file = h5py.File(path, "r")
    with file:
        yield Hdf5File(file, path, follow="links" in options)


def check_format(path: Path) -> None:
    """Raise InvalidInput unless an existing `path` is an HDF5 file."""
    if path.is_dir():
        raise InvalidInput(sentence(f"{path}", "must be an HDF5 file", "a folder", "name a file"))
    with storage_errors("read", path), open(path, "rb"):
        pass
    if not h5py.is_hdf5(path):
        raise InvalidInput(sentence(f"{path}", "must be an HDF5 file", "a file of another format", "name another file"))


def write(path: Path, records: Mapping[str, Record], drop: Iterable[str] = ()) -> None:
    """Write objects, by dataset name, into a new file or beside the other objects of an existing one; all or none.

    The datasets in `drop` are removed in the same step.
    """
    if path.exists():
        check_format(path)
    with storage_errors("written", path), writing(path) as temporary:
        if path.exists():
            shutil.copy(path, temporary)
        with _Output(temporary) as output:
            with h5py.File(output, "r+" if path.exists() else "w") as file:
                for name in filter(file.__contains__, drop):
                    del file[name]
                for name, record in records.items():
                    _write(file, name, record)
            output.check()


class _Output(io.FileIO):
    """A file that remembers that writing failed, and goes on as if it had not, until it is asked.

    HDF5 cannot close a file that it cannot write to: it tries again when the process ends, and crashes it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "r+" if path.exists() else "w+")
        self._error: OSError | None = None

    def write(self, data: Any) -> int:
        """All of `data`, unless writing failed before."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while len(rest) and self._error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self._error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """As io does, unless it or a write before it failed."""
        try:
            if self._error is None:
                return super().truncate(size)
        except OSError as error:
            self._error = error
        return size or 0

    def check(self) -> None:
        """Raise what failed."""
        if self._error is not None:
            raise self._error


def _write(file: h5py.File, name: str, record: Record) -> None:
    _make_room(file, name)
    if not isinstance(record.data, Mapping):
        item = _create(file, name, record.data)
    else:
        item = file.create_group(name)
        for key, array in record.data.items():
            _create(item, key, array)
    for key, value in record.attributes.items():
        item.attrs[key] = value


def _make_room(file: h5py.File, name: str) -> None:
    parts = name.split("/")
    for end in range(1, len(parts)):
        above = "/".join(parts[:end])
        if isinstance(file.get(above, getlink=True), h5py.ExternalLink):
            raise InvalidInput(sentence(name, f"must not lead out of the file: {above} is a link to another"))
        item = _item_at(file, above)
        if isinstance(item, h5py.Dataset):
            raise InvalidInput(sentence(name, "cannot be written", next_step=f"{above} is a dataset, not a group"))
        if item is None and file.get(above, getlink=True) is not None:
            next_step = f"{above} is a link that leads nowhere: name another dataset"
            raise InvalidInput(sentence(name, "cannot be written", next_step=next_step))
    if file.get(name, getlink=True) is not None:
        item = _item_at(file, name)
        if isinstance(item, h5py.Group) and "kind" not in item.attrs:
            raise InvalidInput(sentence(name, "is a group of other datasets", next_step="name another dataset"))
        del file[name]


def _create(group: h5py.Group, name: str, array: np.ndarray | Blocks) -> h5py.Dataset:
    if array.size == 0:
        return group.create_dataset(name, data=array)
    spatial = tuple(min(size, CHUNK) for size in array.shape[-3:]) if array.ndim > 1 else (min(array.size, 2**16),)
    chunks = (1,) * (array.ndim - len(spatial)) + spatial
    layout = {"chunks": chunks, "compression": "gzip", "compression_opts": LEVEL, "shuffle": True, "fletcher32": True}
    dataset = group.create_dataset(name, array.shape, array.dtype, **layout)
    whole = tuple(slice(0, size) for size in array.shape)
    for part, block in array.parts if isinstance(array, Blocks) else [(whole, array)]:
        _fill(dataset, part, block)
    return dataset


def _fill(dataset: h5py.Dataset, part: Sequence[slice], block: np.ndarray) -> None:
    """Write a box; chunks that it covers are encoded in threads, for HDF5 itself compresses in one."""
    bounds = [
        along.indices(size) if isinstance(along, slice) else (0, 0, 0)  # (..., slice) is as good
        for along, size in zip(part, dataset.shape, strict=False)
    ]
    covered = block.dtype == dataset.dtype and block.shape == tuple(stop - start for start, stop, _ in bounds)
    if not covered or not all(
        step == 1 and start % chunk == 0 and (stop % chunk == 0 or stop == size)
        for (start, stop, step), chunk, size in zip(bounds, dataset.chunks, dataset.shape, strict=True)
    ):
        dataset[tuple(part)] = block
        return
    corners = list(
        product(*(range(start, stop, chunk) for (start, stop, _), chunk in zip(bounds, dataset.chunks, strict=True)))
    )

    def encode(low: int, high: int, batch: list[tuple[int, ...]]) -> list[bytes]:
        places = [[a - start for a, (start, _, _) in zip(corner, bounds, strict=True)] for corner in batch[low:high]]
        return [_encoded(block, place, dataset.chunks) for place in places]

    for number in range(0, len(corners), ENCODED):
        batch = corners[number : number + ENCODED]
        for corner, encoded in zip(batch, chain.from_iterable(share(encode, len(batch), batch)), strict=True):
            dataset.id.write_direct_chunk(corner, encoded)


def _encoded(block: np.ndarray, corner: Sequence[int], chunks: Sequence[int]) -> bytes:
    """A chunk as the filters of :func:`_create` leave it; those at the ends of an array are filled up with zeros."""
    inside = block[tuple(slice(start, start + size) for start, size in zip(corner, chunks, strict=True))]
    chunk = np.zeros(chunks, block.dtype) if inside.shape != tuple(chunks) else None
    if chunk is not None:
        chunk[tuple(slice(0, size) for size in inside.shape)] = inside
    values = np.ascontiguousarray(inside if chunk is None else chunk).reshape(-1)
    shuffled = np.ascontiguousarray(values.view(np.uint8).reshape(-1, values.itemsize).T)
    # Shuffled fractions and intensities repeat hardly anything but single bytes: to look for nothing else takes half
    # the time, for the same size. Ids repeat much, and would be read half as fast.
    repeats = zlib.Z_DEFAULT_STRATEGY if values.dtype.kind in "iu" and values.itemsize > 2 else zlib.Z_RLE
    packer = zlib.compressobj(LEVEL, strategy=repeats)
    return bytes(Fletcher32().encode(packer.compress(shuffled.data) + packer.flush()))


def _attributes(item: Any) -> dict[str, Any]:
    """The attributes that say something of axes, voxels and kinds, as plain values."""
    found = {}
    with storage_errors("read", Path(item.file.filename)):
        for key in item.attrs:
            if key in KNOWN or (states_axes(key) and key != LABELS):
                found[key] = plain(item.attrs[key])
    return found
