"""What the numbers of affinities mean to one tool or another.

A convention says four things: which edge a channel holds, at which end of the edge the value stands, whether 1 means
"same object" or "split", and the scale. Where a tool's own documents or code say so, it is a preset with a name.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import numpy as np

from segkit.data import NEAREST
from segkit.data.affinities import as_neighborhood
from segkit.errors import InvalidInput, sentence
from segkit.parameters import nearest

CHOICES = {
    "edges_at": ("start", "end"),
    "polarity": ("same", "split"),
    "scale": ("plain", "binary", "signed", "logits"),
}
SMALLEST = 2.0**-24
"""Logits of 0 and 1 are infinite: they are written as those of this and of 1 minus this."""


@dataclass(frozen=True, eq=False)
class Convention:
    """How the affinities of a file are to be read.

    >>> at_the_end = Convention([[-1, 0, 0], [0, -1, 0], [0, 0, -1]], edges_at="end")
    >>> at_the_end.offsets.tolist()
    [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    """

    neighborhood: np.ndarray
    """Offset of each channel in voxels, int64 (C, 3), always z, y, x, whatever the order of the axes in the file."""
    edges_at: str = "start"
    """`array[c, v]` is the edge v -> v + offset ("start"), or the edge v - offset -> v ("end")."""
    polarity: str = "same"
    """What 1 means: "same" object, or "split"."""
    scale: str = "plain"
    """"plain": floats 0..1, uint8 0..255, uint16 0..65535; "binary": integers 0 and 1; "signed": -1..1; "logits"."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "neighborhood", as_neighborhood(self.neighborhood))
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise InvalidInput(sentence(name, f"must be one of {', '.join(known)}", repr(getattr(self, name))))

    @property
    def offsets(self) -> np.ndarray:
        """The offset of each channel, int64 (C, 3), as seen from the voxel where the value stands."""
        return self.neighborhood if self.edges_at == "start" else -self.neighborhood

    @property
    def native(self) -> bool:
        """Whether it is the convention of :class:`segkit.data.Affinities`."""
        return (self.edges_at, self.polarity, self.scale) == ("start", "same", "plain")

    def stated(self) -> dict[str, object]:
        """All of it in words and lists, for a file."""
        return asdict(self) | {"neighborhood": self.neighborhood.tolist()}

    def check_dtype(self, dtype: np.dtype) -> None:
        """Raise InvalidInput unless arrays of `dtype` can hold the scale."""
        dtype = np.dtype(dtype)
        allowed = {"plain": dtype.kind == "f" or dtype in (np.uint8, np.uint16), "binary": dtype.kind in "buif"}
        if not allowed.get(self.scale, dtype.kind == "f"):
            named = {"plain": "floats, uint8 or uint16", "binary": "integers or floats"}.get(self.scale, "floats")
            raise InvalidInput(sentence(f"affinities of scale {self.scale!r}", f"must be {named}", dtype))

    def decode(self, values: np.ndarray) -> np.ndarray:
        """float64 in 0..1, 1 = same object, from values as they are stored."""
        same = values.astype(np.float64)
        if self.scale == "plain" and values.dtype.kind == "u":
            same /= np.iinfo(values.dtype).max
        elif self.scale == "signed":
            same = (same + 1) / 2
        elif self.scale == "logits":
            same = 1 / (1 + np.exp(-np.clip(same, -700, 700)))
        return 1 - same if self.polarity == "split" else same

    def encode(self, same: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Values as they are stored, in `dtype`, from float64 in 0..1; integers are rounded to the nearest."""
        dtype = np.dtype(dtype)
        values = 1 - same if self.polarity == "split" else same
        if self.scale == "binary":
            if not np.isin(values, (0, 1)).all():
                rule = "must be 0 or 1 to be written as scale 'binary'"
                raise InvalidInput(sentence("affinities", rule, next_step="choose the scale 'plain'"))
        elif self.scale == "signed":
            values = 2 * values - 1
        elif self.scale == "logits":
            values = np.clip(values, SMALLEST, 1 - SMALLEST)
            values = np.log(values) - np.log1p(-values)
        elif dtype.kind == "u":
            values = np.rint(values * np.iinfo(dtype).max)
        return values.astype(dtype)

    def check_range(self, values: np.ndarray) -> tuple[float, float]:
        """Least and largest of the values as they are stored. Raises InvalidInput if they leave the scale."""
        low, high = float(values.min()), float(values.max())  # both are NaN if any value is
        if low != low:
            raise InvalidInput(sentence("affinities", "must not be NaN"))
        full = np.iinfo(values.dtype).max if self.scale == "plain" and values.dtype.kind == "u" else 1
        bottom, top = {"signed": (-1, 1), "logits": (-np.inf, np.inf)}.get(self.scale, (0, full))
        if low < bottom or high > top:
            rule = f"of scale {self.scale!r} must lie in {bottom}..{top}"
            raise InvalidInput(sentence("affinities", rule, f"{low:g}..{high:g}", "state another scale"))
        return low, high


@dataclass(frozen=True)
class Preset:
    """What is known of a tool. None = differs from file to file, and must be given."""

    about: str
    """What is in such a file, in a few words."""
    reference: str
    """Where the tool says so."""
    neighborhood: tuple[tuple[int, int, int], ...] | None = None
    edges_at: str | None = "start"
    polarity: str | None = "same"
    scale: str | None = "plain"
    axes: str | None = "czyx"


REVERSED = NEAREST[::-1]
PRESETS = {
    "segkit": Preset(
        "edges at the start, 1 = same object, 0..1, 0..255 or 0..65535", "segkit.data.Affinities", axes=None
    ),
    "gunpowder": Preset(
        "gunpowder, LSD and DaCapo: as segkit, offsets as configured", "gunpowder/nodes/add_affinities.py"
    ),
    "waterz": Preset(
        "waterz: as segkit, edges to the predecessors along z, y, x", "waterz/backend/region_graph.hpp", NEAREST
    ),
    "pytorch-connectomics": Preset(
        "PyTorch Connectomics: as waterz; leaving edges repeat their neighbours", "seg_to_aff, pad='replicate'", NEAREST
    ),
    "torch-em": Preset(
        "torch-em and elf: 1 = split, offsets as configured",
        "torch_em/transform/label.py, AffinityTransform; elf/segmentation/mutex_watershed.py",
        polarity="split",
    ),
    "watershed-jl": Preset(
        "Seung lab's Watershed.jl: channels x, y, z, edges to the predecessors",
        "seung-lab/Watershed.jl, src/watershed.jl (aff[x,y,z,1] joins [x-1,y,z] and [x,y,z])",
        REVERSED,
        axes=None,
    ),
}
"""Name -> preset."""


def preset(name: str) -> Preset:
    """The preset of that name."""
    if name not in PRESETS:
        guess = nearest(name, PRESETS)
        rule = f"must be one of {', '.join(PRESETS)}"
        raise InvalidInput(sentence("the convention", rule, repr(name), guess and f"did you mean {guess!r}?"))
    return PRESETS[name]


def convention(side: str, *, name: str | None = None, stated: Mapping | None = None, **given: object) -> Convention:
    """A convention from what is `given` (None = not), else from the preset `name`, else from what the file `stated`.

    `side` is "from" or "to" and stands in messages. Raises InvalidInput for what nobody said.
    """
    known = {key: value for key, value in (stated or {}).items() if value is not None}
    if name is not None:
        known |= {key: value for key, value in vars(preset(name)).items() if value is not None}
    known |= {key: value for key, value in given.items() if value is not None}
    keys = [field.name for field in fields(Convention)]
    missing = [key for key in keys if key not in known]
    if missing:
        options = ", ".join(f"--{side}-{key.replace('_', '-')}" for key in missing)
        rule = f"is not known: nobody says its {', '.join(key.replace('_', ' ') for key in missing)}"
        next_step = f"give {options}" + ("" if name else f", or --{side} with one of {', '.join(PRESETS)}")
        raise InvalidInput(sentence("the convention of the affinities", rule, next_step=next_step))
    return Convention(**{key: known[key] for key in keys})
