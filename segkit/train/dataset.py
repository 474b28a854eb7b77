"""Annotated volumes, and the patches that are cut from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch.utils.data import Dataset

from segkit.data import Labels, Volume, check_aligned
from segkit.errors import InvalidInput, sentence
from segkit.models.inputs import check_intensity, scale_intensity
from segkit.train import augment
from segkit.train.config import TrainConfig
from segkit.train.patch import Patch
from segkit.train.sampling import PatchSampler, generator
from segkit.train.targets import affinity_targets, compact

TRIES = 500
"""Places looked at before a patch with enough labels is given up."""
STREAMS = {"training": 0, "validation": 1, "health": 2}
"""What patches are for -> their stream of random numbers."""


@dataclass(frozen=True, eq=False)
class TrainingVolume:
    """Raw data and the objects in it; the raw may reach further than the labels, as the padded CREMI volumes do."""

    raw: Volume
    """Intensities, any dtype that :func:`segkit.models.inputs.scale_intensity` takes."""
    labels: Labels
    """Objects, on the lattice of `raw`: same voxel size, shifted by whole voxels."""
    mask: Volume | None = None
    """bool, on the grid of `labels`: False where the labels are not to be trusted."""

    def __post_init__(self) -> None:
        _ = self.position
        if self.mask is not None:
            check_aligned(labels=self.labels, mask=self.mask)
            if self.mask.array.dtype != bool:
                raise InvalidInput(sentence("mask", "must be bool", self.mask.array.dtype, "compare it with 0"))

    @property
    def position(self) -> tuple[int, int, int]:
        """The voxel of the raw data at which the first voxel of the labels lies; may be negative."""
        return self.raw.grid.voxel_position(self.labels.grid)


class PatchDataset(Dataset):
    """Patch k of a run, a pure function of the settings and k, so that no order, worker or resume can change it.

    An item is a dict of arrays: raw float32 (S, [Z,] Y, X) in about -1..1, labels int64 (Z, Y, X), mask bool
    (Z, Y, X), target float32 (C, Z, Y, X) and edges bool (C, Z, Y, X). A neuron that a patch cuts into several
    pieces keeps one id: MALIS makes positive pairs only of voxels that are connected inside the patch, and pieces
    with different ids would be pushed apart although they are one neuron.
    """

    def __init__(
        self,
        config: TrainConfig,
        volumes: Sequence[TrainingVolume],
        patch: Patch,
        neighborhood: np.ndarray,
        *,
        purpose: Literal["training", "validation", "health"] = "training",
    ) -> None:
        self.config, self.volumes, self.patch, self.neighborhood = config, tuple(volumes), patch, neighborhood
        self.augmented = purpose == "training"
        self.stream = STREAMS[purpose]
        for volume in self.volumes:
            check_intensity(volume.raw.array)
        self.sampler = PatchSampler(
            self.volumes, patch, f"{'validation' if purpose == 'validation' else 'training'} volume"
        )

    def __getitem__(self, k: int) -> dict[str, np.ndarray]:
        rng = generator(self.config.seed, self.stream, k)
        volume, origin = self._place(rng)
        labels, mask = self._annotation(volume, origin)
        raw = self._raw(volume, origin)
        if self.augmented:
            axes = augment.exchangeable(self.patch, volume.labels.grid) if self.config.transposes else ()
            symmetry = augment.draw_symmetry(rng, self.config.flips, axes)
            raw, labels, mask = (augment.apply_symmetry(array, symmetry).copy() for array in (raw, labels, mask))
            raw = augment.change_intensity(raw, rng, self.config.intensity_scale, self.config.intensity_shift)
        target, edges = affinity_targets(labels, mask, self.neighborhood)
        raw = raw if self.patch.ndim == 2 else raw[None]
        item = {"raw": raw, "labels": labels, "mask": mask, "target": target, "edges": edges}
        return {name: np.ascontiguousarray(array) for name, array in item.items()}

    def _place(self, rng: np.random.Generator) -> tuple[TrainingVolume, np.ndarray]:
        least = self.config.min_labelled * np.prod(self.patch.output)
        for _ in range(TRIES):
            number, origin = self.sampler.draw(rng)
            labels, mask = _crop_annotation(self.volumes[number], origin, origin + self.patch.output)
            if np.count_nonzero(labels[mask]) >= least:
                return self.volumes[number], origin
        rule = f"must hold patches with a share of labelled voxels of {self.config.min_labelled}"
        next_step = "check labels and mask, or lower min_labelled"
        found = f"in none of the {TRIES} places looked at"
        raise InvalidInput(f"{sentence('the training data', rule)}; that was so {found}; {next_step}")

    def _annotation(self, volume: TrainingVolume, origin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels int64 and mask of the output, rims taken off with a look at what lies around the patch."""
        margin = self.config.grow_boundary
        end = origin + self.patch.output
        low = np.maximum(origin - margin, 0)
        labels, mask = _crop_annotation(volume, low, np.minimum(end + margin, volume.labels.shape))
        in_plane = self.patch.ndim == 2 or not augment.isotropic(volume.labels.grid)
        labels = augment.grow_boundary(labels, mask, margin, axes=(1, 2) if in_plane else (0, 1, 2))
        inner = tuple(slice(a, a + size) for a, size in zip(origin - low, self.patch.output, strict=True))
        return compact(labels[inner]), mask[inner]

    def _raw(self, volume: TrainingVolume, origin: np.ndarray) -> np.ndarray:
        start = origin + volume.position - self.patch.before
        window = tuple(slice(a, a + size) for a, size in zip(start, self.patch.input, strict=True))
        return scale_intensity(volume.raw.array[window])


def _crop_annotation(volume: TrainingVolume, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids (0 outside the annotation) and mask (True inside it) of a box."""
    window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    part = Labels(volume.labels.array[window], volume.labels.grid)
    mask = part.inside
    if volume.mask is not None:
        mask = mask & volume.mask.array[window]
    return np.where(mask, part.array, np.uint64(0)), mask
