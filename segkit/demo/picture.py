"""Panels side by side in one PNG."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

GAP = 6
HEAD = 18


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture with a title."""

    title: str
    image: np.ndarray
    """uint8, (Y, X) grey or (Y, X, 3) colour."""


def colours(labels: np.ndarray) -> np.ndarray:
    """A colour for every id, the same for the same id: uint8 (Y, X, 3); 0 is black."""
    mixed = labels.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # wraps around, as a hash should
    channels = [(mixed >> np.uint64(shift)) & np.uint64(0xFF) for shift in (24, 36, 48)]
    image = np.stack(channels, axis=-1).astype(np.float32) * 0.8 + 50
    image[labels == 0] = 0
    return image.astype(np.uint8)


def save_picture(path: Path, panels: list[Panel], scale: int = 3) -> None:
    """Write the panels in a row, each pixel enlarged `scale` times."""
    from PIL import Image, ImageDraw

    height = max(panel.image.shape[0] for panel in panels) * scale
    width = sum(panel.image.shape[1] * scale + GAP for panel in panels) - GAP
    canvas = Image.new("RGB", (width, height + HEAD), "white")
    draw = ImageDraw.Draw(canvas)
    left = 0
    for panel in panels:
        rows, columns = panel.image.shape[:2]
        image = Image.fromarray(panel.image).convert("RGB")
        canvas.paste(image.resize((columns * scale, rows * scale), Image.Resampling.NEAREST), (left, HEAD))
        draw.text((left + 2, 3), panel.title, fill="black")
        left += columns * scale + GAP
    canvas.save(path)
