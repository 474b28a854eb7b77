"""Neuroglancer precomputed volumes in a folder, through TensorStore (`pip install 'segkit-em[precomputed]'`).

The format stores x, y, z, channel; here the arrays are [channel,] z, y, x. `resolution` is nm, and `voxel_offset`
places the corner of the first voxel. Every encoding that TensorStore knows is read, sharded or not; other scales than
the first by their key, as in ``vol.precomputed:16_16_40``. A chunk that is not there is refused, for it may be lost as
well as blank, unless the address says ``[missing=0]``. Chunks compressed as files (.gz, .br), as CloudVolume writes
them, are read too. Segmentations are written as compressed_segmentation (uint32, uint64), all else raw, in shards or
each chunk a file, with smaller scales if wanted.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np

from segkit.errors import (
    InvalidInput,
    MissingDataset,
    MissingFile,
    SegkitError,
    StorageError,
    sentence,
)
from segkit.io.address import Box
from segkit.io.atomic import storage_errors
from segkit.io.dialects import nanometers_along
from segkit.io.json_file import read_json_object
from segkit.io.lock import writing
from segkit.io.precomputed_layout import Scales, laid_out
from segkit.io.pyramid import reduced
from segkit.io.records import About, Blocks, Record, Stored
from segkit.io.remote import AnyPath, Remote
from segkit.io.schemas import PrecomputedInfo, Scale, checked
from segkit.io.tensor import kvstore_of, own_context, tensorstore, values_of

WHAT = "neuroglancer precomputed"
LARGEST_CHUNK = 2**31
"""Bytes: TensorStore ends the process where there is no memory for a chunk."""
DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "float32")
PACKED = {".gz": "gzip", ".br": "brotli"}
"""Suffix of a chunk that is compressed as a file -> the module that unpacks it."""
KINDS = {"segmentation": "labels"}
"""`type` of a volume -> kind. "image" may be raw data, a mask or affinities."""


class PrecomputedVolume:
    """One volume at all its scales."""

    def __init__(self, path: Path | Remote, info: PrecomputedInfo, *, missing: bool) -> None:
        """`missing`: chunks that are not there are background."""
        self._path, self._info, self._missing = path, info, missing
        self._keys = [scale.key for scale in info.scales]

    def names(self) -> list[str]:
        """The keys of the scales."""
        return list(self._keys)

    def find(self, name: str, whole: bool) -> str | None:
        """`name`, if it is the key of a scale; "" if the volume may be taken as a `whole`, at its first scale."""
        return name if name in self._keys else "" if whole else None

    def about(self, name: str) -> About:
        """Its kind, where it is of segmentations: no notes are kept here."""
        return About(kind=KINDS.get(self._info.type))

    def array(self, name: str) -> Stored:
        """The volume at a scale."""
        index = self._keys.index(name) if name else 0
        scale, channels = self._info.scales[index], self._info.num_channels
        for sides in scale.chunk_sizes:
            if len(sides) != 3 or math.prod(sides) * channels * self._dtype().itemsize > LARGEST_CHUNK:
                rule = f"must be three sides of a chunk of at most {LARGEST_CHUNK // 2**30} GiB, which is decoded whole"
                raise InvalidInput(sentence(f"{self._path}: chunk_sizes", rule, sides, "correct the file"))
        places = [at * length for at, length in zip(scale.voxel_offset, scale.resolution, strict=True)]
        shape = (*[channels] * (channels > 1), *scale.size[::-1])
        axes = "czyx"[-len(shape) :]
        placement = replace(nanometers_along("xyz", scale.resolution, ["nm"] * 3, places), axes=axes)
        chunks = (*shape[:-3], *scale.chunk_sizes[0][::-1])
        read = self._read(index, shape)
        return Stored(shape, read, self.about(name), placement, self._dtype(), chunks=chunks)

    def group(self, name: str) -> tuple[dict[str, np.ndarray], About]:
        """A precomputed volume holds no merge tree."""
        raise MissingDataset(sentence("a precomputed volume", "holds no merge tree"))

    def _dtype(self) -> np.dtype:
        name = self._info.data_type.lower()
        if name not in DTYPES:
            rule = f"must be {', '.join(DTYPES)}"
            raise InvalidInput(sentence(f"{self._path}: data_type", rule, repr(self._info.data_type)))
        return np.dtype(name)

    def _read(self, index: int, shape: tuple[int, ...]) -> Callable[[tuple[slice, ...]], np.ndarray]:
        scale = self._info.scales[index]
        folder = self._path / scale.key
        packed = scale.sharding is None and any(each.suffix in PACKED for each in _first_files(folder))
        opened = None if packed else self._opened(index, kvstore_of(self._path))

        def read(part: tuple[slice, ...]) -> np.ndarray:
            store = opened
            if store is None:
                store = self._opened(index, self._unpacked(scale, part[-3:]))
            store = store.translate_to[0].T if len(shape) == 4 else store.translate_to[0].T[0]
            with _missing(self._path), storage_errors("read", self._path):
                return values_of(store, part)

        return read

    def _opened(self, index: int, kvstore: object) -> Any:
        more = {"kvstore": kvstore} if isinstance(kvstore, dict) else {"kvstore": {"driver": "memory"}}
        spec = _spec(self._path) | {"scale_index": index, "fill_missing_data_reads": self._missing} | more
        known = own_context() if isinstance(kvstore, dict) else kvstore
        with storage_errors("read", self._path):
            return tensorstore(WHAT).open(spec, read=True, context=known).result()

    def _unpacked(self, scale: Scale, box: tuple[slice, ...]) -> Any:
        """The chunks that a box, z, y, x, lies in, unpacked, as a store in memory."""
        package = tensorstore(WHAT)
        context = package.Context()
        memory = package.KvStore.open({"driver": "memory"}, context=context).result()
        memory["info"] = (self._path / "info").read_bytes()
        sides = scale.chunk_sizes[0]
        along = [
            [(n * side, min((n + 1) * side, size)) for n in range(part.start // side, -(-part.stop // side))]
            for part, side, size in zip(box[::-1], sides, scale.size, strict=True)
        ]
        for ranges in product(*along):
            ends = [(low + start, high + start) for (low, high), start in zip(ranges, scale.voxel_offset, strict=True)]
            key = f"{scale.key}/" + "_".join(f"{low}-{high}" for low, high in ends)
            content = unpacked_file(self._path / key)
            if content is not None:
                memory[key] = content
        return context


def _first_files(folder: Path | Remote) -> list[Path | Remote]:
    """Some of the chunks, to see how they are stored."""
    if isinstance(folder, Remote):
        return list(folder.first(8))
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [Path(entry.path) for entry in islice(entries, 8)]


def unpacked_file(file: Path | Remote) -> bytes | None:
    """The content of a chunk, compressed as a file or not; None if there is no such chunk."""
    for suffix, module in PACKED.items():
        packed = file.with_name(file.name + suffix)
        if not packed.exists():
            continue
        try:
            unpack = import_module(module)
        except ImportError as error:
            rule = f"is compressed in a way that needs the package {module}"
            raise StorageError(sentence(f"{packed}", rule, next_step=f"pip install {module}")) from error
        with storage_errors("read", packed):
            try:
                return unpack.decompress(packed.read_bytes())
            except Exception as error:  # brotli has an exception of its own, gzip those of zlib
                raise ValueError(str(error)) from error
    return file.read_bytes() if file.exists() else None


@contextmanager
def reading(path: Path | Remote, options: Mapping[str, str]) -> Iterator[PrecomputedVolume]:
    """The volume, open for reading. Chunks that are not there are background where "missing" is of the `options`."""
    if not (path / "info").is_file():
        value = "a folder without the file info" if path.is_dir() else "a file"
        raise InvalidInput(sentence(f"{path}", "must be a folder of a precomputed volume", value, "name another"))
    info = read_json_object(path / "info")
    if not info.get("scales"):
        what = info.get("@type")
        raise InvalidInput(sentence(f"{path}", "must hold a precomputed volume", f"what its info calls {what!r}"))
    yield PrecomputedVolume(path, checked(PrecomputedInfo, info, "info"), missing="missing" in options)


def write(path: Path | Remote, records: Mapping[str, Record], drop: Iterable[str] = ()) -> None:
    """Write one volume.

    In a bucket its chunks lie in a folder of a name of their own, and the file `info`, which says so, is written last:
    so the volume appears, or takes the place of another, in one step.
    """
    (record,) = records.values()
    data = record.data
    assert not isinstance(data, Mapping)  # merge trees are refused by the name of the file
    if np.dtype(data.dtype).name not in DTYPES:
        rule = f"must be of dtype {', '.join(DTYPES)}"
        raise InvalidInput(sentence("what is written as precomputed", rule, data.dtype, "choose one by --dtype"))
    with storage_errors("written", path):
        if isinstance(path, Remote):
            from segkit.io.bucket import versioned  # which takes zarr

            with versioned(path, "info") as folder:
                _fill(folder, data, record)
            return
        with writing(path) as temporary:
            temporary.mkdir()
            _fill(temporary, data, record)


def _fill(folder: AnyPath, data: np.ndarray | Blocks, record: Record) -> None:
    """Write all scales of a volume into an empty folder."""
    parts = data.parts if isinstance(data, Blocks) else [((slice(None),) * data.ndim, data)]
    laid = laid_out(data.shape, np.dtype(data.dtype), record.attributes, record.layout)
    labels = record.attributes.get("kind") == "labels"
    last, before = laid.levels[0], _created(folder, laid, 0)
    for part, block in parts:
        _put(before, part, block)
    for index, level in enumerate(laid.levels[1:], 1):
        scale = _created(folder, laid, index)
        sides, progress = laid.blocks[index], record.layout.progress
        for part, block in reduced(last, level, _reader(before), labels, sides, progress):
            _put(scale, part, block)
        last, before = level, scale


def _created(folder: AnyPath, laid: Scales, index: int) -> Any:
    """A new scale of the volume in `folder`: an array channel, z, y, x."""
    metadata = {"multiscale_metadata": laid.volume, "scale_metadata": laid.scales[index]}
    spec = _spec(folder) | metadata | {"store_data_equal_to_fill_value": True}
    return tensorstore(WHAT).open(spec, create=True).result().translate_to[0].T


def _put(store: Any, part: tuple[slice, ...], block: np.ndarray) -> None:
    """Write a part of an array, [channel,] z, y, x, in one go: a shard would be written anew for each of its chunks."""
    with tensorstore(WHAT).Transaction() as transaction:
        store.with_transaction(transaction)[part if len(part) == 4 else (0, *part)].write(block).result()


def _reader(store: Any) -> Callable[[Box], np.ndarray]:
    """How to read a box of an array of one channel."""
    return lambda box: values_of(store, (0, *box))


def _spec(path: Path | Remote) -> dict[str, object]:
    return {
        "driver": "neuroglancer_precomputed",
        "kvstore": kvstore_of(path),
        "recheck_cached_metadata": False,
        "recheck_cached_data": False,
    }


@contextmanager
def _missing(path: Path | Remote) -> Iterator[None]:
    """Say which chunk is not there."""
    try:
        yield
    except SegkitError as error:
        if "is missing" not in str(error) and "NOT_FOUND" not in str(error):
            raise
        next_step = "if the tool that wrote it leaves background out, say ADDRESS[missing=0]"
        message = sentence(f"{path}", "lacks a chunk", next_step=f"{next_step}; the reason given is: {error}")
        raise MissingFile(message) from error
