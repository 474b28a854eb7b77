"""segkit segment: merge tree -> segmentation."""

import click

from segkit.cli.common import Verb, note, out_option


@click.command("segment", cls=Verb)
@click.argument("merge_tree")
@click.option("--threshold", type=float, required=True, help="Do all merges of lower altitude, 0..1.")
@click.option("--fragments", metavar="ADDRESS", help="Fragments; those in the file of MERGE_TREE if not given.")
@out_option
def command(merge_tree, threshold, fragments, out) -> dict:
    """Cut MERGE_TREE at a threshold."""
    from segkit import io
    from segkit.segment import segment

    io.check_writable(out)
    tree = io.read_merge_tree(merge_tree)
    labels = io.read_labels(fragments or io.parse_address(merge_tree).path, role="fragments")
    segmentation = segment(tree, labels, threshold)
    found = len(labels.ids())
    if found < len(tree.leaf_ids):
        note(f"only {found} of the {len(tree.leaf_ids)} fragments of the merge tree are in {fragments or merge_tree}")
    io.write(out, segmentation, "segmentation")
    count = len(segmentation.ids())
    note(f"{count} segments at {threshold:g} -> {out}")
    return {"out": out, "threshold": threshold, "segments": count}
