"""Local shape descriptors: what a network is taught beside affinities, so that it sees whole objects.

Sheridan et al. 2022, doi:10.1038/s41592-022-01711-z.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from segkit.errors import InvalidParameter, sentence

REACH = 3
"""The Gaussian window ends at this many standard deviations."""
LEAST_VARIANCE = 1e-3
"""Variances below this, in squared voxels, are taken for it where covariances are divided by them."""
CHANNELS = {2: 6, 3: 10}
"""Number of descriptors by dimensions."""


class ShapeDescriptors:
    """The descriptors of every voxel: statistics of that part of its object which a Gaussian window around it holds.

    The window counts voxels by their distance, and stops at the border of the patch. In 3-D the ten channels are, in
    this order: the offset from the voxel to the mean position (z, y, x), the variance of the position (z, y, x), its
    correlations (zy, zx, yx), and the share of the window that the object fills; in 2-D the six without z. As
    published, all are brought to 0..1: an offset of -sigma to +sigma becomes 0..1, a variance is divided by sigma
    squared, a correlation of -1..1 becomes 0..1, and what is beyond is clipped. Background has 0 in all channels.

    Parameters
    ----------
    sigma
        Standard deviation of the window, nm.
    voxel_size
        Edge lengths of a voxel, nm, z, y, x.
    ndim
        3, or 2 for descriptors of sections.
    """

    def __init__(self, *, sigma: float, voxel_size: Sequence[float], ndim: int = 3) -> None:
        if not (0 < sigma < float("inf")):
            raise InvalidParameter(sentence("descriptors.sigma", "must be a positive length in nm", sigma))
        self.ndim, self.sigma = ndim, [sigma / edge for edge in voxel_size]
        self.channels = CHANNELS[ndim]

    def __call__(self, labels: Tensor) -> Tensor:
        """Descriptors float32 (B, channels, Z, Y, X) of `labels` (B, Z, Y, X), on the device where they lie.

        Each object is looked at in the box around it alone, and there all windows at once: a window is separable, so
        that its moments are products of matrices, one an axis.
        """
        result = torch.zeros((len(labels), self.channels, *labels.shape[1:]), device=labels.device)
        with torch.no_grad(), torch.autocast(labels.device.type, enabled=False):
            tables = [
                _moments(size, sigma, labels.device) for size, sigma in zip(labels.shape[1:], self.sigma, strict=True)
            ]
            for item, found in zip(labels, result, strict=True):
                for label, box in _boxes(item, sections=self.ndim == 2):
                    self._fill(found[(slice(None), *box)], item[box] == label, tables)
        return result

    def _fill(self, found: Tensor, mask: Tensor, tables: Sequence[Tensor]) -> None:
        """Write the descriptors of the object `mask` into the channels `found` (channels, Z, Y, X) of its box."""
        moment: dict[tuple[int, ...], Tensor] = {(0, 0, 0): mask.float()}
        for axis in range(3 - self.ndim, 3):
            table = tables[axis][:, : mask.shape[axis], : mask.shape[axis]]
            moment = {
                tuple(power if each == axis else p for each, p in enumerate(powers)): _along(values, table[power], axis)
                for powers, values in moment.items()
                for power in range(3 - sum(powers))
            }
        inside = mask.reshape(-1).nonzero().squeeze(1)  # most of a box is not of the object
        moment = {powers: values.reshape(-1)[inside] for powers, values in moment.items()}
        size = moment[0, 0, 0]
        mean = {powers: values / size.clamp(min=1e-12) for powers, values in moment.items()}
        units = [tuple(int(each == axis) for each in range(3)) for axis in range(3 - self.ndim, 3)]
        sigmas = self.sigma[3 - self.ndim :]
        pairs = [(a, b) for a in range(self.ndim) for b in range(a + 1, self.ndim)]

        def covariance(a: int, b: int) -> Tensor:
            both = tuple(p + q for p, q in zip(units[a], units[b], strict=True))
            return mean[both] - mean[units[a]] * mean[units[b]]

        variances = [covariance(a, a) for a in range(self.ndim)]
        spread = [variance.clamp(min=LEAST_VARIANCE).sqrt() for variance in variances]
        channels = [mean[unit] / sigma * 0.5 + 0.5 for unit, sigma in zip(units, sigmas, strict=True)]
        channels += [variance / sigma**2 for variance, sigma in zip(variances, sigmas, strict=True)]
        channels += [covariance(a, b) / (spread[a] * spread[b]) * 0.5 + 0.5 for a, b in pairs]
        found[:, mask] = torch.stack([*channels, size]).clamp(0, 1)


def descriptor_error(logits: Tensor, target: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """The mean squared error of the sigmoid of `logits` (B, C, Z, Y, X) over the voxels of objects inside `mask`.

    It is the mean over the items of a batch, whatever their objects' size, so that devices can share a batch. An item
    without objects adds 0, with a gradient of 0.
    """
    inside = ((labels > 0) & mask).unsqueeze(1)
    errors = mse_loss(logits.float().sigmoid(), target, reduction="none").mean(1, keepdim=True)
    number = inside.sum((1, 2, 3, 4)).clamp(min=1)
    return (torch.where(inside, errors, 0.0).sum((1, 2, 3, 4)) / number).mean()


def _moments(size: int, sigma: float, device: torch.device) -> Tensor:
    """Matrices (3, size, size): row v weighs voxel u by the window at u - v, times u - v to the power 0, 1, 2."""
    place = torch.arange(size, device=device, dtype=torch.float32)
    offset = place[None, :] - place[:, None]
    reach = max(int(REACH * sigma + 0.5), 1)
    steps = torch.arange(-reach, reach + 1, device=device, dtype=torch.float32)
    window = torch.exp(-0.5 * (offset / sigma) ** 2) / torch.exp(-0.5 * (steps / sigma) ** 2).sum()
    window = torch.where(offset.abs() <= reach, window, 0.0)
    return torch.stack([window, window * offset, window * offset**2])


def _along(values: Tensor, table: Tensor, axis: int) -> Tensor:
    """`table` applied to one axis of `values` (Z, Y, X), which stay in their order in memory."""
    if axis == 0:
        return (table @ values.reshape(len(values), -1)).reshape(values.shape)
    return table @ values if axis == 1 else values @ table.T


def _boxes(labels: Tensor, sections: bool) -> list[tuple[int, tuple[slice, ...]]]:
    """Each object of `labels` (Z, Y, X) with the box around it, or one for each of the sections that it is in."""
    ids, inverse = torch.unique(labels, return_inverse=True)
    planes = inverse
    if sections:
        planes = inverse + len(ids) * torch.arange(len(labels), device=labels.device)[:, None, None]
    number = len(ids) * (len(labels) if sections else 1)
    bounds = []
    for axis, size in enumerate(labels.shape):
        place = torch.arange(size, device=labels.device).reshape([-1 if a == axis else 1 for a in range(3)])
        place = place.expand(labels.shape).reshape(-1)
        low = torch.full((number,), size, device=labels.device).scatter_reduce(0, planes.reshape(-1), place, "amin")
        high = torch.full((number,), -1, device=labels.device).scatter_reduce(0, planes.reshape(-1), place, "amax")
        bounds += [low, high]
    rows = torch.stack(bounds, 1).tolist()  # the one copy to the host
    names = ids.tolist() * (len(labels) if sections else 1)
    return [
        (name, tuple(slice(row[2 * axis], row[2 * axis + 1] + 1) for axis in range(3)))
        for name, row in zip(names, rows, strict=True)
        if name > 0 and row[1] >= 0
    ]
