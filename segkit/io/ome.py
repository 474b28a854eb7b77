"""OME-Zarr: the attributes of an image (0.5), as segkit writes them, and those of other tools' images.

Which point of a voxel does a translation mean? By the specification its centre. segkit's grids say where the corner of
the first voxel lies, and files of other formats mean that one; so the world is moved by half a voxel of the first
scale: there the translation is that of the corner, and the other scales of a pyramid lie as the specification has it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from segkit.errors import InvalidInput, sentence
from segkit.io.dialects import nanometers_along
from segkit.io.placement import LETTERS, Placement
from segkit.io.pyramid import Level
from segkit.io.schemas import OmeAxis, OmeGroup, OmeImage, OmeScale, Step, checked

SPACE = ("z", "y", "x")
FIRST_SCALE = "0"
"""The array of the first scale; those of the others are called 1, 2, ..."""
VERSION = "0.5"
LABELS = "labels"
"""The group of the images that are labels of the image around it."""


def dimension_names(ndim: int) -> list[str]:
    """The names of the axes of an array: channels first, where there are some."""
    return ["c"] * (ndim - len(SPACE)) + list(SPACE)


def image_attributes(
    name: str, ndim: int, attributes: Mapping[str, object], levels: Sequence[Level] = ()
) -> dict[str, object]:
    """The attributes of the group of an image, of an array of `ndim` axes, from those of a record.

    `resolution` and `offset` become the scale and the translation; the others stand under `segkit`. `levels` are those
    of a pyramid, the first of them the array itself.
    """
    ours = dict(attributes)
    channels = ndim - len(SPACE)
    axes: list[dict[str, str]] = [{"name": "c", "type": "channel"}] * channels
    axes = axes + [{"name": axis, "type": "space", "unit": "nanometer"} for axis in SPACE]
    voxel, offset = ours.pop("resolution"), ours.pop("offset")
    del ours["unit"]
    image: dict[str, object] = {"name": name, "axes": axes}
    image["datasets"] = [
        {"path": str(index), "coordinateTransformations": _steps(channels, voxel, offset, factor)}  # type: ignore[arg-type]
        for index, factor in enumerate([level.factor for level in levels] or [(1, 1, 1)])
    ]
    labels = ours.get("kind") == "labels"
    if len(levels) > 1:
        image["type"] = "mode" if labels else "mean"
    ome: dict[str, object] = {"version": VERSION, "multiscales": [image]}
    if labels and f"/{name}".rpartition("/")[0].endswith(f"/{LABELS}"):  # where NGFF has them: its image is two up
        ome["image-label"] = {"version": VERSION}
    return {"ome": ome, "segkit": ours}


def _steps(
    channels: int, voxel: Sequence[float], offset: Sequence[float], factor: Sequence[int]
) -> list[dict[str, object]]:
    """The transformations of a scale whose voxels are `factor` times as long as the first one's.

    Its translation is where the centre of its first voxel lies, as is that of the first scale.
    """
    scale = [length * by for length, by in zip(voxel, factor, strict=True)]
    centre = [at + length * (by - 1) / 2 for at, length, by in zip(offset, voxel, factor, strict=True)]
    return [
        {"type": "scale", "scale": [1.0] * channels + scale},
        {"type": "translation", "translation": [0.0] * channels + centre},
    ]


def image_of(attributes: Mapping[str, Any]) -> OmeImage | None:
    """The first image that the attributes of a group state, of OME-Zarr 0.4 or later; None where they state none."""
    stated = attributes.get("ome")
    stated = stated if isinstance(stated, Mapping) else attributes  # 0.4 has no `ome` around them
    if not stated.get("multiscales"):
        return None
    return checked(OmeGroup, stated).multiscales[0]


def place_of_scale(image: OmeImage, scale: OmeScale, ndim: int) -> Placement:
    """Axes, voxel size and place of one scale of an image, an array of `ndim` axes."""
    axes = _axes(image, scale, ndim)
    letters = "".join(_letter(axis) for axis in axes)
    if not set("yx") <= set(letters):
        rule = "must include y and x"
        raise InvalidInput(sentence("the axes of the image", rule, ", ".join(axis.name for axis in axes)))
    size, place, known = _transformed(image, scale, ndim)
    if not known:
        return Placement(letters)  # voxels of 1 by the specification, but nobody measured them
    first = image.datasets[0]
    if scale.path != first.path:
        voxel, _, measured = _transformed(image, first, ndim)
        if measured:
            place = [at - a / 2 + b / 2 for at, a, b in zip(place, size, voxel, strict=True)]
    return nanometers_along(letters, size, [axis.unit for axis in axes], place)


def _axes(image: OmeImage, scale: OmeScale, ndim: int) -> list[OmeAxis]:
    """The axes of the array; those of old versions are t, c, z, y, x.

    In 0.6 they are those of the coordinate system that the transformation of the scale leads to.
    """
    stated: Sequence[OmeAxis | str] | None = image.axes
    if image.coordinateSystems:
        outputs = [step.output for step in scale.coordinateTransformations if step.output is not None]
        named = [system.axes for system in image.coordinateSystems if outputs and system.name == outputs[-1]]
        stated = named[0] if named else image.coordinateSystems[0].axes
    axes = [OmeAxis(name=axis) if isinstance(axis, str) else axis for axis in stated or "tczyx"[-ndim:]]
    if len(axes) != ndim:
        value = ", ".join(axis.name for axis in axes)
        raise InvalidInput(sentence("axes", f"must be {ndim}, as the array has", value, "correct the file"))
    return axes


def _letter(axis: OmeAxis) -> str:
    """z, y or x; c for channels; t for whatever else there is."""
    letter = LETTERS.get(axis.name.casefold(), "t")
    return "c" if axis.type == "channel" else letter


def _transformed(image: OmeImage, scale: OmeScale, ndim: int) -> tuple[list[float], list[float], bool]:
    """Voxel size and position by the transformations of the scale, then those of the image; whether a size is stated.

    In 0.6 the transformations of an image lead from its own coordinates to others, and are none of its own.
    """
    size, position, known = [1.0] * ndim, [0.0] * ndim, False
    steps = list(scale.coordinateTransformations)
    if not image.coordinateSystems:
        steps += image.coordinateTransformations
    for step in _flat(steps):
        factors, shift = _linear(step, ndim)
        known |= factors is not None
        factors = factors or [1.0] * ndim
        size = [a * b for a, b in zip(size, factors, strict=True)]
        position = [a * b + c for a, b, c in zip(position, factors, shift or [0.0] * ndim, strict=True)]
    return size, position, known


def _flat(steps: Sequence[Step]) -> Iterator[Step]:
    for step in steps:
        if step.type == "sequence":
            yield from _flat(step.transformations or ())
        else:
            yield step


def _linear(step: Step, ndim: int) -> tuple[list[float] | None, list[float] | None]:
    """The scale and the translation of one step; None where it has none."""
    if step.type == "identity":
        return None, None
    if step.type == "affine" and step.affine and all(len(row) == ndim + 1 for row in step.affine):
        matrix = np.array(step.affine[:ndim])
        if len(matrix) == ndim and not (matrix[:, :ndim] - np.diag(np.diag(matrix[:, :ndim]))).any():
            return np.diag(matrix[:, :ndim]).tolist(), matrix[:, ndim].tolist()
    numbers = {"scale": step.scale, "translation": step.translation}.get(step.type)
    if numbers is None:
        rule = "must be scale or translation, stated as numbers"
        next_step = "`segkit convert --voxel-size` cannot undo others: resample the volume"
        raise InvalidInput(sentence("coordinateTransformations", rule, step.type, next_step))
    if len(numbers) != ndim:
        rule = f"must be {ndim} numbers, one an axis"
        raise InvalidInput(sentence(f"coordinateTransformations: {step.type}", rule, numbers, "correct the file"))
    return (numbers, None) if step.type == "scale" else (None, numbers)
