"""segkit segment: merge tree -> segmentation, or several."""

import click

from segkit.cli.common import Verb, note, out_option
from segkit.errors import InvalidParameter, sentence


@click.command("segment", cls=Verb)
@click.argument("merge_tree")
@click.option(
    "--threshold", "thresholds", multiple=True, type=float, required=True, help="Do all merges of lower altitude, 0..1."
)
@click.option("--fragments", metavar="ADDRESS", help="Fragments; those in the file of MERGE_TREE if not given.")
@out_option
def command(merge_tree, thresholds, fragments, out) -> dict:
    """Cut MERGE_TREE at a threshold, or at several: repeat --threshold.

    FILE receives volumes/segmentation for one threshold, volumes/segmentation_T for each of several.
    """
    from segkit import io
    from segkit.segment import segmentations

    thresholds = _checked(thresholds)
    io.check_writable(out, dataset=len(thresholds) == 1)
    tree = io.read_merge_tree(merge_tree)
    labels = io.read_labels(fragments or io.parse_address(merge_tree).path, role="fragments")
    found = dict(zip(thresholds, segmentations(tree, labels, thresholds), strict=True))
    known = len(labels.ids())
    if known < len(tree.leaf_ids):
        note(f"only {known} of the {len(tree.leaf_ids)} fragments of the merge tree are in {fragments or merge_tree}")
    if len(found) == 1:
        io.write(out, found[thresholds[0]], "segmentation")
    else:
        io.write_all(out, {f"segmentation:volumes/segmentation_{t!r}": found[t] for t in thresholds})
    rows = [{"threshold": threshold, "segments": len(found[threshold].ids())} for threshold in thresholds]
    note("; ".join(f"{row['segments']} segments at {row['threshold']:g}" for row in rows) + f" -> {out}")
    return {"out": out} | (rows[0] if len(rows) == 1 else {"thresholds": rows})


def _checked(thresholds: tuple[float, ...]) -> list[float]:
    """The thresholds, each once, in order. Refuses what is no number, before the work."""
    for threshold in thresholds:
        if threshold != threshold:
            raise InvalidParameter(sentence("--threshold", "must be a number", threshold))
    return sorted(set(thresholds))
