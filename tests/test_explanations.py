"""The explanation pages: every `>>>` on them runs and shows what it says."""

import doctest
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [*sorted((DOCS / "explanation").glob("*.md")), DOCS / "glossary.md", DOCS / "troubleshooting.md"]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)


def code_of(text: str) -> str:
    """Keep the Python blocks at their lines, and make all other lines blank."""
    kept = "\n" * text.count("\n")
    lines = kept.splitlines()
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1))
        code = block[1].splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines) + "\n"


def failures(name: str, text: str) -> tuple[int, int, str]:
    """Run the examples of a page, one after the other with the same names: failed, tried, what was said."""
    test = doctest.DocTestParser().get_doctest(code_of(text), {}, name, name, 0)
    said: list[str] = []
    failed, tried = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    return failed, tried, "".join(said)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_show_what_they_say(page):
    text = page.read_text()
    failed, _, said = failures(page.name, text)
    assert not failed, said
    assert text.count(">>> ") == code_of(text).count(">>> "), "an example stands outside a ```python block"


def test_a_wrong_example_is_seen():
    text = "# Page\n\n```python\n>>> 1 + 1\n3\n```\n\nwords\n\n```python\n>>> 2\n2\n```\n"
    assert failures("page", text)[:2] == (1, 2)
    assert "line 4" in failures("page", text)[2]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_pages_and_headings(page):
    for target, anchor in re.findall(r"\]\(([^)#:]+\.md)(?:#([^)]*))?\)", page.read_text()):
        assert (page.parent / target).exists(), target
        headings = re.findall(r"^#+ (.*)$", (page.parent / target).read_text(), re.M)
        assert not anchor or anchor in map(anchor_of, headings), anchor


def anchor_of(heading: str) -> str:
    """The anchor that Markdown gives a heading."""
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.lower())).strip("-")


def test_the_glossary_is_in_order_and_names_each_word_once():
    words = [word.lower() for word in re.findall(r"^\*\*([^*]+)\*\*", (DOCS / "glossary.md").read_text(), re.M)]
    assert len(words) > 60 and words == sorted(set(words))
