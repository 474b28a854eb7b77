"""Ground truth as fragments: what agglomeration does when nothing else is at fault."""

import fastremap
import numpy as np

from segkit.data import Labels
from segkit.fragment._shared import slabs, stacked


def fragments_from_labels(labels: Labels, *, per_section: bool = False) -> Labels:
    """The objects of `labels` as fragments, numbered from 1 without gaps in the order of their first voxel.

    With `per_section` the ids of each section are its own, so that an agglomerator has to find every link along z
    (an object in several pieces within a section stays one fragment there). Background and voxels outside the
    annotation become 0.

    >>> from segkit.data import Grid
    >>> truth = Labels.convert([[[7, 7, 3]], [[7, 0, 3]]], Grid())
    >>> fragments_from_labels(truth, per_section=True).array.tolist()
    [[[1, 1, 2]], [[3, 0, 4]]]
    """
    objects = np.ascontiguousarray(np.where(labels.inside, labels.array, np.uint64(0)))  # else numbered as they lie
    parts = (_renumbered(objects[slab]) for slab in slabs(labels.shape, per_section))
    return Labels(stacked(parts, labels.shape, per_section), labels.grid)


def _renumbered(objects: np.ndarray) -> tuple[np.ndarray, int]:
    numbered, mapping = fastremap.renumber(objects, preserve_zero=True)
    return numbered, len(mapping) - (0 in mapping)
