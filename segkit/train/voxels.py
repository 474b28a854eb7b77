"""The size of the voxels that a network is trained on, and what depends on it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from segkit.data import Labels, Volume
from segkit.data.resample import ResampledLabels, ResampledSource, resample_labels, resample_volume, resampled_grid
from segkit.data.source import TypedSource
from segkit.losses.descriptors import CHANNELS, ShapeDescriptors
from segkit.models.inputs import Range, brightest, found_range, in_range, range_problem
from segkit.registry import find
from segkit.train.config import TrainConfig, check_voxel_size
from segkit.train.data import TrainingVolume

Size = tuple[float, float, float]


@dataclass(frozen=True)
class Voxels:
    """The voxels of the training volumes."""

    size: Size | None
    """Edge lengths, nm, z, y, x; None if the volumes disagree."""
    brightest: float | None = None
    """Where in black..white the largest value of all lies, of :func:`segkit.models.inputs.brightest`; None: unknown."""

    def fill_in(self, config: TrainConfig) -> TrainConfig:
        """Return `config` with the voxel size among the parameters of a model that derives one of them from it."""
        if not _derives(config):
            return config
        size = check_voxel_size(self.size, f"automatic parameters of model {config.model!r}")
        parameters = {**config.model_parameters, "voxel_size": list(size)}
        return config.model_copy(update={"model_parameters": parameters})

    def descriptors(self, config: TrainConfig, ndim: int) -> ShapeDescriptors | None:
        """Make what computes the local shape descriptors that are wanted; None if none are."""
        if config.descriptors is None:
            return None
        size = check_voxel_size(self.size, "local shape descriptors")
        return ShapeDescriptors(sigma=config.descriptors.sigma, voxel_size=size, ndim=ndim)

    def auxiliary(self, config: TrainConfig, ndim: int) -> int:
        """Count the channels that the network has beyond affinities."""
        return 0 if config.descriptors is None else CHANNELS[ndim]

    def to_infer(self, config: TrainConfig) -> dict[str, object]:
        """Collect what inference must know: the voxel size, whether it must resample to it, and the raw values."""
        return {
            "voxel_size": self.size and list(self.size),
            "resampled": config.voxel_size is not None,
            "intensity_range": config.intensity_range and list(config.intensity_range),
            "brightest": self.brightest,
        }


UNKNOWN = Voxels(None)


def voxels_of(volumes: Sequence[TrainingVolume]) -> Voxels:
    """Find the voxel size that the labels of `volumes` share."""
    grids = [volume.labels.grid for volume in volumes]
    same = bool(grids) and all(grid.same_voxel_size(grids[0]) for grid in grids)
    return Voxels(grids[0].voxel_size) if same else UNKNOWN


def needs_voxel_size(config: TrainConfig) -> str | None:
    """Say what of the settings needs volumes that say their voxel size; None if nothing does."""
    reasons = {
        "resampling": config.voxel_size is not None,
        "neighborhood=long-range": config.neighborhood == "long-range",
        "automatic parameters of the model": _derives(config),
        "local shape descriptors": config.descriptors is not None,
    }
    return next((reason for reason, given in reasons.items() if given), None)


def _derives(config: TrainConfig) -> bool:
    """Say whether the model has a parameter `voxel_size` that is not given, while another one is "auto"."""
    given = config.model_parameters
    if "auto" not in given.values() or given.get("voxel_size"):
        return False
    return "voxel_size" in find("models", config.model).parameters()


def resampled(volumes: Sequence[TrainingVolume], voxel_size: Sequence[float] | None) -> Sequence[TrainingVolume]:
    """Resample `volumes` to `voxel_size`, if there is one. Labels share the lattice of the raw data."""
    return volumes if voxel_size is None else [_resampled(volume, voxel_size) for volume in volumes]


def brightest_of(volumes: Sequence[TrainingVolume], taken: Range | None) -> float:
    """Find where in black..white the largest raw value of all `volumes` lies."""
    return max((brightest(_values(each), each.raw.dtype, taken) for each in volumes), default=1.0)


def unlike_values(volume: TrainingVolume, taken: Range | None, trained: float | None = None) -> str | None:
    """Say what is wrong with the raw values of a volume, by itself or beside those `trained` on; None if nothing."""
    return range_problem(_values(volume), volume.raw.dtype, taken, trained)


def _values(volume: TrainingVolume) -> Range:
    return volume.found or found_range(volume.raw)[0]


def ranged(volumes: Sequence[TrainingVolume], taken: Range | None) -> Sequence[TrainingVolume]:
    """Take for black and white what `taken` says; see :func:`segkit.models.inputs.in_range`."""
    if taken is None:
        return volumes
    return [replace(each, raw=_ranged(each.raw, taken)) for each in volumes]


def _ranged(raw: TypedSource, taken: Range) -> TypedSource:
    return Volume(in_range(raw.array, *taken), raw.grid) if isinstance(raw, Volume) else RangedSource(raw, taken)


class RangedSource:
    """Intensities that are read box by box, as :func:`segkit.models.inputs.in_range` makes them."""

    def __init__(self, source: TypedSource, taken: Range) -> None:
        self._source, self._taken = source, taken
        self.shape, self.grid = source.shape, source.grid
        self.dtype = in_range(np.empty(0, source.dtype), *taken).dtype

    def read(self, box: tuple[slice, ...], /) -> np.ndarray:
        """Read the values in a box, (Z, Y, X)."""
        return in_range(self._source.read(box), *self._taken)


def hollow(volumes: Sequence[TrainingVolume], config: TrainConfig) -> list[TrainingVolume]:
    """Make volumes of the sizes that training would make of these, without voxels of their own and without masks."""
    return [_hollow(volume, config) for volume in volumes]


def _hollow(volume: TrainingVolume, config: TrainConfig) -> TrainingVolume:
    raw, labels, voxel_size = volume.raw, volume.labels, config.voxel_size
    voxel = raw.read((slice(0, 1),) * 3)
    voxel = voxel if config.intensity_range is None else in_range(voxel, *config.intensity_range)
    raw_place, place = (raw.grid, raw.shape), (labels.grid, labels.shape)
    if voxel_size is not None:
        place = resampled_grid(*place, voxel_size, anchor=raw.grid)
        raw_place = resampled_grid(*raw_place, voxel_size)
    return TrainingVolume(
        Volume(np.broadcast_to(voxel, raw_place[1]), raw_place[0]),
        Labels(np.broadcast_to(np.uint64(1), place[1]), place[0]),
        name=volume.name,
    )


def _resampled(volume: TrainingVolume, voxel_size: Sequence[float]) -> TrainingVolume:
    raw, labels, mask = volume.raw, volume.labels, volume.mask
    if not isinstance(raw, Volume) or not isinstance(labels, Labels) or not isinstance(mask, Volume | None):
        return replace(
            volume,
            raw=ResampledSource(raw, voxel_size, dtype=raw.dtype),
            labels=ResampledLabels(labels, voxel_size, anchor=raw.grid),
            mask=mask and ResampledSource(mask, voxel_size, anchor=raw.grid, dtype=bool),
        )
    grid, shape = resampled_grid(labels.grid, labels.shape, voxel_size, anchor=raw.grid)
    return TrainingVolume(
        resample_volume(raw, *resampled_grid(raw.grid, raw.shape, voxel_size)),
        resample_labels(labels, grid, shape),
        mask and resample_volume(mask, grid, shape),
        volume.name,
        volume.found,
    )
