"""All sections of the page about a folder, one after the other."""

from collections.abc import Callable, Mapping
from pathlib import Path

from segkit import io
from segkit.errors import SegkitError
from segkit.report import made, scores, training, verdict, views
from segkit.report.blocks import Block, Page, Section, Text
from segkit.report.facts import Facts
from segkit.report.page import check, write_page
from segkit.report.scene import Scene
from segkit.report.sources import find_sources

MOST = 2
"""Faults that the head names."""
NAME = "report.html"
"""The page in the folder of a run."""


def write_report(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    given: Mapping[str, str] | None = None,
    beside: Mapping[str, str] | None = None,
    border: float | None = None,
    progress: Callable[..., None] = lambda done, total, text="": None,
) -> tuple[Path, list[Section]]:
    """Write a page about a training run or what a recipe made, and return its path and its sections.

    What is not there is left out, and its section says why (`missing`). Raises MissingFile without such a folder, and
    InvalidInput if jinja2 or matplotlib are missing, if the volumes do not overlap or one of `beside` cannot be read.

    Parameters
    ----------
    folder
        A training run (`segkit train --out`), the folder of a recipe, or one with files of segkit.
    out
        The page; by default report.html in `folder`.
    given
        Addresses by role (raw, truth, affinities, fragments, merge_tree, segmentation), before what is found.
    beside
        Addresses of other segmentations by title.
    border
        Voxels within this distance (nm) of a true boundary are not scored; by default as the recipe did.
    """
    folder = Path(folder)
    out = Path(out) if out else folder / NAME
    sources = find_sources(folder, given)
    check(out)
    scene = Scene(sources, {title: io.parse_address(text) for title, text in (beside or {}).items()})
    facts = Facts(sources, scene, sources.border if border is None else border)
    makers: dict[str, Callable[[], Section]] = {
        made.TITLE: lambda: made.section(sources),
        verdict.TITLE: lambda: verdict.section(facts),
        training.TITLE: lambda: training.section(sources.runs),
        "All thresholds of the merge tree": lambda: scores.thresholds(facts),
        "Scores of all segmentations": lambda: scores.table(facts),
        "Sections": lambda: views.sections(facts),
        "The worst mistakes": lambda: views.mistakes(facts),
    }
    sections = []
    for done, (title, make) in enumerate(makers.items()):
        progress(done, len(makers), title)
        sections.append(_made(title, make))
    page = Page(f"Report on {folder}", _subtitle(facts), _head(facts), sections, made.made_by())
    write_page(page, out)
    progress(len(makers), len(makers), "")
    return out, sections


def _made(title: str, make: Callable[[], Section]) -> Section:
    """A section, or why it cannot be."""
    try:
        return make()
    except (SegkitError, OSError) as error:
        return Section(title.split()[-1].lower(), title, missing=str(error))


def _subtitle(facts: Facts) -> str:
    if not facts.scene.found:
        return "a training run"
    voxel = " x ".join(f"{edge:g}" for edge in facts.scene.grid.voxel_size)
    return f"{' x '.join(map(str, facts.scene.whole))} voxels (z, y, x) of {voxel} {facts.scene.grid.unit}"


def _head(facts: Facts) -> list[Block]:
    """The verdict on the affinities, and the score."""
    blocks: list[Block] = []
    if facts.scene.has("affinities"):
        found = _tried(lambda: verdict.sentences(facts))
        blocks += found[:MOST] + ([Text(f"And {len(found) - MOST} more: see below.")] if len(found) > MOST else [])
    if facts.scene.has("truth") and facts.main:
        blocks += _tried(lambda: [Text(_in_words(facts))])
    return blocks


def _tried(make: Callable[[], list[Text]]) -> list[Text]:
    try:
        return make()
    except (SegkitError, OSError):
        return []  # its section says why


def _in_words(facts: Facts) -> str:
    row = next(row for row in facts.scores if row["segmentation"] == facts.main)
    name = "The segmentation" if facts.main == "segmentation" else f"The segmentation {facts.main!r}"
    text = f"{name} has a CREMI score of {row['cremi_score']:.3f}: VOI split {row['voi_split']:.3f} bits, "
    return text + f"VOI merge {row['voi_merge']:.3f} bits, adapted Rand error {row['adapted_rand_error']:.3f}."
