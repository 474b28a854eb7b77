"""How tools say the order of axes, the size of voxels and their place: each has a dialect of its own.

:func:`read_placement` takes what a file states about one array, in whatever dialect, and says it in segkit's: axes by
letters, lengths in nanometers, z, y, x. What a file states is followed, or refused with the way to correct it; what it
leaves open is None; what it says in a doubtful way is followed with a warning. `DIALECTS` lists the dialects; the
table in docs/reference/files.md is made from it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from segkit.errors import InvalidInput, sentence
from segkit.io.atomic import storage_errors
from segkit.io.placement import LETTERS, SPACE, Placement, axis_letters, nanometers, show
from segkit.io.remote import AnyPath
from segkit.io.schemas import (
    AxisTags,
    PixelResolution,
    Sizes,
    Transform,
    ViewSetup,
    checked,
    parse_xml,
    states_axes,
)


class Dialect(NamedTuple):
    """A way to say it, for the documents."""

    tool: str
    where: str
    axes: str
    size: str
    place: str


DIALECTS = (
    Dialect("segkit", "attributes (HDF5), `segkit` (Zarr)", "z, y, x", "`resolution`, `unit`", "`offset`"),
    Dialect("CREMI", "HDF5 attributes", "z, y, x", "`resolution`, nm", "`offset`, nm"),
    Dialect(
        "OME-Zarr 0.4, 0.5, 0.6",
        "`multiscales`",
        "`axes`, or those of `coordinateSystems`",
        "`scale`, unit of each axis",
        "`translation`: see below",
    ),
    Dialect(
        "funlib.persistence (gunpowder, daisy, DaCapo)",
        "attributes of the array",
        "`axis_names`; z, y, x without",
        "`voxel_size` in the order of the axes, `units`",
        "`offset` in the same order",
    ),
    Dialect(
        "neuroglancer, z5",
        "attributes of the array",
        "`axes`",
        "`resolution` in the order of `axes`, `units`",
        "`offset` in the same order",
    ),
    Dialect(
        "xarray",
        "`_ARRAY_DIMENSIONS`, `dimension_names`",
        "their names",
        "coordinates of the axes, their `units`; else `resolution` as CREMI says it",
        "the first coordinate",
    ),
    Dialect("ilastik, vigra", "`axistags`", "their keys", "`element_size_um`, else that of CREMI", ""),
    Dialect("PlantSeg, Fiji's HDF5", "attributes", "z, y, x", "`element_size_um`, z, y, x", ""),
    Dialect("HDF5 dimension labels", "labels of the dimensions", "their names", "as CREMI", "as CREMI"),
    Dialect("netCDF 4", "dimension scales (HDF5)", "their names", "their values and `units`", "the first value"),
    Dialect("others", "`axis_order`, `DIMENSION_NAMES`, `dims` and the like", "their letters", "as CREMI", "as CREMI"),
    Dialect(
        "COSEM, OpenOrganelle",
        "`transform`; `pixelResolution`",
        "`transform.axes`",
        "`transform.scale`; `pixelResolution.dimensions` as x, y, z",
        "`transform.translate`",
    ),
    Dialect("BigDataViewer", "`resolutions`, the XML beside", "z, y, x", "`voxelSize` of the XML, x, y, z", ""),
    Dialect(
        "ImageJ", "TIFF description and tags", "the axes of the series", "spacing and resolution, unit of each", ""
    ),
    Dialect("OME-TIFF", "OME-XML", "the axes of the series", "`PhysicalSizeX`, Y, Z and their units", ""),
    Dialect(
        "N5: COSEM, n5-viewer, neuroglancer, Paintera",
        "attributes of the array, or of its group, as above",
        "z, y, x, for x runs fastest; `axes`, x first",
        "as above, x first, times `downsamplingFactors`",
        "`transform.translate`; `offset`, x first",
    ),
    Dialect(
        "MRC, IMOD",
        "the header",
        "`maps`, `mapr`, `mapc`",
        "the cell over `mx`, `my`, `mz`, angstroms",
        "`origin`, else `nxstart`; with IMOD's sign",
    ),
    Dialect(
        "NIfTI", "the header", "those that the affine follows", "sform, qform or `pixdim`; `xyzt_units`", "the affine"
    ),
    Dialect(
        "NRRD",
        "the header",
        "those that `space directions` follow; `labels`; `kinds`",
        "`space directions`, `space units`; `spacings`, `units`",
        "`space origin`; `axis mins`",
    ),
    Dialect(
        "webKnossos",
        "`datasource-properties.json`",
        "x, y, z; `axisOrder`",
        "`voxelSize` or `scale`, times the mag",
        "`topLeft` of the bounding box, voxels",
    ),
    Dialect("neuroglancer precomputed", "`info`", "x, y, z, channel", "`resolution`, nm", "`voxel_offset`, voxels"),
)
"""What is understood; tests/io/test_dialects.py has an example of each."""


CHANNELS = "czyx"
"""Axes of an array of four, of which as many numbers are stated and no order."""


@dataclass
class _Found:
    """What has been gathered from the attributes of an array of `ndim` axes."""

    ndim: int
    axes: dict[str, str] = field(default_factory=dict)
    sizes: list["_Said"] = field(default_factory=list)
    supposed: str | None = None
    """The axes that numbers are taken to be of where nobody states them."""

    def add_axes(self, where: str, names: object) -> str | None:
        """Keep the axes that `where` states, if it states any; z, y, x alone are the last of more axes.

        Raises InvalidInput for axes of another order and number.
        """
        letters = axis_letters(names)
        if letters is None:
            return None
        if len(letters) != self.ndim:
            if set(SPACE) <= set(letters) and letters != SPACE:
                rule = f"must be {self.ndim}, as many as the array has"
                raise InvalidInput(sentence(where, rule, ", ".join(letters), "correct the file"))
            return None
        self.axes[where] = letters
        return letters


class _Said(NamedTuple):
    """One statement about sizes: a number an axis, the axes that they are of, units and places alike."""

    where: str
    axes: str
    sizes: Sequence[float]
    units: Sequence[object]
    places: Sequence[float] | None


def read_placement(
    attributes: Mapping[str, Any],
    ndim: int,
    *,
    ours: bool = False,
    names: Mapping[str, object] | None = None,
    coordinates: Callable[[str], "tuple[np.ndarray, Mapping[str, Any]] | None"] | None = None,
) -> Placement:
    """What the attributes of an array, as plain values, say of its axes and voxels.

    Parameters
    ----------
    ndim : number of axes of the array.
    ours : whether segkit wrote it: `resolution` and `offset` are z, y, x whatever `axes` says.
    names : names of the axes that stand elsewhere, by what they are called there.
    coordinates : gives the coordinates of an axis by its name, and their attributes, where there are some.

    Raises InvalidInput, with the attribute's name, for what is of the wrong type, and where two attributes state
    different axes.
    """
    found = _Found(ndim)
    stated = checked(Sizes, attributes)
    own_axes = _gather_axes(found, attributes, stated, names or {})
    _gather_sizes(found, stated, own_axes if not ours else None, SPACE)
    if coordinates is not None:
        _gather_coordinates(found, names or {}, coordinates)
    placement = _decided(found)
    doubt = None if ours else _doubt_about_order(stated, own_axes, placement)
    return replace(placement, doubts=(*placement.doubts, doubt)) if doubt else placement


def _gather_axes(
    found: _Found, attributes: Mapping[str, Any], stated: Sizes, names: Mapping[str, object]
) -> str | None:
    """All axes that are stated; those, in order, that the numbers of the same tool go with."""
    own = found.add_axes("axis_names", stated.axis_names) or found.add_axes("axes", stated.axes)
    for where in filter(states_axes, attributes):
        found.add_axes(where, attributes[where])
    if attributes.get("axistags") is not None:
        tags = checked(AxisTags, {"axistags": attributes["axistags"]}).axistags
        found.add_axes("axistags", [tag.key for tag in tags.axes])
    for where, given in names.items():
        found.add_axes(where, given)
    if attributes.get("transform") is not None:
        transform = checked(Transform, attributes["transform"], "transform")
        listed = transform.axes if transform.order != "F" else transform.axes[::-1]
        found.add_axes("transform", list(listed))
    return own


def _gather_sizes(found: _Found, stated: Sizes, own_axes: str | None, usual: str) -> None:
    """What is said of sizes, in the order in which it counts."""
    if stated.transform is not None:
        transform = checked(Transform, stated.transform, "transform")
        letters = axis_letters(list(transform.axes)) or ""
        if transform.scale and set("yx") <= set(letters):
            found.sizes.append(_Said("transform", letters, transform.scale, transform.units, transform.translate))
    for where, sizes in (("voxel_size", stated.voxel_size), ("resolution", stated.resolution)):
        if sizes is not None:
            whole = _axes_of_numbers(found, len(sizes), own_axes) or usual
            units = stated.per_axis(whole, own_axes, "nm" if where == "resolution" else None)
            found.sizes.append(_Said(where, whole, sizes, units, stated.offset))
    if stated.pixelResolution is not None:
        pixel = stated.pixelResolution
        if not isinstance(pixel, PixelResolution):
            pixel = PixelResolution(dimensions=pixel)
        found.sizes.append(_Said("pixelResolution", "xyz", pixel.dimensions, [pixel.unit] * 3, None))
    if stated.element_size_um is not None:
        found.sizes.append(_Said("element_size_um", usual, stated.element_size_um, ["um"] * 3, None))


def _axes_of_numbers(found: _Found, count: int, own_axes: str | None) -> str | None:
    """The axes that so many numbers are of: those of the array for as many; None for the usual ones."""
    if own_axes:
        return own_axes if count == len(own_axes) else _spatial(own_axes)
    if count == len(SPACE) or count != found.ndim:
        return None
    if not found.axes:
        found.supposed = CHANNELS if count == len(CHANNELS) else None
    return next(iter(found.axes.values()), found.supposed)


def _gather_coordinates(
    found: _Found,
    names: Mapping[str, object],
    coordinates: Callable[[str], tuple[np.ndarray, Mapping[str, Any]] | None],
) -> None:
    """Sizes from coordinates along the axes, as xarray stores them."""
    listed: list[str] = next((list(given) for given in names.values() if isinstance(given, list | tuple)), [])
    sizes, places, units, letters, spatial = [], [], [], "", ""
    for name in map(str, listed):
        letter = LETTERS.get(name.casefold(), "?")
        spatial += letter if letter in SPACE else ""
        along = coordinates(name) if letter in SPACE else None
        if along is None:
            continue
        values, about = along
        if len(values) < 2 or values.dtype.kind not in "iuf":
            return
        steps = np.diff(values.astype(np.float64))
        if not np.allclose(steps, steps[0], rtol=1e-3) or not steps[0] > 0:
            rule = "must increase evenly for voxels to have a size"
            raise InvalidInput(sentence(f"the coordinates along {name}", rule, next_step="give the voxel size"))
        sizes.append(float(steps.mean()))
        places.append(float(values[0]))
        units.append(about.get("units", about.get("unit")))
        letters += letter
    numbered = not any(units) and not any(places) and set(sizes) == {1.0}  # voxels are counted, nobody measured them
    if set("yx") <= set(letters) and letters == spatial and not numbered:
        found.sizes.insert(0, _Said("its coordinates", letters, sizes, units, places))


def _decided(found: _Found) -> Placement:
    """One placement from all statements: those about axes must agree, of those about sizes the first counts."""
    orders = set(found.axes.values())
    if len(orders) > 1:
        value = " and ".join(f"{', '.join(letters)} ({where})" for where, letters in found.axes.items())
        raise InvalidInput(sentence("the axes that the file states", "must agree", value, "correct one of them"))
    axes = next(iter(orders), None)
    if not found.sizes:
        return Placement(axes)
    first, *others = (_in_nanometers(said) for said in found.sizes)
    doubts = list(first.doubts)
    for said, other in zip(found.sizes[1:], others, strict=True):
        if first.voxel_size and other.voxel_size and not np.allclose(first.voxel_size, other.voxel_size, rtol=1e-3):
            doubts.append(
                f"voxels are {show(first.voxel_size)} nm in {found.sizes[0].where} and {show(other.voxel_size)} nm "
                f"in {said.where}, z, y, x; the former is followed"
            )
    return replace(first, axes=axes, doubts=tuple(doubts), supposed=found.supposed)


def _in_nanometers(said: _Said) -> Placement:
    if len(said.sizes) != len(said.axes):
        rule = f"must be {len(said.axes)} numbers, {', '.join(said.axes)}"
        raise InvalidInput(sentence(said.where, rule, list(said.sizes)))
    if said.places is not None and len(said.places) != len(said.sizes):
        rule = f"must have as many numbers as {said.where}, {len(said.sizes)}"
        raise InvalidInput(sentence("offset", rule, list(said.places)))
    along = SPACE if {"z", "?"} & set(said.axes) else "yx"  # the latter are those of one section
    if not set(along) <= set(said.axes):
        return Placement(refusal=InvalidInput(sentence("the axes", "must include z, y, x", said.axes)), certain=False)
    at = [said.axes.index(letter) for letter in along]
    sizes = [float(said.sizes[i]) for i in at]
    places = None if said.places is None else [float(said.places[i]) for i in at]
    try:
        factors = [nanometers(said.units[i] if i < len(said.units) else None) for i in at]
    except InvalidInput as error:
        return Placement(refusal=error, certain=False)
    if None in factors and any(factors):
        missing = ", ".join(letter for letter, factor in zip(along, factors, strict=True) if factor is None)
        refusal = InvalidInput(
            sentence("the unit", "must be stated for all axes or for none", f"left out for {missing}")
        )
        return Placement(refusal=refusal, certain=False)
    certain = None not in factors
    lengths = [factor or 1.0 for factor in factors]
    *depth, y, x = (size * length for size, length in zip(sizes, lengths, strict=True))
    z = depth[0] if depth else 1.0
    doubts: tuple[str, ...] = () if depth else ("no voxel size along z is stated; it is taken to be 1 nm",)
    if not certain:
        unit = next((said.units[i] for i in at if i < len(said.units) and said.units[i]), None)
        named = (
            "without a unit" if unit is None or not str(unit).strip() else f"in {unit!r}, which is no unit of length"
        )
        doubts += (f"voxels are {show((z, y, x))} long (z, y, x) {named}; they are taken to be nanometers",)
    offset = None
    if places is not None:
        *above, oy, ox = (place * length for place, length in zip(places, lengths, strict=True))
        offset = (above[0] if above else 0.0, oy, ox)
    return Placement(None, (z, y, x), offset, doubts, certain and bool(depth))


def nanometers_along(
    axes: str, sizes: Sequence[float], units: Sequence[object], places: Sequence[float] | None
) -> Placement:
    """The placement that numbers, one for each letter of `axes`, say in units of their own."""
    return replace(_in_nanometers(_Said("the scale", axes, sizes, units, places)), axes=axes)


def of_big_data_viewer(file: AnyPath, setup: int, factors: Sequence[float]) -> Placement | None:
    """What BigDataViewer's XML `file` states of a setup, at a level whose voxels are `factors` as long, x, y, z.

    None where there is no such file, or it does not state the setup.
    """
    if not file.is_file():
        return None
    with storage_errors("read", file):
        text = file.read_bytes()
    for view in parse_xml(text, str(file)).iter("ViewSetup"):
        size, unit = view.findtext("voxelSize/size"), view.findtext("voxelSize/unit")
        if view.findtext("id") == str(setup) and size:
            stated = checked(ViewSetup, {"size": size.split(), "resolutions": factors}, "voxelSize")
            along = [a * b for a, b in zip(stated.size, stated.resolutions, strict=True)]
            return replace(nanometers_along("xyz", along, [unit] * 3, None), axes="zyx")
    return None


def _doubt_about_order(stated: Sizes, own_axes: str | None, placement: Placement) -> str | None:
    """A doubt where `resolution` stands beside axes of another tool, which may have meant either order."""
    size, axes = stated.resolution, placement.axes
    if size is None or len(size) != len(SPACE) or own_axes or axes is None or stated.voxel_size is not None:
        return None
    spatial = _spatial(axes)
    if spatial == "".join(sorted(spatial, key=SPACE.index)) or len(set(size)) == 1 or stated.transform is not None:
        return None
    return f"`resolution` is {show(size)} beside axes {', '.join(spatial)}; it is taken as z, y, x, as in CREMI's files"


def _spatial(axes: str | None) -> str:
    return "".join(letter for letter in axes or "" if letter in SPACE)
