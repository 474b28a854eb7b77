"""N5 in a folder, through TensorStore (`pip install 'segkit-em[n5]'`).

The format stores x, y, z; here the arrays are z, y, x, and so are `resolution`, `offset`, `axes` and `units`, which N5
states in the order of its axes. A group that holds scales, `s0` and so on, is an image, read at `s0`; the size of the
voxels of another is that of `s0` times its `downsamplingFactors`, or those among the `scales` of the group; where
neither is there, nobody states it. A block that is not there is zero, as the format has it.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from segkit.errors import InvalidInput, MissingDataset, sentence
from segkit.io.atomic import storage_errors
from segkit.io.dialects import of_big_data_viewer, read_placement
from segkit.io.json_file import read_json_object
from segkit.io.placement import Placement
from segkit.io.records import About, Stored, check_chunk
from segkit.io.remote import AnyPath
from segkit.io.schemas import AXES, N5Array, N5Group, checked, inside
from segkit.io.tensor import kvstore_of, own_context, tensorstore, values_of

ATTRIBUTES = "attributes.json"
COMPRESSION: dict[str, dict[str, object]] = {"blosc": {"cname": "lz4", "clevel": 5, "shuffle": 1}}
"""What TensorStore wants to be told of a compression; blocks of Blosc say themselves how they were made."""
NAMES = ("axes", "axis_names", *AXES)
"""Attributes that name axes; a scale without any has those of its group."""
IN_ORDER = ("resolution", "voxel_size", "offset", "unit", "units", *NAMES)
"""Attributes with one entry an axis, in the order in which N5 has the axes."""
SIZES = ("transform", "pixelResolution", "resolution", "voxel_size")
"""Attributes that state the size of voxels; a scale without any has those of its group."""
BIG_DATA_VIEWER = re.compile(r"setup(\d+)/timepoint\d+(?:/s\d+)?")


class N5Store:
    """An open container."""

    def __init__(self, path: AnyPath) -> None:
        self._path = path

    def names(self) -> list[str]:
        """The names of all arrays, sorted; of images of several scales the name of the group."""
        return sorted(filter(None, self._names("")))

    def _names(self, name: str) -> Iterator[str]:
        if self._is_array(name) or (name and self._is_array(f"{name}/s0")):
            yield name
            return
        for below in (self._path / name).iterdir():
            if below.is_dir() and not below.name.startswith("."):
                yield from self._names(f"{name}/{below.name}".strip("/"))

    def find(self, name: str, whole: bool) -> str | None:
        """`name`, if there is such an object; "" if the container is itself one and may be taken as a `whole`."""
        if name and (self._path / inside(name)).is_dir():
            return name
        return "" if whole and (self._is_array("") or self._is_array("s0")) else None

    def about(self, name: str) -> About:
        """Nothing: segkit writes no N5."""
        return About()

    def array(self, name: str) -> Stored:
        """The array of that name, or the first scale of an image."""
        attributes = self._attributes(name)
        if "dimensions" not in attributes:
            if not self._is_array(f"{name}/s0".strip("/")):
                next_step = f"name one of its arrays; the file holds {', '.join(self.names()) or 'nothing'}"
                raise MissingDataset(sentence(name or "the container", "must be an array or an image", None, next_step))
            name = f"{name}/s0".strip("/")
            attributes = self._attributes(name)
        stated = checked(N5Array, attributes)
        shape, dtype = tuple(stated.dimensions[::-1]), np.dtype(stated.dataType)
        if len(stated.blockSize) != len(shape):
            rule = f"must have {len(shape)} sides"
            raise InvalidInput(sentence("blockSize", rule, stated.blockSize, "correct the file"))
        check_chunk(stated.blockSize, dtype)
        placement = self._placement(name, attributes, stated.downsamplingFactors)
        chunks = tuple(stated.blockSize[::-1])
        return Stored(shape, self._reading(name, stated), About(), placement, dtype, name, chunks)

    def group(self, name: str) -> tuple[dict[str, np.ndarray], About]:
        """Refuse: there is no merge tree."""
        raise MissingDataset(sentence("an N5 container", "holds no merge tree"))

    def _attributes(self, name: str) -> dict[str, Any]:
        file = self._path / name / ATTRIBUTES
        return read_json_object(file) if file.is_file() else {}

    def _is_array(self, name: str) -> bool:
        return "dimensions" in self._attributes(name)

    def _reading(self, name: str, stated: N5Array) -> Callable[[tuple[slice, ...]], np.ndarray]:
        """How to read parts of an array. TensorStore is told what it needs for that and nothing besides.

        It refuses what it does not know, as the number of threads with which a tool compressed, and attributes that
        contradict each other, which are judged here.
        """
        folder = self._path / name
        compression = {"type": stated.compression.type} | COMPRESSION.get(stated.compression.type, {})
        if stated.compression.useZlib:
            compression["useZlib"] = True
        metadata = stated.model_dump(include={"dimensions", "blockSize", "dataType"}) | {"compression": compression}
        package = tensorstore("N5", "n5")
        spec = {"driver": "n5", "kvstore": kvstore_of(folder), "metadata": metadata, "assume_metadata": True}
        with storage_errors("read", folder):
            store = package.open(spec, read=True, context=own_context()).result().T

        def read(part: tuple[slice, ...]) -> np.ndarray:
            with storage_errors("read", folder):
                return np.array(values_of(store, part))

        return read

    def _placement(self, name: str, attributes: Mapping[str, Any], factors: list[float] | None) -> Placement:
        """Where the voxels of an array lie, by its attributes, those of its group, or the XML beside."""
        group, _, last = name.rpartition("/")
        scale = re.fullmatch(r"s(\d+)", last)
        above = self._attributes(group) if scale else {}
        stated = {key: value for key, value in attributes.items() if key not in N5Array.model_fields}
        own = any(stated.get(key) is not None for key in SIZES)
        factors = factors or _factors_of({} if own else above, int(scale[1]) if scale and not own else 0)
        of_group = NAMES if own or factors is None else (*SIZES, *IN_ORDER)
        stated |= {key: above[key] for key in of_group if key in above and key not in stated}
        viewer = BIG_DATA_VIEWER.fullmatch(name)
        factors, known = factors or [1.0] * len(attributes["dimensions"]), factors is not None
        if viewer and known and not any(stated.get(key) is not None for key in SIZES):
            placement = of_big_data_viewer(self._path.with_name(f"{self._path.stem}.xml"), int(viewer[1]), factors)
            if placement is not None:
                return placement
        names = {"_ARRAY_DIMENSIONS": stated.get("_ARRAY_DIMENSIONS")}
        placement = read_placement(_in_order(stated, factors), len(attributes["dimensions"]), names=names)
        if own and "resolution" in stated and "transform" not in stated and set(factors) != {1.0}:
            doubt = f"`resolution` is {stated['resolution']} and `downsamplingFactors` {factors}; they are multiplied"
            return replace(placement, doubts=(*placement.doubts, doubt))
        return placement


def _factors_of(group: Mapping[str, Any], number: int) -> list[float] | None:
    """How much longer the voxels of a scale are than the group says; none for those of s0; None if nobody states it."""
    scales = checked(N5Group, {"scales": group.get("scales") or []}).scales
    if number < len(scales):
        return scales[number]
    return None if number else []


def _in_order(stated: Mapping[str, Any], factors: list[float]) -> dict[str, Any]:
    """Attributes in the order z, y, x, of a scale whose voxels are `factors` as long as they say."""
    found = dict(stated)
    for key in ("resolution", "voxel_size", "pixelResolution"):
        value = found.get(key)
        if isinstance(value, dict):
            found[key] = value | {"dimensions": _times(value.get("dimensions"), factors)}
        else:
            found[key] = _times(value, factors)
    for key in IN_ORDER:
        value = found.get(key)
        if key in ("unit", "units") and isinstance(value, str):
            found[key] = value.split(",")[::-1] if "," in value else value
        elif isinstance(value, list | str):
            found[key] = value[::-1]
    return {key: value for key, value in found.items() if value is not None}


def _times(sizes: object, factors: list[float]) -> object:
    """Sizes times factors; what are no numbers are returned as they are, to be refused where they are read."""
    if set(factors) == {1.0} or not isinstance(sizes, list) or not all(type(n) in (int, float) for n in sizes):
        return sizes
    if len(sizes) != len(factors):
        rule = f"must be as many as those that state the size of voxels, {len(sizes)}"
        raise InvalidInput(sentence("downsamplingFactors", rule, factors, "correct the file"))
    return [size * factor for size, factor in zip(sizes, factors, strict=True)]


@contextmanager
def reading(path: AnyPath, options: Mapping[str, str]) -> Iterator[N5Store]:
    """The container, open for reading; there are no `options`."""
    if not path.is_dir():
        raise InvalidInput(sentence(f"{path}", "must be an N5 folder", "a file", "name a folder"))
    yield N5Store(path)
