"""The bar that long work shows in a terminal: what must be seen is seen at every width."""

from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

SHORTEST, LONGEST = 10, 40
"""Columns of the bar itself."""


class Bar(Progress):
    """Draws title, bar, count, time left and a text; the text goes below where the line is too narrow for it.

    What the text cannot do without is `text`; `more`, details, has a line of its own below, if the line is wide enough.
    """

    def __init__(self, title: str, console: Console) -> None:
        super().__init__(console=console)
        self.bar, self.behind = BarColumn(None), (MofNCompleteColumn(), TimeRemainingColumn())
        self.only = self.add_task(title, total=None, text="", more="")

    def report(self, done: int, total: int | None, text: str = "", more: str = "") -> None:
        """Move the bar."""
        self.update(self.only, completed=done, total=total, text=text, more=more)

    def get_renderables(self) -> Iterator[RenderableType]:
        """The lines of each task."""
        for task in self.tasks:
            yield from self._lines(task, self.console.width)

    def _lines(self, task: Task, width: int) -> Iterator[RenderableType]:
        cells = [column(task) for column in self.behind]
        text, more = Text(task.fields["text"]), Text(task.fields["more"], "dim")
        fixed = sum(cell.cell_len + 1 for cell in (Text(task.description), *cells) if isinstance(cell, Text))
        beside = fixed + SHORTEST + bool(text) + text.cell_len <= width
        free = width - fixed - (text.cell_len + 1 if beside and text else 0)
        line = Table.grid(padding=(0, 1))
        self.bar.bar_width = min(max(free, SHORTEST), LONGEST)
        line.add_row(task.description, self.bar(task), *cells, *([text] if beside else []))
        yield line
        if text and not beside:
            yield text
        if more and more.cell_len <= width:
            yield more
