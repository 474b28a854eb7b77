"""What metadata must look like: a schema for everything that is read from attributes and JSON.

:func:`checked` validates; a refusal names the field, the rule and the value. What another tool wrote beside the fields
that are read here is let be.
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, Json, ValidationError, field_validator

from segkit.errors import InvalidInput, sentence
from segkit.io.records import About

MOST = 2**48
"""Voxels along an axis; a file that states more is damaged."""
LONGEST_NAME = 255
"""Characters of a name, as file systems have it."""
SHOWN = 80
"""Characters of a value that a message shows."""

Numbers = list[FiniteFloat]
Size = Annotated[int, Field(ge=0, le=MOST)]
Positive = Annotated[int, Field(ge=1, le=MOST)]


class Schema(BaseModel):
    """Fields of which nothing but their names and types is said; others are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


AnySchema = TypeVar("AnySchema", bound=Schema)


def checked(schema: type[AnySchema], values: object, where: str = "") -> AnySchema:
    """The values as that schema. Raises InvalidInput with the field, which lies in `where`, the rule and the value."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        names = [str(name) for name in first["loc"] if not str(name).startswith(("list[", "function-", "json"))]
        rule = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        if first["type"] == "missing":
            rule, value = "must be stated", None
        else:
            value = repr(first["input"])
            value = value if len(value) <= SHOWN else value[: SHOWN - 3] + "..."
            rule = rule if rule.startswith("must") else f"must be valid ({rule})"
        message = sentence(".".join(filter(None, [where, *names])) or "the metadata", rule, value, "correct the file")
        raise InvalidInput(message) from error


def plain(value: object) -> Any:
    """A value of an attribute as plain Python: arrays as lists, bytes as text, what is empty as None."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    return None if type(value).__name__ == "Empty" else str(value)


def parse_xml(text: str, where: str) -> ElementTree.Element:
    """The root of an XML document. Definitions of entities are refused, for they may grow without bound."""
    try:
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ElementTree.ParseError("it defines entities")
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InvalidInput(sentence(f"the XML of {where}", f"must be valid ({error})", None, "correct it")) from error


def inside(path: str) -> str:
    """A path that stays in its folder. Raises InvalidInput, which is a ValueError, for one that leads out of it."""
    if path.startswith(("/", "\\")) or ".." in path.replace("\\", "/").split("/"):
        raise InvalidInput("must be a path inside the store")
    if max(map(len, path.split("/"))) > LONGEST_NAME or "\0" in path:
        raise InvalidInput(f"must be made of names of at most {LONGEST_NAME} characters")
    return path


class Own(Schema):
    """What segkit writes about an object: see :class:`segkit.io.records.About`."""

    kind: Annotated[str | None, BeforeValidator(lambda kind: None if kind is None else str(kind))] = None
    format_version: int = 1
    neighborhood: list[Annotated[list[int], Field(min_length=3, max_length=3)]] | None = None
    polarity: str | None = None
    convention: Json[dict[str, Any]] | None = None
    notes: Annotated[str | None, BeforeValidator(lambda notes: notes if isinstance(notes, str) else None)] = None
    made_by: str | None = None
    chunks: str | None = None


def stated_about(values: object, where: str = "") -> About:
    """What is said about an object by attributes that lie in `where`."""
    return About(**checked(Own, values, where).model_dump())


class PixelResolution(Schema):
    """`pixelResolution` of N5: x, y, z."""

    dimensions: Annotated[Numbers, Field(min_length=3, max_length=3)]
    unit: str | None = None


class ViewSetup(Schema):
    """What BigDataViewer states of a setup: x, y, z."""

    size: Annotated[Numbers, Field(min_length=3, max_length=3)]
    """`voxelSize/size` of the XML."""
    resolutions: Annotated[Numbers, Field(min_length=3, max_length=3)]
    """The factors of a level."""


class Transform(Schema):
    """`transform` of COSEM's files."""

    axes: list[str]
    scale: Numbers | None = None
    translate: Numbers | None = None
    units: list[str | None] = []
    order: str = "C"


class AxisTag(Schema):
    """One axis of vigra."""

    key: str


class AxisTagList(Schema):
    """All axes of vigra."""

    axes: list[AxisTag]


class AxisTags(Schema):
    """`axistags` of vigra and ilastik: JSON."""

    axistags: Json[AxisTagList] | AxisTagList


class Sizes(Schema):
    """The attributes that say something of axes and voxels, in whatever dialect."""

    resolution: Numbers | None = None
    voxel_size: Numbers | None = None
    offset: Numbers | None = None
    unit: Any = None
    units: Any = None
    axes: Any = None
    axis_names: Any = None
    element_size_um: Annotated[Numbers, Field(min_length=3, max_length=3)] | None = None
    pixelResolution: PixelResolution | Annotated[Numbers, Field(min_length=3, max_length=3)] | None = None
    transform: dict[str, Any] | None = None

    def per_axis(self, axes: str, all_axes: str | None, otherwise: str | None) -> Sequence[object]:
        """The unit of each of `axes`; `otherwise` where none is stated. `all_axes` are those of the array."""
        stated = self.units if self.unit is None else self.unit
        if isinstance(stated, str) and "," in stated:
            stated = stated.split(",")
        if not isinstance(stated, list):
            return [otherwise if stated is None else stated] * len(axes)
        if all_axes and len(stated) == len(all_axes) > len(axes):
            return [stated[all_axes.index(letter)] for letter in axes]
        return stated


AXES = (
    *("axis_order", "axes_order", "axesorder", "axisorder", "axis_labels"),
    *("dimension_order", "dimension_names", "dimensions", "dim_order", "dim_names", "dims"),
)
"""Attributes in which this tool or that one states the order of axes."""
KNOWN = {*Own.model_fields, *Sizes.model_fields, *AXES, "axistags"}
"""The attributes of an array that are read."""


class OmeAxis(Schema):
    """An axis of an OME-Zarr image."""

    name: str
    type: str | None = None
    unit: Any = None


def _named(system: Any) -> Any:
    """The name of a coordinate system, which some versions of 0.6 write as an object."""
    return system.get("name") if isinstance(system, dict) else system


class Step(Schema):
    """A coordinate transformation."""

    type: str
    scale: Numbers | None = None
    translation: Numbers | None = None
    transformations: "list[Step] | None" = None
    affine: list[Numbers] | None = None
    output: Annotated[str | None, BeforeValidator(_named)] = None
    """The coordinate system that it leads to, in 0.6."""


class OmeScale(Schema):
    """One level of the pyramid."""

    path: str
    coordinateTransformations: list[Step] = []

    _path = field_validator("path")(inside)


class CoordinateSystem(Schema):
    """Axes of an image in OME-Zarr 0.6."""

    name: str | None = None
    axes: list[OmeAxis]


class OmeImage(Schema):
    """An image of OME-Zarr; 0.6 says its axes in `coordinateSystems`."""

    axes: list[OmeAxis | str] | None = None
    coordinateSystems: list[CoordinateSystem] | None = None
    datasets: Annotated[list[OmeScale], Field(min_length=1)]
    coordinateTransformations: list[Step] = []


class OmeGroup(Schema):
    """The attributes of a group that holds images."""

    multiscales: Annotated[list[OmeImage], Field(min_length=1)]


class ChunkShape(Schema):
    """Sides of chunks."""

    chunk_shape: list[Positive]


class ChunkGrid(Schema):
    """The chunks of a Zarr v3 array."""

    configuration: ChunkShape


class Codec(Schema):
    """A step of encoding."""

    name: str
    configuration: dict[str, Any] | None = None


class ZarrV3(Schema):
    """zarr.json of an array, as far as it is read here."""

    shape: list[Size]
    data_type: str | dict[str, Any]
    chunk_grid: ChunkGrid
    codecs: list[Codec]
    dimension_names: list[str | None] | None = None
    attributes: dict[str, Any] = {}


class ZarrV2(Schema):
    """.zarray of an array, as far as it is read here."""

    shape: list[Size]
    chunks: list[Positive]
    dtype: str | list[Any]
    order: str = "C"


class Scale(Schema):
    """One scale of a precomputed volume: x, y, z."""

    key: str
    size: Annotated[list[Positive], Field(min_length=3, max_length=3)]
    resolution: Annotated[list[Annotated[FiniteFloat, Field(gt=0)]], Field(min_length=3, max_length=3)]
    voxel_offset: Annotated[list[int], Field(min_length=3, max_length=3)] = [0, 0, 0]
    chunk_sizes: Annotated[list[list[Positive]], Field(min_length=1)]
    encoding: str
    sharding: dict[str, Any] | None = None

    _key = field_validator("key")(inside)


class PrecomputedInfo(Schema):
    """`info` of a precomputed volume."""

    type: str
    data_type: str
    num_channels: Annotated[int, Field(ge=1, le=2**16)] = 1
    scales: Annotated[list[Scale], Field(min_length=1)]
