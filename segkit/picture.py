"""Panels side by side, row under row, in one PNG."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

GAP = 6
HEAD = 18
"""Height of a line of text."""
PAPER = (222, 224, 230)
"""Behind the panels: neither black nor white, so that these end where they end."""


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture with a title."""

    title: str
    image: np.ndarray
    """uint8, (Y, X) grey or (Y, X, 3) colour."""


@dataclass(frozen=True, eq=False)
class Row:
    """Panels side by side."""

    panels: Sequence[Panel]
    caption: str = ""
    """A line of text above them."""


def colours(labels: np.ndarray) -> np.ndarray:
    """A colour for every id, the same for the same id: uint8 (Y, X, 3); 0 is black."""
    mixed = labels.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # wraps around, as a hash should
    channels = [(mixed >> np.uint64(shift)) & np.uint64(0xFF) for shift in (24, 36, 48)]
    image = np.stack(channels, axis=-1).astype(np.float32) * 0.8 + 50
    image[labels == 0] = 0
    return image.astype(np.uint8)


def save_picture(path: Path, rows: Sequence[Row], scale: int = 3) -> None:
    """Write the rows one under the other, each pixel enlarged `scale` times; a title that is too long is cut off."""
    from PIL import Image

    drawn = [_draw_row(row, scale) for row in rows]
    canvas = Image.new("RGB", (max(row.width for row in drawn), sum(row.height for row in drawn)), PAPER)
    top = 0
    for row in drawn:
        canvas.paste(row, (0, top))
        top += row.height
    canvas.save(path, format="PNG")


def _draw_row(row: Row, scale: int):
    from PIL import Image, ImageDraw

    top = HEAD * (2 if row.caption else 1)
    height = max(panel.image.shape[0] for panel in row.panels) * scale
    width = sum(panel.image.shape[1] * scale + GAP for panel in row.panels) - GAP
    canvas = Image.new("RGB", (width, height + top), PAPER)
    draw, left = ImageDraw.Draw(canvas), 0
    draw.text((2, 3), row.caption, fill="black")
    for panel in row.panels:
        rows, columns = panel.image.shape[:2]
        title = Image.new("RGB", (columns * scale, HEAD), PAPER)
        ImageDraw.Draw(title).text((2, 3), panel.title, fill="black")
        image = Image.fromarray(panel.image).convert("RGB")
        canvas.paste(title, (left, top - HEAD))
        canvas.paste(image.resize((columns * scale, rows * scale), Image.Resampling.NEAREST), (left, top))
        left += columns * scale + GAP
    return canvas
