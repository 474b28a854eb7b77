"""Annotated volumes, and the patches that are cut from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import fastremap
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from segkit.data import Labels, Volume, check_aligned
from segkit.data.source import TypedSource
from segkit.errors import InvalidInput, InvalidParameter, sentence
from segkit.models.inputs import Range, check_intensity
from segkit.train.augment.finish import Cut, collate, finish
from segkit.train.augment.plan import Plan, draw_plan
from segkit.train.config import TrainConfig
from segkit.train.counted import BoxCounts, CountedPlaces, Labelled
from segkit.train.patch import Patch, Shape, name_of, origins
from segkit.train.places import AllPlaces, LabelledPlaces, Places, count_labelled

STREAMS = {"training": 0, "validation": 1, "health": 2}
"""What patches are for -> their stream of random numbers."""


@dataclass(frozen=True, eq=False)
class TrainingVolume:
    """Raw data and the objects in it; the raw may reach further than the labels, as the padded CREMI volumes do.

    Each is a container, or is read box by box from where it lies: a :class:`segkit.io.CachedSource`.
    """

    raw: TypedSource
    """Intensities, any dtype that :func:`segkit.models.inputs.scale_intensity` takes."""
    labels: TypedSource
    """Objects, uint64, on the lattice of `raw`: same voxel size, shifted by whole voxels."""
    mask: TypedSource | None = None
    """bool, on the grid of `labels`: False where the labels are not to be trusted."""
    name: str | None = None
    """What messages call it, such as the address that it was read from; None: by its number."""
    found: Range | None = None
    """Least and largest value of all raw data that are stored, of which `raw` may be a crop; None: those of `raw`."""

    def __post_init__(self) -> None:
        _ = self.position
        if self.mask is not None:
            check_aligned(labels=self.labels, mask=self.mask)
            if self.mask.dtype != bool:
                raise InvalidInput(sentence("mask", "must be bool", self.mask.dtype, "compare it with 0"))

    @property
    def position(self) -> tuple[int, int, int]:
        """The voxel of the raw data at which the first voxel of the labels lies; may be negative."""
        return self.raw.grid.voxel_position(self.labels.grid)

    @property
    def in_memory(self) -> bool:
        """Whether all of it is there, and no box needs to be read."""
        return all(isinstance(part, Volume | Labels | None) for part in (self.raw, self.labels, self.mask))


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
            check_intensity(volume.raw.array if isinstance(volume.raw, Volume) else np.empty(0, volume.raw.dtype))
        name = f"{'validation' if purpose == 'validation' else 'training'} volume"
        weights = config.weights if purpose == "training" else None
        self.sampler = PatchSampler(self.volumes, patch, name, config.min_labelled, weights)

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
    window = _slices(raw_low + position, raw_high + position)
    raw = np.array(volume.raw.read(window), order="C", dtype=volume.raw.dtype.newbyteorder("="))
    if not volume.in_memory:
        check_intensity(raw)  # of the others all is known from the beginning
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


def _slices(low: np.ndarray, high: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))


def _triple(values: np.ndarray) -> Shape:
    return tuple(values.tolist())


def _crop_annotation(volume: TrainingVolume, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Crop ids (0 outside the annotation) and mask (True inside it) of a box."""
    window = _slices(low, high)
    part = Labels(volume.labels.read(window), volume.labels.grid)
    mask = part.inside
    if volume.mask is not None:
        mask = mask & volume.mask.read(window)
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
    `min_labelled` of the output is annotated voxels in objects, as the volume lies in its file, not deformed. With
    `weights` a volume is drawn first, by its weight among those with valid places, and then a place in it.
    """

    def __init__(
        self,
        volumes: Sequence[TrainingVolume],
        patch: Patch,
        name: str = "training volume",
        min_labelled: float = 0.0,
        weights: Sequence[float] | None = None,
    ) -> None:
        """Find the valid places; `name` is what messages call a volume.

        Raises InvalidInput if no volume has one, InvalidShape if one is too small, InvalidParameter if there are not
        as many weights as volumes.
        """
        if not volumes:
            raise InvalidInput(sentence(f"{name}s", "must be at least one"))
        if weights is not None and len(weights) != len(volumes):
            rule, next_step = f"must be one for each {name}, {len(volumes)}", "give one for each, in their order"
            raise InvalidParameter(sentence("weights", rule, len(weights), next_step))
        self.names = [name_of(volume, number, name) for number, volume in enumerate(volumes)]
        ranges = [origins(volume, patch, called) for volume, called in zip(volumes, self.names, strict=True)]
        self.low = np.array([low for low, _ in ranges])
        self.size = np.array([high - low for low, high in ranges])
        self.ends = np.cumsum(self.size.prod(axis=1))
        self.never_drawn: list[str] = []
        """Of each volume without a valid place a sentence that says so."""
        found = self._labelled(volumes, patch, min_labelled) if min_labelled else None
        groups, shares = [slice(None)], [1.0]
        if weights is not None:
            drawn = [n for n in range(len(volumes)) if found is None or found[n].any()]
            groups, shares = [slice(n, n + 1) for n in drawn], [weights[n] for n in drawn]
        self.groups = [self._places(group, found) for group in groups]
        self.shares = np.cumsum(shares) / np.cumsum(shares)[-1]

    def draw(self, rng: np.random.Generator) -> tuple[int, np.ndarray]:
        """Draw the number of a volume, and the voxel of its labels at which the output begins, int64 (3,)."""
        group = int(np.searchsorted(self.shares, rng.random(), side="right")) if len(self.groups) > 1 else 0
        before, places = self.groups[group]
        place = before + places.draw(rng)
        number = int(np.searchsorted(self.ends, place, side="right"))
        within = place - (int(self.ends[number - 1]) if number else 0)
        return number, self.low[number] + np.unravel_index(within, self.size[number])

    def _places(self, group: slice, found: Sequence[Any] | None) -> tuple[int, AllPlaces | LabelledPlaces]:
        """Make what draws from some of the volumes, with the number of their first place among those of all."""
        sizes = self.size.prod(axis=1)
        before = int(sizes[: group.start].sum()) if group.start else 0
        if found is None:
            return before, AllPlaces(int(sizes[group].sum()))
        return before, CountedPlaces(found[group]) if isinstance(found[0], BoxCounts) else Places(found[group])

    def _labelled(self, volumes: Sequence[TrainingVolume], patch: Patch, share: float) -> Sequence[Any]:
        """Find for each volume the places with a share of labelled voxels of at least `share`, as a table of bool.

        Volumes that are not in memory are not read for that: for each there are BoxCounts, and its places are looked at
        when they are drawn.
        """
        in_memory = all(volume.in_memory for volume in volumes)
        found, voxels = [], np.prod(patch.output)
        for volume, name, low, size in zip(volumes, self.names, self.low, self.size, strict=True):
            labelled, asked = partial(_labelled_box, volume, low), (size, patch.output, share * voxels)
            places: Any = None if in_memory else BoxCounts(labelled, *asked)
            if in_memory:
                places, most = count_labelled(partial(_labelled_section, labelled, size + patch.output - 1), *asked)
            found.append(places)
            if not places.any():
                most = most if in_memory else places.most
                rule = f"must hold patches with a share of labelled voxels of {share:g} (min_labelled) to be drawn from"
                next_step = "check labels and mask, choose a smaller patch, or lower min_labelled"
                self.never_drawn.append(sentence(name, rule, f"{most / voxels:.2g} at most", next_step))
        if len(self.never_drawn) == len(volumes):
            raise InvalidInput(self.never_drawn[0])
        return found


def _labelled_box(volume: TrainingVolume, first: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Say which voxels of a box, counted from voxel `first` of the labels, are annotated and in an object."""
    return _crop_annotation(volume, first + low, first + high)[0] != 0


def _labelled_section(labelled: Labelled, size: np.ndarray, z: int) -> np.ndarray:
    """Say the same of section `z` of a part of `size` voxels."""
    return labelled(np.array([z, 0, 0]), np.array([z + 1, *size[1:]]))[0]
