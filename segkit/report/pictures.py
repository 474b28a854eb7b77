"""Pictures as SVG: the pixels as a PNG inside it, marks and scale bar as lines, sharp at any size."""

import base64
import io

import numpy as np

from segkit.picture import bar_length, length_in_words
from segkit.report.blocks import Mark, Picture


def as_svg(picture: Picture, number: int = 0) -> str:
    """The picture in true proportions. `number` tells it from others on its page."""
    rows, columns = picture.image.shape[:2]
    smallest = min(picture.pixel_size)
    height, width = rows * picture.pixel_size[0] / smallest, columns * picture.pixel_size[1] / smallest
    unit = min((width * height) ** 0.5, 1.5 * min(width, height)) / 100
    inside = [
        f'<image href="{as_data(picture.image)}" width="{width:g}" height="{height:g}" preserveAspectRatio="none"/>'
    ]
    for mark in picture.marks:
        y, x = (mark.row + 0.5) * height / rows, (mark.column + 0.5) * width / columns
        inside.append(_mark(mark, x, y, unit, width))
    if picture.scale_bar:
        inside.append(_scale_bar(width, height, columns * picture.pixel_size[1], unit))
    head = f'viewBox="0 0 {width:g} {height:g}" preserveAspectRatio="xMinYMin" '
    head += f'role="img" aria-label="{_quoted(picture.alt)}"'
    return f"<svg {head}>{''.join(inside)}</svg>"


def as_data(image: np.ndarray) -> str:
    """A PNG as the text of an address that holds it."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def as_grey(raw: np.ndarray) -> np.ndarray:
    """Raw values as uint8: 8 bits as they are, others spread between their 0.5th and 99.5th percentile."""
    if raw.dtype == np.uint8:
        return raw
    values = raw.astype(np.float32)
    low, high = np.percentile(values, (0.5, 99.5))
    return ((values - low) / max(float(high - low), 1e-12) * 255).clip(0, 255).astype(np.uint8)


def _mark(mark: Mark, x: float, y: float, unit: float, width: float) -> str:
    """A ring or a diamond, white on black so that it is seen on any colour, and its name."""
    radius = 4.2 * unit
    points = f"{x},{y - radius} {x + radius},{y} {x},{y + radius} {x - radius},{y}"
    shape = f'<polygon points="{points}"' if mark.diamond else f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{radius:.2f}"'
    lines = [
        f'{shape} fill="none" stroke="{colour}" stroke-width="{thick * unit:.2f}"/>'
        for colour, thick in (("#000", 1.7), ("#fff", 0.9))
    ]
    left = x + 14 * unit > width
    at = x - 5.2 * unit if left else x + 5.2 * unit
    baseline = max(y + 2.2 * unit, 5 * unit)
    return "".join(lines) + _words(mark.name, at, baseline, 6 * unit, "end" if left else "start")


def _scale_bar(width: float, height: float, across: float, unit: float) -> str:
    length = bar_length(across)
    left, bottom, long = 3 * unit, height - 3 * unit, length / across * width
    bar = f'<rect x="{left:.2f}" y="{bottom - 1.4 * unit:.2f}" width="{long:.2f}" height="{1.4 * unit:.2f}"'
    bar += f' fill="#fff" stroke="#000" stroke-width="{0.35 * unit:.2f}"/>'
    return bar + _words(length_in_words(length), left, bottom - 3 * unit, 5.5 * unit, "start")


def _words(text: str, x: float, y: float, size: float, anchor: str) -> str:
    place = f'x="{x:.2f}" y="{y:.2f}" font-size="{size:.2f}" text-anchor="{anchor}"'
    outline = f'stroke="#000" stroke-width="{size / 5:.2f}" stroke-linejoin="round" paint-order="stroke"'
    return f'<text {place} {outline} fill="#fff" font-family="sans-serif" font-weight="600">{_quoted(text)}</text>'


def _quoted(text: str) -> str:
    from html import escape

    return escape(text, quote=True)
