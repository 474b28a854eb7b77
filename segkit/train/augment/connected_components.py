"""Give each connected component of the objects in a patch an id of its own, and grow the boundaries between them."""

from collections.abc import Sequence

import cc3d
import numpy as np
import torch
from torch import Tensor

from segkit.data import edge_slices

STEPS = np.eye(3, dtype=int)


def renumber_components(labels: Tensor) -> Tensor:
    """`labels` (Z, Y, X) with an id for every piece that is connected through faces; 0 stays 0. int64.

    Ids have gaps on accelerators, where they are made without leaving the device; pieces are the same.
    """
    if labels.device.type == "cpu":
        return torch.from_numpy(cc3d.connected_components(labels.numpy(), connectivity=6).astype(np.int64))
    return connected_components(labels)


def connected_components(labels: Tensor) -> Tensor:
    """The same by torch alone: each voxel gets 1 + the least index of its piece, its own root at first.

    Roots that touch are joined to the least of them, then every voxel looks up the root of its root: a few turns do,
    however long a neurite winds.
    """
    root = torch.arange(labels.numel(), device=labels.device)
    index = root.view(labels.shape)
    pairs = []
    for step in STEPS:
        one, other = edge_slices(labels.shape, step)
        same = (labels[one] == labels[other]) & (labels[one] != 0)
        pairs.append(torch.stack([index[one][same], index[other][same]]))
    ends = torch.cat(pairs, dim=1)
    while ends.shape[1]:
        roots = root[ends]
        root = root.scatter_reduce(0, roots.amax(dim=0), roots.amin(dim=0), "amin")
        while not torch.equal(root[root], root):
            root = root[root]
        ends = ends[:, root[ends[0]] != root[ends[1]]]
    return torch.where(labels != 0, root.view(labels.shape) + 1, 0)


def grow_boundary(labels: Tensor, mask: Tensor, steps: int, axes: Sequence[int]) -> Tensor:
    """`labels` (Z, Y, X) with a rim of `steps` voxels of every object made background (0).

    The rim is where a face neighbour along `axes` carries something else; neighbours outside the array or the mask
    are unknown, and take nothing off.

    >>> row = torch.tensor([[[3, 3, 3, 5, 5, 0, 0]]])
    >>> grow_boundary(row, row >= 0, 1, axes=[2]).ravel().tolist()
    [3, 3, 0, 0, 0, 0, 0]
    """
    for _ in range(steps):
        rim = torch.zeros(labels.shape, dtype=torch.bool, device=labels.device)
        for axis in axes:
            first, second = edge_slices(labels.shape, STEPS[axis])
            differ = (labels[first] != labels[second]) & mask[first] & mask[second]
            rim[first] |= differ
            rim[second] |= differ
        labels = labels.masked_fill(rim, 0)
    return labels
