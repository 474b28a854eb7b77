"""Curves of numbers over steps, drawn without a library for plots."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#222222")
"""Okabe and Ito's, which the colour-blind can tell apart."""
FINER = 2
"""Drawn this many times larger and scaled down, for smooth lines."""
LEFT, RIGHT, TOP, BOTTOM = 52, 18, 30, 26
BEGIN = 0.1
"""Part of the steps whose values may reach beyond the top: losses fall from a height that would flatten the rest."""
FEW = 40
"""Points of a curve up to which each has a dot."""


def ticks(highest: float, wanted: int = 6) -> tuple[float, ...]:
    """Round numbers from 0 to at least `highest`, about `wanted` of them.

    >>> ticks(2.3)
    (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)
    """
    highest = max(highest, 1e-3)
    rough = highest / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return tuple(round(step * k, 12) for k in range(math.ceil(highest / step - 1e-9) + 1))


def draw_curves(curves: Mapping[str, Sequence[tuple[float, float]]], width: int, height: int) -> np.ndarray:
    """Curves, name -> (step, value), in one plot: uint8 (height, width, 3).

    The axes begin at 0, or below it where values do; the names stand above, with the last values. Values that are not
    finite are left out.
    """
    from PIL import Image, ImageDraw

    finite = {name: [point for point in curve if math.isfinite(point[1])] for name, curve in curves.items()}
    points = [point for curve in finite.values() for point in curve]
    across = ticks(max((x for x, _ in points), default=1))
    low, high = _range(points)
    image = Image.new("RGB", (FINER * width, FINER * height), "white")
    draw = ImageDraw.Draw(image)
    inner = (LEFT, TOP, width - RIGHT, height - BOTTOM)

    def at(x: float, y: float) -> tuple[float, float]:
        right = x / across[-1]
        up = min(max((y - low[-1]) / (high[-1] - low[-1]), 0), 1)
        return FINER * (LEFT + right * (inner[2] - LEFT)), FINER * (inner[3] - up * (inner[3] - TOP))

    for x in across:
        draw.line((at(x, low[-1]), at(x, high[-1])), fill="#e4e4e4", width=FINER)
        _write(draw, at(x, low[-1]), (0, 5), f"{x:g}", "black", "ma")
    for y in (*low[1:], *high):
        draw.line((at(0, y), at(across[-1], y)), fill="#e4e4e4" if y else "black", width=FINER)
        _write(draw, at(0, y), (-6, 0), f"{y:g}", "black", "rm")
    left: float = FINER * LEFT
    for colour, (name, curve) in zip(COLOURS, finite.items(), strict=False):
        line = [at(*point) for point in curve]
        draw.line(line, fill=colour, width=2 * FINER, joint="curve")
        for x, y in line if len(line) <= FEW else line[-1:]:
            draw.ellipse((x - 2.5 * FINER, y - 2.5 * FINER, x + 2.5 * FINER, y + 2.5 * FINER), fill=colour)
        label = f"{name} {curve[-1][1]:.3f}" if curve else f"{name}: none yet"
        left += _write(draw, (left, 0), (0, 8), label, colour, "la") + 18 * FINER
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))


def _range(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Ticks from 0 down and from 0 up, such that all values but those of the beginning lie between their ends."""
    last = max((x for x, _ in points), default=0)
    values = [y for x, y in points if x >= BEGIN * last] or [1.0]
    least = min(values)
    return tuple(-tick for tick in ticks(-least, 3)) if least < 0 else (0.0,), ticks(max(values), 4)


def _write(
    draw: "ImageDraw", place: tuple[float, float], shift: tuple[int, int], text: str, colour: str, anchor: str
) -> float:
    """Write `text`, and return its width."""
    from PIL import ImageFont

    font = ImageFont.load_default(FINER * 12)
    draw.text((place[0] + FINER * shift[0], place[1] + FINER * shift[1]), text, fill=colour, font=font, anchor=anchor)
    return draw.textlength(text, font=font)
