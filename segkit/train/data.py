"""Annotated volumes, the patches that are cut from them, and the batches that a step takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Literal

import fastremap
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segkit.data import Labels, Volume, check_aligned
from segkit.errors import InvalidInput, sentence
from segkit.models.inputs import Range, check_intensity
from segkit.train import distributed
from segkit.train.augment.finish import Cut, collate, finish
from segkit.train.augment.plan import Plan, draw_plan
from segkit.train.config import TrainConfig
from segkit.train.patch import Patch, Shape, name_of, origins
from segkit.train.places import Places, count_labelled

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
    name: str | None = None
    """What messages call it, such as the address that it was read from; None: by its number."""
    found: Range | None = None
    """Least and largest value of all raw data that are stored, of which `raw` may be a crop; None: those of `raw`."""

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

    An item is what is read for the patch, with the plan of what happens to it; a batch of them goes to the device, and
    :func:`segkit.train.augment.finish.finish` makes there what a step takes.

    With `components`, pieces of one neuron that do not meet inside the patch have ids of their own. That is off unless
    it is set: they are one neuron all the same. MALIS makes positive pairs only of voxels that are connected inside
    the patch; pieces with different ids would be negative pairs besides, and offsets that reach from one piece to the
    other would be taught to split the neuron.
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
        name = f"{'validation' if purpose == 'validation' else 'training'} volume"
        self.sampler = PatchSampler(self.volumes, patch, name, config.min_labelled)

    def __getitem__(self, k: int) -> Cut:
        rng = generator(self.config.seed, self.stream, k)
        volume, origin = self._place(rng)
        rim = self._rim(volume)
        plan = Plan(self.patch, rim)
        if self.augmented:
            plan = draw_plan(rng, self.config.augmentation, self.patch, volume.labels.grid, rim)
        return cut(volume, origin, plan)

    def batch(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        """Make the patches of these numbers as a step takes them, on the CPU."""
        return finish(collate([self[k] for k in numbers]), self.neighborhood, components=self.config.components)

    def _place(self, rng: np.random.Generator) -> tuple[TrainingVolume, np.ndarray]:
        number, origin = self.sampler.draw(rng)
        return self.volumes[number], origin

    def _rim(self, volume: TrainingVolume) -> Shape:
        """Compute how far around the patch the growing of boundaries looks."""
        steps, in_plane = self.config.grow_boundary, self.patch.ndim == 2 or not volume.labels.grid.isotropic
        return (0 if in_plane else steps, steps, steps)


def cut(volume: TrainingVolume, origin: np.ndarray, plan: Plan) -> Cut:
    """Read what `plan` needs of a volume for the patch whose output begins at voxel `origin` of the labels."""
    position = np.array(volume.position)
    raw_extent = (-position, volume.raw.shape - position)  # in voxels of the labels
    raw_low, raw_high = _within(plan.needs(plan.raw_box), origin, *raw_extent)
    window = tuple(slice(a, b) for a, b in zip(raw_low + position, raw_high + position, strict=True))
    raw = np.array(volume.raw.array[window], order="C", dtype=volume.raw.array.dtype.newbyteorder("="))
    known = np.maximum(0, raw_extent[0]), np.minimum(volume.labels.shape, raw_extent[1])
    low, high = _within(plan.needs(plan.label_box), origin, *known)
    labels, mask = _crop_annotation(volume, low, high)
    tensors = [torch.from_numpy(array) for array in (raw, compact(labels), np.array(mask))]
    return Cut(tensors[0], _triple(raw_low - origin), tensors[1], tensors[2], _triple(low - origin), plan)


def _within(
    needed: tuple[np.ndarray, np.ndarray], origin: np.ndarray, first: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Clip a box, given from `origin` on, to what lies between `first` and `end`; one voxel at least."""
    low = np.clip(needed[0] + origin, first, end - 1)
    return low, np.clip(needed[1] + origin, low + 1, end)


def _triple(values: np.ndarray) -> Shape:
    return tuple(values.tolist())


def _crop_annotation(volume: TrainingVolume, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Crop ids (0 outside the annotation) and mask (True inside it) of a box."""
    window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    part = Labels(volume.labels.array[window], volume.labels.grid)
    mask = part.inside
    if volume.mask is not None:
        mask = mask & volume.mask.array[window]
    return np.where(mask, part.array, np.uint64(0)), mask


def compact(labels: np.ndarray) -> np.ndarray:
    """Number the objects of a patch from 1 in order of appearance, int32; 0 stays 0."""
    numbered, _ = fastremap.renumber(np.ascontiguousarray(labels), preserve_zero=True, in_place=False)
    return numbered.astype(np.int32)


def generator(seed: int, stream: int, k: int) -> np.random.Generator:
    """Make the random numbers of patch k: they depend on nothing that was drawn before."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, stream, k])))


class PatchSampler:
    """Draws places for a patch from volumes, each valid place as likely, so that a volume counts by how many it has.

    A place is valid if the output lies inside the labels and the input inside the raw data, and if at least a share of
    `min_labelled` of the output is annotated voxels in objects, as the volume lies in its file, not deformed.
    """

    def __init__(
        self,
        volumes: Sequence[TrainingVolume],
        patch: Patch,
        name: str = "training volume",
        min_labelled: float = 0.0,
    ) -> None:
        """Find the valid places; `name` is what messages call a volume.

        Raises InvalidInput if no volume has one, InvalidShape if one is too small.
        """
        if not volumes:
            raise InvalidInput(sentence(f"{name}s", "must be at least one"))
        names = [name_of(volume, number, name) for number, volume in enumerate(volumes)]
        ranges = [origins(volume, patch, called) for volume, called in zip(volumes, names, strict=True)]
        self.low = np.array([low for low, _ in ranges])
        self.size = np.array([high - low for low, high in ranges])
        self.ends = np.cumsum(self.size.prod(axis=1))
        self.never_drawn: list[str] = []
        """Of each volume without a valid place a sentence that says so."""
        found = self._labelled(volumes, names, patch, min_labelled) if min_labelled else []
        self.places = Places(found) if found else None

    def draw(self, rng: np.random.Generator) -> tuple[int, np.ndarray]:
        """Draw the number of a volume, and the voxel of its labels at which the output begins, int64 (3,)."""
        place = int(rng.integers(self.ends[-1])) if self.places is None else self.places.draw(rng)
        number = int(np.searchsorted(self.ends, place, side="right"))
        within = place - (int(self.ends[number - 1]) if number else 0)
        return number, self.low[number] + np.unravel_index(within, self.size[number])

    def _labelled(
        self, volumes: Sequence[TrainingVolume], names: Sequence[str], patch: Patch, share: float
    ) -> list[np.ndarray]:
        """Find for each volume the places with a share of labelled voxels of at least `share`."""
        found, voxels = [], np.prod(patch.output)
        for volume, name, low, size in zip(volumes, names, self.low, self.size, strict=True):
            section = partial(_labelled_section, volume, low, low + size + patch.output - 1)
            enough, most = count_labelled(section, size, patch.output, share * voxels)
            found.append(enough)
            if not enough.any():
                rule = f"must hold patches with a share of labelled voxels of {share:g} (min_labelled) to be drawn from"
                next_step = "check labels and mask, choose a smaller patch, or lower min_labelled"
                self.never_drawn.append(sentence(name, rule, f"{most / voxels:.2g} at most", next_step))
        if len(self.never_drawn) == len(volumes):
            raise InvalidInput(self.never_drawn[0])
        return found


def _labelled_section(volume: TrainingVolume, low: np.ndarray, high: np.ndarray, z: int) -> np.ndarray:
    """Say which voxels of section `z` of a box are annotated and in an object."""
    first = low + np.array((z, 0, 0))
    return _crop_annotation(volume, first, np.array([first[0] + 1, *high[1:]]))[0][0] != 0


class ShardedSampler:
    """Counts the patches of this process without end, from `first` on: of each `batch`, its share, in order."""

    def __init__(self, first: int, batch: int) -> None:
        self.first, self.batch = first, batch
        self.share = batch // distributed.world_size()

    def __iter__(self) -> Iterator[int]:
        for start in count(self.first + distributed.rank() * self.share, self.batch):
            yield from range(start, start + self.share)


def patch_loader(patches: PatchDataset, config: TrainConfig, first: int) -> DataLoader:
    """Load the patches from number `first` on in batches, without end; to each process its share.

    The loader has a generator of its own, so that torch's random state is left to the network.
    """
    return DataLoader(
        patches,
        batch_size=config.batch_size // distributed.world_size(),
        sampler=ShardedSampler(first, config.batch_size),
        collate_fn=collate,
        num_workers=config.workers,
        generator=torch.Generator(),
    )
