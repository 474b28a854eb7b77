"""The sections that show voxels: cuts through the volume in matched colours, and the worst mistakes close up."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from segkit.picture import affinity_colours, colours, matched_colours, overlay, shortest_channels
from segkit.report.blocks import Block, Code, Grid, Mark, Picture, Section, Table, Text
from segkit.report.facts import Facts, Found
from segkit.report.pictures import as_grey
from segkit.report.scores import lacking

PLANES = {"xy": (0, 1, 2), "xz": (1, 0, 2)}
"""Plane -> the axis across it, the axes along rows and columns."""
NEAR = 2
"""Sections off a cut in which a mistake is still marked in it."""
AROUND = 32
"""Voxels of a close-up on each side of the mistake, at most."""
TONES = ("red", "green", "blue")
"""Colours of affinities along z, y and x."""
OPAQUE = 0.45
"""How much of a pixel is the colour of its segment, and not raw data."""


@dataclass(frozen=True)
class Cut:
    """A plane through the box, or a part of it."""

    plane: str
    part: tuple[slice, slice, slice]

    @property
    def across(self) -> int:
        """The axis that it cuts."""
        return PLANES[self.plane][0]

    def pixel_size(self, voxel_size: tuple[float, float, float]) -> tuple[float, float]:
        """Edge lengths of a pixel along rows and columns."""
        _, rows, columns = PLANES[self.plane]
        return voxel_size[rows], voxel_size[columns]

    def flat(self, values: np.ndarray) -> np.ndarray:
        """Values of the part, (..., Z, Y, X) or (Z, Y, X, 3), without the axis that it cuts."""
        return np.take(values, 0, axis=self.across)

    def mark(self, found: Found, voxel: tuple[int, ...], centre: bool = False) -> Mark:
        """Where a voxel of the box is in the picture."""
        _, rows, columns = PLANES[self.plane]
        row, column = (voxel[axis] - self.part[axis].start for axis in (rows, columns))
        return Mark("" if centre else found.name, row, column, found.is_merge)


class Painter:
    """Paints cuts: raw data, affinities, and labels in colours that match those of the truth."""

    def __init__(self, facts: Facts) -> None:
        self.facts, self.scene = facts, facts.scene

    @cached_property
    def coloured(self) -> Mapping[str, np.ndarray]:
        """A colour for each voxel of the labels that are shown, uint8 (Z, Y, X, 3)."""
        names = [name for name in ("fragments", self.facts.main) if name and self.scene.has(name)]
        labels = {name: self.scene.labels(name).array for name in names}
        if not self.scene.has("truth"):
            return {name: colours(array) for name, array in labels.items()}
        truth = self.scene.labels("truth").array
        return {name: matched_colours(array, truth) for name, array in labels.items()} | {"truth": colours(truth)}

    @property
    def of_affinities(self) -> str:
        """What the colours of the affinities stand for."""
        along = shortest_channels(self._neighborhood)
        axes, tones = ["zyx"[axis] for axis in along], [TONES[axis] for axis in along]
        return f"affinities: {', '.join(axes)} as {', '.join(tones)}"

    def panels(self, cut: Cut, names: Mapping[str, str], marks: tuple[Mark, ...], where: str) -> list[Picture]:
        """A picture of each volume that is there, by name with its title."""
        size, known = cut.pixel_size(self.scene.grid.voxel_size), [name for name in names if self.scene.has(name)]
        return [
            Picture(self._image(name, cut), f"{names[name]}, {where}", names[name], size, marks, name == known[0])
            for name in known
        ]

    def closeup(self, cut: Cut, found: Found, where: str) -> list[Picture]:
        """The segments and the objects of a mistake, in colour, and nothing else."""
        group, parts = [found.mistake.id], [part for part, _ in found.mistake.parts]
        assert self.facts.main is not None
        chosen = {self.facts.main: group if found.is_merge else parts, "truth": parts if found.is_merge else group}
        size, marks = cut.pixel_size(self.scene.grid.voxel_size), (cut.mark(found, _in_box(found), centre=True),)
        pictures = []
        for name, ids in chosen.items():
            title = "truth" if name == "truth" else "segments"
            image = self._image(name, cut, np.array(ids, np.uint64))
            pictures.append(Picture(image, f"{title}, {where}", title, size, marks, name != "truth"))
        return pictures

    def _image(self, name: str, cut: Cut, ids: np.ndarray | None = None) -> np.ndarray:
        """A volume; of labels those `ids` alone, if they are given."""
        if name == "raw":
            return self._raw(cut)
        if name == "affinities":
            return self._affinities(cut)
        coloured = cut.flat(self.coloured[name][cut.part])
        if ids is not None:
            shown = np.isin(cut.flat(self.scene.labels(name).array[cut.part]), ids)
            coloured = np.where(shown[..., None], coloured, np.uint8(0))
        return overlay(self._raw(cut), coloured, OPAQUE) if self.scene.has("raw") else coloured

    def _raw(self, cut: Cut) -> np.ndarray:
        return as_grey(cut.flat(self.scene.layer("raw").read(cut.part)))

    def _affinities(self, cut: Cut) -> np.ndarray:
        return cut.flat(affinity_colours(self.scene.layer("affinities").read(cut.part), self._neighborhood))

    @property
    def _neighborhood(self) -> np.ndarray:
        offsets = self.scene.found["affinities"].neighborhood
        assert offsets is not None
        return offsets


def sections(facts: Facts) -> Section:
    """A cut in the section plane and one across the sections, through mistakes if there are any."""
    key, title = "sections", "Sections"
    if not any(facts.scene.has(name) for name in ("raw", "affinities", "truth", facts.main or "raw")):
        return Section(key, title, missing="no volume was found")
    painter = Painter(facts)
    blocks: list[Block] = [Text(_legend(facts))]
    names = {"raw": "raw"} | ({"affinities": painter.of_affinities} if facts.scene.has("affinities") else {})
    names |= {"fragments": "fragments"}
    names |= {facts.main: _title(facts.main)} if facts.main else {}
    names |= {"truth": "truth"}
    for plane in PLANES:
        cut, found = _choose(facts, plane)
        axis, at = "zyx"[cut.across], cut.part[cut.across].start + facts.scene.start[cut.across]
        where = f"{plane} cut at {axis} = {at}"
        marks = tuple(cut.mark(each, _in_box(each)) for each in found)
        pictures = painter.panels(cut, names, marks, where)
        blocks.append(Grid(pictures, _columns(pictures), where + (_marked(found) if found else "")))
    return Section(key, title, blocks)


def mistakes(facts: Facts) -> Section:
    """The worst splits and merges: a table, and each of them close up."""
    key, title = "mistakes", "The worst mistakes"
    if missing := lacking(facts, "truth"):
        return Section(key, title, missing=missing)
    if facts.main is None:
        return Section(key, title, missing="no segmentation was found; --segmentation names one")
    if not facts.mistakes:
        return Section(key, title, [Text("None: the segmentation is the truth, but for the ids.", "good")])
    painter = Painter(facts)
    closeups = [
        Grid(painter.closeup(_around(facts, found), found, f"{found.name}, xy cut"), 2, _closeup(found))
        for found in facts.mistakes
    ]
    blocks: list[Block] = [
        Text(f"Of {facts.main}. " + _explained()),
        Table.of([_row(facts, found) for found in facts.mistakes]),
        Code("\n".join(command(facts, found) for found in facts.mistakes)),
        Text("These commands open each place in a viewer. Close up, with nothing but what is concerned in colour:"),
    ]
    return Section(key, title, [*blocks, Grid(closeups, 2)])


def command(facts: Facts, found: Found) -> str:
    """What one types to look at a mistake."""
    place = ",".join(f"{at:g}" for at in found.mistake.position)
    return f"segkit view {facts.sources.folder} --at {place}nm  # {found.name}"


def _columns(pictures: list[Picture]) -> int:
    """How many pictures fit side by side: few flat ones, many tall ones."""
    rows, columns = pictures[0].image.shape[:2]
    high, wide = pictures[0].pixel_size
    proportion = columns * wide / (rows * high)
    return 2 if proportion > 2 else 5 if proportion < 0.6 else 3


def _choose(facts: Facts, plane: str) -> tuple[Cut, list[Found]]:
    """The cut near which the mistakes weigh most, the middle one if there are none; and those mistakes."""
    across, shape = PLANES[plane][0], facts.scene.shape
    known = facts.mistakes if facts.scene.has("truth") and facts.main else []
    at = shape[across] // 2

    def near(position: int) -> list[Found]:
        return [each for each in known if abs(_in_box(each)[across] - position) <= NEAR]

    places = sorted({_in_box(each)[across] for each in known}, key=lambda place: abs(place - at))
    at = max(places, key=lambda place: sum(each.mistake.bits for each in near(place)), default=at)
    part = [slice(0, size) for size in shape]
    part[across] = slice(at, at + 1)
    return Cut(plane, (part[0], part[1], part[2])), near(at)


def _around(facts: Facts, found: Found) -> Cut:
    """A small xy cut through a mistake, of equal size wherever it lies."""
    z, *place = _in_box(found)
    window = []
    for at, size in zip(place, facts.scene.shape[1:], strict=True):
        start = min(max(at - AROUND, 0), max(size - 2 * AROUND, 0))
        window.append(slice(start, min(start + 2 * AROUND, size)))
    return Cut("xy", (slice(z, z + 1), window[0], window[1]))


def _in_box(found: Found) -> tuple[int, int, int]:
    return found.mistake.voxel


def _voxel(facts: Facts, found: Found) -> str:
    """The voxel of a mistake in the whole volume."""
    return ", ".join(str(at + start) for at, start in zip(_in_box(found), facts.scene.start, strict=True))


def _row(facts: Facts, found: Found) -> dict[str, object]:
    mistake = found.mistake
    what = "merge of objects" if found.is_merge else "split of an object"
    parts = ", ".join(f"{part} ({voxels})" for part, voxels in mistake.parts)
    position = ", ".join(f"{at:g}" for at in mistake.position)
    return {
        "": found.name,
        "mistake": what,
        "bits": mistake.bits,
        "id": str(mistake.id),
        "made of (voxels)": parts,
        "voxel z, y, x": _voxel(facts, found),
        f"position ({facts.scene.grid.unit})": position,
    }


def _closeup(found: Found) -> str:
    parts = " and ".join(str(part) for part, _ in found.mistake.parts[:2])
    if found.is_merge:
        return f"{found.name}: segment {found.mistake.id} joins objects {parts}; {found.mistake.bits:.3f} bits"
    return f"{found.name}: object {found.mistake.id} is cut into segments {parts}; {found.mistake.bits:.3f} bits"


def _explained() -> str:
    return (
        "S are splits, objects in several segments, and M are merges, segments that join several objects; with what "
        "each adds to VOI split or VOI merge, and a voxel of its second largest part, at the border of the largest if "
        "they touch."
    )


def _title(name: str | None) -> str:
    return "segmentation" if name == "segmentation" else f"segmentation: {name}"


def _legend(facts: Facts) -> str:
    if not facts.scene.has("truth"):
        return "A colour for each id, the same in all pictures of a volume; raw data shine through."
    return (
        "Colours match: the largest segment of an object has the colour of the object in the truth, further segments "
        "have others. So an object in several colours is split, and one colour over several objects is a merge. Raw "
        "data shine through."
    )


def _marked(found: list[Found]) -> str:
    names = ", ".join(each.name for each in found)
    return f". Marked: {names}, splits by rings, merges by diamonds, at most {NEAR} sections off"
