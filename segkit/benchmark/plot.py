"""Curves of VOI split against VOI merge, one a backend, as a PNG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from segkit.curves import COLOURS, FINER, ticks
from segkit.errors import InvalidInput, sentence
from segkit.io.lock import writing

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

WIDTH, HEIGHT = 900, 660
LEFT, RIGHT, TOP, BOTTOM = 80, 30, 40, 70
DASHES = ((), (12, 8), (3, 6), (14, 5, 3, 5))
"""Line and gap by turns, so that curves that coincide can both be seen."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Axes:
    """From bits to pixels of the large canvas; both axes begin at 0."""

    ticks_x: tuple[float, ...]
    ticks_y: tuple[float, ...]

    def at(self, x: float, y: float) -> Point:
        """The pixel of a point."""
        across, up = x / self.ticks_x[-1], y / self.ticks_y[-1]
        left = LEFT + across * (WIDTH - LEFT - RIGHT)
        return FINER * left, FINER * (HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM))


def save_plot(path: str | Path, curves: Mapping[str, Sequence[Mapping[str, float]]], title: str = "") -> None:
    """Write the curves, label -> rows with `voi_merge`, `voi_split` (bits) and `threshold`, to a PNG.

    The lower left is good; along a curve the threshold rises from few merges (upper left) to many (lower right).
    """
    from PIL import Image, ImageDraw

    rows = [row for curve in curves.values() for row in curve]
    if not rows:
        raise InvalidInput(sentence("a plot", "needs at least one curve", next_step="see why the backends failed"))
    axes = Axes(ticks(max(row["voi_merge"] for row in rows)), ticks(max(row["voi_split"] for row in rows)))
    image = Image.new("RGB", (FINER * WIDTH, FINER * HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    _draw_axes(draw, image, axes, title)
    for k, curve in enumerate(curves.values()):
        _draw_curve(draw, axes, curve, COLOURS[k % len(COLOURS)], DASHES[k % len(DASHES)])
    _draw_thresholds(draw, axes, next(iter(curves.values())))
    _draw_legend(draw, list(curves))
    with writing(Path(path)) as temporary:
        image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(temporary, format="PNG")


def _font(size: int) -> "FreeTypeFont | ImageFont":
    from PIL import ImageFont

    return ImageFont.load_default(FINER * size)


def _draw_axes(draw: "ImageDraw", image: "Image", axes: Axes, title: str) -> None:
    for x in axes.ticks_x:
        low, high = axes.at(x, 0), axes.at(x, axes.ticks_y[-1])
        draw.line((low, high), fill="#e4e4e4", width=FINER)
        draw.text((low[0], low[1] + 12), f"{x:g}", fill="black", font=_font(13), anchor="ma")
    for y in axes.ticks_y:
        left, right = axes.at(0, y), axes.at(axes.ticks_x[-1], y)
        draw.line((left, right), fill="#e4e4e4", width=FINER)
        draw.text((left[0] - 12, left[1]), f"{y:g}", fill="black", font=_font(13), anchor="rm")
    corners = [axes.at(0, axes.ticks_y[-1]), axes.at(0, 0), axes.at(axes.ticks_x[-1], 0)]
    draw.line(corners, fill="black", width=2 * FINER)
    middle = FINER * (LEFT + WIDTH - RIGHT) / 2
    draw.text((middle, FINER * (HEIGHT - 20)), "VOI merge (bits)", fill="black", font=_font(15), anchor="ms")
    draw.text((FINER * LEFT, FINER * 24), title, fill="black", font=_font(14), anchor="ls")
    _draw_upwards(image, "VOI split (bits)", (FINER * 8, int(FINER * (TOP + HEIGHT - BOTTOM) / 2)))


def _draw_upwards(image: "Image", text: str, left_middle: tuple[int, int]) -> None:
    """Text that reads from below to above."""
    from PIL import Image, ImageDraw

    font = _font(15)
    _, _, width, height = font.getbbox(text)
    strip = Image.new("RGB", (int(width) + 4, int(height) + 4), "white")
    ImageDraw.Draw(strip).text((2, 2), text, fill="black", font=font)
    strip = strip.rotate(90, expand=True)
    image.paste(strip, (left_middle[0], left_middle[1] - strip.height // 2))


def _draw_curve(
    draw: "ImageDraw", axes: Axes, rows: Sequence[Mapping[str, float]], colour: str, dashes: Sequence[int]
) -> None:
    points = [axes.at(row["voi_merge"], row["voi_split"]) for row in rows]
    _draw_line(draw, points, colour, dashes)
    radius = 4 * FINER
    for x, y in points:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour, width=2 * FINER)


def _draw_thresholds(draw: "ImageDraw", axes: Axes, rows: Sequence[Mapping[str, float]]) -> None:
    """The threshold beside each point, where there is room."""
    last = (-math.inf, -math.inf)
    for row in rows:
        x, y = axes.at(row["voi_merge"], row["voi_split"])
        if math.dist((x, y), last) > 12 * FINER:
            draw.text((x + 16, y - 16), f"{row['threshold']:g}", fill="#666666", font=_font(11), anchor="ls")
            last = (x, y)


def _draw_line(draw: "ImageDraw", points: Sequence[Point], colour: str, dashes: Sequence[int]) -> None:
    """A line through all points, in dashes that run on from one piece to the next."""
    lengths = [float(FINER * length) for length in dashes] or [math.inf]
    k, left = 0, lengths[0]
    for (x0, y0), (x1, y1) in pairwise(points):
        whole, done = math.hypot(x1 - x0, y1 - y0), 0.0
        while done < whole:
            step = min(left, whole - done)
            ends = [(x0 + (x1 - x0) * part / whole, y0 + (y1 - y0) * part / whole) for part in (done, done + step)]
            if k % 2 == 0:
                draw.line(ends, fill=colour, width=2 * FINER)
            done, left = done + step, left - step
            if left <= 0:
                k += 1
                left = lengths[k % len(lengths)]


def _draw_legend(draw: "ImageDraw", labels: Sequence[str]) -> None:
    font = _font(14)
    width = max(draw.textlength(label, font=font) for label in labels) / FINER
    left = WIDTH - RIGHT - width - 70
    box = (left - 10, TOP + 4, WIDTH - RIGHT - 6, TOP + 16 + 22 * len(labels))
    draw.rectangle([FINER * edge for edge in box], fill="white", outline="#bbbbbb", width=FINER)
    for k, label in enumerate(labels):
        y = FINER * (TOP + 20 + 22 * k)
        ends = [(FINER * left, y), (FINER * (left + 44), y)]
        _draw_line(draw, ends, COLOURS[k % len(COLOURS)], DASHES[k % len(DASHES)])
        draw.text((FINER * (left + 54), y), label, fill="black", font=font, anchor="lm")
