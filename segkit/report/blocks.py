"""What a page is made of: sections of texts, tables, charts and pictures, which the template draws one by one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    form: ClassVar[str] = "text"
    text: str
    kind: str = ""
    """"good" or "bad" for a verdict, "small" for an aside."""


@dataclass(frozen=True)
class Code:
    """What is typed: a cell of a table, or a block of its own."""

    form: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True)
class Number:
    """A cell with a number of so many decimals."""

    form: ClassVar[str] = "number"
    value: float
    decimals: int


@dataclass(frozen=True)
class Chart:
    """A plot as SVG."""

    form: ClassVar[str] = "chart"
    svg: str
    """With a label that says in words what it shows."""
    caption: str = ""


@dataclass(frozen=True)
class Mark:
    """A place in a picture: a ring (of a split) or a diamond (of a merge) with a short name."""

    name: str
    row: float
    column: float
    diamond: bool = False


@dataclass(frozen=True, eq=False)
class Picture:
    """A section of a volume."""

    form: ClassVar[str] = "picture"
    image: np.ndarray
    """uint8, (Y, X) grey or (Y, X, 3) colour."""
    alt: str
    title: str = ""
    pixel_size: tuple[float, float] = (1.0, 1.0)
    """Edge lengths of a pixel along rows and columns, in nm: the picture is drawn in true proportions."""
    marks: tuple[Mark, ...] = ()
    scale_bar: bool = True


@dataclass(frozen=True)
class Grid:
    """Charts or pictures side by side, with a caption for all of them."""

    form: ClassVar[str] = "grid"
    items: "Sequence[Chart | Picture | Grid]"
    columns: int
    caption: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells under heads; numbers stand right, and a column of them has equal decimals."""

    form: ClassVar[str] = "table"
    heads: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    best: frozenset[tuple[int, int]] = frozenset()
    """(row, column) of the cells that are the best of their column."""

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, object]], caption: str = "", lowest: Sequence[str] = ()) -> "Table":
        """A table from mappings; the lowest number of the columns `lowest` is the best."""
        rows = list(rows)
        heads = list(dict.fromkeys(name for row in rows for name in row))
        cells = [[row.get(name, "") for name in heads] for row in rows]
        best = set()
        for name in lowest if len(rows) > 1 else ():
            values = [(row[name], k) for k, row in enumerate(rows) if isinstance(row.get(name), float)]
            best |= {(k, heads.index(name)) for value, k in values if value == min(values)[0]}
        return cls([head.replace("_", " ") for head in heads], cells, caption, frozenset(best))


Block = Text | Code | Chart | Grid | Table | Picture


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    key: str
    """What a link to it ends in."""
    title: str
    blocks: Sequence[Block] = ()
    missing: str = ""
    """Why there is nothing to show, in one line."""


@dataclass(frozen=True)
class Page:
    """A whole page."""

    title: str
    subtitle: str
    head: Sequence[Block]
    """What matters most, above the table of contents."""
    sections: Sequence[Section]
    foot: str = ""
