"""Cuts the patch out of what was read, deformed as planned, in one step: raw data linearly, labels by nearest voxel."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from segkit.train.augment.warp import Warp, spline
from segkit.train.patch import Shape

Box = tuple[Shape, Shape]
"""First voxel and shape."""


def positions(warp: Warp, device: torch.device) -> Tensor:
    """Where each voxel of the box of `warp` comes from, float32 (3, Z, Y, X), in voxels."""
    axes = [torch.arange(low, low + n, dtype=torch.float64) for low, n in zip(warp.low, warp.shape, strict=True)]
    matrix, centre = torch.from_numpy(warp.matrix), torch.from_numpy(warp.centre)
    columns = [matrix[:, axis, None] * (place - centre[axis]) for axis, place in enumerate(axes)]
    z, y, x = (column.float().to(device) for column in (columns[0] + centre[:, None], *columns[1:]))
    if warp.moves is not None:
        z[1:] += torch.from_numpy(warp.moves).T.to(device)
    field = z[:, :, None, None] + y[:, None, :, None] + x[:, None, None, :]
    return field if warp.control is None else field + _deformation(warp, device)


def _deformation(warp: Warp, device: torch.device) -> Tensor:
    """The displacement of each voxel, float32 (3, Z, Y, X): the control points, smoothly joined axis by axis."""
    field = torch.from_numpy(warp.control).to(device)
    for axis, (size, spacing) in enumerate(zip(warp.shape, warp.spacing, strict=True), start=1):
        weights = torch.tensor(spline(size, spacing), device=device)
        field = torch.movedim(torch.movedim(field, axis, -1) @ weights.T, -1, axis)
    return field


def part(field: Tensor, low: Shape, box: Box) -> Tensor:
    """The positions of a box within those of the larger one that begins at `low`."""
    window = [slice(a - b, a - b + n) for a, b, n in zip(box[0], low, box[1], strict=True)]
    return field[:, *window]


def sample_raw(raw: Tensor, low: Sequence[int], where: Tensor, keeps_sections: bool) -> Tensor:
    """`raw` float32 (Z, Y, X), whose first voxel lies at `low`, at the positions `where` (3, Z, Y, X), linearly.

    Beyond the rim it is mirrored. With `keeps_sections` each section comes from the one of its own in `raw`.
    """
    first = 1 if keeps_sections else 0
    axes = range(2, first - 1, -1)
    grid = torch.stack([(where[axis] - low[axis]) * (2 / max(raw.shape[axis] - 1, 1)) - 1 for axis in axes], dim=-1)
    if keeps_sections:
        return _grid_sample(raw[:, None], grid)[:, 0]
    return _grid_sample(raw[None, None], grid[None])[0, 0]


def _grid_sample(raw: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(raw, grid, mode="bilinear", padding_mode="reflection", align_corners=True)


def sample_labels(labels: Tensor, mask: Tensor, low: Sequence[int], where: Tensor) -> tuple[Tensor, Tensor]:
    """Integers and mask (Z, Y, X), whose first voxel lies at `low`, at the voxels nearest to the positions `where`.

    By index, so that ids stay exact; 0 and False beyond the rim.
    """
    inside = torch.ones(where.shape[1:], dtype=torch.bool, device=where.device)
    flat = torch.zeros(where.shape[1:], dtype=torch.int64, device=where.device)
    for axis, size in enumerate(labels.shape):
        index = where[axis].round().long() - low[axis]
        inside &= (index >= 0) & (index < size)
        flat = flat * size + index.clamp(0, size - 1)
    kept = mask.reshape(-1)[flat] & inside
    return labels.reshape(-1)[flat] * kept, kept


def place(array: Tensor, low: Sequence[int], box: Box) -> Tensor:
    """What of `array` (Z, Y, X), whose first voxel lies at `low`, lies in the box; 0 where it does not reach."""
    pads: list[int] = []
    for axis in (2, 1, 0):
        before = int(low[axis]) - box[0][axis]
        pads += [before, box[1][axis] - before - array.shape[axis]]
    return F.pad(array, pads)
