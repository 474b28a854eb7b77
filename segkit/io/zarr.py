"""Zarr v3 with OME-Zarr 0.5 metadata.

Each object is one OME image group at its dataset's name, such as ``vol.zarr/volumes/raw``, with a single scale, array
"0". Voxel size and offset are the scale and translation of its `multiscales`; the rest of the attributes stands in
the group's attribute `segkit`. Channels are the first axis. A merge tree is a group of three arrays.

OME-Zarr does not say which point of a voxel the translation means; here it is the corner, as in :class:`Grid`. Other
tools' images are read at their first scale (or at ``vol.zarr:group/1``, say); versions 0.4 and 0.5 are known.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import BloscCodec
from zarr.errors import ZarrUserWarning

from segkit.errors import InvalidInput, MissingDataset, sentence
from segkit.io.atomic import remove, replacing, storage_errors
from segkit.io.ome import FIRST_SCALE, SPACE, dimension_names, image_attributes
from segkit.io.records import Blocks, Record, Stored, nanometers, stated_axes

CHUNK = 64
"""Longest side of a chunk, in voxels."""
CODEC = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")
METADATA = ("zarr.json", ".zgroup", ".zarray")


class ZarrStore:
    """An open store."""

    def __init__(self, root: "zarr.Group | zarr.Array") -> None:
        self._root = root

    def names(self) -> list[str]:
        """Names of all images, merge trees and bare arrays, sorted; but of none that is still being made."""
        if isinstance(self._root, zarr.Array):
            return []
        with warnings.catch_warnings():  # of folders that are no objects
            warnings.simplefilter("ignore", ZarrUserWarning)
            members = dict(self._root.members(max_depth=None))
        members = {name: item for name, item in members.items() if "/." not in f"/{name}"}
        objects = {name for name, item in members.items() if isinstance(item, zarr.Group) and _is_object(item)}
        bare = {name for name in members if name.rpartition("/")[0] not in objects}
        return sorted(objects | {name for name in bare if isinstance(members[name], zarr.Array)})

    def find(self, name: str, whole: bool) -> str | None:
        """`name`, if there is such an object; "" if the store is itself one image and may be taken as a `whole`."""
        if isinstance(self._root, zarr.Group) and name in self._root:
            return name
        one = isinstance(self._root, zarr.Array) or _multiscales(self._root)
        return "" if whole and one else None

    def attributes(self, name: str) -> Mapping[str, object]:
        """What segkit wrote about the object of that name; nothing if another tool made it."""
        item = self._root[name] if name else self._root
        return _ours(item) if isinstance(item, zarr.Group) else {}

    def array(self, name: str) -> Stored:
        """The image or bare array of that name."""
        item = self._root[name] if name else self._root
        if isinstance(item, zarr.Group):
            return _first_scale(name, item)
        parent, _, last = name.rpartition("/")
        group = self._root if not parent else self._root[parent]
        for scale in _scales(group) if isinstance(group, zarr.Group) else ():
            if scale.get("path") == last:
                return _image(item, group, scale)
        _check_codecs(item)
        attributes = dict(item.attrs)
        names = item.metadata.dimension_names if item.metadata.zarr_format == 3 else None
        axes = stated_axes(names or attributes.get("axes"))
        return Stored(item.shape, lambda part: np.asarray(item[part]), attributes, item.dtype, axes, item.path)

    def group(self, name: str) -> tuple[dict[str, np.ndarray], Mapping[str, object]]:
        """The arrays of the group of that name, and its attributes."""
        group = self._root[name]
        if not isinstance(group, zarr.Group):
            raise MissingDataset(sentence(name, "must be a group", "an array", "name the group of a merge tree"))
        arrays = dict(group.arrays())
        for array in arrays.values():
            _check_codecs(array)
        return {key: np.asarray(array[...]) for key, array in arrays.items()}, _ours(group)


@contextmanager
def reading(path: Path) -> Iterator[ZarrStore]:
    """The store, open for reading."""
    check_format(path)
    with storage_errors("read", path):
        yield ZarrStore(zarr.open(str(path), mode="r", use_consolidated=False))


def check_format(path: Path) -> None:
    """Raise InvalidInput unless an existing `path` is a Zarr folder."""
    if not path.is_dir():
        raise InvalidInput(sentence(f"{path}", "must be a Zarr folder", "a file", "name a folder"))
    if not any((path / name).exists() for name in METADATA):
        next_step = "name another folder, or remove it"
        raise InvalidInput(sentence(f"{path}", "must be a Zarr folder", "a folder without zarr.json", next_step))


def write(path: Path, records: Mapping[str, Record], drop: Iterable[str] = ()) -> None:
    """Write objects, by name, each in a folder that is moved into place when complete; remove those in `drop` first."""
    with storage_errors("written", path):
        if not path.exists():
            with replacing(path) as temporary:
                _write_all(zarr.create_group(str(temporary), zarr_format=3), records)
            return
        check_addable(path)
        for name in records:
            check_room(path, name)
        for name in drop:
            remove(path / name)
        for name, record in records.items():
            make_parents(path, name)
            with replacing(path / name) as temporary:
                _fill(zarr.create_group(str(temporary), zarr_format=3), name, record)


def _write_all(root: zarr.Group, records: Mapping[str, Record]) -> None:
    for name, record in records.items():
        _fill(root.require_group(name), name, record)


def _fill(group: zarr.Group, name: str, record: Record) -> None:
    attributes = dict(record.attributes)
    if isinstance(record.data, Mapping):
        for key, array in record.data.items():
            _create(group, key, array)
        group.attrs["segkit"] = attributes
        return
    ndim = record.data.ndim
    _create(group, FIRST_SCALE, record.data, dimension_names(ndim))
    group.attrs.update(image_attributes(name, ndim, attributes))


def _create(group: zarr.Group, name: str, array: np.ndarray | Blocks, axes: list[str] | None = None) -> None:
    spatial = tuple(min(size, CHUNK) for size in array.shape[-3:]) if array.ndim > 1 else (min(array.size, 2**16),)
    chunks = (1,) * (array.ndim - len(spatial)) + tuple(max(size, 1) for size in spatial)
    stored = group.create_array(
        name, shape=array.shape, dtype=array.dtype, chunks=chunks, compressors=[CODEC], dimension_names=axes
    )
    if isinstance(array, Blocks):
        for part, block in array.parts:
            stored[part] = block
    elif array.size:
        stored[...] = array


def check_addable(path: Path) -> None:
    """Raise InvalidInput unless an existing `path` is a Zarr folder of the version that is written here."""
    check_format(path)
    if not (path / "zarr.json").exists():
        raise InvalidInput(sentence(f"{path}", "must be Zarr v3 to be added to", "v2", "write to another folder"))


def check_room(path: Path, name: str) -> None:
    """Raise InvalidInput where an object of that name would lie in another, or take the place of several."""
    for end in range(1, len(name.split("/"))):
        above = "/".join(name.split("/")[:end])
        if (path / above / "zarr.json").exists() and _holds_data(path / above):
            raise InvalidInput(sentence(name, "cannot be written", next_step=f"{above} is an object itself"))
    if (path / name).exists() and not _holds_data(path / name):
        raise InvalidInput(sentence(name, "is a group of other datasets", next_step="name another dataset"))


def _holds_data(folder: Path) -> bool:
    item = zarr.open(str(folder), mode="r", use_consolidated=False)
    return isinstance(item, zarr.Array) or _is_object(item)


def make_parents(path: Path, name: str) -> None:
    """Make the groups that an object of that name lies in, where there are none."""
    folder = path
    for part in name.split("/")[:-1]:
        folder = folder / part
        if not folder.exists():
            with replacing(folder) as temporary:
                zarr.create_group(str(temporary), zarr_format=3)


def _first_scale(name: str, group: zarr.Group) -> Stored:
    scales = _scales(group)
    if not scales:
        found = ", ".join(sorted(dict(group.members()))) or "nothing"
        next_step = f"name one of its arrays; it holds {found}"
        raise MissingDataset(
            sentence(name or "the store", "must be an array or an OME-Zarr image", "a group", next_step)
        )
    return _image(group[scales[0]["path"]], group, scales[0])


def _check_codecs(array: zarr.Array) -> None:
    """Raise InvalidInput for values that are stored as pickles, for to read these is to run what they say."""
    stated = array.metadata.to_dict()
    codecs = [stated.get("compressor"), *(stated.get("filters") or ()), *(stated.get("codecs") or ())]
    if any("pickle" in str(codec) for codec in codecs):
        next_step = "have whoever made it write it with another codec"
        raise InvalidInput(sentence(array.path, "must not be stored as pickles, which may run code", None, next_step))


def _image(array: zarr.Array, group: zarr.Group, scale: Mapping) -> Stored:
    _check_codecs(array)
    axes = _multiscales(group)[0].get("axes") or [{"name": name} for name in "tczyx"[-array.ndim :]]
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in axes]
    kept = _kept_axes(axes, array.shape, bool(_ours(group)))
    at = {axis["name"]: i for i, axis in enumerate(axes)}
    if not set(SPACE) <= set(at):
        raise InvalidInput(sentence("the axes of the image", "must include z, y, x", ", ".join(at)))
    space = [at[name] for name in SPACE]
    resolution, offset = _placement(_multiscales(group)[0], scale, array.ndim)
    factors = [nanometers(axes[i].get("unit", "nanometer")) for i in space]
    attributes = {
        **_ours(group),
        "resolution": [resolution[i] * factor for i, factor in zip(space, factors, strict=True)],
        "offset": [offset[i] * factor for i, factor in zip(space, factors, strict=True)],
        "unit": "nm",
    }
    if not any(step["type"] == "scale" for step in _steps(_multiscales(group)[0], scale)):
        del attributes["resolution"]  # 1 by the specification, but nobody measured it

    def read(part: tuple[slice, ...]) -> np.ndarray:
        index = iter(part)
        return np.asarray(array[tuple(next(index) if i in kept else 0 for i in range(array.ndim))])

    letters = "".join(_letter(axes[i]) for i in kept)
    return Stored(tuple(array.shape[i] for i in kept), read, attributes, array.dtype, letters, array.path)


def _letter(axis: Mapping) -> str:
    """z, y or x; c for channels; t for whatever else there is."""
    if axis["name"] in SPACE:
        return axis["name"]
    return "c" if axis.get("type") == "channel" or axis["name"] == "c" else "t"


def _kept_axes(axes: list[dict], shape: tuple[int, ...], ours: bool) -> list[int]:
    """All axes but times and channels of length 1, which other tools write around plain volumes."""
    if ours:
        return list(range(len(shape)))
    return [i for i, axis in enumerate(axes) if axis["name"] in SPACE or shape[i] != 1]


def _placement(image: Mapping, scale: Mapping, ndim: int) -> tuple[list[float], list[float]]:
    """Voxel size and position: the transformations of the scale, then those of the image."""
    size, position = [1.0] * ndim, [0.0] * ndim
    for step in _steps(image, scale):
        if step["type"] == "scale":
            size = [a * b for a, b in zip(size, step["scale"], strict=True)]
            position = [a * b for a, b in zip(position, step["scale"], strict=True)]
        elif step["type"] == "translation":
            position = [a + b for a, b in zip(position, step["translation"], strict=True)]
        elif step["type"] != "identity":
            raise InvalidInput(sentence("coordinateTransformations", "must be scale or translation", step["type"]))
    return size, position


def _steps(image: Mapping, scale: Mapping) -> list[Mapping]:
    return [*scale.get("coordinateTransformations", ()), *image.get("coordinateTransformations", ())]


def _multiscales(group: zarr.Group) -> list:
    attributes = dict(group.attrs)
    return attributes.get("ome", attributes).get("multiscales", [])  # 0.4 has no `ome` around them


def _scales(group: zarr.Group) -> list:
    images = _multiscales(group)
    return images[0]["datasets"] if images else []


def _ours(group: zarr.Group) -> dict:
    return dict(group.attrs.get("segkit", {}))


def _is_object(group: zarr.Group) -> bool:
    return bool(_multiscales(group) or _ours(group))
