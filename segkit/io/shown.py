"""What viewers show that open a Zarr store: the image that its root states, and the labels that belong to it.

The images of a store lie in groups such as `volumes/raw`, where a viewer that opens ``vol.zarr`` would not find them.
So the root states one of them as its own, by the paths of its arrays from there, with a mark by which segkit knows that
the store is not that image. Labels at ``vol.zarr:labels/NAME`` are listed as labels of it, if they have as many scales.
"""

import json
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from segkit.errors import InvalidInput
from segkit.io.address import ROLES
from segkit.io.atomic import mend, replacing
from segkit.io.json_file import read_json_object
from segkit.io.ome import LABELS, VERSION, image_of
from segkit.io.remote import AnyPath

MARK = "shows"
"""The attribute of a root, under `segkit`, that names the image it states."""
FIRST = [dataset for role, (dataset, _) in ROLES.items() if role == "raw"]
FIRST += [ROLES[role][0] for role in ("segmentation", "truth", "fragments", "affinities", "mask")]
"""Which image is shown rather than the others; those of other names come after these, by name."""


def own_attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a group without what it states of an image in it."""
    ours = attributes.get("segkit")
    if not isinstance(ours, dict) or MARK not in ours:
        return attributes
    return {key: value for key, value in attributes.items() if key not in ("ome", "segkit")}


def state_shown(store: AnyPath, names: Collection[str]) -> None:
    """State in the root of a store the first of the images `names` in it, and in the group `labels` its labels.

    Each in one step, for who alone writes there now. A root that is an image itself, or says something else of
    OME-Zarr, stays as it is, and what another tool has listed stays listed while it is there.
    """
    attributes = own_attributes(_attributes(store))
    foreign = any(word in attributes for word in ("ome", "segkit", "multiscales"))
    if not foreign:
        _put(store, attributes | _shown(store, names))
    image = _image(store)
    if (store / LABELS / "zarr.json").is_file() and (names or not foreign):
        found = _labels_of(store, names, len(image["multiscales"][0]["datasets"]) if image else 0)
        _list_labels(store / LABELS, found, [name for name in names if foreign])


def _shown(store: AnyPath, names: Collection[str]) -> dict[str, Any]:
    """The attributes by which a root shows one of its images; none where it has none."""
    for name in sorted(names, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name)):
        ome = _image(store / name)
        if ome is not None:
            image = ome["multiscales"][0]
            datasets = [{**scale, "path": f"{name}/{scale['path']}"} for scale in image["datasets"]]
            ome = {"version": VERSION, "multiscales": [{**image, "datasets": datasets}]}
            return {"ome": ome, "segkit": {MARK: name}}
    return {}


def scales_beside(store: AnyPath, name: str) -> int | None:
    """How many scales labels at `name` must have to be listed beside the image that a store shows; None elsewhere."""
    image, ours = _image(store), _attributes(store).get("segkit")
    itself = isinstance(ours, dict) and str(ours.get(MARK)).startswith(f"{LABELS}/")
    if image is None or itself or name.rpartition("/")[0] != LABELS:
        return None
    return len(image["multiscales"][0]["datasets"])


def _labels_of(store: AnyPath, names: Collection[str], scales: int) -> list[str]:
    """The names in the group `labels` of the images that are labels and have that many scales, as NGFF wants it."""
    found = []
    for name in names:
        above, _, last = name.rpartition("/")
        ome = _image(store / name) if above == LABELS else None
        if ome and "image-label" in ome and len(ome["multiscales"][0]["datasets"]) == scales:
            found.append(last)
    return found


def _list_labels(group: AnyPath, names: list[str], kept: list[str]) -> None:
    """List labels in their group, with those of `kept` that it lists already."""
    attributes = _attributes(group)
    stated = attributes.get("ome") or {LABELS: []}
    if LABELS in stated:  # else it is something of another tool
        before = [name for name in stated[LABELS] if f"{LABELS}/{name}" in kept]
        listed = before + sorted(set(names) - set(before))
        others = {key: value for key, value in attributes.items() if key != "ome"}
        _put(group, others | ({"ome": {"version": VERSION, LABELS: listed}} if listed else {}))


def _image(folder: AnyPath) -> dict[str, Any] | None:
    """What a group states of OME-Zarr, as segkit does; None unless it is an image."""
    attributes = _attributes(folder) if (folder / "zarr.json").is_file() else {}
    with suppress(InvalidInput):  # of another tool, and wrong
        if image_of(attributes) and attributes.get("ome", {}).get("version") == VERSION:
            return attributes["ome"]
    return None


def _attributes(folder: AnyPath) -> dict[str, Any]:
    return read_json_object(folder / "zarr.json").get("attributes") or {}


def _put(folder: AnyPath, attributes: dict[str, Any]) -> None:
    """Give a group these attributes, if it has others."""
    file = folder / "zarr.json"
    if isinstance(file, Path):
        mend(file)
    metadata = read_json_object(file)
    if (metadata.get("attributes") or {}) == attributes:
        return
    text = json.dumps(metadata | {"attributes": attributes}, indent=2)
    if not isinstance(file, Path):
        file.write_bytes(text.encode())
        return
    with replacing(file) as temporary:
        temporary.write_text(text)
