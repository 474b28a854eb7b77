"""What changes intensities and nothing else: tone, blur, noise, and what single sections suffer."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from segkit.models.inputs import FULL_SCALE
from segkit.train.augment.plan import Defect, Plan

REACH = 3
"""A Gaussian is cut off at so many standard deviations."""
SCALES = {getattr(torch, dtype.name): 2 / full for dtype, full in FULL_SCALE.items()}


def scale_intensity(raw: Tensor) -> Tensor:
    """As :func:`segkit.models.inputs.scale_intensity`, to the last bit, on any device, without its checks."""
    return raw.float() * SCALES.get(raw.dtype, 2.0) - 1


def change_intensity(raw: Tensor, plan: Plan) -> Tensor:
    """`raw` float32 (Z, Y, X) in about -1..1 with all that `plan` says of intensities, in the order of a microscope."""
    raw = blur(raw, plan.blur)
    for defect in plan.defects:
        if defect.kind != "missing":
            raw = apply_defect(raw, defect)
    if plan.gamma != 1:
        raw = ((raw + 1) / 2).clamp(0, 1) ** plan.gamma * 2 - 1
    if plan.scale != 1 or plan.shift:
        raw = raw * plan.scale + plan.shift
    if plan.noise:
        generator = torch.Generator(raw.device).manual_seed(plan.seed)
        raw = raw + plan.noise * torch.randn(raw.shape, generator=generator, device=raw.device)
    for defect in plan.defects:
        if defect.kind == "missing":
            raw = apply_defect(raw, defect)
    return raw


def blur(raw: Tensor, sigma: tuple[float, float, float]) -> Tensor:
    """`raw` (Z, Y, X) blurred by a Gaussian of `sigma` voxels along each axis; its rim goes on outwards."""
    for axis, width in enumerate(sigma):
        reach = math.ceil(REACH * width)
        if reach == 0:
            continue
        weights = torch.exp(-(torch.arange(-reach, reach + 1, dtype=torch.float64) ** 2) / (2 * width**2))
        weights = (weights / weights.sum()).tolist()
        pads = [0, 0] * (2 - axis) + [reach, reach]
        padded = F.pad(raw[None, None], pads + [0, 0] * axis, mode="replicate")[0, 0]
        size = raw.shape[axis]
        raw = sum(weight * padded.narrow(axis, step, size) for step, weight in enumerate(weights))
    return raw


def apply_defect(raw: Tensor, defect: Defect) -> Tensor:
    """A copy of `raw` (Z, Y, X) in which the section is changed as `defect` says."""
    raw = raw.clone()
    section = raw[defect.section]
    if defect.kind == "missing":
        section[:] = 2 * defect.amount - 1
    elif defect.kind == "dark":
        section[:] = (section + 1) * (1 - defect.amount) - 1
    elif defect.kind == "contrast":
        section[:] = torch.lerp(section, section.mean(), defect.amount)
    else:
        soft = blur(section[None], (0, defect.amount, defect.amount))[0]
        section[:] = torch.lerp(section, soft, _spot(section, defect.spot))
    return raw


def _spot(section: Tensor, spot: tuple[float, float, float]) -> Tensor:
    """1 in the middle of the spot, falling to 0 at its edge (Y, X)."""
    y, x = (torch.arange(size, device=section.device, dtype=torch.float32) for size in section.shape)
    distance = ((y - spot[0])[:, None] ** 2 + (x - spot[1]) ** 2).sqrt()
    return (1 - (distance / max(spot[2], 1e-6)) ** 2).clamp(0, 1)
