"""Plots by matplotlib as SVG that stands inside a page. Series differ by colour and by marker or dashes."""

import io
import re
from collections.abc import Callable
from html import escape
from itertools import count
from typing import TYPE_CHECKING

from segkit.curves import COLOURS
from segkit.report.blocks import Chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "osD^vPX"
DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1, 2)))
STYLE = {
    "axes.edgecolor": "#555",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "legend.fontsize": 8.5,
    "legend.frameon": True,
    "legend.framealpha": 0.9,
    "legend.edgecolor": "#ddd",
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "xtick.color": "#333",
    "ytick.color": "#333",
    "svg.fonttype": "none",
}
_NUMBERS = count(1)


def point(number: int) -> dict[str, object]:
    """Colour and marker of the point of this number, as matplotlib calls them."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def series(number: int) -> dict[str, object]:
    """Colour, marker and dashes of the curve of this number, as matplotlib calls them."""
    return point(number) | {"linestyle": DASHES[number % len(DASHES)]}


def finish_voi(axes: "Axes", title: str) -> None:
    """Name the axes of a plot of VOI split against VOI merge, let them begin at 0, and add the legend."""
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("VOI merge (bits): false merges")
    axes.set_ylabel("VOI split (bits): false splits")
    axes.set_title(title)
    axes.legend()


def chart(draw: Callable, alt: str, caption: str = "", size: tuple[float, float] = (4.5, 3.1)) -> Chart:
    """A chart that `draw(axes)` draws, `size` in inches."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE | {"svg.hashsalt": "segkit"}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True)
    svg = inline(file.getvalue(), f"c{next(_NUMBERS)}")
    return Chart(svg.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1), caption)


def sparse(points: int, wanted: int = 16) -> int:
    """Every how many points a marker is drawn, so that markers stay apart."""
    return max(1, points // wanted)


def inline(svg: str, prefix: str) -> str:
    """The SVG without what only a file needs, its ids beginning with `prefix`, so that those of a page differ.

    >>> inline('<?xml version="1.0"?><svg><metadata>me</metadata><g id="a"/><g id="b"/><use href="#b"/></svg>', "x")
    '<svg><g/><g id="x-b"/><use href="#x-b"/></svg>'
    """
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", svg, flags=re.S)
    svg = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    used = set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: f' id="{prefix}-{found[1]}"' if found[1] in used else "", svg)
    svg = svg.replace('href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")
    return svg.replace("font-family: 'DejaVu Sans'", "font-family: 'DejaVu Sans', sans-serif")
