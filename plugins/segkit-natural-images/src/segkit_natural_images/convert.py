"""Colour pictures as a volume of sections, so that 2-D networks and every verb take them.

Each picture becomes three sections, red, green and blue, which a network of three input sections sees as its colours.
The annotations belong to the middle one; the others lie outside the annotation. A picture that stands upright is
transposed, so that all are of one shape: no score depends on it.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from segkit.data import Grid, Labels, Volume
from segkit.errors import InvalidInput, InvalidShape, sentence
from segkit.io import Address, check_target, parse_address, write_all

from segkit_natural_images.bsds import Picture, read_pictures

COLOURS = 3
ANNOTATOR = "volumes/labels/annotator_{}"
"""Dataset of the k-th annotator, from 1."""
NOBODY = np.uint64(2**64 - 1)


def convert_pictures(
    source: str | Path | Address, target: str | Path | Address, *, overwrite: bool = False
) -> dict[str, Any]:
    """Write the pictures that :func:`read_pictures` reads at `source` as one volume; a crop [first:last] counts them.

    Writes volumes/raw, volumes/labels/annotator_1, annotator_2, ... and, as the usual truth, the first of them again.
    Where a picture has fewer annotators than another, its sections of the others lie outside the annotation. Annotators
    that were in `target` before are removed.
    """
    source = source if isinstance(source, Address) else parse_address(str(source))
    target = target if isinstance(target, Address) else parse_address(str(target))
    along, *across = source.crop or (slice(None),) * 3
    if source.dataset or any(part != slice(None) for part in across):
        rule = "must be a folder or a file, with pictures counted as [first:last]"
        raise InvalidInput(sentence("IN", rule, str(source)))
    check_target(target, "raw", overwrite)
    raw, truths = stack(read_pictures(Path(source.path), along))
    named = {f"truth:{ANNOTATOR.format(k)}": truth for k, truth in enumerate(truths, 1)}
    write_all(target, {"raw": raw, "truth": truths[0]} | named, drop=ANNOTATOR.format(""))
    return {"out": str(target), "kind": "pictures", "shape": list(raw.shape), "dtype": "uint8", "truths": len(truths)}


def stack(pictures: Iterable[Picture]) -> tuple[Volume, list[Labels]]:
    """The pictures as sections uint8 (3 N, Y, X), and the labels of each annotator on the same grid; pixels of 1 nm.

    Raises InvalidShape if pictures differ in shape even when they lie.
    """
    found = list(pictures)
    shapes = {tuple(sorted(picture.colours.shape[:2])) for picture in found}
    if len(shapes) != 1:
        rule, next_step = "must be of one shape, lying or upright", "crop them, or convert those of a shape apart"
        raise InvalidShape(sentence("pictures", rule, ", ".join(map(str, sorted(shapes))), next_step))
    raw = np.concatenate([_lying(picture.colours).transpose(2, 0, 1) for picture in found])
    labels = np.full((max(len(picture.annotations) for picture in found), *raw.shape), NOBODY)
    for number, picture in enumerate(found):
        for annotator, annotation in zip(labels, picture.annotations, strict=False):
            annotator[COLOURS * number + COLOURS // 2] = _lying(annotation)
    grid = Grid()
    return Volume(np.ascontiguousarray(raw), grid), [Labels(annotator, grid) for annotator in labels]


def _lying(picture: np.ndarray) -> np.ndarray:
    """`picture` (Y, X, ...) with the longer side along x."""
    return picture if picture.shape[0] <= picture.shape[1] else picture.swapaxes(0, 1)
