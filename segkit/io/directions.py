"""Where voxels lie whose file states, for each axis of the array, the way in the world from one voxel to the next."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from segkit.errors import InvalidInput, sentence
from segkit.io.dialects import nanometers_along
from segkit.io.placement import Placement

CROOKED = 1e-4
"""Part of its length by which a step may leave the axis of the world that it follows."""


def placed_along(steps: np.ndarray, origin: Sequence[float] | None, units: Sequence[object]) -> Placement:
    """The placement of an array of three axes, whose letters are those of the axes of the world that they follow.

    Parameters
    ----------
    steps : float (3, 3). For each axis of the array the step to the next voxel, x, y, z.
    origin : place of the first voxel, x, y, z.
    units : of x, y and z.

    A world in which x and y run the other way both, as left and posterior do beside right and anterior, is the same
    seen by another convention. Voxels that lie crooked in the world, or against it, have a refusal.
    """
    along = np.abs(steps).argmax(axis=1)
    lengths = np.abs(steps).max(axis=1)
    aside = np.abs(steps).sum(axis=1) - lengths
    next_step = "`segkit convert --voxel-size Z Y X` takes them as they lie in the file"
    if sorted(along) != [0, 1, 2] or not (aside <= CROOKED * lengths).all():
        rule = "must each follow one axis of the world"
        return Placement("xyz", refusal=InvalidInput(sentence("the axes", rule, steps.tolist(), next_step)))
    signs = np.sign(steps[range(3), along])[np.argsort(along)]
    if signs.tolist() not in ([1, 1, 1], [-1, -1, 1]):
        against = ", ".join(axis for axis, sign in zip("xyz", signs, strict=True) if sign <= 0)
        rule = "must run along those of the world"
        refusal = InvalidInput(sentence("the axes", rule, f"against it along {against}", next_step))
        return Placement("xyz", refusal=refusal)
    sizes = lengths[np.argsort(along)].tolist()
    places = None if origin is None else [sign * float(at) for sign, at in zip(signs, origin, strict=True)]
    return replace(nanometers_along("xyz", sizes, units, places), axes="".join("xyz"[axis] for axis in along))
