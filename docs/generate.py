"""Fills in what the pages must not have by hand: a hook of MkDocs, named in mkdocs.yml.

A page says ``<!-- generated: components -->``, and the function of that name in `GENERATED` writes the text there when
the site is built, from the installed segkit.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import griffe

from segkit.cli.main import VERBS
from segkit.io.dialects import DIALECTS
from segkit.parameters import overlay, prose
from segkit.protocols import GROUPS
from segkit.registry import components, known_elsewhere, quarantine
from segkit.registry.component import OWN, SINGULAR, Component
from segkit.run import find_recipe, shipped_recipes
from segkit.train.config import described_settings

DISTRIBUTIONS = {OWN, *known_elsewhere().values()}
"""Whose components are shown: those of this repository, whatever else is installed."""
TITLES = {
    "models": ("Networks", "`segkit train --model NAME`, parameters as `--set model.PARAMETER=VALUE`"),
    "losses": (
        "Losses",
        "`segkit train --loss NAME`, parameters as `--set loss.PARAMETER=VALUE`; of a sum such as `bce+0.3*mse` as "
        "`--set loss.bce.PARAMETER=VALUE`",
    ),
    "fragmenters": ("Fragmenters", "`segkit fragment --method NAME`, parameters as `--set PARAMETER=VALUE`"),
    "agglomerators": ("Agglomerators", "`segkit agglomerate --backend NAME`, parameters as `--set PARAMETER=VALUE`"),
    "metrics": ("Metrics", "`segkit evaluate --metric NAME`, parameters as `--set PARAMETER=VALUE`"),
}
MARKER = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.M)
EXAMPLE = re.compile(r"^( *)>>> .*(?:\n.*\S.*)*", re.M)
"""An example of a docstring, to the next empty line."""
ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):<code>~?")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace the markers of a page by what is generated there."""
    return MARKER.sub(lambda match: GENERATED[match[1]](), markdown)


def on_page_content(html: str, **_: object) -> str:
    """Drop the roles of reStructuredText that docstrings put before names."""
    return ROLE.sub("<code>", html)


class Examples(griffe.Extension):
    """Lets docstrings show their examples as code."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Fence the examples of a docstring."""
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(docstring: str) -> str:
    """A docstring with its examples between fences."""
    return EXAMPLE.sub(lambda match: f"{match[1]}```pycon\n{match[0]}\n{match[1]}```", docstring)


def commands() -> str:
    """The help of every verb, in the order of the pipeline, as directives of mkdocs-click."""
    lines = []
    for verb in VERBS:
        lines += ["::: mkdocs-click", f"    :module: segkit.cli.{verb}", "    :command: command"]
        lines += [f"    :prog_name: segkit {verb}", "    :depth: 1", ""]
    return "\n".join(lines)


def component_sections() -> str:
    """Every component of this repository: what it does, its parameters, and what it refers to."""
    lines = []
    for kind in GROUPS:
        title, how = TITLES[kind]
        found = [each for each in components(kind) if each.distribution in DISTRIBUTIONS]
        found.sort(key=lambda each: each.distribution != OWN)
        lines += [f"## {title}", "", f"{how}.", ""]
        for component in found:
            lines += [*component_section(component), ""]
        for (other, name), distribution in known_elsewhere().items():
            if other == kind and not any((each.name, each.distribution) == (name, distribution) for each in found):
                lines += [f"`{name}` comes with {distribution}, which was not installed here.", ""]
    return "\n".join(lines)


def component_section(component: Component) -> list[str]:
    """The lines of one component."""
    told = quarantine.describe(component)
    brought = "" if component.distribution == OWN else f" ({component.distribution})"
    anchor = f"{SINGULAR[component.kind]}-{component.name}"
    lines = [f"### `{component.name}`{brought} {{ #{anchor} }}", "", fenced(prose(told["description"])), ""]
    rows = [
        (code(row["parameter"]), code(row["type"]), code(row["default"] or "must be given"), row["description"])
        for row in told["parameters"]
    ]
    lines += table(("parameter", "type", "default", ""), rows) if rows else ["It takes no parameters."]
    if told["references"]:
        lines += ["", "References: " + ", ".join(map(link, told["references"]))]
    return lines


def setting_table() -> str:
    """Every setting of training, with its type, default and meaning."""
    rows = [(code(row.name), code(row.type), code(row.default), row.description) for row in described_settings()]
    return "\n".join(table(("setting", "type", "default", ""), rows))


def dialects() -> str:
    """A table of the ways in which tools say axes, voxel size and place."""
    rows = [[entry.tool, entry.where, entry.axes, entry.size, entry.place] for entry in DIALECTS]
    return "\n".join(table(["tool", "where", "axes", "voxel size", "place"], rows))


def recipe_sections() -> str:
    """Every shipped recipe: what it is for, its stages, what must be given, and its file."""
    lines = []
    for name, path in shipped_recipes().items():
        whole = recipe(path)
        stages = [key for key in whole if key not in ("title", "description", "base", "data", "budget")]
        given = [f"--set data.{key}=..." for key, value in whole.get("data", {}).items() if value == ""]
        lines += [f"## `{name}`", "", f"**{whole['title']}.** {' '.join(whole['description'].split())}", ""]
        lines += ["```text", " ".join(["segkit run", name, *given]), "```", ""]
        lines += ["Stages: " + ", ".join(map(code, stages)) + ".", ""]
        lines += [f'??? note "{name}.toml"', "", "    ```toml"]
        lines += [f"    {line}".rstrip() for line in path.read_text(encoding="utf-8").splitlines()] + ["    ```", ""]
    return "\n".join(lines)


def recipe(path: Path) -> dict:
    """A recipe, laid over the one that it is based on."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    return overlay(recipe(find_recipe(content["base"])), content) if "base" in content else content


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return lines + [f"| {' | '.join(' '.join(cell.split()) for cell in row)} |" for row in rows]


def code(text: object) -> str:
    """Text in the type of code; nothing of nothing."""
    return f"`{text}`" if text != "" else ""


def link(reference: str) -> str:
    """A DOI or an arXiv number as a link."""
    kind, _, number = reference.partition(":")
    place = "https://doi.org/" if kind == "doi" else "https://arxiv.org/abs/"
    return f"[{reference}]({place}{number})"


GENERATED: dict[str, Callable[[], str]] = {
    "commands": commands,
    "components": component_sections,
    "settings": setting_table,
    "recipes": recipe_sections,
    "dialects": dialects,
}
