"""What metadata must look like: a schema for everything that is read from attributes and JSON.

:func:`checked` validates; a refusal names the field, the rule and the value. What another tool wrote beside the fields
that are read here is let be.
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    Json,
    ValidationError,
    field_validator,
)

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


class _WithoutEntities(ElementTree.TreeBuilder):
    """Builds a tree, and refuses definitions of entities."""

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """Refuse what entities are defined in."""
        raise ElementTree.ParseError("it defines entities")


def parse_xml(text: str | bytes, where: str) -> ElementTree.Element:
    """The root of an XML document; bytes are of the encoding that it states.

    Definitions of entities are refused, for they may grow without bound.
    """
    try:
        return ElementTree.fromstring(text, ElementTree.XMLParser(target=_WithoutEntities()))
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # the latter two for encodings that nobody knows
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
    at: Annotated[str, BeforeValidator(inside)] | None = None
    full_scale: int | None = None


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
    order: Annotated[str, Field(validation_alias=AliasChoices("order", "ordering"))] = "C"


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
    *("axis_order", "axes_order", "axesorder", "axisorder", "axis_labels", "axes_labels", "axes_names"),
    *("dimension_order", "dimension_names", "dimension_labels", "dimensions", "_array_dimensions"),
    *("dim_order", "dim_names", "dim_labels", "dims"),
)
"""Attributes, in small letters, in which this tool or that one states the order of axes, in letters of any case."""
KNOWN = {*Own.model_fields, *Sizes.model_fields, "axistags"}
"""The attributes of an array that are read, besides :data:`AXES`."""


def states_axes(attribute: str) -> bool:
    """Whether an attribute of that name says the order of the axes and nothing else."""
    small = attribute.casefold()
    return small in AXES or (small in ("axes", "axis_names") and attribute != small)


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


class N5Compression(Schema):
    """How the blocks of an N5 array are compressed: whatever TensorStore unpacks."""

    type: Literal["raw", "gzip", "bzip2", "xz", "blosc", "zstd"]
    useZlib: bool = False


class N5Array(Schema):
    """attributes.json of an N5 array, as far as the format itself states it: x, y, z."""

    dimensions: list[Positive]
    blockSize: list[Positive]
    dataType: Literal["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64"]
    compression: N5Compression
    downsamplingFactors: Numbers | None = None


class N5Group(Schema):
    """attributes.json of a group of scales: the factors of each, where the arrays do not state them."""

    scales: list[Numbers] = []


Known = Annotated[FiniteFloat | None, BeforeValidator(lambda number: None if number != number else number)]
"""A number; None where the file says NaN."""


def _step(step: Any) -> Any:
    """A step of an NRRD file; None of an axis along which no voxels lie, of which it says NaN."""
    return None if step is None or any(number != number for number in step) else step


class NrrdHeader(Schema):
    """The header of an NRRD file, without the blanks in the names of fields."""

    dimension: int
    sizes: Annotated[list[Positive], Field(min_length=1)]
    type: str
    encoding: Literal["raw", "ascii", "ASCII", "text", "txt", "gzip", "gz", "bzip2", "bz2"]
    endian: str | None = None
    datafile: Annotated[str | None, Field(min_length=1)] = None
    lineskip: Annotated[int, Field(ge=0, le=2**20)] = 0
    byteskip: Annotated[int, Field(ge=-1)] = 0
    kinds: list[str] | None = None
    labels: list[str] | None = None
    spacings: list[Known] | None = None
    units: list[str] | None = None
    axismins: list[Known] | None = None
    spacedirections: list[Annotated[Numbers | None, BeforeValidator(_step)]] | None = None
    spaceunits: Annotated[list[str] | None, Field(min_length=3)] = None
    spaceorigin: Annotated[Numbers | None, Field(min_length=3, max_length=3)] = None


def _mag(stated: Any) -> Any:
    """A mag as three numbers, x, y, z, from 2, "2", "2-2-1", [2, 2, 1] or {"x": 2, "y": 2, "z": 1}."""
    if isinstance(stated, str):
        stated = [int(word) for word in stated.split("-")]
    if isinstance(stated, dict):
        stated = [stated.get(axis) for axis in "xyz"]
    stated = [stated] if isinstance(stated, int) else stated
    return stated * 3 if isinstance(stated, list) and len(stated) == 1 else stated


class WebKnossosMag(Schema):
    """One resolution of a layer of webKnossos."""

    mag: Annotated[
        Annotated[list[Positive], Field(min_length=3, max_length=3)],
        BeforeValidator(_mag),
        Field(validation_alias=AliasChoices("mag", "resolution")),
    ]
    path: str | None = None
    axisOrder: dict[str, int] | None = None

    @property
    def name(self) -> str:
        """The name of its folder, if nothing else is stated."""
        return "-".join(map(str, self.mag)) if len(set(self.mag)) > 1 else str(self.mag[0])


class WebKnossosBox(Schema):
    """The bounding box of a layer in voxels of its finest mag: x, y, z."""

    topLeft: Annotated[list[Size], Field(min_length=3, max_length=3)]
    width: Positive
    height: Positive
    depth: Positive


class WebKnossosLayer(Schema):
    """One volume of a dataset of webKnossos."""

    name: str
    category: str | None = None
    boundingBox: WebKnossosBox
    dataFormat: str
    mags: Annotated[list[WebKnossosMag], Field(min_length=1, validation_alias=AliasChoices("mags", "wkwResolutions"))]

    _name = field_validator("name")(inside)


class WebKnossosVoxel(Schema):
    """The size of a voxel: x, y, z."""

    factor: Annotated[Numbers, Field(min_length=3, max_length=3)]
    unit: str = "nanometer"


class WebKnossosSource(Schema):
    """datasource-properties.json; a scale without a unit is in nanometers."""

    dataLayers: Annotated[list[WebKnossosLayer], Field(min_length=1)]
    voxel_size: Annotated[
        WebKnossosVoxel,
        BeforeValidator(lambda stated: {"factor": stated} if isinstance(stated, list) else stated),
        Field(validation_alias=AliasChoices("voxelSize", "scale")),
    ]


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
