"""Zarr v3 with OME-Zarr 0.5 metadata; Zarr v2 and v3 of other tools are read.

Each object is one OME image group at its dataset's name, such as ``vol.zarr/volumes/raw``: array "0", and the smaller
scales "1", "2", ... if there are some. Voxel size and offset are the scale and translation of its `multiscales`; the
rest of the attributes stands in the group's attribute `segkit`. Channels are the first axis. A merge tree is a group of
three arrays. Each chunk is a file with a checksum, the blank ones too, so that one that was lost or damaged is refused.
The root states one of the images for viewers.

Other tools' images are read at their first scale (or at ``vol.zarr:group/1``, say). Groups need no metadata. A store
that is packed into one file (.zip, .zarr.zip, .ozx) is read as it lies.
"""

import math
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs.errors import UnknownCodecError as UnknownFilter
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.errors import UnknownCodecError as UnknownCodec
from zarr.storage import LocalStore, ZipStore

from segkit.errors import (
    BrokenComponent,
    InvalidInput,
    MissingDataset,
    MissingFile,
    SegkitError,
    StorageError,
    sentence,
)
from segkit.io.atomic import discard, mend, replacing, storage_errors
from segkit.io.dialects import read_placement
from segkit.io.formats import ZARR
from segkit.io.json_file import read_json_object
from segkit.io.lock import PATIENCE, lock_of, locked
from segkit.io.ome import FIRST_SCALE, dimension_names, image_attributes, image_of, place_of_scale
from segkit.io.placement import Placement
from segkit.io.precomputed_layout import shards
from segkit.io.pyramid import levels, reduced
from segkit.io.records import About, Blocks, Record, Stored, check_chunk, check_memory
from segkit.io.remote import VERSION, Remote
from segkit.io.schemas import OmeImage, OmeScale, Schema, ZarrV2, ZarrV3, checked, inside, stated_about
from segkit.io.shown import own_attributes, scales_beside, state_shown
from segkit.io.tensor import forked, open_array, values_of

Folder = Path | Remote | zipfile.Path
"""Where a store may lie, or a folder of it."""
Read = Callable[[tuple[slice, ...]], np.ndarray]
"""How to read a part of an array."""
LARGEST_DECODED = 2**28
"""Bytes of chunks that TensorStore decodes: it ends the process where there is no memory for one."""
CHUNK = 64
"""Longest side of a chunk, in voxels."""
SIDES = (2 * CHUNK,) * 3
"""Of what is written at once of the smaller scales."""
CODECS = (BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"), Crc32cCodec())


class Node:
    """A folder of a store: a group, with metadata or without, or an array."""

    def __init__(self, root: Folder, name: str = "", packed: ZipStore | None = None) -> None:
        """`packed`: the zip file that `root`, a path in it, belongs to."""
        self.name, self.path = name, root / name if name else root
        self._root, self._packed = root, packed
        self.metadata = _metadata(self.path)
        attributes = self.metadata.pop("attributes", None) or {}
        if not isinstance(attributes, dict):
            raise InvalidInput(sentence("attributes", "must be a JSON object", type(attributes).__name__))
        self.attributes: dict[str, Any] = own_attributes(attributes)

    @property
    def is_array(self) -> bool:
        """Whether it is an array."""
        return bool(self.metadata) and "shape" in self.metadata

    @property
    def image(self) -> OmeImage | None:
        """The image of OME-Zarr that a group is."""
        return None if self.is_array else image_of(self.attributes)

    @property
    def about(self) -> About:
        """What segkit wrote about it."""
        return stated_about(self.attributes.get("segkit") or {}, "segkit")

    @property
    def is_object(self) -> bool:
        """Whether a group is one object: an image, or a merge tree of segkit."""
        stated = self.attributes.get("ome")
        stated = stated if isinstance(stated, dict) else self.attributes
        return not self.is_array and bool(stated.get("multiscales") or self.attributes.get("segkit"))

    def child(self, name: str) -> "Node":
        """What lies in it by that name, a path."""
        return Node(self._root, f"{self.name}/{name}" if self.name else name, self._packed)

    def folders(self) -> list["Node"]:
        """What lies in it, by name, but for what is hidden."""
        if isinstance(self.path, Remote):
            found = [place.name for place, folder in self.path.entries() if folder]
        else:
            found = [entry.name for entry in self.path.iterdir() if entry.is_dir()]
        return [self.child(name) for name in sorted(found) if not (name.startswith(".") or VERSION.fullmatch(name))]

    def array(self) -> zarr.Array:
        """The array, of which the metadata were checked before."""
        stated = self._schema()
        grid = stated.chunk_grid.configuration.chunk_shape if isinstance(stated, ZarrV3) else stated.chunks
        if len(grid) != len(stated.shape):
            raise InvalidInput(sentence("the chunks", f"must have {len(stated.shape)} sides", grid, "correct the file"))
        _check_codecs(self.metadata)
        with _decoding(self.path), _valid():
            if self._packed is None:
                array = zarr.open_array(_store_of(self.path), mode="r")
            else:
                array = zarr.open_array(self._packed, path=self.path.at.rstrip("/"), mode="r")  # type: ignore[union-attr]
        check_chunk(array.chunks, array.dtype)
        return array

    def dimensions(self) -> dict[str, object]:
        """The names of the axes of an array, and where they stand."""
        names = {"_ARRAY_DIMENSIONS": self.attributes.get("_ARRAY_DIMENSIONS")}
        schema = self._schema()
        if isinstance(schema, ZarrV3):
            names["dimension_names"] = schema.dimension_names
        return {where: given for where, given in names.items() if given is not None}

    def _schema(self) -> ZarrV3 | ZarrV2:
        schema: type[Schema] = ZarrV3 if self.metadata.get("zarr_format") == 3 else ZarrV2
        return checked(schema, self.metadata)


def _check_codecs(metadata: Mapping[str, Any]) -> None:
    """Raise InvalidInput for values that are stored as pickles, for to read these is to run what they say."""
    codecs = [metadata.get("compressor"), metadata.get("filters"), metadata.get("codecs")]
    if any("pickle" in str(codec) for codec in codecs):
        next_step = "have whoever made it write it with another codec"
        raise InvalidInput(sentence("the array", "must not be stored as pickles, which may run code", None, next_step))


def _metadata(folder: Folder) -> dict[str, Any]:
    """The metadata of a node with its attributes; empty for a folder without."""
    for name in ZARR:
        if not (folder / name).is_file():
            continue
        content = read_json_object(folder / name)
        if name != "zarr.json":
            content["attributes"] = read_json_object(folder / ".zattrs") if (folder / ".zattrs").is_file() else {}
        return content
    return {}


def _store_of(folder: Any) -> Any:
    if isinstance(folder, Path):
        return LocalStore(folder, read_only=True)
    from zarr.storage import ObjectStore

    return ObjectStore(folder.store(), read_only=True)


class ZarrStore:
    """An open store."""

    def __init__(self, path: Folder, *, missing: bool = False, packed: ZipStore | None = None) -> None:
        """`missing`: chunks that were lost are background; `packed`: the zip file that `path` is in."""
        self._path, self._missing, self._packed = path, missing, packed
        self._root = Node(path, "", packed)

    def names(self) -> list[str]:
        """Names of all images, merge trees and bare arrays, sorted; but of none that is still being made."""
        return sorted(self._names(self._root))

    def _names(self, node: Node) -> Iterator[str]:
        if node.is_array:
            return
        if node.is_object and node.name:
            yield node.name
            return
        for below in node.folders():
            if below.is_array and not node.is_object:
                yield below.name
            else:
                yield from self._names(below)

    def find(self, name: str, whole: bool) -> str | None:
        """`name`, if there is such an object; "" if the store is itself one image and may be taken as a `whole`."""
        if name and not self._root.is_array and _is_there(self._path, inside(name)):
            return name
        one = self._root.is_array or self._root.image is not None
        return "" if whole and one else None

    def about(self, name: str) -> About:
        """What segkit wrote about the object of that name; nothing if another tool made it."""
        node = self._node(name)
        return About() if node.is_array else node.about

    def array(self, name: str) -> Stored:
        """The image or bare array of that name."""
        node = self._node(name)
        if not node.is_array:
            image = node.image
            if image is None:
                found = ", ".join(below.path.name for below in node.folders()) or "nothing"
                next_step = f"name one of its arrays; it holds {found}"
                rule = "must be an array or an OME-Zarr image"
                raise MissingDataset(sentence(name or "the store", rule, "a group", next_step))
            return self._scale(node, image, image.datasets[0])
        parent, _, last = name.rpartition("/")
        above = self._node(parent) if name else None
        image = above.image if above else None
        for scale in image.datasets if image else ():
            if above is not None and image is not None and scale.path == last:
                return self._scale(above, image, scale)
        return self._bare(node, above)

    def group(self, name: str) -> tuple[dict[str, np.ndarray], About]:
        """The arrays of the group of that name, and what is said about it."""
        node = self._node(name)
        if node.is_array:
            raise MissingDataset(sentence(name, "must be a group", "an array", "name the group of a merge tree"))
        arrays = {}
        for below in (node.child(node.about.at) if node.about.at else node).folders():
            if below.is_array:
                array = below.array()
                check_memory(below.name, array.nbytes)
                whole = tuple(slice(0, size) for size in array.shape)
                arrays[below.path.name] = _reading(below, array, self._complete(node.about))(whole)
        return arrays, node.about

    def _complete(self, about: About) -> bool:
        """Whether a chunk that is not there was lost."""
        return about.chunks == "all" and not self._missing

    def _node(self, name: str) -> Node:
        return Node(self._path, name, self._packed) if name else self._root

    def _below(self, node: Node) -> list[str]:
        return [below.path.name for below in node.folders()]

    def _scale(self, node: Node, image: OmeImage, scale: OmeScale) -> Stored:
        below = node.child(scale.path)
        if not below.is_array:
            raise MissingDataset(sentence(f"the scale {scale.path}", "is listed, but not there", next_step="mend it"))
        array, about = below.array(), node.about
        placement = place_of_scale(image, scale, array.ndim)
        read = _reading(below, array, self._complete(about))
        return Stored(array.shape, read, about, placement, array.dtype, self._folder(below), array.chunks)

    def _bare(self, node: Node, above: Node | None) -> Stored:
        array, about = node.array(), stated_about(node.attributes)
        placement = _placement(node, above, about, array.ndim)
        read = _reading(node, array, False)
        return Stored(array.shape, read, about, placement, array.dtype, self._folder(node), array.chunks)

    def _folder(self, node: Node) -> str:
        return "" if self._packed is not None else node.name


def _is_there(root: Folder, name: str) -> bool:
    """Whether there is a folder of that name; in a bucket one that holds more than what is being written."""
    if not isinstance(root, Remote):
        return (root / name).is_dir()
    node = Node(root, name)
    return bool(node.metadata) or (root.listed and bool(node.folders()))


def _placement(node: Node, above: Node | None, about: About, ndim: int) -> Placement:
    """Where the voxels of an array lie that is no image of OME-Zarr."""

    def coordinates(axis: str) -> tuple[np.ndarray, Mapping[str, Any]] | None:
        if above is None or not (above.path / inside(axis)).is_dir():
            return None
        along = above.child(axis)
        if not along.is_array or len(along.metadata.get("shape", ())) != 1:
            return None
        with _decoding(along.path):
            return np.asarray(along.array()[...]), along.attributes

    ours = about.kind is not None and "format_version" in node.attributes
    return read_placement(node.attributes, ndim, ours=ours, names=node.dimensions(), coordinates=coordinates)


def _reading(node: Node, array: zarr.Array, complete: bool) -> Read:
    """How to read parts of an array; of one that is `complete`, chunks that are not there were lost.

    TensorStore reads what it knows, twice as fast as zarr, which reads the rest and says what is wrong.
    """
    place, fast = node.path, _by_tensorstore(node, array, complete)

    def read(part: tuple[slice, ...]) -> np.ndarray:
        if fast is not None and not (forked() and isinstance(place, Path)):
            try:
                return values_of(fast, part)
            except BrokenComponent:
                raise
            except Exception as error:  # of a file it is read again below, or said there what is wrong
                if isinstance(place, Remote):
                    lost = complete and "is missing" in str(error)
                    said = _lost(f"{place}", "lacks a chunk, it was lost") if lost else place.failed("read", error)
                    raise said from error
        if complete:
            for _, file in _files(place, array, part):
                if not file.is_file():
                    raise _lost(f"the chunk {file}", "is not there, it was lost")
        try:
            with _decoding(place):
                return np.asarray(array[part])
        except StorageError as error:
            raise error if isinstance(place, Remote) else _with_chunk(error, place, array, part) from error

    return read


def _by_tensorstore(node: Node, array: zarr.Array, complete: bool) -> Any:
    """The array as TensorStore has it; None where that is not installed, or does not know how it is stored."""
    place, known = node.path, array.dtype.kind in "biuf"
    if not isinstance(place, Path | Remote) or not known:
        return None
    if math.prod(array.chunks) * array.dtype.itemsize > LARGEST_DECODED:
        return None
    driver = "zarr3" if node.metadata.get("zarr_format") == 3 else "zarr"
    with suppress(BrokenComponent, ValueError, NotImplementedError):
        return open_array(driver, place, fill_missing_data_reads=not complete)
    return None


def _lost(what: str, rule: str) -> MissingFile:
    next_step = "copy or make it again; ADDRESS[missing=0] takes it as background"
    return MissingFile(sentence(what, rule, next_step=next_step))


def _files(folder: Any, array: zarr.Array, part: tuple[slice, ...]) -> Iterator[tuple[tuple[int, ...], Any]]:
    """The files of the chunks, or shards, that a part of an array lies in, and their places in the grid."""
    sides = array.shards or array.chunks
    ends = [each.indices(size) for each, size in zip(part, array.shape, strict=True)]
    along = [range(first // side, -(-stop // side)) for (first, stop, _), side in zip(ends, sides, strict=True)]
    for index in _combined(along):
        yield index, folder / "/".join(["c", *map(str, index)])


def _combined(ranges: Sequence[range]) -> Iterator[tuple[int, ...]]:
    """All combinations, one by one: an array may state more chunks than `itertools.product` can keep."""
    if not ranges:
        yield ()
        return
    for first in ranges[0]:
        for others in _combined(ranges[1:]):
            yield (first, *others)


def _with_chunk(error: StorageError, folder: Any, array: zarr.Array, part: tuple[slice, ...]) -> StorageError:
    """The error with the name of the first chunk that cannot be decoded."""
    if array.metadata.zarr_format != 3:
        return error
    sides = array.shards or array.chunks
    for at, file in _files(folder, array, part):
        box = tuple(slice(i * n, min((i + 1) * n, size)) for i, n, size in zip(at, sides, array.shape, strict=True))
        try:
            array[box]
        except Exception:  # whatever a decoder raises
            next_step = "it is damaged: copy or make it again"
            return StorageError(sentence(f"the chunk {file}", "cannot be read", next_step=next_step))
    return error


@contextmanager
def _decoding(path: Folder) -> Iterator[None]:
    """Turn what zarr and its codecs raise into one sentence; of a codec that is not installed it says which."""
    try:
        with warnings.catch_warnings(), storage_errors("read", path):
            warnings.simplefilter("ignore")
            yield
    except StorageError as error:
        cause = (str(error.__cause__) or type(error.__cause__).__name__).splitlines()[0]
        if "codec" not in cause.lower() or "checksum" in cause.lower():
            raise
        next_step = "install the package that has the codec (numcodecs has most: pip install 'numcodecs[all]')"
        raise StorageError(sentence(f"{path}", f"cannot be decoded ({cause})", next_step=next_step)) from error


@contextmanager
def _valid() -> Iterator[None]:
    """Turn what zarr says of the metadata of an array into one sentence."""
    try:
        yield
    except (UnknownCodec, UnknownFilter):
        raise
    except (TypeError, ValueError) as error:
        cause = str(error).partition("\n")[0].rstrip(".")
        raise InvalidInput(
            sentence("the metadata of the array", f"must be valid ({cause})", None, "correct the file")
        ) from error


@contextmanager
def reading(path: Path | Remote, options: Mapping[str, str]) -> Iterator[ZarrStore]:
    """The store, open for reading. Chunks that were lost are background where "missing" is of the `options`."""
    if isinstance(path, Path) and path.is_file() and (path.suffix.lower() != ".zarr" or zipfile.is_zipfile(path)):
        with _packed(path, missing="missing" in options) as store:
            yield store
        return
    if isinstance(path, Path) and not path.is_dir():
        raise InvalidInput(
            sentence(f"{path}", "must be a Zarr folder, or a zip file of one", "another file", "name one")
        )
    if not is_store(path):
        next_step = "name another folder, or remove it"
        raise InvalidInput(sentence(f"{path}", "must be a Zarr folder", "a folder without arrays of Zarr", next_step))
    yield ZarrStore(path, missing="missing" in options)


@contextmanager
def _packed(path: Path, *, missing: bool) -> Iterator[ZarrStore]:
    """The store in a zip file, which may lie in a folder of it."""
    with storage_errors("read", path):
        file = zipfile.ZipFile(path)
        store = ZipStore(path, mode="r")
    with file:
        root: Any = zipfile.Path(file)
        below = [each for each in root.iterdir() if each.is_dir() and each.name != "__MACOSX"]
        if not _metadata(root) and len(below) == 1:
            inner = _metadata(below[0])
            root = below[0] if below[0].suffix == ".zarr" or (inner and "shape" not in inner) else root
        if not is_store(root):
            rule, value = "must be a zip file of a Zarr store", "one without arrays of Zarr"
            raise InvalidInput(sentence(f"{path}", rule, value, "name another"))
        try:
            yield ZarrStore(root, missing=missing, packed=store)
        finally:
            with suppress(AttributeError):  # of a store of which nothing was read
                store.close()


def is_store(path: Folder, depth: int = 4) -> bool:
    """Whether a folder has the metadata of Zarr, or one that has them lies in it, `depth` folders down at most.

    A bucket or a web server is not searched: whoever says that it is one is believed.
    """
    if isinstance(path, Remote):
        return True
    if any((path / name).is_file() for name in ZARR):
        return True
    if not depth:
        return False
    below = (each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))
    return any(is_store(each, depth - 1) for each in islice(below, 100))


def check_format(path: Path | Remote) -> None:
    """Raise InvalidInput unless an existing `path` is a Zarr folder."""
    if not path.is_dir():
        raise InvalidInput(sentence(f"{path}", "must be a Zarr folder", "a file", "name a folder"))
    if not any((path / name).exists() for name in ZARR):
        next_step = "name another folder, or remove it"
        raise InvalidInput(sentence(f"{path}", "must be a Zarr folder", "a folder without zarr.json", next_step))


def write(path: Path | Remote, records: Mapping[str, Record], drop: Iterable[str] = ()) -> None:
    """Write objects, by name, each in a folder that is moved into place when complete; remove those in `drop` first."""
    if isinstance(path, Remote):
        from segkit.io import bucket

        bucket.write(path, records, drop)
        return
    with storage_errors("written", path), ExitStack() as locks:
        for name in sorted(records):  # before that of the store, which blocks of one of them may wait for
            locks.enter_context(locked(lock_of(path, name), f"{path}:{name}", PATIENCE))
        locks.enter_context(locked(lock_of(path), str(path), PATIENCE))
        if not path.exists():
            with replacing(path) as temporary:
                _fill_all(temporary, "", records)
                state_shown(temporary, records)
            return
        check_addable(path)
        for name in records:
            check_room(path, name)
        for name in drop:
            with changing(path, name):
                discard(path / name)
        for name, record in records.items():
            mend(path / name)
            top = _highest_missing(path, name)
            mend(path / top)
            with ExitStack() as around, replacing(path / top) as temporary:
                _fill_all(temporary, top, {name: record}, scales_beside(path, name))
                around.enter_context(changing(path, name))


@contextmanager
def changing(path: Path | Remote, name: str) -> Iterator[None]:
    """Let the root of a store not show the object of that name while it is replaced, and then what there is.

    So whoever opens it, and whatever is left when this process is killed, the root shows what is there and whole.
    """
    names = _names_in(path)
    others = [each for each in names or () if each != name]
    state_shown(path, others)
    try:
        yield
    finally:
        there = names is not None and (path / name).exists()
        state_shown(path, [*others, name] if there else others)


def _names_in(path: Path | Remote) -> list[str] | None:
    """The names of all objects of a store; None where something in it is damaged, and then its root shows nothing."""
    with suppress(SegkitError):
        return ZarrStore(path).names()
    return None


def _highest_missing(path: Path, name: str) -> str:
    """The first of the groups that an object lies in which is not there; the object itself if all are."""
    parts = name.split("/")
    ends = (end for end in range(1, len(parts)) if not (path / "/".join(parts[:end])).exists())
    return "/".join(parts[: next(ends, len(parts))])


def _fill_all(folder: Path, above: str, records: Mapping[str, Record], scales: int | None = None) -> None:
    """Write objects in a new folder, which will be the group `above` in the store; pyramids of so many `scales`."""
    root = zarr.create_group(str(folder), zarr_format=3)
    for name, record in records.items():
        below = name.removeprefix(above).strip("/")
        fill(root.require_group(below) if below else root, name, record, scales)


def fill(group: zarr.Group, name: str, record: Record, scales: int | None) -> None:
    """Write an object into its group, which is empty; `name` is that of its dataset."""
    attributes = dict(record.attributes) | {"chunks": "all"}
    if isinstance(record.data, Mapping):
        for key, array in record.data.items():
            _create(group, key, array)
        group.attrs["segkit"] = attributes
        return
    data, ndim = record.data, record.data.ndim
    voxel: Any = record.attributes["resolution"]
    of_voxels = levels(data.shape, voxel, count=scales) if record.layout.pyramid else []
    labels = record.attributes.get("kind") == "labels"
    before = _create(group, FIRST_SCALE, data, dimension_names(ndim), record.layout.sharding)
    for index, (last, level) in enumerate(pairwise(of_voxels), 1):
        sides = shards(level.shape, before.dtype.itemsize)[0] if record.layout.sharding else SIDES
        parts = reduced(last, level, before.__getitem__, labels, sides, record.layout.progress)
        below = Blocks(level.shape, data.dtype, parts)
        before = _create(group, str(index), below, dimension_names(ndim), record.layout.sharding)
    group.attrs.update(image_attributes(name, ndim, attributes, of_voxels))


def _create(
    group: zarr.Group,
    name: str,
    array: np.ndarray | Blocks,
    axes: list[str] | None = None,
    sharding: bool = False,
) -> zarr.Array:
    spatial = tuple(min(size, CHUNK) for size in array.shape[-3:]) if array.ndim > 1 else (min(array.size, 2**16),)
    chunks = (1,) * (array.ndim - len(spatial)) + tuple(max(size, 1) for size in spatial)
    stored = group.create_array(
        name,
        shape=array.shape,
        dtype=array.dtype,
        chunks=chunks,
        shards=_sides_of_shards(array, chunks) if sharding else None,
        compressors=CODECS,
        dimension_names=axes,
        config={"write_empty_chunks": True},
    )
    if isinstance(array, Blocks):
        for part, block in array.parts:
            stored[part] = block
    elif array.size:
        stored[...] = array
    return stored


def _sides_of_shards(array: np.ndarray | Blocks, chunks: Sequence[int]) -> tuple[int, ...]:
    """The sides of the shards of an image: all channels, and as many chunks along z, y, x as a shard has."""
    channels = array.shape[:-3]
    sides, _ = shards(array.shape[-3:], math.prod(channels) * np.dtype(array.dtype).itemsize)
    along = zip(array.shape[-3:], chunks[-3:], sides, strict=True)
    return (*channels, *(chunk * min(side // CHUNK, -(-size // chunk)) for size, chunk, side in along))


def check_addable(path: Path | Remote) -> None:
    """Raise InvalidInput unless an existing `path` is a Zarr folder of the version that is written here."""
    check_format(path)
    if not (path / "zarr.json").exists():
        raise InvalidInput(sentence(f"{path}", "must be Zarr v3 to be added to", "v2", "write to another folder"))


def check_room(path: Path | Remote, name: str) -> None:
    """Raise InvalidInput where an object of that name would lie in another or outside, or take the place of several."""
    root, parts = Node(path), name.split("/")
    if root.is_array or (root.image and any(scale.path.split("/")[0] == parts[0] for scale in root.image.datasets)):
        next_step = f"{path} is an image itself, of which that is a part: name another dataset"
        raise InvalidInput(sentence(name, "cannot be written", next_step=next_step))
    for end in range(1, len(parts) + 1):
        above = "/".join(parts[:end])
        if isinstance(path, Path) and not (path / above).resolve().is_relative_to(path.resolve()):
            rule = f"must not lead out of the store: {above} is a link to"
            next_step = "write to that place itself"
            raise InvalidInput(sentence(f"{path}:{name}", f"{rule} {(path / above).resolve()}", None, next_step))
    for end in range(1, len(parts)):
        above = "/".join(parts[:end])
        if (path / above / "zarr.json").exists() and _holds_data(path / above):
            raise InvalidInput(sentence(name, "cannot be written", next_step=f"{above} is an object itself"))
    if _is_there(path, name) and not _holds_data(path / name):
        raise InvalidInput(sentence(name, "is a group of other datasets", next_step="name another dataset"))


def _holds_data(folder: Path | Remote) -> bool:
    node = Node(folder)
    return node.is_array or node.is_object


def make_parents(path: Path, name: str) -> None:
    """Make the groups that an object of that name lies in, where there are none."""
    folder = path
    for part in name.split("/")[:-1]:
        folder = folder / part
        if not folder.exists():
            mend(folder)
            with replacing(folder) as temporary:
                zarr.create_group(str(temporary), zarr_format=3)
