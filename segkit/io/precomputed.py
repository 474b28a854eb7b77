"""Neuroglancer precomputed volumes in a folder, through TensorStore (`pip install 'segkit-em[precomputed]'`).

The format stores x, y, z, channel; here the arrays are [channel,] z, y, x. `resolution` is nm, and `voxel_offset`
places the corner of the first voxel. Every encoding that TensorStore knows is read, sharded or not; other scales than
the first by their key, as in ``vol.precomputed:16_16_40``. A chunk that is not there is refused, for it may be lost as
well as blank. Segmentations are written as compressed_segmentation (uint32, uint64), all else raw, unsharded.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

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
from segkit.io.lock import writing
from segkit.io.records import Blocks, Record, Stored

CHUNK = 64
"""Longest side of a chunk, in voxels."""
DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32")
KINDS = {"segmentation": "labels"}
"""`type` of a volume -> kind. "image" may be raw data, a mask or affinities."""


class PrecomputedVolume:
    """One volume at all its scales."""

    def __init__(self, path: Path, info: Mapping) -> None:
        self._path, self._info = path, info
        self._keys = [scale["key"] for scale in info["scales"]]

    def names(self) -> list[str]:
        """The keys of the scales."""
        return list(self._keys)

    def find(self, name: str, whole: bool) -> str | None:
        """`name`, if it is the key of a scale; "" if the volume may be taken as a `whole`, at its first scale."""
        return name if name in self._keys else "" if whole else None

    def attributes(self, name: str) -> Mapping[str, object]:
        """Nothing beyond what :meth:`array` says: no notes are kept here."""
        return {}

    def array(self, name: str) -> Stored:
        """The volume at a scale."""
        index = self._keys.index(name) if name else 0
        scale = self._info["scales"][index]
        size, voxel = scale["size"][::-1], scale["resolution"][::-1]
        start = scale.get("voxel_offset", [0, 0, 0])[::-1]
        attributes: dict[str, object] = {
            "resolution": [float(length) for length in voxel],
            "offset": [float(a * b) for a, b in zip(start, voxel, strict=True)],
            "unit": "nm",
        }
        if self._info.get("type") in KINDS:
            attributes["kind"] = KINDS[self._info["type"]]
        channels = self._info.get("num_channels", 1)
        shape = (*[channels] * (channels > 1), *size)
        dtype = np.dtype(str(self._info["data_type"]).lower())
        return Stored(shape, self._read(index, shape), attributes, dtype, "czyx"[-len(shape) :])

    def group(self, name: str) -> tuple[dict[str, np.ndarray], Mapping[str, object]]:
        """A precomputed volume holds no merge tree."""
        raise MissingDataset(sentence("a precomputed volume", "holds no merge tree"))

    def _read(self, index: int, shape: tuple[int, ...]) -> Callable[[tuple[slice, ...]], np.ndarray]:
        spec = _spec(self._path) | {"scale_index": index, "fill_missing_data_reads": False}
        with storage_errors("read", self._path):
            store = _tensorstore().open(spec, read=True).result()
        store = store.translate_to[0].T if len(shape) == 4 else store.translate_to[0].T[0]

        def read(part: tuple[slice, ...]) -> np.ndarray:
            with _missing(self._path, self._keys[index]), storage_errors("read", self._path):
                return np.asarray(store[part].read().result())

        return read


@contextmanager
def reading(path: Path) -> Iterator[PrecomputedVolume]:
    """The volume, open for reading."""
    if not (path / "info").is_file():
        value = "a folder without the file info" if path.is_dir() else "a file"
        raise InvalidInput(sentence(f"{path}", "must be a folder of a precomputed volume", value, "name another"))
    with storage_errors("read", path):
        info = json.loads((path / "info").read_text())
        if not info.get("scales"):
            rule = "must hold a precomputed volume"
            raise InvalidInput(sentence(f"{path}", rule, f"what its info calls {info.get('@type')!r}"))
    yield PrecomputedVolume(path, info)


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
def _missing(path: Path, key: str) -> Iterator[None]:
    """Say which chunk is not there, or that they are compressed as files."""
    try:
        yield
    except SegkitError as error:
        if "is missing" not in str(error) and "NOT_FOUND" not in str(error):
            raise
        if any((path / key).glob("*.gz")):
            rule = "has chunks that are compressed as files of their own (.gz)"
            raise StorageError(sentence(f"{path}", rule, next_step=f"gunzip -r {path / key}")) from error
        raise MissingFile(sentence(f"{path}", "lacks a chunk", next_step=f"the reason given is: {error}")) from error
