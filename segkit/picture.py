"""Panels side by side, row under row, in one PNG: colours of labels, overlays, true proportions, scale bars."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

GAP = 6
HEAD = 18
"""Height of a line of text."""
TEXT = 13
"""Height of letters."""
BAR = 5
"""Height of a scale bar."""
PAPER = (222, 224, 230)
"""Behind the panels: neither black nor white, so that these end where they end."""
OUTSIDE = np.uint64(2**64 - 2)
"""The first of the two ids that stand where nobody annotated."""
CHOICES = 8
"""Colours among which a further piece of an object gets the one that is least like the object's."""


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture with a title."""

    title: str
    image: np.ndarray
    """uint8, (Y, X) grey or (Y, X, 3) colour."""
    voxel_size: tuple[float, float] | None = None
    """Edge lengths of a pixel along rows and columns, in nm; the panel is stretched to true proportions."""
    scale_bar: bool = False
    """Whether a scale bar is drawn; needs `voxel_size`."""


@dataclass(frozen=True, eq=False)
class Row:
    """Panels side by side."""

    panels: Sequence[Panel]
    caption: str = ""
    """A line of text above them."""
    scale: int | None = None
    """How much its pixels are enlarged; None: as those of all rows."""


def colours(labels: np.ndarray) -> np.ndarray:
    """A colour for every id, the same for the same id: uint8 (..., 3); 0 and what is not annotated are black."""
    image = _mixed(labels.astype(np.uint64))
    image[(labels == 0) | (labels.astype(np.uint64) >= OUTSIDE)] = 0
    return image


def matched_colours(segmentation: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Colours of a segmentation by which its errors are seen beside ``colours(truth)``: uint8 (..., 3); 0 is black.

    The largest piece of an object, the segment that overlaps it most, has the colour of the object; further pieces have
    clearly other ones. The largest piece of several objects, a merger, has one colour, of the object that it overlaps
    most. Ties go by the lowest id. Both are labels of one shape; match whole volumes, then draw a section.
    """
    own, others = segmentation.astype(np.uint64).ravel(), truth.astype(np.uint64).ravel()
    starts = np.flatnonzero(np.append(True, (own[1:] != own[:-1]) | (others[1:] != others[:-1])))
    lengths = np.diff(np.append(starts, own.size))  # of runs: far fewer than voxels
    segments, rows = np.unique(own[starts], return_inverse=True)
    objects, columns = np.unique(others[starts], return_inverse=True)
    pairs, entries = np.unique(rows * len(objects) + columns, return_inverse=True)
    counts = np.bincount(entries, weights=lengths).astype(np.int64)
    rows_of_pairs, columns_of_pairs = np.divmod(pairs, len(objects))
    counted = (segments[rows_of_pairs] != 0) & (objects[columns_of_pairs] != 0) & (objects[columns_of_pairs] < OUTSIDE)
    table = np.stack([rows_of_pairs, columns_of_pairs, counts])[:, counted]
    palette = _palette(segments, colours(objects), table)
    return np.repeat(palette[rows], lengths, axis=0).reshape(*segmentation.shape, 3)


def _palette(segments: np.ndarray, of_objects: np.ndarray, table: np.ndarray) -> np.ndarray:
    """A colour for each segment, uint8 (S, 3), from those of the objects and what they share.

    `table` are rows (segments), columns (objects) and voxels, int64 (3, N).
    """
    nearest = np.zeros((len(segments), 3), np.int64)
    most = _largest(table, of=0)
    nearest[most[0]] = of_objects[most[1]]
    choices = np.stack([_mixed(segments + np.uint64(k << 32)) for k in range(1, CHOICES + 1)])
    farthest = np.abs(choices - nearest).sum(axis=-1).argmax(axis=0)
    palette = choices[farthest, np.arange(len(segments))]
    whole = _largest(_largest(table, of=1), of=0)
    palette[whole[0]] = of_objects[whole[1]]
    palette[segments == 0] = 0
    return palette


def _largest(table: np.ndarray, of: int) -> np.ndarray:
    """The columns of a table (rows, columns, voxels) with the most voxels for each value of its line `of`."""
    table = table[:, np.lexsort((table[1 - of], -table[2], table[of]))]
    return table[:, np.unique(table[of], return_index=True)[1]]


def _mixed(ids: np.ndarray) -> np.ndarray:
    mixed = ids * np.uint64(0x9E3779B97F4A7C15)  # wraps around, as a hash should
    channels = [(mixed >> np.uint64(shift)) & np.uint64(0xFF) for shift in (24, 36, 48)]
    return (np.stack(channels, axis=-1).astype(np.float32) * 0.8 + 50).astype(np.uint8)


def affinity_colours(affinities: np.ndarray, neighborhood: np.ndarray) -> np.ndarray:
    """Affinities along z, y and x as red, green and blue: uint8 (..., 3), from float (C, ...) in 0..1.

    Of several offsets along an axis the shortest counts; an axis without any is black.
    """
    image = np.zeros((*affinities.shape[1:], 3), np.uint8)
    for axis, channel in shortest_channels(neighborhood).items():
        image[..., axis] = np.rint(affinities[channel] * 255)
    return image


def shortest_channels(neighborhood: np.ndarray) -> dict[int, int]:
    """Axis -> the channel of the shortest offset along it and no other, for the axes that have one.

    >>> shortest_channels(np.array([[0, -9, 0], [0, -1, 0], [0, 0, 1], [1, 1, 0]]))
    {1: 1, 2: 2}
    """
    found = {}
    for axis in range(3):
        along = [c for c, offset in enumerate(neighborhood) if np.flatnonzero(offset).tolist() == [axis]]
        if along:
            found[axis] = min(along, key=lambda c: abs(neighborhood[c][axis]))
    return found


def overlay(raw: np.ndarray, coloured: np.ndarray, alpha: float = 0.35) -> np.ndarray:
    """The colours of labels, uint8 (Y, X, 3), over grey `raw`, uint8 (Y, X): uint8 (Y, X, 3).

    Black, the background, is transparent; boundaries, one pixel wide, are not transparent at all.
    """
    inside = np.asarray(coloured.any(axis=-1))
    edge = np.zeros(inside.shape, bool)
    for first, second in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        changes = (coloured[first] != coloured[second]).any(axis=-1)
        edge[first] |= changes & inside[first]
        edge[second] |= changes & ~inside[first]
    weight = np.where(edge, 1.0, np.where(inside, alpha, 0.0))[..., None]
    return (raw[..., None] * (1 - weight) + coloured * weight).round().astype(np.uint8)


def bar_length(width: float) -> float:
    """The length of a scale bar for a panel of `width` nm: the round number nearest to a quarter of it.

    >>> bar_length(1000), bar_length(5120), bar_length(40)
    (200, 1000, 10)
    """
    wanted = width / 4
    power = 10 ** math.floor(math.log10(wanted))
    return min((factor * power for factor in (1, 2, 5, 10)), key=lambda length: abs(math.log(length / wanted)))


def length_in_words(length: float) -> str:
    """A length in nm with the unit that people use for it.

    >>> length_in_words(500), length_in_words(2000)
    ('500 nm', '2 µm')
    """
    return f"{length:g} nm" if length < 1000 else f"{length / 1000:g} µm"


def save_picture(path: Path, rows: Sequence[Row], scale: int = 3) -> None:
    """Write the rows one under the other, each pixel enlarged `scale` times; a title that is too long is cut off.

    Of a panel with a voxel size the shorter edge of pixels is enlarged `scale` times, and the longer one in proportion.
    """
    draw_rows(rows, scale).save(path, format="PNG")


def draw_rows(rows: Sequence[Row], scale: int = 1) -> "Image":
    """The picture that :func:`save_picture` writes, as a PIL image in RGB."""
    from PIL import Image

    drawn = [_draw_row(row, row.scale or scale) for row in rows]
    canvas = Image.new("RGB", (max(row.width for row in drawn), sum(row.height for row in drawn)), PAPER)
    top = 0
    for row in drawn:
        canvas.paste(row, (0, top))
        top += row.height
    return canvas


def _draw_row(row: Row, scale: int) -> "Image":
    from PIL import Image, ImageDraw

    top = HEAD * (bool(row.caption) + any(panel.title for panel in row.panels)) or GAP
    drawn = [_draw_panel(panel, scale) for panel in row.panels]
    width = sum(image.width + GAP for image in drawn) - GAP
    canvas = Image.new("RGB", (width, max(image.height for image in drawn) + top), PAPER)
    _write(ImageDraw.Draw(canvas), (2, 2), row.caption)
    left = 0
    for panel, image in zip(row.panels, drawn, strict=True):
        if panel.title:
            title = Image.new("RGB", (image.width, HEAD), PAPER)
            _write(ImageDraw.Draw(title), (2, 2), panel.title)
            canvas.paste(title, (left, top - HEAD))
        canvas.paste(image, (left, top))
        left += image.width + GAP
    return canvas


def _draw_panel(panel: Panel, scale: int) -> "Image":
    """The panel enlarged, stretched to the proportions of the world, with its scale bar."""
    from PIL import Image

    size = panel.voxel_size or (1.0, 1.0)
    height, width = (
        max(1, round(n * scale * edge / min(size))) for n, edge in zip(panel.image.shape, size, strict=False)
    )
    image = Image.fromarray(panel.image).convert("RGB").resize((width, height), Image.Resampling.NEAREST)
    if panel.scale_bar and panel.voxel_size:
        _draw_scale_bar(image, panel.image.shape[1] * panel.voxel_size[1])
    return image


def _draw_scale_bar(image: "Image", across: float) -> None:
    """Draw a bar and its length into the lower left of an image that is `across` nm wide."""
    from PIL import ImageDraw

    length = bar_length(across)
    left, bottom = 2 * GAP, image.height - 2 * GAP
    right = left + round(length / across * image.width) - 1
    draw = ImageDraw.Draw(image)
    draw.rectangle((left - 2, bottom - BAR - 1, right + 2, bottom + 2), fill="black")
    draw.rectangle((left, bottom - BAR + 1, right, bottom), fill="white")
    _write(draw, (left, bottom - BAR - TEXT - 5), length_in_words(length), fill="white", stroke_width=2)


def _write(draw: "ImageDraw", place: tuple[int, int], text: str, fill: str = "black", stroke_width: int = 0) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(TEXT)
    draw.text(place, text, fill=fill, font=font, stroke_width=stroke_width, stroke_fill="black")
