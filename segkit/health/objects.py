"""What a fragmenter makes of a small crop: the consequence of everything else."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from segkit.data import Affinities, Grid, Labels
from segkit.errors import BrokenComponent, SegkitError
from segkit.registry import calls, load

CROP = 96
"""Default edge of the crop, in voxels."""


@dataclass(frozen=True)
class Objects:
    """Fragments of a crop in the middle of the volume."""

    shape: tuple[int, int, int]
    """Size of the crop, z, y, x."""
    fragments: int
    largest: float
    """Share of the crop that the largest fragment takes."""
    voi_split: float | None = None
    """H(fragments | truth), in bits. None without labels, or without any object in the crop."""
    voi_merge: float | None = None
    """H(truth | fragments), in bits."""


def object_figures(
    affinities: Affinities,
    labels: Labels | None = None,
    *,
    crop: int = CROP,
    fragmenter: str = "watershed",
    parameters: Mapping[str, object] | None = None,
) -> Objects | None:
    """Figures of the fragments that `fragmenter` makes of the middle `crop` voxels along each axis.

    Without edges along z every section is cut apart. None where the fragmenter cannot use the neighborhood.
    """
    values = dict(parameters or {})
    if not affinities.neighborhood[:, 0].any():
        values.setdefault("per_section", True)
    cutter = load("fragmenters", fragmenter, **values)
    part, window = _middle(affinities, crop)
    try:
        fragments = calls.fragment(cutter, part)
    except BrokenComponent:
        raise
    except SegkitError:
        return None
    sizes = np.bincount(fragments.array.ravel().astype(np.int64))
    number, largest = np.count_nonzero(sizes[1:]), sizes[1:].max(initial=0) / fragments.array.size
    scores = {}
    if labels is not None:
        truth = Labels(labels.array[window], Grid())
        if np.any(truth.inside & (truth.array != 0)):
            scores = load("metrics", "voi").score(fragments, truth)
    return Objects(part.shape, int(number), float(largest), **scores)


def _middle(affinities: Affinities, crop: int) -> tuple[Affinities, tuple[slice, ...]]:
    """The middle of the volume with edges that leave it taken away, and its place."""
    starts = [max(size - crop, 0) // 2 for size in affinities.shape]
    window = tuple(slice(a, min(a + crop, size)) for a, size in zip(starts, affinities.shape, strict=True))
    return Affinities.convert(affinities.array[(slice(None), *window)], affinities.neighborhood), window
