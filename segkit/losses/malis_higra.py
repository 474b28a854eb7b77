"""MALIS on Higra's binary partition trees: a second, independent way to the same counts."""

import fastremap
import higra as hg
import numpy as np
from numpy.typing import ArrayLike

from segkit.losses._quasilinear import Decided, Pairs
from segkit.losses.malis import PairLoss, bad_affinity, checked

COLUMNS = 16
"""Labels that are counted at a time: the memory is that of so many float64 for each node of the tree."""


class MalisHigra(PairLoss):
    """MALIS as :class:`~segkit.losses.malis.ConstrainedMalis` and :class:`~segkit.losses.malis.Malis` define it.

    The canonical binary partition tree (Najman, Cousty and Perret 2013, DOI 10.1007/978-3-642-38294-9_12) records
    which components each edge of the maximum spanning forest joins; the voxels of each label, summed up the
    tree, say how many pairs it decides. Slower than the others by an order of magnitude: it is here to check them.

    Parameters
    ----------
    constrained
        Count as constrained MALIS does, in two passes; otherwise over all pairs in one.
    balanced
        Give positive and negative pairs equal total weight; otherwise each pair has weight 1.
    """

    def __init__(self, *, constrained: bool = True, balanced: bool = True) -> None:
        super().__init__(balanced=balanced, backend="higra")
        self.constrained = constrained


def decided_pairs(
    affinities: ArrayLike, labels: ArrayLike, edges: ArrayLike, neighborhood: ArrayLike, *, constrained: bool
) -> Pairs:
    """The same as :func:`segkit.losses.malis.decided_pairs`.

    Both passes of constrained MALIS need one tree only: with all edges inside objects ranked first, it begins with
    the forest of the positive pass, and goes on with that of the negative pass.
    """
    affinities, labels, edges, neighborhood = checked(affinities, labels, edges, neighborhood)
    index = np.flatnonzero(edges)
    if not len(index):
        nothing = Decided(index.astype(np.int32), index.astype(np.float32), index)
        return Pairs(nothing, nothing)
    weights = affinities.reshape(-1)[index]
    bad = index[~((weights >= 0) & (weights <= 1))]
    if len(bad):
        raise bad_affinity(affinities, bad[0])
    sources, targets = _ends(index, labels.shape, neighborhood)
    flat, _ = fastremap.renumber(labels.reshape(-1), preserve_zero=True, in_place=False)
    inside = (flat[sources] == flat[targets]) & (flat[sources] > 0)
    order = np.lexsort((-weights, ~inside)) if constrained else np.argsort(-weights, kind="stable")
    tree = _grown(sources[order], targets[order], flat.size)
    same, different = _pairs_joined(tree, flat)
    real = tree.mst_edge_map < len(order)
    joins, same, different = order[tree.mst_edge_map[real]], same[real], different[real]
    same[~inside[joins] & constrained] = 0
    found = index[joins].astype(np.int32), weights[joins]
    return Pairs(Decided(*found, same), Decided(*found, different))


def _ends(index: np.ndarray, shape: tuple[int, ...], neighborhood: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The voxels at both ends of the edges, in raster order."""
    channel, *source = np.unravel_index(index, (len(neighborhood), *shape))
    target = [position + step for position, step in zip(source, neighborhood[channel].T, strict=True)]
    return np.ravel_multi_index(source, shape), np.ravel_multi_index(target, shape)


def _grown(sources: np.ndarray, targets: np.ndarray, voxels: int) -> hg.Tree:
    """The binary partition tree of edges given strongest first.

    Higra wants a connected graph: a chain through all voxels comes after the real edges.
    """
    chain = np.arange(voxels - 1)
    sources, targets = np.concatenate([sources, chain]), np.concatenate([targets, chain + 1])
    order = np.arange(len(sources))
    return hg.bpt_canonical((sources, targets, voxels), sorted_edge_indices=order, return_altitudes=False)


def _pairs_joined(tree: hg.Tree, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each inner node: pairs of same and of different labels between its two children, int64.

    Sums are float64, exact up to 2^53, and so are their products for up to 10^8 voxels.
    """
    inner = np.arange(tree.num_leaves(), tree.num_vertices())
    left, right = tree.child(0, inner), tree.child(1, inner)
    voxels = hg.accumulate_sequential(tree, (labels > 0).astype(np.float64), hg.Accumulators.sum)
    same = np.zeros(len(inner))
    for first in range(1, int(labels.max(initial=0)) + 1, COLUMNS):
        chosen = labels[:, None] == np.arange(first, first + COLUMNS)
        counts = hg.accumulate_sequential(tree, chosen.astype(np.float64), hg.Accumulators.sum)
        same += np.einsum("ij,ij->i", counts[left], counts[right])
    return same.astype(np.int64), (voxels[left] * voxels[right] - same).astype(np.int64)
