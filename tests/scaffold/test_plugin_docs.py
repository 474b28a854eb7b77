"""The page for authors of plugins: its commands run as written, and its code is what they write."""

import re
from importlib import resources
from pathlib import Path

from segkit import testing
from segkit.protocols import GROUPS
from segkit.registry import components
from segkit.scaffold import KINDS, Plugin, files

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "plugins.md"
TEXT = PAGE.read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.M | re.S)


def row_of(table: str, name: str) -> list[str]:
    """The cells beside a head of a table that lies on its side."""
    return next(line.split()[1:] for line in table.splitlines() if line.startswith(f"{name} "))


def test_the_commands_run_as_written(lab, page):
    new, checked, benchmark, loss = page
    assert re.search(r"^agglomerators +my-agglomerator +my-agglomerator +0\.1\.0 ", new, re.M)
    assert " passed" in checked and "It prints nothing." in checked and "FAILS" not in checked
    assert " passed" in loss and (lab.folder / "run" / "model.safetensors").exists()
    assert row_of(benchmark, "backend") in (["my-agglomerator", "python", "waterz"], ["my-agglomerator", "python"])


def test_the_agglomerator_gives_what_python_gives(page):
    assert set(row_of(page[2], "identical")) == {"yes"}  # all merge by mean affinity, and the noise leaves no ties


def test_the_code_is_that_of_new_plugins():
    written = [text for kind in KINDS for text in files(Plugin(f"my-{kind}", kind)).values()]
    for block in [*blocks("python"), *blocks("toml")]:
        assert any(block in text for text in written), f"no new plugin holds\n{block}"


def test_the_table_of_plug_points_is_that_of_the_protocols():
    rows = [line.split("|") for line in TEXT.splitlines() if re.match(r"\| \w+ \| `segkit\.", line)]
    assert {row[2].strip(" `"): row[1].strip() for row in rows} == {GROUPS[KINDS[kind]]: kind for kind in KINDS}
    for row in rows:
        name, path = re.search(r"`([\w-]+)` \(`segkit/(.+)`\)", row[5]).groups()
        assert (resources.files("segkit") / path).is_file()
        offered = [each.target for each in components(KINDS[row[1].strip()]) if each.name == name]
        assert [target.partition(":")[0].replace(".", "/") for target in offered] == [f"segkit/{path[:-3]}"]


def test_the_attributes_of_the_suites_exist():
    names = re.findall(r"`(\w+)`", re.search(r"^Attributes of the suites.*?(?=\. Each)", TEXT, re.M | re.S)[0])
    suites = [getattr(testing, suite) for suite in re.findall(r"`(\w+Conformance)`", TEXT)]
    assert len(suites) == len(KINDS)
    stated = {name for suite in suites for name in suite.__annotations__}
    assert set(names) <= stated
