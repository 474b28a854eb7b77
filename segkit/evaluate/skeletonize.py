"""Skeletons of labels, by TEASAR as kimimaro has it (`pip install 'segkit-em[skeletons]'`)."""

from importlib import import_module
from types import ModuleType

import numpy as np

from segkit.data import Labels
from segkit.data.labels import FIRST_OUTSIDE
from segkit.data.skeletons import Skeletons
from segkit.errors import BrokenComponent, InvalidInput, sentence
from segkit.timing import phase


def skeletonize(labels: Labels, *, scale: float = 1.5, const: float = 300.0, dust: int = 1000) -> Skeletons:
    """Make a skeleton of each object, by TEASAR (Sato et al. 2000, doi:10.1109/PCCGA.2000.883951).

    Nodes lie in the centres of voxels, one a voxel along a path, so that there are as many as the course of a neuron
    has voxels. Equal labels give equal skeletons; 0 and "outside" have none. Each connected part (26 neighbours) of an
    object has a skeleton of its own, with the id of the object. Raises BrokenComponent where kimimaro is not
    installed, InvalidInput if no part has a skeleton with an edge.

    Parameters
    ----------
    labels
        uint64 (Z, Y, X).
    scale, const
        A path takes with it what is nearer than `scale` times the distance to the boundary plus `const` nm: larger
        values leave out more of the twigs.
    dust
        Connected parts of fewer voxels have no skeleton.
    """
    ids, places = np.unique(labels.array, return_inverse=True)
    small = places.reshape(labels.shape).astype(np.uint32) + np.uint32(1)
    small[(labels.array == 0) | (labels.array >= FIRST_OUTSIDE)] = 0  # kimimaro numbers only what is not 0
    with phase("skeletons"):
        found = _kimimaro().skeletonize(
            small,
            teasar_params={"scale": scale, "const": const},
            anisotropy=labels.grid.voxel_size,
            dust_threshold=dust,
            fix_borders=sorted(labels.shape)[1] > 1,  # it fails in a single line of voxels
            progress=False,
            parallel=1,
        )
    made = [(label, found[label]) for label in sorted(found) if len(found[label].edges)]
    if not made:
        next_step = "lower `dust`" if small.any() else "check that it is the annotation of this region"
        raise InvalidInput(sentence("truth", "must hold an object that a skeleton is made of", next_step=next_step))
    sizes = [len(skeleton.vertices) for _, skeleton in made]
    starts = np.cumsum([0, *sizes])
    corners = np.concatenate([skeleton.vertices for _, skeleton in made]).astype(np.float64)
    centres = np.rint(corners / labels.grid.voxel_size) + 0.5
    edges = [skeleton.edges.astype(np.int64) + start for (_, skeleton), start in zip(made, starts, strict=False)]
    owners = np.repeat([label - 1 for label, _ in made], sizes)
    return Skeletons(centres * labels.grid.voxel_size + labels.grid.offset, np.concatenate(edges), ids[owners])


def _kimimaro() -> ModuleType:
    try:
        return import_module("kimimaro")
    except ImportError as error:
        rule, next_step = (
            "needs the package kimimaro",
            "pip install 'segkit-em[skeletons]', or give a file of skeletons",
        )
        raise BrokenComponent(sentence("making skeletons of the truth", rule, next_step=next_step)) from error
