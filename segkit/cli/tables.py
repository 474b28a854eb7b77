"""Tables as plain text that fits the width at hand: no number is cut, and none broken over lines."""

import re
import shutil
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

GAP = "  "
"""Between two columns."""
PROSE = 20
"""Cells with spaces that are longer than this many characters are prose: they may be broken, but not narrower."""
TURNED = 4
"""Up to so many rows, a table that is too wide is turned rather than split."""


@dataclass(frozen=True)
class Column:
    """A column of cells, each one line or several."""

    head: str
    cells: tuple[str, ...]
    right: bool = False
    """Whether it is justified to the right, as numbers are."""

    @property
    def width(self) -> int:
        """Characters of the longest line."""
        return max(map(len, "\n".join([self.head, *self.cells]).split("\n")))

    @property
    def body(self) -> int:
        """The same, of the cells alone."""
        return max(map(len, "\n".join(self.cells).split("\n")), default=0)

    @property
    def prose(self) -> bool:
        """Whether its cells may be broken at spaces."""
        return any(" " in cell and len(cell) > PROSE for cell in self.cells)


def screen_width() -> int:
    """Characters of a line of the terminal; 80 where there is none, or what the variable COLUMNS says."""
    return shutil.get_terminal_size().columns


def layout(rows: Sequence[Mapping[str, object]], width: int) -> str:
    """Lay out a table in lines of at most `width` characters, one row a mapping; longer words alone exceed it.

    A table that is too wide gets heads of several lines and narrower prose. Is that not enough, one of few rows is
    turned, and others are split after some columns, the first column repeated; with prose, each row is a block.
    """
    columns = _columns(rows)
    if not columns:
        return "none"
    if _total(columns) <= width:
        return _rendered(columns)
    narrow = _narrowed(columns, width)
    if narrow and _total(narrow) <= width:
        return _rendered(narrow)
    turned = _turned(columns)
    if len(rows) <= TURNED and _total(turned) <= width:
        return _rendered(turned)
    if narrow is None or len(columns) < 3:
        return "\n\n".join(_block(columns, row, width) for row in range(len(rows)))
    return "\n\n".join(map(_rendered, _split(narrow, width)))


def _columns(rows: Sequence[Mapping[str, object]]) -> list[Column]:
    """All columns in the order in which they appear, without those that are empty."""
    found = []
    for head in dict.fromkeys(key for row in rows for key in row):
        numeric = all(isinstance(row.get(head, 0), int | float) for row in rows)
        cells = tuple(_text(row.get(head, "")) for row in rows)
        found += [Column(head, cells, numeric)] if any(cells) else []
    return found


def _text(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else " ".join(str(value).split())


def _total(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + len(GAP) * (len(columns) - 1)


def _narrowed(columns: Sequence[Column], width: int) -> list[Column] | None:
    """The columns as narrow as they can be; None if too little is left for prose."""
    narrow = [column if column.prose else replace(column, head=_broken(column.head, column.body)) for column in columns]
    prose = [column for column in narrow if column.prose]
    if not prose:
        return narrow
    others = [column for column in narrow if not column.prose]
    share = (width - _total(others) - len(GAP) * len(prose)) // len(prose)
    if share < PROSE:
        return None
    return [replace(each, cells=tuple(map(_filler(share), each.cells))) if each.prose else each for each in narrow]


def _filler(width: int) -> Callable[[str], str]:
    return lambda cell: textwrap.fill(cell, width, break_long_words=False, break_on_hyphens=False)


def _broken(head: str, width: int) -> str:
    """A head in lines of `width` characters where its words allow: it is broken after "_" and at spaces."""
    lines = [""]
    for part in re.findall(r"[^_ ]+[_ ]*", head):
        if lines[-1] and len(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def _turned(columns: Sequence[Column]) -> list[Column]:
    """Heads as the first column, and a column for each row, under what names the row."""
    named, *others = columns
    if named.right or len(named.cells) == 1:
        heads, others = [""] * len(named.cells), list(columns)
    else:
        heads = list(named.cells)
    first = Column(named.head if any(heads) else "", tuple(column.head for column in others))
    rows = zip(*(column.cells for column in others), strict=True)
    return [first, *(Column(head, cells, right=True) for head, cells in zip(heads, rows, strict=True))]


def _split(columns: Sequence[Column], width: int) -> Iterable[list[Column]]:
    """Tables of as many columns as fit beside the first."""
    part = [columns[0]]
    for column in columns[1:]:
        if len(part) > 1 and _total([*part, column]) > width:
            yield part
            part = [columns[0]]
        part.append(column)
    yield part


def _block(columns: Sequence[Column], row: int, width: int) -> str:
    """One row, a line or several for each of its cells."""
    indent = max(len(column.head) for column in columns) + len(GAP)
    return "\n".join(
        textwrap.fill(
            column.cells[row],
            width,
            initial_indent=column.head.ljust(indent),
            subsequent_indent=" " * indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for column in columns
        if column.cells[row]
    )


def _rendered(columns: Sequence[Column]) -> str:
    rows = [_lines([(column, column.cells[row]) for column in columns]) for row in range(len(columns[0].cells))]
    if any(column.head for column in columns):
        heads = _lines([(column, column.head) for column in columns], bottom=True)
        rows = [heads, [GAP.join("-" * column.width for column in columns)], *rows]
    return "\n".join(line.rstrip() for row in rows for line in row)


def _lines(cells: Sequence[tuple[Column, str]], bottom: bool = False) -> list[str]:
    """One row of cells, as many lines as the longest of them has; the shorter lie at the top, or at the `bottom`."""
    parts = [cell.split("\n") for _, cell in cells]
    height = max(map(len, parts))
    padded = [[""] * (height - len(part)) + part if bottom else part + [""] * (height - len(part)) for part in parts]
    justified = [
        [line.rjust(column.width) if column.right else line.ljust(column.width) for line in part]
        for (column, _), part in zip(cells, padded, strict=True)
    ]
    return [GAP.join(line) for line in zip(*justified, strict=True)]
