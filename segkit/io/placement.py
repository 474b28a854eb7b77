"""Where the voxels of an array lie, as its file states it, and the units of length."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from segkit.data import Grid
from segkit.errors import InvalidInput, sentence

SPACE = "zyx"
_SCALES = {
    "yocto": 1e-15,
    "zepto": 1e-12,
    "atto": 1e-9,
    "femto": 1e-6,
    "pico": 1e-3,
    "nano": 1.0,
    "micro": 1e3,
    "milli": 1e6,
    "centi": 1e7,
    "deci": 1e8,
    "": 1e9,
    "deca": 1e10,
    "hecto": 1e11,
    "kilo": 1e12,
    "mega": 1e15,
    "giga": 1e18,
}
_SHORT = {
    1e-3: "pm",
    1e-1: "angstrom angstroms ångström ångstrom å",
    1.0: "nm nanom",
    1e3: "um µm μm micron microns",
    1e6: "mm",
    1e7: "cm",
    25.4e6: "inch inches in",
    304.8e6: "foot feet",
    914.4e6: "yard yards",
    1e9: "m",
    1e12: "km",
}
NANOMETERS = {name: factor for factor, names in _SHORT.items() for name in names.split()}
NANOMETERS |= {
    f"{prefix}{word}{s}": factor for prefix, factor in _SCALES.items() for word in ("meter", "metre") for s in ("", "s")
}
"""Unit of length, in small letters -> nanometers."""
NO_UNITS = ("", "pixel", "pixels", "px", "voxel", "voxels", "none", "null", "unit", "units", "dimensionless", "1")
"""What stands for no unit at all."""
LETTERS = {
    **dict.fromkeys(("z", "depth", "plane", "section", "slice", "sections", "slices"), "z"),
    **dict.fromkeys(("y", "height", "row", "rows"), "y"),
    **dict.fromkeys(("x", "width", "column", "columns", "col"), "x"),
    **dict.fromkeys(("c", "channel", "channels", "ch", "offset", "offsets"), "c"),
    **dict.fromkeys(("t", "time", "times", "frame", "frames"), "t"),
}
"""Name of an axis, in small letters -> its letter."""

Triple = tuple[float, float, float]


def nanometers(unit: object) -> float | None:
    """The length of a unit in nanometers, however it is spelt; None for what stands for no unit.

    Raises InvalidInput for what is no unit of length.

    >>> nanometers("Micrometer"), nanometers("µm"), nanometers(" "), nanometers("pixel")
    (1000.0, 1000.0, None, None)
    """
    if unit is None:
        return None
    word = str(unit).strip().replace("\\u00B5", "µ").casefold() if isinstance(unit, str) else repr(unit)
    if word in NO_UNITS:
        return None
    word = "um" if word in ("µm", "μm") else word  # casefold makes one letter of the two
    if word not in NANOMETERS:
        next_step = "`segkit convert --voxel-size Z Y X` (nm) says the size in its place"
        raise InvalidInput(sentence("unit", "must be a unit of length such as nm or um", repr(unit), next_step))
    return NANOMETERS[word]


def axis_letters(names: object) -> str | None:
    """Names of axes as one word of letters; None where they name nothing, as in dim_0, dim_1.

    Letters other than z, y, x, c and t are "?".

    >>> axis_letters(["Z", "y", "x"]), axis_letters("xyz"), axis_letters(["c^", "z", "y", "x"]), axis_letters(["dim_0"])
    ('zyx', 'xyz', 'czyx', None)
    >>> axis_letters("x y z"), axis_letters([{"name": "x"}, {"name": "y"}, {"name": "z"}])
    ('xyz', 'xyz')
    """
    if isinstance(names, list | tuple) and len(names) == 1:
        (names,) = names
    if isinstance(names, str):
        words = re.findall(r"[\w^]+", names)
        names = words if len(words) != 1 else list(words[0])
    if not isinstance(names, list | tuple) or not names:
        return None
    names = [name.get("name") if isinstance(name, Mapping) else name for name in names]
    letters = "".join(LETTERS.get(str(name).strip().strip("^").casefold(), "?") for name in names)
    return None if not set(SPACE) & set(letters) else letters


@dataclass(frozen=True)
class Placement:
    """What a file says of where the voxels of an array lie."""

    axes: str | None = None
    """A letter for each axis of the array in order: z, y, x, c (channels), t (times), "?" (whatever else)."""
    voxel_size: Triple | None = None
    """Nanometers along z, y, x."""
    offset: Triple | None = None
    """Place of the corner of the first voxel, nanometers along z, y, x."""
    doubts: tuple[str, ...] = ()
    """What is followed with a warning: each completes "... says"."""
    certain: bool = True
    """Whether the voxel size has a unit. Without, numbers are taken as nanometers, and the caller may say another."""
    supposed: str | None = None
    """The axes that the voxel size was taken to be along, a number for each, where nobody states them."""
    refusal: InvalidInput | None = None
    """Why what the file says of the voxel size cannot be followed."""

    def grid(self) -> Grid:
        """The grid in nanometers; voxels are 1 nm long where none is stated. Raises what must be refused."""
        if self.refusal is not None:
            raise self.refusal
        return Grid(self.voxel_size or (1.0, 1.0, 1.0), self.offset or (0.0, 0.0, 0.0))


def show(numbers: Sequence[float]) -> str:
    """Numbers for a message."""
    return "(" + ", ".join(f"{number:g}" for number in numbers) + ")"
