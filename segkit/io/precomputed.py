"""Neuroglancer precomputed volumes in a folder, through TensorStore (`pip install 'segkit-em[precomputed]'`).

The format stores x, y, z, channel; here the arrays are [channel,] z, y, x. `resolution` is nm, and `voxel_offset`
places the corner of the first voxel. Every encoding that TensorStore knows is read, sharded or not; other scales than
the first by their key, as in ``vol.precomputed:16_16_40``. A chunk that is not there is refused, for it may be lost as
well as blank, unless the address says ``[missing=0]``. Chunks compressed as files (.gz, .br), as CloudVolume writes
them, are read too. Segmentations are written as compressed_segmentation (uint32, uint64), all else raw, unsharded.
"""

import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from itertools import islice, product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from segkit.errors import (
    BrokenComponent,
    InvalidInput,
    MissingDataset,
    MissingFile,
    SegkitError,
    StorageError,
    sentence,
)
from segkit.io.atomic import storage_errors
from segkit.io.dialects import nanometers_along
from segkit.io.json_file import read_json_object
from segkit.io.lock import writing
from segkit.io.records import About, Blocks, Record, Stored
from segkit.io.schemas import PrecomputedInfo, Scale, checked

CHUNK = 64
"""Longest side of a chunk, in voxels."""
LARGEST_CHUNK = 2**31
"""Bytes: TensorStore ends the process where there is no memory for a chunk."""
DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32")
PACKED = {".gz": "gzip", ".br": "brotli"}
"""Suffix of a chunk that is compressed as a file -> the module that unpacks it."""
KINDS = {"segmentation": "labels"}
"""`type` of a volume -> kind. "image" may be raw data, a mask or affinities."""


class PrecomputedVolume:
    """One volume at all its scales."""

    def __init__(self, path: Path, info: PrecomputedInfo, *, missing: bool) -> None:
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
        return Stored(shape, self._read(index, shape), self.about(name), placement, self._dtype())

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
        opened = None if packed else self._opened(index, {"driver": "file", "path": f"{self._path.absolute()}/"})

        def read(part: tuple[slice, ...]) -> np.ndarray:
            store = opened
            if store is None:
                store = self._opened(index, self._unpacked(scale, part[-3:]))
            store = store.translate_to[0].T if len(shape) == 4 else store.translate_to[0].T[0]
            with _missing(self._path), storage_errors("read", self._path):
                return np.asarray(store[part].read().result())

        return read

    def _opened(self, index: int, kvstore: object) -> Any:
        more = {"kvstore": kvstore} if isinstance(kvstore, dict) else {"kvstore": {"driver": "memory"}}
        spec = _spec(self._path) | {"scale_index": index, "fill_missing_data_reads": self._missing} | more
        tensorstore = _tensorstore()
        context = None if isinstance(kvstore, dict) else kvstore
        with storage_errors("read", self._path):
            return tensorstore.open(spec, read=True, context=context).result()

    def _unpacked(self, scale: Scale, box: tuple[slice, ...]) -> Any:
        """The chunks that a box, z, y, x, lies in, unpacked, as a store in memory."""
        tensorstore = _tensorstore()
        context = tensorstore.Context()
        memory = tensorstore.KvStore.open({"driver": "memory"}, context=context).result()
        memory["info"] = (self._path / "info").read_bytes()
        sides = scale.chunk_sizes[0]
        along = [
            [(n * side, min((n + 1) * side, size)) for n in range(part.start // side, -(-part.stop // side))]
            for part, side, size in zip(box[::-1], sides, scale.size, strict=True)
        ]
        for ranges in product(*along):
            ends = [(low + start, high + start) for (low, high), start in zip(ranges, scale.voxel_offset, strict=True)]
            key = f"{scale.key}/" + "_".join(f"{low}-{high}" for low, high in ends)
            content = _unpacked_file(self._path / key)
            if content is not None:
                memory[key] = content
        return context


def _first_files(folder: Path) -> list[Path]:
    """Some of the chunks, to see how they are stored."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [Path(entry.path) for entry in islice(entries, 8)]


def _unpacked_file(file: Path) -> bytes | None:
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
def reading(path: Path, allowed: Collection[str] = ()) -> Iterator[PrecomputedVolume]:
    """The volume, open for reading. Chunks that are not there are background where "missing" is `allowed`."""
    if not (path / "info").is_file():
        value = "a folder without the file info" if path.is_dir() else "a file"
        raise InvalidInput(sentence(f"{path}", "must be a folder of a precomputed volume", value, "name another"))
    info = read_json_object(path / "info")
    if not info.get("scales"):
        what = info.get("@type")
        raise InvalidInput(sentence(f"{path}", "must hold a precomputed volume", f"what its info calls {what!r}"))
    yield PrecomputedVolume(path, checked(PrecomputedInfo, info, "info"), missing="missing" in allowed)


def write(path: Path, records: Mapping[str, Record], drop: Iterable[str] = ()) -> None:
    """Write one volume."""
    (record,) = records.values()
    data, kind = record.data, record.attributes.get("kind")
    assert not isinstance(data, Mapping)  # merge trees are refused by the name of the file
    if np.dtype(data.dtype).name not in DTYPES:
        rule = f"must be of dtype {', '.join(DTYPES)}"
        raise InvalidInput(sentence("what is written as precomputed", rule, data.dtype, "choose one by --dtype"))
    parts = data.parts if isinstance(data, Blocks) else [((slice(None),) * data.ndim, data)]
    metadata = _metadata(data, kind == "labels", record.attributes)
    with storage_errors("written", path), writing(path) as temporary:
        temporary.mkdir()
        spec = _spec(temporary) | metadata | {"store_data_equal_to_fill_value": True}
        store = _tensorstore().open(spec, create=True).result().translate_to[0].T
        for part, block in parts:
            store[part if len(part) == 4 else (0, *part)].write(block).result()


def _metadata(data: np.ndarray | Blocks, segmentation: bool, attributes: Mapping) -> dict[str, object]:
    voxel, offset = attributes["resolution"][::-1], attributes["offset"][::-1]
    start = [a / b for a, b in zip(offset, voxel, strict=True)]
    if any(abs(at - round(at)) > 1e-6 for at in start):
        rule = "must be whole voxels in a precomputed volume"
        raise InvalidInput(sentence("the offset", rule, f"{start} (x, y, z)", "give another by --offset"))
    size = data.shape[-3:][::-1]
    name = np.dtype(data.dtype).name
    scale = {
        "size": list(size),
        "resolution": list(voxel),
        "voxel_offset": [round(at) for at in start],
        "chunk_size": [CHUNK] * 3,
        "encoding": "raw",
    }
    if segmentation and name in ("uint32", "uint64"):
        scale |= {"encoding": "compressed_segmentation", "compressed_segmentation_block_size": [8, 8, 8]}
    channels = data.shape[0] if data.ndim == 4 else 1
    kind = "segmentation" if segmentation else "image"
    volume = {"type": kind, "data_type": name, "num_channels": channels}
    return {"multiscale_metadata": volume, "scale_metadata": scale}


def _spec(path: Path) -> dict[str, object]:
    return {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{path.absolute()}/"},
        "recheck_cached_metadata": False,
        "recheck_cached_data": False,
    }


def _tensorstore() -> ModuleType:
    try:
        import tensorstore
    except ImportError as error:
        rule = "needs the package tensorstore"
        next_step = "pip install 'segkit-em[precomputed]'"
        raise BrokenComponent(sentence("neuroglancer precomputed", rule, next_step=next_step)) from error
    return tensorstore


@contextmanager
def _missing(path: Path) -> Iterator[None]:
    """Say which chunk is not there."""
    try:
        yield
    except SegkitError as error:
        if "is missing" not in str(error) and "NOT_FOUND" not in str(error):
            raise
        next_step = "if the tool that wrote it leaves background out, say ADDRESS[missing=0]"
        message = sentence(f"{path}", "lacks a chunk", next_step=f"{next_step}; the reason given is: {error}")
        raise MissingFile(message) from error
