"""What a run is made of: from settings and volumes to a network, its loss, its patches and its checks."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from segkit.errors import BrokenComponent, sentence
from segkit.losses.combined import parse_loss
from segkit.models.device import resolve_device, resolve_precision
from segkit.protocols import Loss, Model
from segkit.registry import find
from segkit.train.callbacks import Clock
from segkit.train.config import TrainConfig
from segkit.train.data import PatchDataset, TrainingVolume
from segkit.train.distributed import check_devices
from segkit.train.health import choose_crop
from segkit.train.module import TrainingModule
from segkit.train.patch import check_reach, fit_patch, resolve_patch
from segkit.train.quiet import own_random_state
from segkit.train.scoring import Segmenter
from segkit.train.validation import OnValidation
from segkit.train.voxels import Voxels, resampled, voxels_of


@dataclass(frozen=True)
class Job:
    """A run that can begin."""

    config: TrainConfig
    """The settings, what follows from the volumes filled in."""
    module: TrainingModule
    """The network, with loss and optimiser."""
    patches: PatchDataset
    """What it trains on."""
    loss: Loss
    """That of the settings, without what recoveries add."""
    crop: dict[str, torch.Tensor] | None
    """What checks of health predict; None without them."""
    clock: Clock | None
    """What ends the run in time, recoveries included; None without `max_minutes`."""
    validation: list[dict[str, torch.Tensor]] = field(default_factory=list)
    """Batches whose loss is computed now and then."""
    segmenter: Segmenter | None = None
    """What scores the network on the validation volumes; None without them."""
    on_validation: OnValidation | None = None
    """Who is told of validations."""


def prepare(
    config: TrainConfig,
    volumes: Sequence[TrainingVolume],
    validation: Sequence[TrainingVolume] = (),
    on_validation: OnValidation | None = None,
) -> Job:
    """All of a run but its folder; the settings of the job are `config` with what follows from the volumes filled in.

    torch's random state decides the first weights. Raises as :func:`segkit.train.run.train` does: what is wrong with
    settings or volumes is said here, before anything is written.
    """
    check_devices(config)
    volumes, validation = resampled(volumes, config.voxel_size), resampled(validation, config.voxel_size)
    voxels = voxels_of(volumes)
    config = voxels.told_to(config)
    neighborhood = config.offsets(find("models", config.model).load().ndim, voxels.size)
    network = _network(config, voxels, len(neighborhood))
    loss = parse_loss(config.loss, config.loss_parameters, backend=config.loss_backend)
    config = resolve_patch(config, network, [*volumes, *validation])
    patch = fit_patch(network, _sizes(config))
    check_reach(patch, neighborhood)
    found = {"neighborhood": neighborhood.tolist(), "patch": patch.output[3 - network.ndim :]}
    found["precision"] = resolve_precision(config.precision, resolve_device(config.device))
    config = TrainConfig(**{**config.model_dump(), **found})
    patches = PatchDataset(config, volumes, patch, neighborhood)
    patches[0]  # data without any usable patch are refused
    module = TrainingModule(network, loss, neighborhood, config, voxels)
    crop = _crop(config, network, volumes, neighborhood) if config.health.every else None
    clock = Clock(config.max_minutes) if config.max_minutes is not None else None
    if not validation:
        return Job(config, module, patches, loss, crop, clock)
    fixed = PatchDataset(config, validation, patch, neighborhood, purpose="validation")
    batches = [fixed.batch([k]) for k in range(config.validation_patches)]
    segmenter = Segmenter(config, validation, network, neighborhood) if config.validation.segmentation else None
    return Job(config, module, patches, loss, crop, clock, batches, segmenter, on_validation)


def _network(config: TrainConfig, voxels: Voxels, channels: int) -> Model:
    """The network with its first weights, for `channels` affinities and what it learns beside them."""
    component = find("models", config.model)
    auxiliary = voxels.auxiliary(config, component.load().ndim)
    network = component.create(channels=channels + auxiliary, **config.model_parameters)
    if not isinstance(network, torch.nn.Module):
        raise BrokenComponent(sentence(f"model {config.model!r}", "must be a torch.nn.Module", type(network).__name__))
    network.auxiliary = auxiliary
    return network


def patches_of(config: TrainConfig, volumes: Sequence[TrainingVolume]) -> PatchDataset:
    """The patches that :func:`train` would draw, in their order. Raises as it does."""
    unwatched = TrainConfig(**{**config.model_dump(), "health": {"every": 0}})
    with own_random_state(config.seed, config.threads):
        return prepare(unwatched, volumes).patches


def _sizes(config: TrainConfig) -> list[int] | None:
    """The patch of settings in which "auto" has been replaced."""
    return None if isinstance(config.patch, str) else config.patch


def _crop(config: TrainConfig, network: Model, volumes: Sequence[TrainingVolume], neighborhood) -> dict:
    health = config.health
    find("fragmenters", health.fragmenter).create(**health.fragmenter_parameters)  # a wrong name is refused at once
    patch = fit_patch(network, health.crop or _sizes(config))
    return choose_crop(PatchDataset(config, volumes, patch, neighborhood, purpose="health"))
