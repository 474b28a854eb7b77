"""Reads a page as a browser does, as far as tests need it."""

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "hr"}


class Page(HTMLParser):
    """Elements, ids, links, tables and texts of a page; `faults` are tags that do not fit."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.open: list[str] = []
        self.faults: list[str] = []
        self.elements: list[tuple[str, dict]] = []
        self.tables: list[list[list[str]]] = []
        self.sections: dict[str, str] = {}
        self._section = ""
        self.feed(text)
        self.close()
        self.faults += [f"{tag} is not closed" for tag in self.open]

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self._section = dict(attributes)["id"]
            self.sections[self._section] = ""
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"{tag} closes another")

    def handle_data(self, data):
        if self._section and "style" not in self.open:
            self.sections[self._section] += data
        if self.tables and {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def all(self, tag: str) -> list[dict]:
        """The attributes of all elements of this name."""
        return [attributes for name, attributes in self.elements if name == tag]

    def rows(self, head: str) -> list[dict[str, str]]:
        """The rows of the table whose heads hold `head`, by head."""
        found = next(table for table in self.tables if head in [cell.strip() for cell in table[0]])
        heads = [cell.strip() for cell in found[0]]
        return [dict(zip(heads, (cell.strip() for cell in row), strict=True)) for row in found[1:]]

    def loads(self) -> list[str]:
        """What a browser would ask for elsewhere."""
        found = [each.get("src", "") or "" for _, each in self.elements]
        found += [each.get("href", "") or "" for tag, each in self.elements if tag != "a"]
        found += re.findall(r"url\(([^)]*)\)", self.text) + re.findall(r"@import\s+(\S+)", self.text)
        return [address for address in found if address and not address.startswith(("data:", "#"))]


def check(page: Page) -> None:
    """What holds of every page."""
    assert not page.faults and not page.loads() and not page.all("script")
    ids = [each["id"] for _, each in page.elements if "id" in each]
    assert len(ids) == len(set(ids))
    targets = [each["href"] for _, each in page.elements if each.get("href", "").startswith("#")]
    targets += [f"#{name}" for name in re.findall(r"url\(#([^)]+)\)", page.text)]
    assert set(targets) <= {f"#{name}" for name in ids}
    assert all(each.get("role") == "img" and each.get("aria-label") for each in page.all("svg"))
