"""From the sections to HTML: one file that loads nothing."""

from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from segkit.errors import InvalidInput, sentence
from segkit.io.atomic import check_folder
from segkit.io.lock import writing
from segkit.report.blocks import Code, Number, Page
from segkit.report.pictures import as_svg

NEEDED = ("jinja2", "matplotlib")


def missing_libraries() -> str | None:
    """What to install before a report can be written; None if nothing."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    return f"a report needs {' and '.join(missing)}; pip install 'segkit-em[report]'" if missing else None


def check(out: Path) -> None:
    """Raise InvalidInput if a library is missing or this is no name of a page that could be written."""
    if problem := missing_libraries():
        raise InvalidInput(problem)
    if out.suffix.lower() not in (".html", ".htm"):
        raise InvalidInput(sentence("the file of a report", "must end in .html", repr(str(out))))
    check_folder(out)
    if out.is_dir():
        raise InvalidInput(sentence("the file of a report", "must not be a folder", repr(str(out))))


def write_page(page: Page, out: Path) -> None:
    """Write the page, whole or not at all."""
    text = render(page)
    with writing(out) as temporary:
        temporary.write_text(text, encoding="utf-8")


def render(page: Page) -> str:
    """The page as HTML."""
    from jinja2 import Environment, StrictUndefined

    folder = resources.files("segkit.report") / "templates"
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters |= {"as_svg": as_svg, "cell": cell, "is_number": is_number}
    environment.tests |= {"code": lambda value: isinstance(value, Code)}
    style = (folder / "report.css").read_text()
    return environment.from_string((folder / "report.html.j2").read_text()).render(page=page, style=style)


def is_number(value: object) -> bool:
    """Whether a cell stands right."""
    return isinstance(value, int | float | Number) and not isinstance(value, bool)


def cell(value: object) -> str:
    """A cell as text: numbers with a fixed number of decimals, so that those of a column are aligned.

    >>> cell(0.5), cell(12.3), cell(1234567), cell(0.00002)
    ('0.5000', '12.3000', '1,234,567', '2e-05')
    """
    if isinstance(value, Number):
        return f"{value.value:,.{value.decimals}f}"
    if isinstance(value, float):
        return f"{value:.4f}" if value == 0 or abs(value) >= 5e-5 else f"{value:.2g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
