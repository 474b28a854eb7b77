"""Datasets of webKnossos: a folder with datasource-properties.json, and a folder each for layers and their mags.

A layer is a dataset, read at its finest mag; another is ``FOLDER:LAYER/2-2-1``. The volume is the bounding box of the
layer, not the grid of files that holds it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from segkit.errors import InvalidInput, MissingDataset, sentence
from segkit.io import wkw
from segkit.io.dialects import nanometers_along
from segkit.io.json_file import read_json_object
from segkit.io.placement import axis_letters
from segkit.io.records import About, Stored
from segkit.io.remote import AnyPath
from segkit.io.schemas import WebKnossosLayer, WebKnossosMag, WebKnossosSource, checked, inside
from segkit.io.zarr import ZarrStore

PROPERTIES = "datasource-properties.json"


class WebKnossosDataset:
    """An open dataset."""

    def __init__(self, path: AnyPath, source: WebKnossosSource, *, follow: bool) -> None:
        """`follow`: mags may lie outside the folder."""
        self._path, self._source, self._follow = path, source, follow
        self._layers = {layer.name: layer for layer in source.dataLayers}

    def names(self) -> list[str]:
        """The names of the layers, sorted."""
        return sorted(self._layers)

    def find(self, name: str, whole: bool) -> str | None:
        """`name`, if it is that of a layer, or of one of its mags; "" if there is but one, which is the `whole`."""
        if self._found(name) is not None:
            return name
        return "" if whole and len(self._layers) == 1 else None

    def about(self, name: str) -> About:
        """The kind of a layer: labels, if it is a segmentation."""
        found = self._found(name)
        return About(kind="labels") if found and found[0].category == "segmentation" else About()

    def array(self, name: str) -> Stored:
        """A layer at its finest mag, or at the one that is named."""
        found = self._found(name)
        if found is None:
            raise MissingDataset(sentence(f"{self._path}:{name}", "has no mags", next_step="name another layer"))
        layer, mag = found
        if layer.dataFormat not in ("wkw", "zarr", "zarr3"):
            rule, next_step = "must be wkw, zarr or zarr3", "name the volume that it refers to itself"
            raise InvalidInput(sentence(f"{layer.name}: dataFormat", rule, repr(layer.dataFormat), next_step))
        inner = self._folder(layer, mag)
        folder = self._path / inner
        stored = wkw.stored_in(folder) if layer.dataFormat == "wkw" else _zarr(folder, mag)
        box = layer.boundingBox
        ends = [at + size for at, size in zip(box.topLeft, (box.width, box.height, box.depth), strict=True)]
        low = {axis: at // step for axis, at, step in zip("xyz", box.topLeft, mag.mag, strict=True)}
        high = {axis: -(-end // step) for axis, end, step in zip("xyz", ends, mag.mag, strict=True)}
        steps = [size * step for size, step in zip(self._source.voxel_size.factor, mag.mag, strict=True)]
        places = [low[axis] * step for axis, step in zip("xyz", steps, strict=True)]
        placement = nanometers_along("xyz", steps, [self._source.voxel_size.unit] * 3, places)
        stored = _cut(stored, low, high)
        placement = replace(placement, axes=stored.placement.axes)
        return replace(stored, about=self.about(name), placement=placement, folder=inner)

    def group(self, name: str) -> tuple[dict[str, np.ndarray], About]:
        """Refuse: there is no merge tree."""
        raise MissingDataset(sentence("a webKnossos dataset", "holds no merge tree"))

    def _found(self, name: str) -> tuple[WebKnossosLayer, WebKnossosMag] | None:
        """The layer and the mag that a name means; "" means the first layer."""
        name = name or next(iter(self._layers))
        for layer in self._layers.values():
            mags = sorted(layer.mags, key=lambda mag: sum(mag.mag))
            named = mags[:1] if name == layer.name else [mag for mag in mags if name == f"{layer.name}/{mag.name}"]
            if named:
                return layer, named[0]
        return None

    def _folder(self, layer: WebKnossosLayer, mag: WebKnossosMag) -> str:
        stated = mag.path or f"{layer.name}/{mag.name}"
        try:
            return stated if self._follow else inside(stated)
        except InvalidInput as error:
            next_step = "if you trust it, allow that by ADDRESS[links=follow]"
            where = f"{self._path}: the path of {layer.name}/{mag.name}"
            raise InvalidInput(sentence(where, "must not lead out of the dataset", repr(stated), next_step)) from error


def _zarr(folder: AnyPath, mag: WebKnossosMag) -> Stored:
    """The array of a mag, its axes in the order that the dataset states, else the array itself, else c, x, y, z."""
    stored = ZarrStore(folder).array("")
    axes = stored.placement.axes
    if mag.axisOrder is not None:
        order = {index: axis for axis, index in mag.axisOrder.items()}
        axes = axis_letters([order.get(index, "?") for index in range(len(stored.shape))])
    axes = axes or "cxyz"[-len(stored.shape) :]
    return replace(stored, placement=replace(stored.placement, axes=axes))


def _cut(stored: Stored, low: dict[str, int], high: dict[str, int]) -> Stored:
    """The part of an array from `low` to `high`, by axis."""
    axes = stored.placement.axes or ""
    for axis, size in zip(axes, stored.shape, strict=True):
        if high.get(axis, 0) > size:
            rule = f"must lie in the array, which has {size} voxels along {axis}"
            raise InvalidInput(sentence("the bounding box", rule, f"up to {high[axis]}", "correct the file"))
    starts = [low.get(axis, 0) for axis in axes]
    shape = tuple(high.get(axis, size) - low.get(axis, 0) for axis, size in zip(axes, stored.shape, strict=True))

    def read(part: tuple[slice, ...]) -> np.ndarray:
        ends = [along.indices(size) for along, size in zip(part, shape, strict=True)]
        return stored.read(tuple(slice(a + at, b + at) for (a, b, _), at in zip(ends, starts, strict=True)))

    return replace(stored, shape=shape, read=read)


@contextmanager
def reading(path: AnyPath, options: Mapping[str, str]) -> Iterator[WebKnossosDataset]:
    """The dataset, open for reading. Mags may lie outside the folder where "links" is of the `options`."""
    stated: dict[str, Any] = read_json_object(path / PROPERTIES)
    source = checked(WebKnossosSource, stated, PROPERTIES)
    yield WebKnossosDataset(path, source, follow="links" in options)
