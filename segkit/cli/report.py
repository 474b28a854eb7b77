"""segkit report: Write one HTML page about a run: curves, scores, sections, mistakes."""

from collections.abc import Callable
from pathlib import Path

import click

from segkit.cli.common import Verb, echo_json, examples, json_option, note, progress
from segkit.cli.types import ADDRESS, FILE, Number
from segkit.errors import InvalidParameter, sentence

EXAMPLES = examples(
    "segkit report runs/mala3d",
    "segkit report run --truth sample_C.hdf --affinities affinities.h5 \\\n"
    "    --fragments fragments.h5 --merge-tree tree.h5 --segmentation seg.h5",
    "segkit report demo-output --beside 'FFN=ffn.h5:labels' --out compared.html",
)
ROLES = {
    "raw": "Raw data.  [default: what the recipe segmented, or those in the file of the truth]",
    "truth": "Ground truth; without it nothing is scored.  [default: the recipe's]",
    "affinities": "Affinities.",
    "fragments": "Fragments.  [default: those of the merge tree]",
    "merge_tree": "Merge tree.",
    "segmentation": "Segmentation that the pictures show.",
}


def _with_roles(command: Callable) -> Callable:
    """The command with an option for each role."""
    for role, text in reversed(ROLES.items()):
        command = click.option(f"--{role.replace('_', '-')}", role, type=ADDRESS, help=text)(command)
    return command


@click.command("report", cls=Verb, epilog=EXAMPLES)
@click.argument("folder", type=FILE)
@click.option("--out", type=FILE, metavar="FILE.html", help="Page to write.  [default: FOLDER/report.html]")
@click.option(
    "--beside", multiple=True, metavar="NAME=ADDRESS", help="Score another segmentation beside the others; repeatable."
)
@click.option(
    "--border",
    type=Number(min=0),
    metavar="NM",
    help="Score no voxels within this distance of a true boundary, in nm.  [default: the recipe's, or 0]",
)
@_with_roles
@json_option
def command(
    folder: str, out: str | None, beside: tuple[str, ...], border: float | None, as_json: bool, **given: str | None
) -> dict:
    """Write one HTML page about FOLDER: a training run, what a recipe made (`segkit run`, `demo`), or any with files.

    What was run, the health of the affinities, training curves, scores at all thresholds, sections in matched colours,
    and the worst mistakes with a picture of each. The page is a single file that loads nothing. What FOLDER does not
    hold is left out, and the page says why; options name what lies elsewhere.

    Scores, pictures and mistakes are of the middle 256 x 256 x 256 voxels at most. Needs jinja2 and matplotlib: pip
    install 'segkit-em[report]'.
    """
    from segkit.report import write_report

    found = {role: text for role, text in given.items() if text is not None}
    with progress("report") as bar:
        path, sections = write_report(folder, out, given=found, beside=_named(beside), border=border, progress=bar)
    result = {"out": str(path), "sections": {section.key: section.missing or "written" for section in sections}}
    if as_json:
        echo_json(result)
        return result
    for section in sections:
        if section.missing:
            note(f"{section.title} left out: {section.missing}")
    note(f"report -> {path}")
    return result


def write_after(folder: Path) -> None:
    """Write report.html about what a recipe has made. Whatever goes wrong is noted, and costs the run nothing."""
    from segkit.report import missing_libraries, write_report

    if problem := missing_libraries():
        note(f"no report.html: {problem}")
        return
    page = folder / "report.html"
    if page.exists() and page.stat().st_mtime_ns >= (folder / "stages.json").stat().st_mtime_ns:
        note(f"report -> {page}, written before")
        return
    try:
        write_report(folder, page)
    except Exception as error:
        note(f"no report.html ({type(error).__name__}: {error}); what the stages made is whole")
    else:
        note(f"report -> {page}")


def _named(beside: tuple[str, ...]) -> dict[str, str]:
    """Addresses by title, from ``--beside``."""
    found: dict[str, str] = {}
    for text in beside:
        name, equals, address = text.partition("=")
        if not (name and equals and address) or name in found:
            rule = "must be NAME=ADDRESS, each name once"
            raise InvalidParameter(sentence("--beside", rule, repr(text), "write ours=segmentation.h5"))
        found[name] = address
    return found
