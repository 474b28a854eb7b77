"""From what was cut to what the network and the loss see, on the device where it lies."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segkit.data import edge_slices
from segkit.train.augment.connected_components import grow_boundary, renumber_components
from segkit.train.augment.intensity import change_intensity, scale_intensity
from segkit.train.augment.plan import Plan
from segkit.train.augment.resample import part, place, positions, sample_labels, sample_raw
from segkit.train.augment.symmetry import apply_symmetry
from segkit.train.patch import Shape


@dataclass(frozen=True, eq=False)
class Cut:
    """What was read for a patch, as it lies in the file, and what is to be done with it."""

    raw: Tensor
    """Intensities of any dtype, (Z, Y, X); as large as the plan needs, as far as the volume reaches."""
    raw_low: Shape
    """Its first voxel; (0, 0, 0) is the first of the output before anything moves."""
    labels: Tensor
    """Objects, int32 (Z, Y, X)."""
    mask: Tensor
    """bool (Z, Y, X)."""
    labels_low: Shape
    """Their first voxel."""
    plan: Plan
    """What becomes of it."""

    def each(self, change: Callable[[Tensor], Tensor]) -> "Cut":
        """Return the same with `change` done to all tensors."""
        changed = (change(self.raw), self.raw_low, change(self.labels), change(self.mask), self.labels_low, self.plan)
        return Cut(*changed)


@dataclass(frozen=True, eq=False)
class RawBatch:
    """Patches of a batch before :func:`finish`; moves between devices as a tensor does."""

    cuts: tuple[Cut, ...]

    def __len__(self) -> int:
        return len(self.cuts)

    def to(self, device: torch.device, **options: bool) -> "RawBatch":
        """Return the same on `device`."""
        return RawBatch(tuple(cut.each(lambda tensor: tensor.to(device, **options)) for cut in self.cuts))

    def pin_memory(self) -> "RawBatch":
        """Return the same in memory that a GPU reads by itself."""
        return RawBatch(tuple(cut.each(Tensor.pin_memory) for cut in self.cuts))


def collate(cuts: Sequence[Cut]) -> RawBatch:
    """Put patches into a batch; they may differ in what was read for them."""
    return RawBatch(tuple(cuts))


@torch.no_grad()
def finish(batch: RawBatch, neighborhood: np.ndarray, *, components: bool = False) -> dict[str, Tensor]:
    """Make what a training step takes: raw float32 (B, S, [Z,] Y, X), and of (Z, Y, X) the others.

    These are labels int64 and mask bool (B, Z, Y, X), target float32 and edges bool (B, C, Z, Y, X). With `components`
    pieces of an object that the cut or the deformation severed get ids of their own. Patches are made one by one, so
    that a patch does not depend on those beside it.
    """
    patches = [_finish(cut, components) for cut in batch.cuts]
    made = {name: torch.stack([patch[name] for patch in patches]) for name in patches[0]}
    target, edges = affinity_targets(made["labels"], made["mask"], neighborhood)
    return {**made, "target": target, "edges": edges}


def affinity_targets(labels: Tensor, mask: Tensor, neighborhood: np.ndarray) -> tuple[Tensor, Tensor]:
    """Compute true affinities, float32, and which edges exist, bool, both (B, C, Z, Y, X), of `labels` (B, Z, Y, X).

    An edge exists if both its ends lie inside the patch and the mask; its target is 1 if both carry the same object.
    All of it is computed where `labels` lie.

    >>> target, edges = affinity_targets(torch.tensor([[[[1, 1, 0, 0]]]]), torch.ones(1, 1, 1, 4).bool(), [[0, 0, -1]])
    >>> target.ravel().tolist(), edges.ravel().tolist()
    ([0.0, 1.0, 0.0, 0.0], [False, True, True, True])
    """
    shape = (len(labels), len(neighborhood), *labels.shape[1:])
    target = torch.zeros(shape, dtype=torch.float32, device=labels.device)
    edges = torch.zeros(shape, dtype=torch.bool, device=labels.device)
    for channel, offset in enumerate(neighborhood):
        source, end = (np.index_exp[:] + part for part in edge_slices(labels.shape[1:], offset))
        exist = mask[source] & mask[end]
        edges[:, channel][source] = exist
        target[:, channel][source] = ((labels[source] == labels[end]) & (labels[source] != 0) & exist).float()
    return target, edges


def _finish(cut: Cut, components: bool) -> dict[str, Tensor]:
    plan = cut.plan
    raw, labels, mask = _resample(cut)
    raw = apply_symmetry(change_intensity(raw, plan), plan.symmetry)
    window = tuple(slice(r, r + n) for r, n in zip(plan.rim, plan.patch.output, strict=True))
    grown = grow_boundary(labels, mask, max(plan.rim), [axis for axis in range(3) if plan.rim[axis]])[window]
    if components:
        grown = renumber_components(labels[window]) * (grown != 0)
    labels, mask = (apply_symmetry(array, plan.symmetry) for array in (grown, mask[window]))
    return {"raw": raw if plan.patch.ndim == 2 else raw[None], "labels": labels.long(), "mask": mask}


def _resample(cut: Cut) -> tuple[Tensor, Tensor, Tensor]:
    """Raw float32 of the plan's box of raw data, labels and mask of that of labels."""
    plan, raw = cut.plan, scale_intensity(cut.raw)
    if plan.warp is None:
        labels, mask = (place(array, cut.labels_low, plan.label_box) for array in (cut.labels, cut.mask))
        return place(raw, cut.raw_low, plan.raw_box), labels, mask
    where = positions(plan.warp, raw.device)
    from_raw, from_labels = (part(where, plan.warp.low, box) for box in (plan.raw_box, plan.label_box))
    raw = sample_raw(raw, cut.raw_low, from_raw, plan.warp.keeps_sections)
    return raw, *sample_labels(cut.labels, cut.mask, cut.labels_low, from_labels)
